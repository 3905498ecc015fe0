"""Files and folders written whole: after a kill there is the old one or the new one, never half of one."""

from __future__ import annotations

import glob
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar, cast

from annotated_types import Ge, Lt
from safetensors import SafetensorError

from interp.errors import UserError, first_line, reworded
from interp.processes import place

if sys.platform != "win32":  # there nothing is locked, and what killed runs leave stays
    import fcntl

Kind = TypeVar("Kind")
Whole = Annotated[int, Ge(0), Lt(2**53)]
"""A count, number or size in a file."""
EXACT: Any = {"extra": "forbid"}
"""`__pydantic_config__` of what has no other entries; without it, others are passed over."""


def lock(descriptor: int) -> bool:
    """Whether an open file or folder is now this process's own, until it is closed or the process ends."""
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def require_lock(file: IO[bytes], path: Path) -> None:
    """`lock`, or a `UserError` that names `path`."""
    if not lock(file.fileno()):
        raise UserError(f"{path}: another run is writing it; wait for it, or give another --out")


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _unfinished(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new file or folder beside `path`, removed in the end unless renamed; so is what killed runs left there.

    A lock tells the unfinished work of a living process from that of a killed one.
    """
    begin = f".{path.name[:60]}-"
    for left in path.parent.glob(f"{glob.escape(begin)}????????.part"):
        with suppress(OSError), _locked(left) as dead:
            if dead and sys.platform != "win32":
                _remove(left)
    with ExitStack() as stack:
        own = False
        while not own:
            new = path.with_name(f"{begin}{secrets.token_hex(4)}.part")
            make(new)
            if sys.platform == "win32":
                break
            with suppress(FileNotFoundError):  # another process tidied it up before it was locked
                own = stack.enter_context(_locked(new)) and new.exists()
        stack.callback(_remove, new)
        yield new


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder for temporary files, removed in the end; so are those of killed runs."""
    with _unfinished(Path(tempfile.gettempdir()) / "interp", Path.mkdir) as folder:
        yield folder


@contextmanager
def writing(path: str | Path, *also: type[Exception]) -> Iterator[None]:
    """What cannot be written is a `UserError`; `also` are further errors that say so."""
    faults: tuple[type[Exception], ...] = (OSError, SafetensorError, *also)
    try:
        yield
    except faults as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path}: cannot be written ({why}); make room, or choose another place") from error


@contextmanager
def atomic_write(path: str | Path, make: Callable[[Path], None] = Path.touch) -> Iterator[Path]:
    """Yield a temporary path, to be synced and renamed to `path`; after an error or a kill, `path` is as it was.

    With `make=Path.mkdir` it is a folder. Of several processes that share the work, only the first renames it.
    """
    path = Path(path)
    if place()[0]:
        with scratch() as folder:
            make(folder / path.name)
            yield folder / path.name
        return
    if not path.name:
        raise UserError(f"{path}: cannot be written: a folder; give a file")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(path, make) as temporary:
            usual = temporary.stat().st_mode
            yield temporary
            temporary.chmod(usual)  # some libraries set other permissions
            if temporary.is_file():
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, path)


def write_json(path: str | Path, content: Any, indent: int | None = 1) -> None:
    """Write content as JSON; a kill leaves the old file or the new one."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def entries(whole: bool = True, /, **kinds: Any) -> Any:
    """The kind of a JSON object that has these entries, and may have others; without `whole`, these as well."""
    from pydantic import with_config
    from typing_extensions import TypedDict

    return with_config({"extra": "allow"})(TypedDict("Entries", kinds, total=whole))  # type: ignore[operator]


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
        raise ValueError(f"{where}: {reworded(fault['msg'])[:300]}") from None


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
