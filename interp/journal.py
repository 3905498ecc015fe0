"""Records that a long run appends one by one, so that a killed run goes on where it was.

Knows lines of JSON and the facts beside them; knows nothing about what the records mean.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.files import atomic_write


class Lines:
    """A JSONL file for appending. What is in it when it opens is in `records`, in order.

    A kill can leave the last line half written: it is cut off. Raises `UserError` for a line that is
    no JSON object, and where the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab+")
            self._file.seek(0)
            content = self._file.read()
            self._file.truncate(content.rfind(b"\n") + 1)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another place") from error
        self.records = _records(content, self.path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; it is in the file when this returns."""
        try:
            self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); make room and run it again, it goes on from here"
            ) from error

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole records of such a file. Raises `OSError`, and `UserError` as `Lines` does."""
    return _records(path.read_bytes(), path)


def _records(content: bytes, path: Path) -> list[dict[str, Any]]:
    """The records in all lines but a torn last one."""
    records = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: is damaged; remove the line, or begin anew with --restart")
        records.append(record)
    return records


class Journal(Lines):
    """`NAME.jsonl` and beside it `NAME.json` with what made the records and, once finished, their totals.

    `made_by` is what decides the records: a journal that was begun with anything else is left as it is,
    and a `UserError` says what differs. `restart` removes what is there.
    """

    def __init__(self, path: str | Path, made_by: Mapping[str, Any], *, restart: bool = False) -> None:
        path = Path(path)
        if path.suffix != ".jsonl":
            raise UserError(f"{path}: give the file a name that ends in .jsonl")
        self._facts_path = path.with_suffix(".json")
        self.pending = path.with_name(f".{path.stem}.pending.jsonl")
        """Where a run may keep what does not yet make a whole record; it is removed with the rest."""
        self._made_by = json.loads(json.dumps(made_by))  # as it will be read again
        if restart:
            for old in (path, self._facts_path, self.pending):
                old.unlink(missing_ok=True)
        if self._facts_path.exists():
            self._require_same(path)
        elif path.exists() and path.stat().st_size:
            raise UserError(f"{path}: exists, and nothing says how it was made; give another --out, or --restart")
        else:
            self._write_facts({})
        super().__init__(path)

    def finish(self, totals: Mapping[str, Any]) -> dict[str, Any]:
        """Close the file, keep the totals beside it, and return all facts."""
        self.close()
        return self._write_facts(totals)

    def _write_facts(self, totals: Mapping[str, Any]) -> dict[str, Any]:
        packages = ("interp", "torch", "transformers", "transformer-lens", "peft", "numpy")
        facts = {
            **totals,
            "made_by": self._made_by,
            "versions": {name: importlib.metadata.version(name) for name in packages},
            "written": datetime.now(UTC).isoformat("T", "seconds"),
        }
        with atomic_write(self._facts_path) as temporary:
            temporary.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
        return facts

    def _require_same(self, path: Path) -> None:
        try:
            begun = json.loads(self._facts_path.read_text(encoding="utf-8"))["made_by"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self._facts_path}: does not say how {path.name} was made; give another --out, or --restart"
            ) from None
        if differing := _differing(begun, self._made_by):
            raise UserError(
                f"{path}: was begun with another {differing[0]}; "
                "give what it was begun with, another --out, or --restart to begin anew"
            )


def _differing(a: Any, b: Any, name: str = "") -> Sequence[str]:
    """The names of the entries in which two JSON values differ, deepest names first."""
    if isinstance(a, dict) and isinstance(b, dict):
        names = [key for key in {**a, **b} if a.get(key) != b.get(key)]
        return [deepest for key in names for deepest in _differing(a.get(key), b.get(key), key)]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [deepest for x, y in zip(a, b, strict=True) for deepest in _differing(x, y, name)]
    return [] if a == b else [name]
