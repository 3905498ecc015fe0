"""Arrays in one safetensors file, with a JSON header that says what they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from interp.errors import UserError
from interp.storage.files import Kind, atomic_write, checked, reading

Shape = tuple[int | str, ...]
"""Sizes; the same name stands for the same size."""


def write_arrays(path: str | Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write header and arrays; a kill leaves the old file or the new one."""
    with atomic_write(path) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, temporary, metadata={"interp": json.dumps(header)})


def read_arrays(
    path: str | Path, kind: type[Kind], what: str, by: str, shapes: Callable[[Kind], Mapping[str, Shape]] | None = None
) -> tuple[Kind, dict[str, np.ndarray]]:
    """The arrays with their header, checked as `kind`. For anything else, `UserError`: not `what`, as `by` writes.

    With `shapes`, of the arrays that a header promises, they must be those, of finite numbers, and become float32.
    """
    if Path(path).is_dir():
        raise UserError(f"{path}: a folder; give the .safetensors file in it that {by} wrote")
    with reading(path, what, by):
        try:
            with safe_open(str(path), framework="numpy") as file:
                header = checked(kind, (file.metadata() or {}).get("interp", "null"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, TypeError) as error:  # TypeError: numpy has no such dtype
            raise ValueError(str(error)) from None
        return header, arrays if shapes is None else _fitting(arrays, shapes(header))


def _listed(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def _fitting(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """The arrays as float32; raises `ValueError` for others than promised, and for numbers that are not finite."""
    if arrays.keys() != shapes.keys():
        raise ValueError(f"holds {', '.join(sorted(arrays)) or 'nothing'}, not {', '.join(shapes)}")
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        array = arrays[name]
        sizes = {n: m for n, m in zip(shape, array.shape, strict=False) if isinstance(n, str)} | sizes
        expected = tuple(sizes.get(n, 0) if isinstance(n, str) else n for n in shape)
        if array.shape != expected or not array.size or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{name} is {array.dtype}[{_listed(array.shape)}], not float32[{_listed(shape)}]")
        if not (np.abs(array) <= np.finfo(np.float32).max).all():
            raise ValueError(f"{name} has numbers that are not finite")
    return {name: array.astype(np.float32) for name, array in arrays.items()}
