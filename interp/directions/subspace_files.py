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
from interp.storage.files import EXACT, Whole, write_json

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
    path, made_by = Path(path), dict(provenance or {})
    places = list({(d.layer, d.hook_point): d for basis in subspaces.values() for d in basis}.values())
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: the name of a file of subspaces ends in .safetensors")
    if len(places) != 1 or not all(map(len, subspaces.values())):
        where = ", ".join(d.hook_point for d in places) or "no hook point"
        raise UserError(f"{path}: subspaces at {where}; give one or more directions for each, all of one hook point")
    arrays = {name: np.stack([d.vector for d in basis]).astype(np.float32) for name, basis in subspaces.items()}
    _require_orthonormal(path, arrays)
    norm, ranks = places[0].residual_norm, {name: len(basis) for name, basis in arrays.items()}
    place = places[0].layer, places[0].hook_point, position, None if np.isnan(norm) else float(norm)
    about = asdict(_About(FORMAT, ranks, *place, made_by.pop("model", None), made_by))
    write_arrays(path, about, arrays)
    write_json(path.with_suffix(".json"), about)


def read_subspaces(path: str | Path) -> dict[str, list[Direction]]:
    """The subspaces that `write_subspaces` wrote, by name; raises `UserError` for any other file.

    >>> basis = interp.directions.random_subspace(found[1, 2], 3)
    >>> interp.directions.write_subspaces(tmp_path / "found.safetensors", {"agent_1": basis})
    >>> [first, *_] = interp.directions.read_subspaces(tmp_path / "found.safetensors")["agent_1"]
    >>> first.label, first.layer
    ('agent 1', 2)
    """
    by = "interp.directions.write_subspaces"
    about, arrays = read_arrays(path, _About, "a file of subspaces", by, _shapes)
    _require_orthonormal(path, arrays)
    place = about.layer, about.hook_point, float("nan") if about.residual_norm is None else about.residual_norm
    return {name: [Direction(row, name.replace("_", " "), *place) for row in arrays[name]] for name in about.ranks}


def _require_orthonormal(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    for name, basis in arrays.items():
        off = float(np.abs(basis.astype(np.float64) @ basis.T - np.eye(len(basis))).max())
        if not off <= TOLERANCE:
            raise UserError(f"{path}: the rows of {name} are not orthonormal (off by {off:.2g}); orthonormalise them")
