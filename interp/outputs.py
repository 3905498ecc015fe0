"""What a command writes: claimed before anything is read, so that it takes no input's place and no other file's."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import UserError

with suppress(ImportError):  # not on Windows
    import fcntl

_MODELS = tomllib.loads((Path(__file__).parent / "data" / "models.toml").read_text("utf-8"))
NAMED = {"scripted", "scripted-rotated", "median", "organism-rotated", "organism-evil", "prompts"}
NAMED |= {*_MODELS["shipped"], *_MODELS["unpacked"]}
"""Inputs that come with the package, whatever lies in the current folder."""
_INPUTS = (
    *("model", "models", "adapter", "adapters", "agents", "preset", "checkpoint", "change"),
    *("source", "text", "transcripts", "fit_classifier_on", "directions"),
)
"""Arguments that may name files; a `Path` other than the output always does."""
_WHOLE = ("config.json", "adapter_config.json", "lineage.json")
"""Only in folders that are read as a whole, so that nothing may be written into them."""


class Made(NamedTuple):
    """Files that a command writes together; a folder stands for everything in it."""

    paths: Sequence[Path]
    own: Callable[[], bool] = lambda: False
    """Whether the command itself wrote what is there."""
    begun: Sequence[Path] = ()
    """Those of the paths that it writes before it has done any work."""


@dataclass(frozen=True)
class Writes:
    """In the annotation of an option --out: what a command with these arguments writes there, a folder or files."""

    made: Callable[[Path, Mapping[str, Any]], Iterable[Made]]
    folder: bool = True


def says(path: Path, *words: str) -> bool:
    """Whether a file has all these words in its first 64 MB."""
    with suppress(OSError), path.open("rb") as file:
        content = file.read(1 << 26)
        return all(word.encode() in content for word in words)
    return False


def records(path: Path, *words: str) -> Made:
    """A journal `NAME.jsonl` whose `NAME.json` has these words."""
    facts, pending = path.with_suffix(".json"), path.with_name(f".{path.stem}.pending.jsonl")
    if path.suffix != ".jsonl":
        raise UserError(f"{path}: give the file a name that ends in .jsonl")
    return Made((path, facts, pending), partial(says, facts, '"made_by"', *words), (facts,))


@contextmanager
def claimed(verb: str, out: Path, writes: Writes, given: Mapping[str, Any]) -> Iterator[None]:
    """Keep what the command writes to this process, and leave nothing behind if it ends before it has done any work.

    Raises `UserError` if that is, holds or lies in an input, is there but not the command's own, cannot be written, or
    is being written by another process.
    """
    if int(os.environ.get("RANK", 0)):  # the first of several processes writes
        yield
        return
    if not writes.folder and out.is_dir():
        raise UserError(f"--out {out}: a folder; give a file")
    folders, made = [out] * writes.folder, [*writes.made(out, given)]
    paths = [path for each in made for path in each.paths]
    place = next(path for path in (*folders, *out.absolute().parents) if os.path.lexists(path))
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"--out {out}: {place} is {'read-only' if place.is_dir() else 'a file'}; give another --out")
    for path in paths:
        with suppress(FileNotFoundError):  # any other error says that there can be no such file
            path.lstat()
    _lock(out, paths)
    try:
        for source in _inputs(given, out):
            above = Path(os.path.realpath(source)).parents if os.path.lexists(source) else ()
            if any(_same(source, path) for path in (out, *paths)):
                raise UserError(f"--out {out}: would overwrite the input {source}; give another --out")
            if any(_same(path, folder) for path in (*folders, *paths) for folder in above):
                raise UserError(f"--out {out}: holds the input {source}; give a folder of its own")
            whole = str(source) == given.get("source") or any((source / name).exists() for name in _WHOLE)
            if whole and any(_same(source, folder) for folder in Path(os.path.realpath(out)).parents):
                raise UserError(f"--out {out}: lies in the input {source}; give another --out")
        for each in made:
            if (there := next(filter(_holds, each.paths), None)) and not each.own():
                raise UserError(f"{there}: exists, and {verb} may not replace it; give another --out")
        before = {path for path in (*paths, out, *out.parents) if os.path.lexists(path)}
        try:
            yield
        except BaseException:
            made = [*writes.made(out, given)]  # there may be more by now
            worked = [any(_holds(path) for path in each.paths if path not in each.begun) for each in made]
            new = [path for each, kept in zip(made, worked, strict=True) if not kept for path in each.paths]
            for path in (*new, *folders, *out.parents):
                if path not in before:
                    _remove(path)
            raise
    finally:
        _lock(out, paths, release=True)


def in_use(path: Path) -> bool:
    """Whether another command of this user is writing there; where that cannot be known, it is not."""
    try:
        _lock(path, [path])
    except UserError:
        return True
    _lock(path, [path], release=True)
    return False


def _inputs(given: Mapping[str, Any], out: Path) -> Iterator[Path]:
    """What the arguments name that may be a file."""
    for name, value in given.items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, Path) and each is not out:
                yield each
            elif isinstance(each, str) and name in _INPUTS:
                for text in {each, each.partition("=")[2]} - {"", *NAMED}:  # PERSONA=MODEL
                    yield Path(os.path.expanduser(text))


def _same(a: Path, b: Path) -> bool:
    """Whether two paths are one file, by whatever links and spellings, or would be."""
    with suppress(OSError):
        return os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)


def _holds(path: Path) -> bool:
    """Whether something is there that could be lost: a file (a journal with a line in it), or a folder with files."""
    if path.is_dir():
        return any(files for _, _, files in os.walk(path))
    return os.path.lexists(path) and not (path.suffix == ".jsonl" and path.is_file() and not path.stat().st_size)


def _remove(path: Path) -> None:
    """Remove a file, or a folder without files."""
    with suppress(OSError):
        if not path.is_dir():
            path.unlink()
        elif not _holds(path):
            shutil.rmtree(path)


def _lock(out: Path, paths: Sequence[Path], *, release: bool = False) -> None:
    """Take or give back the locks of these paths among the user's processes; they end with the process."""
    if (file := _locks()) is None:
        return
    for path in paths:
        place = int.from_bytes(hashlib.sha256(os.path.realpath(path).encode()).digest()[:7])
        try:
            fcntl.lockf(file, fcntl.LOCK_UN if release else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            _lock(out, paths, release=True)
            raise UserError(f"--out {out}: another command is writing it; wait for it, or give another --out") from None


@cache
def _locks() -> int | None:
    """A file of which each byte stands for a path, as a number; None where there is no place for it."""
    with suppress(OSError, AttributeError):  # no user on Windows
        name = f"interp-{os.getuid()}.locks"
        return os.open(os.path.join(tempfile.gettempdir(), name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    return None
