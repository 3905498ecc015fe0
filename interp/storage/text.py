"""Text files that users give: how any of them is read and split into records. Faults are named by file and line."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interp.errors import UserError

_PACKED = {b"\x1f\x8b": gzip, b"BZh91AY": bz2, b"\xfd7zXZ": lzma}
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def suffix(path: str | Path) -> str:
    """The suffix that says what is in a file, compressed or not: `.jsonl` of `debates.jsonl.gz`."""
    path = Path(path)
    return Path(path.stem if path.suffix in (".gz", ".bz2", ".xz") else path.name).suffix


def read_bytes(path: str | Path, kind: str = "text") -> bytes:
    """What is in a file or a pipe, unpacked if it is compressed with gzip, bzip2 or xz."""
    at_once = getattr(os, "O_NONBLOCK", 0)  # not to wait for somebody to open the other end of a named pipe
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | at_once)) as file:
            if not (Path(path).is_file() or Path(path).is_fifo()):
                raise OSError("not a file")
            if at_once:
                os.set_blocking(file.fileno(), True)
            content = file.read()
        packed = next((packed for start, packed in _PACKED.items() if content.startswith(start)), None)
        return packed.decompress(content) if packed else content
    except FileNotFoundError:
        reason = "no such file"
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise UserError(f"{path}: {reason}; give a {kind} file, which gzip, bzip2 or xz may have packed")


def read_text(path: str | Path, content: bytes | None = None) -> str:
    """The text of a file, or of its content: UTF-8, or UTF-16 if a mark says so. All line ends become `\\n`."""
    content = read_bytes(path) if content is None else content
    mark = next(filter(content.startswith, _MARKS), b"")
    body = content.removeprefix(mark)
    try:
        text = body.decode(_MARKS.get(mark, "utf-8"))
        at, reason = body.find(b"\0") if "\0" in text else -1, "a NUL character"
    except UnicodeDecodeError as error:
        at, reason = error.start, f"not {error.encoding.upper()}"
    if at >= 0:
        line = body.count(b"\n", 0, at) + 1
        raise UserError(f"{path}, line {line}: cannot be read as UTF-8 text ({reason}); save the file as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_records(path: str | Path, content: bytes | None = None) -> list[tuple[str, Any]]:
    """The items of a JSON list, or the lines of JSONL, each with its place in the file, such as `line 3`."""
    text = read_text(path, content)
    lines = [(i, line.strip("\ufeff \t")) for i, line in enumerate(text.split("\n"), start=1)]
    lines = [(i, line) for i, line in lines if line]
    first = lines[0][1] if lines else ""
    if lines and (first[0] != "[" or (first[-1] == "]" and len(lines) > 1)) and (first != "{" or len(lines) == 1):
        return [(f"line {i}", load(line, f"{path}, line {i}")) for i, line in lines]
    with _faults_in(str(path)):
        whole = _parsed(text) if lines else []
    items = [(f"item {i}", item) for i, item in enumerate(whole if isinstance(whole, list) else [whole], start=1)]
    for place, item in items:
        with _faults_in(f"{path}, {place}"):
            _require_sound(item)
    return items


def load(text: str, where: str) -> Any:
    """A JSON value of UTF-8 text and finite numbers; `where` is named in errors."""
    with _faults_in(where):
        _require_sound(value := _parsed(text))
    return value


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _require_sound(value: Any) -> None:
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@contextmanager
def _faults_in(where: str) -> Iterator[None]:
    """Raise what is wrong with JSON as a `UserError`."""
    try:
        yield
        return
    except json.JSONDecodeError as error:
        line = "" if ", line " in where else f", line {error.lineno}"
        where, reason = f"{where}{line}", f"not valid JSON ({error.msg} at column {error.colno})"
    except UnicodeEncodeError:
        reason = "half of a surrogate pair, which is not text"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:  # such as a number of thousands of digits
        reason = f"cannot be read ({error})"
    raise UserError(f"{where}: {reason}; give a JSON list, or JSONL with one record per line")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)!r} stands twice in an object")
    return found
