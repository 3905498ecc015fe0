"""Directions: vectors at layers, with their evidence and provenance. Knows nothing about text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np
from einops import rearrange
from jaxtyping import Float

from interp.debate.transcript import question_key
from interp.directions.facts import FACTS, HookPoint, Layers, Names, require_fitting
from interp.directions.foreign import FORMATS, read_foreign, write_foreign
from interp.directions.settings import ForeignSite, Format
from interp.errors import UserError
from interp.models.lineage import has_base
from interp.storage.arrays import Shape, read_arrays, write_arrays
from interp.storage.files import EXACT, Whole, entries

if TYPE_CHECKING:
    from interp.models.model import LazyModel, Model


def question_hash(question: str, exact: bool = False) -> str:
    """What directions keep of a question they were fitted on; old files have it of the `exact` text."""
    return hashlib.sha256((question if exact else question_key(question)).encode()).hexdigest()[:16]


def fitted_on(directions: Iterable[Directions], questions: Iterable[str]) -> set[str]:
    """The keys of those questions that any of the directions were fitted on."""
    known = {h for d in directions for h in d.facts.get("question_hashes", ())}
    return {question_key(q) for q in questions if {question_hash(q), question_hash(q, exact=True)} & known}


def label_of_agent(named: str) -> str:
    """The label that a user means by a seat such as `2`, or by the label itself."""
    return f"agent {named}" if named.isdecimal() else named


@dataclass(frozen=True)
class Direction:
    """A vector at a layer: add it, subtract it, scale it, take its unit vector.

    >>> (found["agent 1", 2] - found["agent 2", 2]).label
    '(agent 1 − agent 2)'
    """

    vector: Float[np.ndarray, " d_model"] = field(repr=False)
    label: str
    layer: int
    hook_point: str
    residual_norm: float = float("nan")
    """Mean length of the activations read there; NaN where unknown."""
    spread: Float[np.ndarray, "k d_model"] | None = field(default=None, repr=False)
    """How the activations vary there, which random directions are drawn from; see `subspaces.spread`."""

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.vector))

    @property
    def unit(self) -> Direction:
        """The same direction with length 1; the zero vector stays zero."""
        return replace(self, vector=self.vector / np.float32(self.norm or 1))

    def cosine(self, other: Direction) -> float:
        """Cosine of the angle to another direction; NaN where either is zero."""
        lengths = self.norm * other.norm
        return float(self.vector @ other.vector) / lengths if lengths else float("nan")

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
        label = f"({self.label} {symbol} {other.label})"
        if other.hook_point != self.hook_point:
            where = f"one is at {self.hook_point}, the other at {other.hook_point}"
            raise UserError(f"{label[1:-1]}: {where}; combine directions of one hook point")
        return replace(self, vector=self.vector + sign * other.vector, label=label)


@dataclass(frozen=True, repr=False)
class Directions:
    """Raw mean differences for every label and layer, with their evidence and provenance.

    Index by label (an agent also by its seat), layer (negative ones count from the last held) and one of `rounds`
    (default "all"); a label alone gives all its layers.

    >>> found["agent 1", -1].layer, [direction.layer for direction in found[2]]
    (3, [0, 1, 2, 3])
    """

    labels: tuple[str, ...]
    layers: tuple[int, ...]
    vectors: Float[np.ndarray, "round label layer d_model"]
    residual_norm: Float[np.ndarray, " layer"]
    hook_point: str
    """Where the directions were read and are to be added, with `{layer}` to fill in."""
    facts: Mapping[str, Any]
    """Evidence, counts, skipped turns and provenance: the content of `directions.json`."""
    rounds: tuple[str, ...] = ("all",)
    spread: Float[np.ndarray, "layer k d_model"] | None = None
    """As `subspaces.spread`; None in files of earlier versions, which random directions cannot be drawn for."""

    @overload
    def __getitem__(self, key: str | int) -> tuple[Direction, ...]: ...
    @overload
    def __getitem__(self, key: tuple[str | int, int] | tuple[str | int, int, str | int]) -> Direction: ...
    def __getitem__(self, key: Any) -> Direction | tuple[Direction, ...]:
        if not isinstance(key, tuple):
            return tuple(self[key, layer] for layer in self.layers)
        label, layer, *rest = key
        label, round_ = label_of_agent(str(label)), str(rest[0]) if rest else "all"
        held: Sequence[int] = self.layers if layer >= 0 else range(-len(self.layers), 0)
        known = {"label": (label, self.labels), "round": (round_, self.rounds), "layer": (layer, held)}
        for what, (given, choice) in known.items():
            if given not in choice:
                raise UserError(f"{what} {given}: not among these directions; choose one of {_listed(choice)}")
        place = held.index(layer)
        vector = self.vectors[self.rounds.index(round_), self.labels.index(label), place]
        layer, spread = self.layers[place], None if self.spread is None else self.spread[place]
        return Direction(
            vector, label, layer, self.hook_point.format(layer=layer), float(self.residual_norm[place]), spread
        )

    def __repr__(self) -> str:
        model, data = (self.facts.get("provenance", {}).get(key, {}) for key in ("model", "transcripts"))
        chosen = self.facts.get("evidence", {}).get("all", {}).get("chosen_layer", {})
        measured = zip(self.labels, chosen.get("mean", ()), strict=False)
        values = ", ".join(f"{label} {mean:.2f}" for label, mean in measured if mean is not None)
        site = self.hook_point.partition("hook_")[2] or self.hook_point
        stages = model.get("lineage", {}).get("stages", ())  # a checkpoint's own name says them
        adapters = "".join(f" + {adapter['name']}" for adapter in model.get("adapters", ())[len(stages) :])
        separation = f" (layer {_listed(chosen['layers'])}, chosen on other questions): {values}" if values else ""
        where = f"layers {_listed(self.layers)}, {site}, width {self.vectors.shape[-1]}"
        lines = (
            f"directions: {', '.join(self.labels)} at {where}",
            f"model: {model.get('name', 'unknown')}{adapters}",
            f"data: {self.facts.get('questions', 'unknown')} questions ({data.get('source', 'source unknown')})",
            f"separation{separation or ': not measured'}",
            *filter(None, [self.note]),
        )
        return "\n".join(lines)

    @property
    def norms(self) -> Float[np.ndarray, "round label layer"]:
        return np.linalg.norm(self.vectors, axis=-1)

    @property
    def units(self) -> Float[np.ndarray, "round label layer d_model"]:
        return self.vectors / self.norms[..., None]

    def cosines(self, round: str = "all") -> Float[np.ndarray, "layer label label"]:
        """Cosines between the labels' directions at each layer; those of A labels average about −1/(A−1)."""
        units = rearrange(self.units[self.rounds.index(round)], "a l d -> l a d")
        return units @ rearrange(units, "l a d -> l d a")

    def save(self, path: str | Path) -> None:
        """Write everything into one safetensors file; a kill leaves the old file or the new one."""
        n_spread = 0 if self.spread is None else self.spread.shape[1]
        header = _Header(FORMAT, self.labels, self.layers, self.rounds, self.hook_point, dict(self.facts), n_spread)
        arrays = {"vectors": self.vectors, "residual_norm": self.residual_norm}
        arrays = {name: np.nan_to_num(array.astype(np.float32), posinf=np.inf) for name, array in arrays.items()}
        write_arrays(path, asdict(header), arrays | ({} if self.spread is None else {"spread": self.spread}))

    @staticmethod
    def load(
        path: str | Path,
        *,
        layers: Sequence[int] | None = None,
        site: ForeignSite | None = None,
        label: str | None = None,
    ) -> Directions:
        """Read what `save` wrote, or what other tools did; `note` then says what the file was taken for.

        GGUF control vectors; `.pt` with the vectors of steering-vectors, persona-vectors (`hidden_states`), CAA (a
        file, or a behaviour's folder) or repeng; safetensors by layer, also saklas's. Layers and site have to be given
        where a file does not say them. No code in a file is run. Raises `UserError` for anything else.

        >>> _ = found.export(tmp_path / "agent2.pt", 2)
        >>> print(interp.Directions.load(tmp_path / "agent2.pt").note)
        taken for vectors by layer (steering-vectors, repeng): 'agent2' at 4 layers, counted from 0, at resid_post
        """
        if (foreign := read_foreign(path, layers, site, label)) is not None:
            return Directions(**foreign)
        header, arrays = read_arrays(path, _Header, "a file of directions", "interp extract-directions", _shapes)
        kept = {name: value for name, value in vars(header).items() if name not in ("format", "n_spread")}
        norms = arrays["residual_norm"]
        return Directions(**kept | arrays | {"residual_norm": np.where(norms == 0, np.float32(np.nan), norms)})

    @property
    def note(self) -> str | None:
        """What another tool's file was taken for, in a sentence."""
        return self.facts.get("imported", {}).get("note")

    def export(
        self,
        path: str | Path,
        label: str | int | None = None,
        *,
        format: Format | None = None,
        layers: Sequence[int] | None = None,
        model_type: str | None = None,
        round: str = "all",
    ) -> list[int]:
        """Write one label's directions for other tools; returns the layers.

        `format` is, by default, what the file's name asks for: `.gguf` (llama.cpp, repeng, saklas), `.safetensors` (by
        layer) or `.pt` (`steering-vectors`: `SteeringVector(torch.load(path))`; or `persona-vectors`, `caa`). GGUF has
        no place for layer 0 and asks for the architecture's `model_type` where the directions do not know it. Raises
        `UserError` for directions that the format has no place for.

        >>> found.export(tmp_path / "agent2.gguf", 2)
        [1, 2, 3]
        """
        path, wanted = Path(path), format or FORMATS.get(Path(path).suffix)
        if wanted is None:
            raise UserError(f"{path}: its name asks for no format; give --format, or a name in {', '.join(FORMATS)}")
        if label is None and len(self.labels) > 1:
            many = f"directions of {_listed(self.labels)}"
            raise UserError(f"{many}: a file for other tools holds one; choose it with --direction-of")
        model = dict(self.facts.get("provenance", {}).get("model", {}))
        if wanted == "gguf" and not (model_type := model_type or model.get("model_type")):
            raise UserError(f"{path}: nothing says which architecture it is for; give --model-type, such as llama")
        asked = self.layers if layers is None else layers
        kept = [layer for layer in sorted(asked) if layer > 0 or wanted != "gguf"]
        if not kept:
            raise UserError("layer 0: has no place in control vectors; extract a deeper layer")
        each = [self[self.labels[0] if label is None else label, layer, round] for layer in kept]
        vectors = {d.layer: np.array(d.vector, np.float32) for d in each}
        norms = [d.residual_norm if np.isfinite(d.residual_norm) else None for d in each]
        about = {"label": each[0].label, "residual_norm": norms, "model": model}
        write_foreign(path, wanted, vectors, self.hook_point, about, model_type)
        return kept


FORMAT: Final = "interp.directions/1"


@dataclass(frozen=True)
class _Header:
    __pydantic_config__ = EXACT
    format: Literal["interp.directions/1"]
    labels: Names
    layers: Layers
    rounds: Names
    hook_point: HookPoint
    facts: entries(False, **FACTS)  # type: ignore[valid-type]
    n_spread: Whole = 0
    """Rows of `spread` at each layer."""

    def __post_init__(self) -> None:
        require_fitting(self.facts, self.labels, self.layers)


def _shapes(header: _Header) -> dict[str, Shape]:
    sizes = tuple(map(len, (header.rounds, header.labels, header.layers)))
    shapes: dict[str, Shape] = {"vectors": (*sizes, "d_model"), "residual_norm": sizes[-1:]}
    return shapes | ({"spread": (sizes[-1], header.n_spread, "d_model")} if header.n_spread else {})


def _listed(values: Sequence[Any]) -> str:
    """As in `0 to 3` or `0, 3, 4`."""
    first, last = values[0], values[-1]
    if len(values) > 2 and all(isinstance(v, int) for v in values) and list(values) == list(range(first, last + 1)):
        return f"{first} to {last}"
    return ", ".join(map(str, values))


def made_on(directions: Directions, model: Model | LazyModel) -> bool:
    """Whether the directions were extracted from this model.

    >>> interp.directions.made_on(found, model)
    True
    """
    with suppress(UserError):
        require_made_on(directions, model)
        return True
    return False


def require_made_on(directions: Directions, model: Model | LazyModel, path: str | Path = "directions") -> None:
    """Raises `UserError` unless the directions were extracted from this model, adapters included.

    Other tools' files do not say from which model: those have to fit its width and its layers.
    """
    made = directions.facts.get("provenance", {}).get("model", {})
    if "imported" in directions.facts and not made.get("hash") and not made.get("name"):
        return _require_room(directions, model, path)
    theirs, ours = ([a["hash"] for a in facts.get("adapters", [])] for facts in (made, model.provenance))
    known = made.get("hash")
    same_weights = (known or made.get("name")) == (model.provenance["hash"] or model.name)
    same_weights = same_weights or (known is not None and has_base(model.name, known))
    if not same_weights or theirs != ours:
        other = f"{made.get('name', 'an unnamed model')} with other {'adapters' if same_weights else 'weights'}"
        advice = "extract directions from this model, or allow others with --other-model"
        raise UserError(f"{path}: extracted from {other} than {model.name} has; {advice}")


def _require_room(directions: Directions, model: Model | LazyModel, path: str | Path) -> None:
    from interp.models.model import LazyModel

    if isinstance(model, LazyModel):  # nobody knows its width yet
        return
    width, deepest = directions.vectors.shape[-1], max(directions.layers)
    n_layers = directions.facts["imported"]["n_layers"] or model.n_layers
    if (width, n_layers) != (model.d_model, model.n_layers) or deepest >= n_layers:
        theirs = f"width {width}, layers up to {deepest if n_layers == model.n_layers else n_layers - 1}"
        ours = f"{model.name} has width {model.d_model}, layers up to {model.n_layers - 1}"
        raise UserError(f"{path}: {theirs}, but {ours}; give the model it was made on")
