"""Reading published data sets: rows from a file, a folder or the hub.

Knows file formats and how the parts of a data set are told apart by their paths; knows nothing about what
the rows mean.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import UserError

_FORMATS = (".jsonl", ".json", ".parquet")
_SPLITS = ("train", "test", "validation", "val", "dev")
_NOT_ROWS = ("dataset_info", "dataset_infos", "dataset_dict", "state")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a data set is published."""

    hub_id: str
    fields: tuple[str, ...]
    """What every row has."""
    example: str
    """One row, as the user should write it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in the order of the files, where they came from, and the SHA-256 over the files."""

    rows: list[dict[str, Any]]
    origin: str
    sha256: str


def read_rows(layout: Layout, source: str | Path, split: str, part: str | None = None) -> Rows:
    """The rows of a data set.

    `source` is a JSON, JSONL or Parquet file, which is read whole; or a folder, or the id of a data set on
    the hub (`id` or `id@revision`), of which the files are read whose path names `split`, and `part` where the
    path of any file names that. Raises `UserError`, which says how to get the data, for a source that is missing or has
    other fields.
    """
    path = Path(source).expanduser()
    origin = str(source)
    if not path.exists():
        path, revision = _from_hub(layout, origin)
        origin = f"{origin.partition('@')[0]}@{revision}"
    files = [path] if path.is_file() else _chosen(layout, path, origin, split, part)
    digest, rows = hashlib.sha256(), list[dict[str, Any]]()
    for file in files:
        digest.update(file.read_bytes())
        for i, row in enumerate(_read_file(layout, file), start=1):
            missing = [name for name in layout.fields if not isinstance(row, dict) or name not in row]
            if missing:
                found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
                raise UserError(f"{file}, row {i}: no {', '.join(missing)} in it (found: {found}); {_wanted(layout)}")
            rows.append(row)
    if not rows:
        raise UserError(f"{origin}: the data set has no rows; {_wanted(layout)}")
    return Rows(rows, origin, digest.hexdigest())


def _wanted(layout: Layout) -> str:
    return f"wanted are rows such as {layout.example}, as published under the hub id {layout.hub_id}"


def _from_hub(layout: Layout, source: str) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from interp.storage.hub import hub_reachable

    get = (
        f"get it with: hf download {layout.hub_id} --repo-type dataset --local-dir FOLDER on a machine with access "
        f"and give FOLDER, or give a JSON, JSONL or Parquet file with rows such as {layout.example}"
    )
    hub_id, _, revision = source.partition("@")
    if not _HUB_ID.fullmatch(hub_id):
        raise UserError(f"data set {source}: no such file or folder, and not a hub id; {get}")
    reachable = hub_reachable()
    patterns = [f"*{suffix}" for suffix in _FORMATS]
    try:
        folder = snapshot_download(
            hub_id,
            repo_type="dataset",
            revision=revision or None,
            allow_patterns=patterns,
            local_files_only=not reachable,
        )
    except LocalEntryNotFoundError:
        raise UserError(
            f"data set {hub_id}: no such file or folder, the hub cannot be reached and its cache has no copy; {get}"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"data set {hub_id}: not to be had from the hub ({reason}); {get}") from None
    return Path(folder), Path(folder).name


def _chosen(layout: Layout, folder: Path, origin: str, split: str, part: str | None) -> list[Path]:
    """The files of a folder that hold the split, and the part where parts are told apart."""
    files = [f for f in folder.rglob("*") if f.suffix in _FORMATS and f.is_file() and f.stem not in _NOT_ROWS]
    files.sort(key=lambda f: [(len(p), p) if p[:1].isdigit() else (0, p) for p in f.relative_to(folder).parts])
    of_part = [f for f in files if part is not None and _names(f.relative_to(folder), part)] or files
    of_split = [f for f in of_part if _names(f.relative_to(folder), split)]
    if not of_split and not any(_names(f.relative_to(folder), other) for f in of_part for other in _SPLITS):
        of_split = of_part
    if not of_split:
        what = f"no file of the split {split!r}" if of_part else f"no {', '.join(_FORMATS)} file"
        raise UserError(f"{origin}: the folder holds {what}; {_wanted(layout)}")
    one_format = of_split[0].suffix  # the same rows are often published in several
    return [f for f in of_split if f.suffix == one_format]


def _names(path: Path, word: str) -> bool:
    """Whether a folder or the file in a path is called `word`, `word-00000-of-00001.parquet` or the like."""
    return any(part.split(".")[0].split("-")[0] == word for part in path.parts)


def _read_file(layout: Layout, file: Path) -> list[Any]:
    if file.suffix == ".parquet":
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_table

        try:
            return list(read_table(file).to_pylist())
        except ArrowInvalid as error:
            raise UserError(f"{file}: not a Parquet file ({str(error).splitlines()[0]})") from None
    if file.suffix not in _FORMATS:
        raise UserError(f"{file}: not a {', '.join(_FORMATS)} file; {_wanted(layout)}")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as UTF-8 text ({error})") from None
    if file.suffix == ".jsonl":
        return [_load(line, file, i) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    data = _load(text, file)
    if isinstance(data, dict):
        # BBH keeps its rows under "examples"; MATH has one row a file
        return list(data["examples"]) if isinstance(data.get("examples"), list) else [data]
    return data if isinstance(data, list) else [data]


def _load(text: str, file: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = error.lineno if line is None else line
        raise UserError(f"{file}, line {where}: not valid JSON ({error.msg} at column {error.colno})") from None
