"""Contrastive mean differences: what sets one agent's turns apart from the others' in the same debate.

Knows tables of turns and arrays of activations, nothing about models or text. For each group (one
question and round in which all agents speak) the direction of agent k collects the activation of its
turn minus the mean of the other agents' (Latent Agents, section on agent subspaces); everything that
a group shares, its question above all, cancels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from einops import rearrange
from jaxtyping import Float

from interp.errors import UserError
from interp.storage.arrays import read_arrays, write_arrays
from interp.storage.files import atomic_write

_FORMAT = "interp.directions/1"


def question_hash(question: str) -> str:
    """What directions keep of a question that they were fitted on, so that it is not asked when they are tested."""
    return hashlib.sha256(question.encode()).hexdigest()[:16]


def label_of_agent(named: str) -> str:
    """The label of an agent that a user names by its seat, as in `2`, or by the label itself."""
    return f"agent {named}" if named.isdecimal() else named


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
        write_arrays(path, header, {"vectors": self.vectors, "residual_norm": self.residual_norm})

    @staticmethod
    def load(path: str | Path) -> Directions:
        """Read what `save` wrote; raises `UserError` for anything else."""
        header, arrays = read_arrays(path, _FORMAT, "a file of directions", "interp extract-directions")
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


class Identified(Protocol):
    """A model, loaded or not: what it is called and what tells it from any other."""

    @property
    def name(self) -> str: ...

    @property
    def provenance(self) -> dict[str, Any]: ...


def made_on(directions: Directions, model: Identified) -> bool:
    """Whether the directions were extracted from this model."""
    try:
        require_made_on(directions, model)
    except UserError:
        return False
    return True


def require_made_on(directions: Directions, model: Identified, path: str | Path = "directions") -> None:
    """Raises `UserError` unless the directions were extracted from this very model, adapters included."""
    made = directions.facts.get("provenance", {}).get("model", {})
    for what, theirs, ours in (
        ("weights", made.get("hash") or made.get("name"), model.provenance["hash"] or model.name),
        ("adapters", _hashes(made), _hashes(model.provenance)),
    ):
        if theirs != ours:
            raise UserError(
                f"{path}: was extracted from {made.get('name', 'an unnamed model')} with other {what} than "
                f"{model.name} has; extract directions from this model, or steer with another model's by --foreign"
            )


def _hashes(provenance: Mapping[str, Any]) -> list[Any]:
    return [adapter["hash"] for adapter in provenance.get("adapters", [])]
