"""What a checkpoint of training came from: its base, and its stages in order.

Knows files and hashes; knows nothing about models or how a stage was trained. A checkpoint is a folder
with a `lineage.json` and one folder for each stage, which holds a LoRA adapter (safetensors) and,
where the stage added tokens, the tokenizer. `interp.models` rebuilds the model from it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.models.catalog import local_path
from interp.storage.files import write_json
from interp.storage.provenance import folder_sha256

FILE = "lineage.json"
_FORMAT = 1


@dataclass(frozen=True)
class Base:
    """The model that the first stage started from."""

    name: str
    """A preset, a hub id, or the last part of a folder's path."""
    revision: str | None
    hash: str | None
    """Of a local model's files; of one on the hub, the revision is known."""
    folder: str | None = None
    """Where a local folder lies, from the checkpoint's own folder on."""


@dataclass(frozen=True)
class Stage:
    """One training run on top of all before it."""

    name: str
    folder: str
    """Where its weights lie, from the checkpoint's own folder on."""
    hash: str
    """SHA-256 over that folder's files."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What made it: settings, hash and size of the data, seed, steps, dtype, versions."""


@dataclass(frozen=True)
class Lineage:
    """A base and its stages in order, read from, or about to be written to, `folder`."""

    base: Base
    stages: tuple[Stage, ...]
    folder: Path

    @property
    def base_name(self) -> str:
        """The base by a name that `interp.models.catalog.locate` finds."""
        return self.base.name if self.base.folder is None else str(self.folder / self.base.folder)

    @property
    def stage_folders(self) -> list[Path]:
        return [self.folder / stage.folder for stage in self.stages]

    def check_stages(self) -> None:
        """Raises `UserError` for a stage whose files are missing or not those that were written."""
        for stage, path in zip(self.stages, self.stage_folders, strict=True):
            if not path.is_dir():
                raise UserError(f"checkpoint {self.folder}: its stage {stage.name} is missing, expected at {path}")
            if folder_sha256(path) != stage.hash:
                raise UserError(f"checkpoint {self.folder}: the files of stage {stage.name} do not match their hash")

    def check_base(self, provenance: dict[str, Any]) -> None:
        """Raises `UserError` where the base that was loaded is not the one that was trained on."""
        for what, expected in (("hash", self.base.hash), ("revision", self.base.revision)):
            found = provenance[what]
            if None not in (expected, found) and expected != found:
                raise UserError(
                    f"checkpoint {self.folder}: its base {self.base.name} has the {what} {found[:12]}, but it was "
                    f"trained on {expected[:12]}; give it that base back"  # type: ignore[index]
                )

    def record(self) -> dict[str, Any]:
        """The content of `lineage.json`."""
        return {"format": _FORMAT, "base": asdict(self.base), "stages": [asdict(stage) for stage in self.stages]}


def read_lineage(name: str) -> Lineage | None:
    """The lineage of a checkpoint folder, or None for anything else. Raises `UserError` for one that is broken."""
    folder = local_path(name)
    path = folder / FILE
    if not name.strip() or not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != _FORMAT:
            raise UserError(f"{path}: format {record['format']}, and this version of interp reads {_FORMAT}")
        stages = tuple(Stage(**stage) for stage in record["stages"])
        lineage = Lineage(Base(**record["base"]), stages, folder)
        local_path(lineage.base_name)  # a name that is no text
        return lineage
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a lineage that interp wrote ({error})") from None


@contextmanager
def write_checkpoint(
    folder: Path,
    base: str,
    provenance: dict[str, Any],
    before: Lineage | None,
    stage: str,
    facts: dict[str, Any],
) -> Iterator[Path]:
    """Give an empty folder for the weights of a new stage; on success the whole checkpoint appears at `folder`.

    `base` is the name under which the first stage's base was loaded and `provenance` what `load_plain`
    said of it; `before` is the lineage trained on, or None for the first stage. The stages before are
    copied along, so that a checkpoint stands alone. A failure or a kill leaves no checkpoint.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / folder.name
        stages: Sequence[Stage] = before.stages if before else ()
        for earlier, path in zip(stages, before.stage_folders if before else (), strict=True):
            shutil.copytree(path, made / Path(earlier.folder).name)
        own = made / f"{len(stages) + 1}-{stage}"
        own.mkdir(parents=True)
        yield own
        kept = [Stage(s.name, Path(s.folder).name, s.hash, s.facts) for s in stages]
        new = Stage(stage, own.name, folder_sha256(own), facts)
        if before:
            named = before.base
            local = None if named.folder is None else before.folder / named.folder
        else:
            local = Path(base).expanduser() if Path(base).expanduser().is_dir() else None
            named = Base(local.resolve().name if local else base, provenance["revision"], provenance["hash"])
        relative = None if local is None else os.path.relpath(local.resolve(), folder.resolve())
        where = Base(named.name, named.revision, named.hash, relative)
        write_lineage(Lineage(where, (*kept, new), made))
        made.rename(folder)


def write_lineage(lineage: Lineage) -> None:
    """Write `lineage.json` into its folder."""
    write_json(lineage.folder / FILE, lineage.record(), indent=2)
