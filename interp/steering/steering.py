"""Add, ablate, clamp and interchange where directions were read from; batches, cache and padding change no result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from jaxtyping import Float

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.steering.changes import (
    TOKENS,
    Change,
    Gate,
    Positions,
    Ranges,
    Rule,
    Text,
    WrittenTurns,
    named,
    tokens_read,
)
from interp.storage.functions import function_facts

if TYPE_CHECKING:
    from interp.models.model import Model
    from interp.steering.hooks import Steered

Listed = Direction | Sequence[Direction]
Where = str | Positions
Facts = Mapping[str, Any]
Source = Text | tuple[Text, Text]
Units = str | Callable[[Direction], float]
"""A name in `UNITS`, or a direction → the length of a coefficient of 1, in the space of the activations."""

UNITS: dict[str, Callable[[Direction], float]] = {
    "residual": lambda direction: direction.residual_norm,
    "unit": lambda direction: 1.0,
    "raw": lambda direction: direction.norm,
}
"""Mean length of the activations read at that layer, `unit` vector (the paper), or the `raw` mean difference."""


class How(TypedDict, total=False):
    """Where a change is made, and what is done with what it gives."""

    tokens: Where
    """A name in `TOKENS` or a function like those there; by default the generated tokens."""
    keep_norm: bool
    """Scale each changed token to the length that it had: x → (x + o)·‖x‖/‖x + o‖."""
    when: Gate | None
    """Change only the tokens where this gate is open; it must not be of a later layer."""


@dataclass(frozen=True)
class Steering:
    """Changes made in order; `a + b` makes those of both, `Steering()` none.

    >>> (interp.add(found[2, 1], 0.3) + interp.ablate(found[1, 1])).summary
    'add agent 2 +0.3 residual, layer 1; ablate agent 1, layer 1'
    """

    changes: tuple[Change, ...] = ()

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.changes + other.changes)

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What it does, with a hash of the vectors, as JSON."""
        return [dict(change.facts) for change in self.changes]

    @property
    def summary(self) -> str:
        """What it does, in a few words."""
        layers: dict[str, list[str]] = {}
        for change, facts in zip(self.changes, self.facts, strict=True):
            whose = dict.fromkeys(label.split(" (")[0] for label in facts["directions"])  # a basis numbers its rows
            what = f"{facts.get('function', facts['operation'])} {', '.join(whose)}"
            if "coefficient" in facts:
                sign, unit = "+" if facts["operation"] == "add" else "", f" {facts['units']}"
                what += f" {facts['coefficient']:{sign}g}{unit if unit != ' unit' else ''}"
            if "source" in facts:
                what += f" with {str(facts['source'])[:40]!r}"
            what += ", norm kept" * change.keep_norm + (f" when {change.gate}" if change.gate is not None else "")
            layers.setdefault(what, []).append(facts["hook_point"].split(".")[1])
        return "; ".join(f"{what}, layer {', '.join(at)}" for what, at in layers.items()) or "unsteered"

    def on(self, model: Model, *, n_prompt: Sequence[int] | None = None) -> AbstractContextManager[Steered]:
        """Steer everything that the model reads and writes within this context.

        Contexts nest. Without `n_prompt`, the number of prompt tokens of each row, a prompt ends where the first pass
        over a text ends. Raises `UserError` for directions that do not fit the model.

        >>> with interp.add(found[2, 1], 0.3).on(model):
        ...     out = model.hf(torch.tensor([[5, 6]]))
        """
        from interp.steering.hooks import steered

        return steered(model, [self.changes], n_prompt=n_prompt)


def add(directions: Listed, coefficient: float = 0.2, *, units: Units = "residual", **how: Unpack[How]) -> Steering:
    """Add `coefficient` units along each direction; a negative coefficient subtracts, a zero direction adds nothing.

    `units` and `tokens` are names in `UNITS` and `TOKENS`, or functions like those there. With `keep_norm=True`, each
    changed token is scaled to the length that it had: x → (x + o)·‖x‖/‖x + o‖; `when` is a gate, and only tokens where
    it is open are changed. All operations take these. Raises `UserError` for a gate of a later layer.

    >>> interp.add(found[2, 1], -0.2, tokens="writing", keep_norm=True).summary
    'add agent 2 -0.2 residual, norm kept, layer 1'
    """
    return _along("add", [d for d in _listed(directions) if d.vector.any()], coefficient, units, **how)


def ablate(directions: Listed, **how: Unpack[How]) -> Steering:
    """Project the directions out; those at the same hook point together, as the subspace they span.

    >>> interp.ablate([found[1, 1], found[2, 1]], tokens="after-first").summary
    'ablate agent 1, agent 2, layer 1'
    """
    return _spanned(directions, {"operation": "ablate"}, **how)


def interchange(
    directions: Listed, source: Source, *, tokens: Where = "last", source_tokens: Where | None = None
) -> Steering:
    """Take what the directions span at each hook point from the run of another text, which is read unsteered.

    `source` is a text, its token ids, or a pair of a prompt and its continuation. The i-th of `source_tokens` (by
    default those that `tokens` names there) gives its part to the i-th of `tokens`; a range without an end stops
    where the source does. Raises `UserError`, once the model is known, for ranges of other lengths.

    >>> interp.interchange(found[2, 1], "Problem: 1+1*2").summary
    "interchange agent 2 with 'Problem: 1+1*2', layer 1"
    """
    theirs, name = _at("source_tokens", tokens if source_tokens is None else source_tokens)
    if isinstance(theirs, WrittenTurns) or isinstance(tokens, WrittenTurns):
        raise UserError("interchange: turns cannot be paired before they are written; give tokens by name, or ranges")
    pair = len(source) == 2 and isinstance(source[0], Sequence) and not isinstance(source, str)
    given: Any = source if pair else (source, "")
    prompt, more = (part if isinstance(part, str) else list(map(int, part)) for part in given)
    if not prompt:
        raise UserError("source: empty; give a text, its token ids, or a prompt and its continuation")
    facts = {"operation": "interchange", "source": [prompt, more] if more else prompt, "source_tokens": name}
    return _spanned(directions, facts, tokens=tokens, source=partial(tokens_read, prompt, more, theirs))


def clamp(directions: Listed, coefficient: float = 0.2, *, units: Units = "residual", **how: Unpack[How]) -> Steering:
    """Set the projection on each direction's unit vector to `coefficient` units; `keep_norm` then scales it, too.

    >>> interp.clamp(found[2, 1], 0.3).summary
    'clamp agent 2 0.3 residual, layer 1'
    """
    return _along("clamp", _listed(directions), coefficient, units, **how)


def custom(
    directions: Listed, function: Rule, coefficient: float = 0.2, *, units: Units = "residual", **how: Unpack[How]
) -> Steering:
    """Let a function of one's own change the steered tokens: (values, unit directions, coefficient) → values.

    It gets float32 values [token, d_model] of one row, the unit vectors [k, d_model] of the directions at a hook point,
    and the coefficient (times the mean of their units); it returns as many values. It has to treat each token by
    itself. Raises `UserError`, once it runs, for anything else that it returns, and for NaN.

    >>> def reflect(values, directions, coefficient):
    ...     return values - 2 * (values @ directions.T) @ directions
    >>> interp.steering.custom(found[2, 1], reflect).summary
    'reflect agent 2 0.2 residual, layer 1'
    """
    (length_of, name), changes = named("units", units, UNITS), []
    facts = {"operation": "custom", **function_facts(function), "coefficient": coefficient, "units": name}
    for here in _by_hook_point(directions):
        unit = np.stack([_unit(d) for d in here])
        by = float(np.mean([_length(coefficient, length_of, d) for d in here]))
        changes.append(_change(here, np.zeros_like(unit[0]), unit, facts, rule=(function, by), **how))
    return Steering(tuple(changes))


def gate(direction: Direction, limit: float, *, below: bool = False) -> Gate:
    """Open where the projection on a direction's unit vector is above a limit, or below it.

    >>> str(interp.steering.gate(found[2, 1], 1.5))
    'agent 2 at layer 1 > 1.5'
    """
    where, unit = (direction.label, direction.layer, direction.hook_point), _unit(direction)[None].astype(np.float32)
    return Gate(*where, unit, np.zeros(1, np.float32), limit, limit, below)


OPERATIONS: dict[str, Callable[..., Steering]] = {
    "add": add,
    "ablate": lambda directions, coefficient, *, units, **how: ablate(directions, **how),
    "clamp": clamp,
}
"""By name, all called as `add` is; `ablate` ignores coefficient and units."""


def called(name: str, function: Rule | None = None) -> Callable[..., Steering]:
    """The operation of this name, or a function of one's own. Raises `UserError` for an unknown name."""
    return partial(custom, function=function) if function else named("operation", name, OPERATIONS)[0]


def _by_hook_point(directions: Listed) -> list[list[Direction]]:
    listed = _listed(directions)
    return [[d for d in listed if d.hook_point == h] for h in dict.fromkeys(d.hook_point for d in listed)]


def _length(coefficient: float, length_of: Callable[[Direction], float], direction: Direction) -> float:
    """So many units in the space of the activations."""
    length = length_of(direction)
    if not np.isfinite([coefficient, length]).all():
        of = f"coefficient {coefficient} in units of {length}, {direction.label}"
        raise UserError(f"{of}: both must be finite numbers")
    return coefficient * length


def _spanned(directions: Listed, facts: Facts, **how: Any) -> Steering:
    """At each hook point a change of what its directions span."""
    changes = []
    for here in _by_hook_point(directions):
        _, sizes, rows = np.linalg.svd(np.stack([_unit(d) for d in here]), full_matrices=False)
        basis = rows[sizes > 1e-6 * sizes[0]]  # dependent directions add none
        changes.append(_change(here, np.zeros_like(basis[0]), basis, facts, **how))
    return Steering(tuple(changes))


def _along(operation: str, directions: Sequence[Direction], coefficient: float, units: Units, **how: Any) -> Steering:
    """A change for each direction, `coefficient` units along it; to clamp takes out what was there."""
    length_of, name = named("units", units, UNITS)
    facts = {"operation": operation, "coefficient": coefficient, "units": name}
    changes = []
    for direction in directions:
        unit, length = _unit(direction), _length(coefficient, length_of, direction)
        basis = unit[None] if operation == "clamp" else unit[None][:0]
        changes.append(_change([direction], unit * length, basis, facts, **how))
    return Steering(tuple(changes))


def _change(
    directions: Sequence[Direction],
    offset: np.ndarray,
    basis: np.ndarray,
    facts: Facts,
    *,
    tokens: Where = "generated",
    keep_norm: bool = False,
    when: Gate | None = None,
    **taken: Any,
) -> Change:
    layer = directions[0].layer
    if not (when is None or isinstance(when, Gate)):
        raise UserError(f"when {type(when).__name__}: not a gate; compare a probe with a number, such as probe > 0.8")
    if when is not None and when.layer > layer:
        raise UserError(f"when {when}: read after layer {layer} is changed; take a probe of layer {layer} or before")
    where, at = _at("tokens", tokens)
    with np.errstate(over="ignore"):  # a vector too long for float32 shows in the rows that it steers
        offset, basis = offset.astype(np.float32), basis.astype(np.float32)
    digest = hashlib.sha256(offset.tobytes() + basis.tobytes()).hexdigest()
    hook_point, labels = directions[0].hook_point, [d.label for d in directions]
    facts = {**facts, "directions": labels, "hook_point": hook_point, "tokens": at, "sha256": digest}
    facts |= {"keep_norm": True} if keep_norm else {}
    facts |= {} if when is None else {"when": when.facts}
    return Change(hook_point, offset, basis, where, facts, keep_norm=keep_norm, gate=when, **taken)


def _at(what: str, tokens: Where) -> tuple[Positions, Any]:
    """The rule for the tokens, and what it says as JSON."""
    where, name = named(what, tokens, TOKENS)
    if isinstance(where, WrittenTurns):
        return where, {"agent": where.agent, "round": where.round}
    return where, [list(r) for r in where.ranges] if isinstance(where, Ranges) else name


def _unit(direction: Direction) -> Float[np.ndarray, " d_model"]:
    vector = direction.vector.astype(np.float64)
    norm = float(np.linalg.norm(vector))
    if not 0 < norm < np.inf:
        raise UserError(f"{direction.label} at {direction.hook_point}: has length {norm}; give another direction")
    return np.asarray(vector / norm)


def _listed(directions: Listed) -> Sequence[Direction]:
    return [directions] if isinstance(directions, Direction) else directions
