"""Reading published data sets: rows from a file, a folder or the hub. Knows nothing about what the rows mean."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import UserError
from interp.storage.rows import table_rows
from interp.storage.text import read_bytes, suffix

_FORMATS = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class Layout:
    """How a data set is published: its hub id, a row with every field that is needed, and the part to read if any."""

    hub_id: str
    example: Mapping[str, Any]
    part: str | None = None

    @property
    def expected(self) -> str:
        return f"expected rows such as {json.dumps(self.example, ensure_ascii=False)}, as published in {self.hub_id}"


class Rows(NamedTuple):
    """Rows in the order of the files, where they came from, and the SHA-256 over the files, unpacked."""

    rows: list[dict[str, Any]]
    origin: str
    sha256: str


def read_rows(layout: Layout, source: str | Path, split: str) -> Rows:
    """The rows of a data set: a JSON, JSONL or Parquet file, a folder, or a hub id (`id` or `id@revision`).

    In a folder and on the hub, files are read whose path names `split`, and the layout's part if any path names it.
    Raises `UserError`, which says how to get the data, if it is missing or has other fields.
    """
    path = Path(source).expanduser()
    origin = str(source)
    if not path.exists():
        path = _from_hub(layout, origin)
        origin = f"{origin.partition('@')[0]}@{path.name}"
    files = _chosen(layout, path, origin, split) if path.is_dir() else [path]
    digest, rows = hashlib.sha256(), list[dict[str, Any]]()
    for file in files:
        if suffix(file) not in _FORMATS:
            raise UserError(f"{file}: not a {', '.join(_FORMATS)} file; {layout.expected}")
        digest.update(content := read_bytes(file))
        for place, row in _read_file(file, content):
            found = row if isinstance(row, dict) else {type(row).__name__: None}
            if missing := [name for name in layout.example if name not in found]:
                lacks = f"has no {', '.join(missing)} (found: {', '.join(found)})"
                raise UserError(f"{file}, {place}: {lacks}; {layout.expected}")
            rows.append(row)
    if not rows:
        raise UserError(f"{origin}: the data set has no rows; {layout.expected}")
    return Rows(rows, origin, digest.hexdigest())


def _from_hub(layout: Layout, source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from interp.storage.hub import hub_reachable

    get = (
        f"run: hf download {layout.hub_id} --repo-type dataset --local-dir FOLDER on a machine with access "
        f"and give FOLDER, or give a JSON, JSONL or Parquet file; {layout.expected}"
    )
    hub_id, _, revision = source.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        raise UserError(f"data set {source}: no such file or folder, and not a hub id; {get}")
    patterns = [f"*{end}{packed}" for end in _FORMATS for packed in ("", ".gz")]
    kind: Any = {"repo_type": "dataset", "allow_patterns": patterns}
    try:
        return Path(snapshot_download(hub_id, revision=revision or None, local_files_only=not hub_reachable(), **kind))
    except LocalEntryNotFoundError:
        reason = "no such file or folder, the hub cannot be reached and its cache has no copy"
    except (HfHubHTTPError, OSError) as error:
        reason = f"cannot be downloaded from the hub ({str(error).strip().splitlines()[0]})"
    raise UserError(f"data set {hub_id}: {reason}; {get}")


def _chosen(layout: Layout, folder: Path, origin: str, split: str) -> list[Path]:
    """The files of a folder that hold the split, and the layout's part if paths name it."""
    files = [f.relative_to(folder) for f in folder.rglob("*") if suffix(f) in _FORMATS and f.is_file()]
    files = [f for f in files if f.stem not in ("dataset_info", "dataset_infos", "dataset_dict", "state")]
    files.sort(key=lambda f: [(len(p), p) if p[:1].isdigit() else (0, p) for p in f.parts])
    # the names in each path: of `main/test-00000-of-00001.parquet`, main and test
    names = {f: {part.split(".")[0].split("-")[0] for part in f.parts} for f in files}
    of_part = [f for f in files if layout.part in names[f]] or files
    of_split = [f for f in of_part if split in names[f]]
    if not of_split and not any(names[f] & {"train", "test", "validation", "val", "dev"} for f in of_part):
        of_split = of_part
    if not of_split:
        what = f"file of the split {split!r}" if of_part else f"{', '.join(_FORMATS)} file"
        raise UserError(f"{origin}: the folder has no {what}; {layout.expected}")
    return [folder / f for f in of_split if f.suffix == of_split[0].suffix]  # rows often come in several formats


def _read_file(file: Path, content: bytes) -> list[tuple[str, Any]]:
    """The rows of a file, each with its place in it."""
    found = table_rows(file, content)
    if len(found) == 1 and isinstance(found[0][1], dict) and isinstance(found[0][1].get("examples"), list):  # as in BBH
        return [(f"item {i}", row) for i, row in enumerate(found[0][1]["examples"], start=1)]
    return found
