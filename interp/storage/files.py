"""Files written whole: after a kill there is the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from annotated_types import Ge, Lt

from interp.errors import UserError

Kind = TypeVar("Kind")
Whole = Annotated[int, Ge(0), Lt(2**53)]
"""A count, number or size in a file."""
EXACT: Any = {"extra": "forbid"}
"""`__pydantic_config__` of what has no other entries; without it, others are passed over."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, to be synced and renamed to `path`; after an error or a kill, `path` is as it was."""
    path = Path(path)
    if not path.name:
        raise UserError(f"{path}: cannot be written: a folder; give a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        usual = temporary.stat().st_mode
        yield temporary
        temporary.chmod(usual)  # some libraries set other permissions
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed there") from error
    finally:
        with suppress(OSError):  # already renamed, or never made
            temporary.unlink()


def write_json(path: str | Path, content: Any, indent: int | None = 1) -> None:
    """Write content as JSON; a kill leaves the old file or the new one."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def checked(kind: type[Kind], text: str | bytes) -> Kind:
    """JSON as a dataclass, or as any type that pydantic checks; raises `ValueError` with the first fault.

    Nothing is converted, NaN and half of a surrogate pair are refused, and so is nesting without end.
    """
    from pydantic import ValidationError
    from pydantic_core import from_json

    try:
        from_json(text, allow_inf_nan=False)
        found: Kind = _adapter(cast(Any, kind)).validate_json(text, strict=True)
        return found
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))[-80:] or "content"
        raise ValueError(f"{where}: {fault['msg'].removeprefix('Value error, ')[:300]}") from None


@contextmanager
def reading(path: str | Path, what: str, by: str) -> Iterator[None]:
    """What cannot be read as a file of `what`, which `by` writes, is a `UserError`."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with {by}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: not {what} ({reason}); give one that {by} wrote") from None


def read_json(path: str | Path, kind: type[Kind], what: str, by: str) -> Kind:
    """A JSON file, `checked`. For anything else, `UserError`: not `what`, as `by` writes."""
    with reading(path, what, by):
        return checked(kind, Path(path).read_bytes())
