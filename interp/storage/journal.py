"""Records that a long run appends one by one, so that a killed run can resume."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from interp.errors import UserError
from interp.processes import each, once, place, shared
from interp.storage.files import atomic_write, checked, require_lock, write_json
from interp.storage.provenance import differing, package_versions

Row = TypeVar("Row")
_OPEN: dict[Path, IO[bytes]] = {}
"""Files of this process: an interrupted cell of a notebook leaves its own behind, and the next call takes it over."""


@dataclass(frozen=True)
class _Facts:
    """What stands beside the records, apart from their totals."""

    made_by: dict[str, Any]
    versions: list[dict[str, str]]


class Lines:
    """A JSONL file for appending, open in one run at a time; `records` is what it held when opened.

    A last line that a kill left half written is cut off. Any other line must be a JSON object, of this `kind`.
    """

    def __init__(self, path: str | Path, kind: Any = dict[str, Any], *, restart: bool = False) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None  # of several processes the first has it
        self.records: list[dict[str, Any]] = once(lambda: self._open(kind, restart))

    def _open(self, kind: Any, restart: bool) -> list[dict[str, Any]]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if abandoned := _OPEN.pop(self.path.resolve(), None):
                abandoned.close()
            self._file = _OPEN[self.path.resolve()] = self.path.open("ab+")
            require_lock(self._file, self.path)
            self._file.seek(0)
            content = b"" if restart else self._file.read()
            self._file.truncate(content.rfind(b"\n") + 1)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); give another place") from error
        return _records(content, self.path, kind)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; it is in the file when this returns."""
        if self._file is None:
            return
        try:
            self._file.write(_line(record))
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); make room, then resume") from error

    def close(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()


class Journal(Lines):
    """`NAME.jsonl`, and `NAME.json` with what made the records and, once finished, their totals.

    `made_by` is everything that decides the records; a journal made by anything else is left alone, and a `UserError`
    says what differs. `restart` removes an existing journal. `kinds` are the records' and their unfinished parts'.
    """

    def __init__(self, path: str | Path, made_by: Mapping[str, Any], *kinds: Any, restart: bool = False) -> None:
        path = Path(path)
        self._kind, of_parts = (*kinds, *[dict[str, Any]] * 2)[:2]
        if path.suffix != ".jsonl":
            raise UserError(f"{path}: give the file a name that ends in .jsonl")
        self._facts_path, pending = path.with_suffix(".json"), path.with_name(f".{path.stem}.pending.jsonl")
        self._made_by = json.loads(json.dumps(made_by))  # as it will be read back
        self._versions: list[dict[str, str]] = []
        mine = place()[0] == 0
        holds = [p for p in (path, pending) if p.is_file() and p.stat().st_size]
        if holds and not restart and mine:
            self._resume(path, f"delete {' and '.join(p.name for p in holds)} (or give --restart, where there is one)")
        versions = package_versions()
        if versions not in self._versions:
            self._versions.append(versions)
        super().__init__(path, self._kind, restart=restart)
        # parts of unfinished records; removed when the journal is finished
        self.pending = Lines(pending, of_parts, restart=restart)
        self._n_extended: int | None = None
        if mine and (restart or not holds):
            self._write_facts({})

    def extend(
        self,
        records: list[dict[str, Any]],
        rows: Sequence[Row],
        write: Callable[[Sequence[Row]], Sequence[dict[str, Any]]],
        *,
        chunk: int,
        even: bool = True,
        place: Callable[[Row], Mapping[str, Any]] = lambda _: {},
        tell: Callable[[int, int], None] = lambda *_: None,
    ) -> list[dict[str, Any]]:
        """Append one record per row to `records` (those of all earlier rows) and to the file; returns the new ones.

        `write` makes the records of `chunk` rows at a time, in this process or another (`even` as in `shared`); records
        that the journal already held are reused. An interrupted chunk is made again from its first row, so that rows
        share a batch with the same rows as before.
        Raises `UserError` for a record that the journal held without the `place` of its row.
        """
        start = len(records)
        for number, (kept, row) in enumerate(zip(self.records[start:], rows, strict=False), start=start + 1):
            if any(kept.get(name) != value for name, value in place(row).items()):
                what = "not what this run writes there; remove that line and all after it, or start over with --restart"
                raise UserError(f"{self.path}, line {number}: {what}")
            records.append(kept)
        n_kept = len(records) - start
        tell(n_kept, len(rows))
        begun = n_kept // chunk * chunk if n_kept < len(rows) else len(rows)
        for i, record in enumerate(shared(rows[begun:], write, chunk, even=even), start=begun):
            if i >= n_kept:
                self.append(record)
                records.append(record)
                tell(len(records) - start, len(rows))
        self._n_extended = len(records)
        return records[start:]

    def rewrite(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Replace all records; a kill leaves the old or the new ones."""
        self.close()
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(b"".join(map(_line, records)))
        super().__init__(self.path, self._kind)

    def undo(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Close the file with these records, those before this run; without any, leave nothing."""
        if self._file is None:
            return
        with each():
            self.rewrite(records)
        for lines in (self, self.pending):
            lines.close()
        for path in (self.pending.path, *(() if records else (self.path, self._facts_path))):
            path.unlink()

    def finish(self, totals: Mapping[str, Any]) -> None:
        """Close the file and write the totals beside it. Raises `UserError` if it held more than was extended."""
        if self._n_extended is not None and self._n_extended < len(self.records):
            what = f"holds {len(self.records)} records, but this run writes {self._n_extended}"
            raise UserError(f"{self.path}: {what}; remove the last ones, or start over with --restart")
        if self._file is not None:
            self.pending.close()
            self.pending.path.unlink()
            self._write_facts(totals)  # last: with totals it is finished
            self.close()

    def _write_facts(self, totals: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).isoformat("T", "seconds")
        made = {"made_by": self._made_by, "versions": self._versions, "written": now}
        write_json(self._facts_path, {**totals, **made})

    def _resume(self, path: Path, over: str) -> None:
        """Take over the records of an existing journal if the same things made them."""
        try:
            before = checked(_Facts, self._facts_path.read_bytes())
        except (OSError, ValueError):
            what = f"{self._facts_path.name} does not say how it was made; give another --out"
            raise UserError(f"{path}: {what}; to start over, {over}") from None
        self._versions = before.versions
        if names := differing(before.made_by, self._made_by):
            what = f"started with another {' of '.join(reversed(names[0].split('.')[-2:]))}"
            raise UserError(f"{path}: {what}; give what it was started with, or another --out; to start over, {over}")


def read_lines(path: Path, kind: Any = dict[str, Any]) -> list[dict[str, Any]]:
    """The complete records of a JSONL file; raises `OSError`, and `UserError` as `Lines` does."""
    return _records(path.read_bytes(), path, kind)


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _records(content: bytes, path: Path, kind: Any) -> list[dict[str, Any]]:
    """The records of all complete lines."""
    records = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            checked(kind, line)
        except ValueError as error:
            what = f"damaged ({error}); remove the line, or start over with --restart"
            raise UserError(f"{path}, line {number}: {what}") from None
        records.append(json.loads(line))
    return records
