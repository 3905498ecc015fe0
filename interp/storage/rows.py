"""Tables that users give: JSON, JSONL, CSV and Parquet files as rows, each with its place in the file."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.storage.text import read_bytes, read_records, read_text, suffix


def table_rows(path: str | Path, content: bytes | None = None) -> list[tuple[str, Any]]:
    """The rows of a table by the file's suffix; without one of its own, it is read as JSON or JSONL."""
    content, kind = read_bytes(path, "JSON, JSONL, CSV or Parquet") if content is None else content, suffix(path)
    if kind == ".parquet":
        from pyarrow import ArrowException, BufferReader
        from pyarrow.parquet import read_table

        try:
            rows = read_table(BufferReader(content)).to_pylist()
        except (ArrowException, OSError) as error:
            raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None
        return [(f"row {i}", row) for i, row in enumerate(rows, start=1)]
    if kind not in (".csv", ".tsv"):
        return read_records(path, content)
    reader = csv.DictReader(StringIO(read_text(path, content)), delimiter="," if kind == ".csv" else "\t", strict=True)
    found = []
    try:
        for row in reader:
            if None in row:
                raise csv.Error(f"{len(row) - 1 + len(row[None])} fields, where the first line names {len(row) - 1}")
            found.append((f"line {reader.line_num}", row))
    except csv.Error as error:
        what = f"not a table ({error}); put a text with commas, quotes or line breaks in double quotes"
        raise UserError(f"{path}, line {reader.line_num}: {what}") from None
    return found
