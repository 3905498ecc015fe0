"""Reading JSON that users give: what cannot be read is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interp.errors import UserError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a JSON or JSONL file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def load(text: str, path: Path, line: int | None = None) -> Any:
    """The content of a file, or of one of its lines."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        line, reason = line or error.lineno, f"not valid JSON ({error.msg} at column {error.colno})"
    except (RecursionError, ValueError) as error:  # nested without end, or a number of thousands of digits
        reason = f"cannot be read ({error})"
    raise UserError(f"{path}, line {line or 1}: {reason}; give a JSON list, or JSONL with one record per line")


def load_lines(text: str, path: Path) -> list[tuple[int, Any]]:
    """The records of a JSONL file with their line numbers."""
    return [(i, load(line, path, i)) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)!r} stands twice in an object")
    return found
