"""Records that a long run appends one by one, so that a killed run goes on where it was.

Knows lines of JSON and the facts beside them; knows nothing about what the records mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from interp.errors import UserError
from interp.storage.files import atomic_write, write_json
from interp.storage.provenance import differing, package_versions

Row = TypeVar("Row")


class Lines:
    """A JSONL file for appending. What is in it when it opens is in `records`, in order.

    A kill can leave the last line half written: it is cut off. One process at a time may have it open.
    Raises `UserError` for a line that is no JSON object, and where the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab+")
            _lock(self._file.fileno())
            self._file.seek(0)
            content = self._file.read()
            self._file.truncate(content.rfind(b"\n") + 1)
        except BlockingIOError:
            raise UserError(f"{path}: another run is writing it; wait for that, or give another --out") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another place") from error
        self.records = _records(content, self.path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; it is in the file when this returns."""
        try:
            self._file.write(_line(record))
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); make room and run it again, it goes on from here"
            ) from error

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


class Journal:
    """`NAME.jsonl` and beside it `NAME.json` with what made the records and, once finished, their totals.

    `made_by` is what decides the records: a journal that was begun with anything else is left as it is,
    and a `UserError` says what differs. `restart` removes what is there.
    """

    def __init__(self, path: str | Path, made_by: Mapping[str, Any], *, restart: bool = False) -> None:
        self.path = Path(path)
        if self.path.suffix != ".jsonl":
            raise UserError(f"{path}: give the file a name that ends in .jsonl")
        self._facts_path = self.path.with_suffix(".json")
        self._pending_path = self.path.with_name(f".{self.path.stem}.pending.jsonl")
        self._made_by = json.loads(json.dumps(made_by))  # as it will be read again
        self._versions: list[dict[str, str]] = []
        holds = [p for p in (self.path, self._pending_path) if p.is_file() and p.stat().st_size]
        if restart:
            self._remove()
        elif holds:
            self._go_on(holds)
        versions = package_versions()
        if versions not in self._versions:
            self._versions.append(versions)
        self._lines = Lines(self.path)
        self.pending = Lines(self._pending_path)
        """What does not yet make a whole record; it goes when the journal is finished."""
        if restart or not holds:
            self._write_facts({})

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records that were there when the journal was opened."""
        return self._lines.records

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; it is in the file when this returns."""
        self._lines.append(record)

    def extend(
        self,
        records: list[dict[str, Any]],
        rows: Sequence[Row],
        write: Callable[[Sequence[Row]], Sequence[dict[str, Any]]],
        *,
        chunk: int,
        tell: Callable[[int, int], None] = lambda *_: None,
    ) -> list[dict[str, Any]]:
        """Add the record of each row to `records`, those of all rows before; returns the new ones.

        `write` makes the records of `chunk` rows at a time, and they are appended; those that were there when
        the journal was opened are taken from there. What a kill cut is written again from its chunk's first
        row on, so that rows stand in the same batches as before.
        """
        start = len(records)
        records += self.records[start : start + len(rows)]
        n_kept = len(records) - start
        tell(n_kept, len(rows))
        for first in range(n_kept // chunk * chunk if n_kept < len(rows) else len(rows), len(rows), chunk):
            new = write(rows[first : first + chunk])
            for record in new[len(records) - start - first :]:
                self.append(record)
                records.append(record)
            tell(len(records) - start, len(rows))
        return records[start:]

    def rewrite(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Put these records in the place of all that are there; a kill leaves the old or the new ones."""
        self._lines.close()
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(b"".join(map(_line, records)))
        self._lines = Lines(self.path)

    def finish(self, totals: Mapping[str, Any]) -> None:
        """Close the file and keep the totals beside it."""
        self._write_facts(totals)
        self._lines.close()
        self.pending.close()
        self._pending_path.unlink()

    def _write_facts(self, totals: Mapping[str, Any]) -> None:
        facts = {
            **totals,
            "made_by": self._made_by,
            "versions": self._versions,
            "written": datetime.now(UTC).isoformat("T", "seconds"),
        }
        write_json(self._facts_path, facts)

    def _go_on(self, holds: Sequence[Path]) -> None:
        """Take over what was begun, if it was begun with the same; `holds` are the files with its records."""
        anew = f"to begin anew, delete {' and '.join(p.name for p in holds)} (--restart does, where there is one)"
        try:
            begun = json.loads(self._facts_path.read_text(encoding="utf-8"))
            made_by, self._versions = begun["made_by"], list(begun["versions"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.path}: {self._facts_path.name} does not say how it was made; give another --out; {anew}"
            ) from None
        if names := differing(made_by, self._made_by):
            raise UserError(
                f"{self.path}: was begun with another {' of '.join(reversed(names[0].split('.')[-2:]))}; "
                f"give what it was begun with, or another --out; {anew}"
            )

    def _remove(self) -> None:
        for old in (self.path, self._facts_path, self._pending_path):
            try:
                old.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{old}: cannot be removed ({error.strerror}); give another --out") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole records of such a file. Raises `OSError`, and `UserError` as `Lines` does."""
    return _records(path.read_bytes(), path)


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


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


def _lock(file: int) -> None:
    """Until the file is closed, or its process has ended; raises `BlockingIOError` where another has it."""
    with suppress(ImportError):  # there is none on Windows
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
