"""Arrays in one safetensors file, with a JSON header that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from interp.errors import UserError
from interp.storage.files import Kind, atomic_write, checked


def write_arrays(path: str | Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write header and arrays; a kill leaves the old file or the new one."""
    with atomic_write(path) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, temporary, metadata={"interp": json.dumps(header)})


def read_arrays(path: str | Path, kind: type[Kind], what: str, by: str) -> tuple[Kind, dict[str, np.ndarray]]:
    """The arrays with their header, checked as `kind`. For anything else, `UserError`: not `what`, as `by` writes."""
    if Path(path).is_dir():
        raise UserError(f"{path}: a folder; give the .safetensors file in it that {by} wrote")
    try:
        with safe_open(str(path), framework="numpy") as file:
            header = checked(kind, json.loads((file.metadata() or {}).get("interp", "null")))
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with {by}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not {what} ({error}); give one that {by} wrote") from None
