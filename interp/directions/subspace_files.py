"""Named subspaces of one hook point in a safetensors file, with JSON beside it that says where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from annotated_types import Ge, MinLen
from pydantic import FiniteFloat

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.models.layers import SITES
from interp.storage.arrays import Shape, read_arrays, write_arrays
from interp.storage.files import EXACT, Whole, reading, write_json

FORMAT: Final = "interp.subspaces/1"
TOLERANCE = 1e-4
"""How far the products of a basis's rows may be from 0 and 1."""


@dataclass(frozen=True)
class _About:
    __pydantic_config__ = EXACT
    format: Literal["interp.subspaces/1"]
    ranks: Annotated[dict[str, Annotated[int, Ge(1)]], MinLen(1)]
    layer: Whole
    hook_point: str
    position: str
    residual_norm: FiniteFloat | None
    model: Any
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        if self.hook_point not in (site.format(layer=self.layer) for site in SITES.values()):
            raise ValueError(f"{self.hook_point} is no hook point of layer {self.layer}")


def _shapes(about: _About) -> dict[str, Shape]:
    return {name: (rank, "d_model") for name, rank in about.ranks.items()}


def write_subspaces(
    path: str | Path,
    subspaces: Mapping[str, Sequence[Direction]],
    *,
    position: str = "answer",
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write subspaces by name, each an orthonormal basis, as [rank, d_model] in float32; and JSON about them beside.

    `position` says in a word at which token they lie; `provenance` what made them (its `model` stands by itself in the
    JSON). Raises `UserError` for directions of several hook points, and for those that are not orthonormal.

    >>> basis = interp.directions.random_subspace(found[1, 2], 3)
    >>> interp.directions.write_subspaces(tmp_path / "found.safetensors", {"agent_1": basis})
    """
    path, (layer, hook_point), made_by = Path(path), _place(subspaces), dict(provenance or {})
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: the name of a file of subspaces ends in .safetensors")
    arrays = {name: np.stack([d.vector for d in basis]).astype(np.float32) for name, basis in subspaces.items()}
    for name, basis in arrays.items():
        if fault := _fault(basis):
            raise UserError(f"{name}: {fault}; give an orthonormal basis")
    norm = next(iter(subspaces.values()))[0].residual_norm
    known, ranks = None if np.isnan(norm) else float(norm), {name: len(basis) for name, basis in arrays.items()}
    about = asdict(_About(FORMAT, ranks, layer, hook_point, position, known, made_by.pop("model", None), made_by))
    write_arrays(path, about, arrays)
    write_json(path.with_suffix(".json"), about)


def read_subspaces(path: str | Path) -> dict[str, list[Direction]]:
    """The subspaces that `write_subspaces` wrote, by name; raises `UserError` for any other file.

    >>> basis = interp.directions.random_subspace(found[1, 2], 3)
    >>> interp.directions.write_subspaces(tmp_path / "found.safetensors", {"agent_1": basis})
    >>> [first, *_] = interp.directions.read_subspaces(tmp_path / "found.safetensors")["agent_1"]
    >>> first.label, first.layer
    ('agent 1 (1)', 2)
    """
    what = "a file of subspaces", "interp.directions.write_subspaces"
    about, arrays = read_arrays(path, _About, *what, _shapes)
    norm = float("nan") if about.residual_norm is None else about.residual_norm
    with reading(path, *what):
        for name, basis in arrays.items():
            if fault := _fault(basis):
                raise ValueError(f"{name}: {fault}")
    return {
        name: [
            Direction(row, f"{name.replace('_', ' ')} ({k})", about.layer, about.hook_point, norm)
            for k, row in enumerate(arrays[name], start=1)
        ]
        for name in about.ranks
    }


def _place(subspaces: Mapping[str, Sequence[Direction]]) -> tuple[int, str]:
    """The layer and hook point that all directions share."""
    places = list(dict.fromkeys((d.layer, d.hook_point) for basis in subspaces.values() for d in basis))
    if empty := [name for name, basis in subspaces.items() if not len(basis)]:
        raise UserError(f"{empty[0]}: a subspace of no directions; give at least one")
    if len(places) != 1:
        names = ", ".join(hook_point for _, hook_point in places) or "none"
        raise UserError(f"subspaces at {names}: a file holds those of one hook point; write one for each")
    return places[0]


def _fault(basis: np.ndarray) -> str:
    """What keeps the rows from being orthonormal; empty where they are."""
    off = float(np.abs(basis.astype(np.float64) @ basis.T - np.eye(len(basis))).max())
    return "" if off <= TOLERANCE else f"its rows are not orthonormal (off by {off:.2g})"
