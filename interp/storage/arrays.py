"""Arrays in one safetensors file, with a header in JSON that says what they are.

Knows nothing about what that is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from interp.errors import UserError
from interp.storage.files import atomic_write


def write_arrays(path: str | Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write the file whole; a kill leaves the old one or the new one. The header names its `format`."""
    with atomic_write(path) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, temporary, metadata={"interp": json.dumps(header)})


def read_arrays(path: str | Path, format: str, what: str, by: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file of this format; `UserError` for anything that is not `what` was made `by`."""
    if Path(path).is_dir():
        raise UserError(f"{path}: a folder; give the file in it that {by} wrote, a .safetensors")
    try:
        with safe_open(str(path), framework="numpy") as file:
            header = _json((file.metadata() or {}).get("interp"))
            if not isinstance(header, dict) or header.get("format") != format:
                raise UserError(f"{path}: not {what}; give one that {by} wrote")
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with {by}") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not {what} ({error})") from None


def _json(text: str | None) -> Any:
    """What a header says; None where it is no JSON."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return None
