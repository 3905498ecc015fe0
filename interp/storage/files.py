"""Files written whole: after a kill there is the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from interp.errors import UserError

Kind = TypeVar("Kind")


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


def checked(kind: type[Kind], content: Any) -> Kind:
    """Parsed JSON as a dataclass, or as any type that pydantic checks; raises `ValueError` with the first fault."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, fault['loc'])) or 'content'}: {fault['msg']}") from None


def read_json(path: str | Path, kind: type[Kind]) -> Kind:
    """A JSON file as `checked` content; raises `OSError` or `ValueError`."""
    return checked(kind, json.loads(Path(path).read_text(encoding="utf-8")))
