"""Add, subtract, ablate and clamp directions while a model reads and writes.

Knows directions and what is to be done with them at which tokens; how that is done to the rows of a
batch, `interp.steering.hooks` knows. A steering is made of parts that add up:

    steering = add(directions["agent 2", 17], 8) + ablate(directions["agent 1", 17])
    with steering.on(model):
        ...  # any generation: interp.generation's, Hugging Face's, TransformerLens's

Directions act at the hook point that they were read from. Positions count from the text's own first
token, so a KV cache, the batch and padding change how fast, never what comes out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.steering.changes import Change, Positions, _name, _where, generated

if TYPE_CHECKING:
    from interp.models.model import Model
    from interp.steering.hooks import Steered


Units = Callable[[Direction], float]
"""A direction → the length that a coefficient of 1 stands for, in the space of the activations."""

UNITS: dict[str, Units] = {
    "unit": lambda direction: 1.0,
    "raw": lambda direction: direction.norm,
    "residual": lambda direction: direction.residual_norm,
}
"""What coefficients are multiples of: `unit` vectors (the paper), the `raw` mean difference, or the mean
length of the activations that were read at that layer, `residual`."""


@dataclass(frozen=True)
class Steering:
    """Changes that are made in their order; `a + b` makes those of both, `Steering()` none."""

    changes: tuple[Change, ...] = ()

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.changes + other.changes)

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What it does, with a hash of the vectors, as JSON takes it."""
        return [dict(change.facts) for change in self.changes]

    @property
    def summary(self) -> str:
        """What it does, in a few words."""
        said: dict[str, list[str]] = {}
        for facts in self.facts:
            amount = facts.get("coefficient", facts.get("value"))
            number = "" if amount is None else f" {amount:+g}" if facts["do"] == "add" else f" {amount:g}"
            unit = "" if facts.get("units", "unit") == "unit" else f" {facts['units']}"
            layer = facts["hook_point"].split(".")[1]
            said.setdefault(f"{facts['do']} {', '.join(facts['directions'])}{number}{unit}", []).append(layer)
        return "; ".join(f"{what}, layer {', '.join(layers)}" for what, layers in said.items()) or "unsteered"

    def on(self, model: Model, *, n_prompt: Sequence[int] | None = None) -> AbstractContextManager[Steered]:
        """Within this context whatever the model reads and writes is steered, and after it nothing is.

        Contexts nest; what `interp.generation` does inside is steered as well. All else runs as the
        plain model. Prompts end where the first pass over a text ends; where that is not so, say how
        many tokens each row's prompt has. Raises `UserError` for directions that do not fit the model.
        """
        from interp.steering.hooks import steered

        return steered(model, [self.changes], n_prompt=n_prompt)


def add(
    directions: Direction | Sequence[Direction],
    coefficient: float,
    *,
    units: Units = UNITS["unit"],
    at: Positions = generated,
) -> Steering:
    """Add so many `units` along each of the directions; a coefficient below 0 subtracts them."""
    return _along(directions, coefficient, units, at, {"do": "add", "coefficient": coefficient}, replacing=False)


def ablate(*directions: Direction, at: Positions = generated) -> Steering:
    """Project the directions out, those at the same hook point together as the subspace that they span."""
    changes = []
    for hook_point in dict.fromkeys(d.hook_point for d in directions):
        here = [d for d in directions if d.hook_point == hook_point]
        basis = _basis(np.stack([_unit(d) for d in here]))
        changes.append(_change(hook_point, here, np.zeros_like(basis[0]), basis, at, {"do": "ablate"}))
    return Steering(tuple(changes))


def clamp(
    directions: Direction | Sequence[Direction],
    value: float,
    *,
    units: Units = UNITS["unit"],
    at: Positions = generated,
) -> Steering:
    """Set the projection on each of the directions' unit vectors to so many `units`."""
    return _along(directions, value, units, at, {"do": "clamp", "value": value}, replacing=True)


def random_direction(like: Direction, seed: int) -> Direction:
    """A direction without meaning at the same hook point, of the same length: a control."""
    drawn = np.random.default_rng(seed).standard_normal(len(like.vector))
    vector = (drawn * (like.norm / np.linalg.norm(drawn))).astype(np.float32)
    return replace(like, vector=vector, label=f"random {seed}")


def require_coefficients(coefficients: Sequence[float]) -> None:
    """Raises `UserError` for coefficients to try that are all 0, or of which one is no finite number."""
    if not any(coefficients):
        raise UserError(f"coefficients {coefficients} given: give at least one that is not 0")
    if not np.isfinite(coefficients).all():
        raise UserError(f"coefficients {coefficients} given: they must be finite numbers")


def _along(
    directions: Direction | Sequence[Direction],
    number: float,
    units: Units,
    at: Positions,
    facts: Mapping[str, Any],
    *,
    replacing: bool,
) -> Steering:
    """A change for each direction, by so many `units` along it; `replacing` takes out what was there."""
    changes = []
    for direction in _listed(directions):
        unit = _unit(direction)
        offset, basis = unit * _amount(direction, number, units), unit[None] if replacing else unit[None][:0]
        said = {**facts, "units": _name(UNITS, units)}
        changes.append(_change(direction.hook_point, [direction], offset, basis, at, said))
    return Steering(tuple(changes))


def _change(
    hook_point: str,
    directions: Sequence[Direction],
    offset: Float[np.ndarray, " d_model"],
    basis: Float[np.ndarray, "k d_model"],
    at: Positions,
    facts: Mapping[str, Any],
) -> Change:
    with np.errstate(over="ignore"):  # what is too long shows in the rows that it steers
        offset, basis = offset.astype(np.float32), basis.astype(np.float32)
    digest = hashlib.sha256(offset.tobytes() + np.ascontiguousarray(basis).tobytes())
    said = {
        **facts,
        "directions": [d.label for d in directions],
        "hook_point": hook_point,
        "at": _where(at),
        "sha256": digest.hexdigest(),
    }
    return Change(hook_point, offset, basis, at, said)


def _unit(direction: Direction) -> Float[np.ndarray, " d_model"]:
    vector = direction.vector.astype(np.float64)
    norm = float(np.linalg.norm(vector))
    if not 0 < norm < np.inf:
        raise UserError(f"the direction of {direction.label} at {direction.hook_point} has length {norm}: no use here")
    return np.asarray(vector / norm)


def _amount(direction: Direction, number: float, units: Units) -> float:
    length = units(direction)
    if not np.isfinite([number, length]).all():
        raise UserError(
            f"coefficient {number} given, in units of {length} for {direction.label}: both must be finite numbers"
        )
    return number * length


def _basis(vectors: Float[np.ndarray, "n d_model"]) -> Float[np.ndarray, "k d_model"]:
    """Orthonormal rows that span the same; vectors that depend on others add none."""
    _, sizes, rows = np.linalg.svd(vectors, full_matrices=False)
    return np.asarray(rows[sizes > 1e-6 * sizes[0]])


def _listed(directions: Direction | Sequence[Direction]) -> Sequence[Direction]:
    return [directions] if isinstance(directions, Direction) else directions
