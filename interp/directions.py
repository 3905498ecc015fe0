"""Contrastive mean differences: what sets one agent's turns apart from the others' in the same debate.

Knows tables of turns and arrays of activations, nothing about models or text. For each group (one
question and round in which all agents speak) the direction of agent k collects the activation of its
turn minus the mean of the other agents' (Latent Agents, section on agent subspaces); everything that
a group shares, its question above all, cancels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int

from interp.activations import Readings
from interp.corpus import Skip, TurnTable
from interp.errors import UserError
from interp.files import atomic_write
from interp.headed import read_headed, write_headed

By = Literal["agent", "persona"]
_FORMAT = "interp.directions/1"


@dataclass(frozen=True)
class Contrast:
    """Which turns are held against which: one group a transcript and round with every label once."""

    labels: tuple[str, ...]
    rows: Int[np.ndarray, "group label"]
    """Rows of the turn table."""
    question: Int[np.ndarray, " group"]
    round: Int[np.ndarray, " group"]
    skipped: tuple[Skip, ...] = ()
    """Groups that could not be used, each with its reason."""

    @staticmethod
    def build(turns: TurnTable, questions: Sequence[str], by: By = "agent", text_needed: bool = True) -> Contrast:
        """Group the turns by transcript and round and label them by agent or by persona.

        A group in which a label is missing, occurs twice or (with `text_needed`) has no text is
        skipped and named. Raises `UserError` when no group is left or personas are not known.
        """
        if by not in ("agent", "persona"):
            raise UserError(f"by {by}: not known; give agent or persona")
        if by == "persona" and not all(turns.persona):
            raise UserError("the transcripts do not say which persona sits where; add personas, or use --by agent")
        names = [f"agent {a}" for a in turns.agent] if by == "agent" else list(turns.persona)
        if by == "agent":
            labels = tuple(f"agent {a}" for a in np.unique(turns.agent))
        else:
            labels = tuple(dict.fromkeys(turns.persona[i] for i in np.lexsort((turns.agent, turns.transcript))))
        if len(labels) < 2:
            raise UserError(f"the transcripts have only {labels[0]}; a contrast needs at least two")
        groups: dict[tuple[int, int], list[int]] = {}
        for row, key in enumerate(zip(turns.transcript.tolist(), turns.round.tolist(), strict=True)):
            groups.setdefault(key, []).append(row)
        used: list[list[int]] = []
        skipped: list[Skip] = []
        for (transcript, round_), members in sorted(groups.items()):
            reasons = []
            by_label: dict[str, list[int]] = {label: [] for label in labels}
            for row in members:
                by_label[names[row]].append(row)
            for label, rows in by_label.items():
                if not rows:
                    reasons.append(f"{label} is missing")
                elif len(rows) > 1:
                    reasons.append(f"{label} speaks {len(rows)} times")
                elif text_needed and turns.start[rows[0]] == turns.stop[rows[0]]:
                    reasons.append(f"{label} says nothing")
            if reasons:
                question = questions[turns.question[members[0]]]
                skipped.append(Skip(transcript + 1, question, round_, ", ".join(reasons)))
            else:
                used.append([by_label[label][0] for label in labels])
        if not used:
            first = skipped[0]
            raise UserError(
                f"no group with all of {', '.join(labels)}: all {len(skipped)} were skipped, the first "
                f"(transcript {first.transcript}, round {first.round}) because {first.reason}"
            )
        table = np.array(used)
        first_rows = table[:, 0]
        return Contrast(labels, table, turns.question[first_rows], turns.round[first_rows], tuple(skipped))

    @property
    def rounds(self) -> tuple[int, ...]:
        return tuple(int(r) for r in np.unique(self.round))


def question_hash(question: str) -> str:
    """What directions keep of a question that they were fitted on, so that it is not asked when they are tested."""
    return hashlib.sha256(question.encode()).hexdigest()[:16]


def label_of_agent(named: str) -> str:
    """The label of an agent that a user names by its seat, as in `2`, or by the label itself."""
    return f"agent {named}" if named.isdecimal() else named


def differences(values: Float[np.ndarray, "group label *rest"]) -> Float[np.ndarray, "group label *rest"]:
    """Each label's activation minus the mean of the other labels' in its group.

    x_k − mean over j≠k of x_j, which is A/(A−1) · (x_k − mean over all j), A labels.
    """
    n_labels = values.shape[1]
    return (values - values.mean(axis=1, keepdims=True)) * np.float32(n_labels / (n_labels - 1))


class MeanDifference:
    """Mean differences from a stream of readings, in memory that does not grow with it.

    `partial_fit` takes readings of whole transcripts in any order; afterwards `vectors_` has shape
    [label, layer, d_model] and `residual_norm_` [layer] is the mean length of the activations read.
    """

    def __init__(self, contrast: Contrast) -> None:
        self.contrast = contrast
        self.n_groups_ = 0
        self._sum: np.ndarray | float = 0.0
        self._norm_sum: np.ndarray | float = 0.0

    def partial_fit(
        self, rows: Int[np.ndarray, " turn"], values: Float[np.ndarray, "turn layer d_model"]
    ) -> MeanDifference:
        """Add the turns in `rows` (of the turn table); raises `ValueError` where a group is cut in two."""
        inside = np.isin(self.contrast.rows, rows)
        if (inside.any(axis=1) != inside.all(axis=1)).any():
            raise ValueError("readings must hold whole transcripts")
        groups = self.contrast.rows[inside.all(axis=1)]
        if len(groups):
            order = np.argsort(rows)
            chosen = values[order[np.searchsorted(rows, groups, sorter=order)]]
            self._sum = self._sum + differences(chosen).sum(axis=0, dtype=np.float64)
            self._norm_sum = self._norm_sum + np.linalg.norm(chosen, axis=-1).mean(axis=1).sum(axis=0, dtype=np.float64)
            self.n_groups_ += len(groups)
        return self

    def fit(self, stream: Iterable[Readings], position: int = 0) -> MeanDifference:
        """Consume a whole stream, reading the given index on its position axis."""
        for readings in stream:
            self.partial_fit(readings.rows, readings.values[:, position])
        return self

    @property
    def vectors_(self) -> Float[np.ndarray, "label layer d_model"]:
        return np.asarray(self._sum / self.n_groups_, dtype=np.float32)

    @property
    def residual_norm_(self) -> Float[np.ndarray, " layer"]:
        return np.asarray(self._norm_sum / self.n_groups_, dtype=np.float32)


@dataclass(frozen=True)
class Direction:
    """A vector at a layer: add it, subtract it, scale it, take its unit vector."""

    vector: Float[np.ndarray, " d_model"]
    label: str
    layer: int
    hook_point: str
    residual_norm: float = float("nan")
    """Mean length of the activations that were read there; NaN where that is not known."""

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.vector))

    @property
    def unit(self) -> Direction:
        """The same direction with length 1."""
        return replace(self, vector=self.vector / np.float32(self.norm))

    def cosine(self, other: Direction) -> float:
        """Cosine of the angle to another direction."""
        return float(self.vector @ other.vector) / (self.norm * other.norm)

    def __add__(self, other: Direction) -> Direction:
        return self._combined(other, np.float32(1), "+")

    def __sub__(self, other: Direction) -> Direction:
        return self._combined(other, np.float32(-1), "−")

    def __mul__(self, factor: float) -> Direction:
        return replace(self, vector=self.vector * np.float32(factor), label=f"{factor:g}·{self.label}")

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Direction:
        return self * (1 / divisor)

    def __neg__(self) -> Direction:
        return replace(self, vector=-self.vector, label=f"−{self.label}")

    def _combined(self, other: Direction, sign: np.float32, symbol: str) -> Direction:
        if other.hook_point != self.hook_point:
            raise ValueError(f"directions at {self.hook_point} and {other.hook_point} live in different spaces")
        label = f"({self.label} {symbol} {other.label})"
        return replace(self, vector=self.vector + sign * other.vector, label=label)


@dataclass(frozen=True)
class Directions:
    """Raw mean differences for every label and layer, with the evidence for them and what made them.

    `directions["agent 2", 17]` (or `directions[2, 17]`) is a `Direction`; a third index chooses a
    round where they were kept apart. `vectors[i]` belongs to `rounds[i]`, the first being "all".
    """

    labels: tuple[str, ...]
    layers: tuple[int, ...]
    vectors: Float[np.ndarray, "round label layer d_model"]
    residual_norm: Float[np.ndarray, " layer"]
    hook_point: str
    """With `{layer}` to fill in: the site that the directions were read at and are to be added at."""
    facts: Mapping[str, Any]
    """Evidence, counts, what was skipped and provenance: the content of `directions.json`."""
    rounds: tuple[str, ...] = ("all",)

    def __getitem__(self, key: tuple[str | int, int] | tuple[str | int, int, str | int]) -> Direction:
        label, layer, *rest = key
        label = label if isinstance(label, str) else f"agent {label}"
        round_ = str(rest[0]) if rest else "all"
        for given, known, what in ((label, self.labels, "label"), (round_, self.rounds, "round")):
            if given not in known:
                raise KeyError(f"no {what} {given!r}; there are {', '.join(known)}")
        if layer not in self.layers:
            raise KeyError(f"no layer {layer}; there are {self.layers[0]} to {self.layers[-1]}")
        place = self.layers.index(layer)
        vector = self.vectors[self.rounds.index(round_), self.labels.index(label), place]
        return Direction(vector, label, layer, self.hook_point.format(layer=layer), float(self.residual_norm[place]))

    @property
    def norms(self) -> Float[np.ndarray, "round label layer"]:
        """Lengths of the raw mean differences."""
        return np.linalg.norm(self.vectors, axis=-1)

    @property
    def units(self) -> Float[np.ndarray, "round label layer d_model"]:
        """Vectors of length 1."""
        return self.vectors / self.norms[..., None]

    def cosines(self, round: str = "all") -> Float[np.ndarray, "layer label label"]:
        """Cosines between the labels' directions at each layer.

        With A labels that all sit in every group the mean differences sum to zero, so the
        off-diagonal cosines average about −1/(A−1) by construction.
        """
        units = rearrange(self.units[self.rounds.index(round)], "a l d -> l a d")
        return units @ rearrange(units, "l a d -> l d a")

    def save(self, path: str | Path) -> None:
        """Write one safetensors file with everything in it; a kill leaves the old file or the new one."""
        header = {
            "format": _FORMAT,
            "labels": self.labels,
            "layers": self.layers,
            "rounds": self.rounds,
            "hook_point": self.hook_point,
            "facts": self.facts,
        }
        write_headed(path, header, {"vectors": self.vectors, "residual_norm": self.residual_norm})

    @staticmethod
    def load(path: str | Path) -> Directions:
        """Read what `save` wrote; raises `UserError` for anything else."""
        header, arrays = read_headed(path, _FORMAT, "a file of directions", "interp extract-directions")
        try:
            labels, layers, rounds = (tuple(header[key]) for key in ("labels", "layers", "rounds"))
            found = Directions(
                labels, layers, hook_point=header["hook_point"], facts=header["facts"], rounds=rounds, **arrays
            )
        except (KeyError, TypeError):
            found = None
        if found is None or found.vectors.shape[:-1] != (len(rounds), len(labels), len(layers)):
            raise UserError(f"{path}: a damaged file of directions; make it again with interp extract-directions")
        return found

    def export_gguf(self, path: str | Path, label: str | int, *, model_type: str, round: str = "all") -> list[int]:
        """Write one label's raw directions as a GGUF control vector, as llama.cpp and repeng read them.

        They are added to the outputs of the layers, where they were read; such files have no place
        for layer 0. Returns the layers written. `model_type` is the architecture's name ("llama").
        Raises `UserError` for directions from another site than the residual stream after a layer.
        """
        from gguf import GGUFWriter

        if not self.hook_point.endswith("hook_resid_post"):
            raise UserError(f"control vectors act on resid_post; these directions were read at {self.hook_point}")
        layers = [layer for layer in self.layers if layer > 0]
        if not layers:
            raise UserError("control vectors have no place for layer 0; extract a deeper layer")
        with atomic_write(path) as temporary:
            writer = GGUFWriter(temporary, "controlvector")
            writer.add_string("controlvector.model_hint", model_type)
            writer.add_uint32("controlvector.layer_count", len(layers))
            for layer in layers:
                writer.add_tensor(f"direction.{layer}", self[label, layer, round].vector.astype(np.float32))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
        return layers


def without_hashes(directions: Mapping[str, Directions]) -> list[str]:
    """The names of those that do not say on which questions they were fitted: nobody knows what is held out."""
    return [name for name, d in directions.items() if "question_hashes" not in d.facts]
