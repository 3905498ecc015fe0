"""Activations on disk, in one safetensors file.

Knows nothing about models. The file gets its full size before the first reading (so a full disk shows at once) and is
filled in place, transcript by transcript. Until complete it has another name, and a note of what is done beside it,
from which a killed run resumes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from interp.activations.corpus import COLUMNS, Corpus, TurnTable
from interp.activations.reading import Readings, stream
from interp.errors import Progress, UserError
from interp.models.layers import SITES, Site
from interp.models.model import Model
from interp.storage.files import checked, read_json, write_json
from interp.storage.provenance import package_versions


@dataclass(frozen=True)
class _Header:
    """What a store says about itself."""

    format: Literal["interp.activations/1"]
    layers: tuple[int, ...]
    positions: tuple[str, ...]
    hook_point: str
    questions: tuple[str, ...]
    personas: tuple[str, ...]
    provenance: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True)
class _Note:
    """How far an unfinished store has come."""

    fingerprint: str
    done: set[int]


class ActivationStore:
    """A complete store, for reading; its file is an ordinary safetensors file with one tensor per hook point.

    `store[layer]` is a float32 array of shape [turn, position, d_model], `store[layer, "last"]` reads one position
    only; rows are those of `turns`.

    >>> corpus = interp.activations.Corpus.build(transcripts[:2], model.tokenizer)
    >>> store = interp.activations.read_activations(model, corpus, tmp_path / "a.safetensors", layers=[2])
    >>> store[2].shape, store[2, "last"].shape
    ((9, 1, 128), (9, 128))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with safe_open(str(path), framework="numpy") as file:
                header = checked(_Header, json.loads((file.metadata() or {}).get("interp", "null")))
                columns = {name: file.get_tensor(name) for name in COLUMNS}
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(
                f"{path}: not a complete store of activations ({error}); remove it, or replace it with --restart"
            ) from None
        self.layers, self.positions, self.questions = header.layers, header.positions, header.questions
        self.hook_point, self.provenance, self.fingerprint = header.hook_point, header.provenance, header.fingerprint
        self.turns = TurnTable(**columns, persona=header.personas)

    def __getitem__(self, key: int | tuple[int, str]) -> Float[np.ndarray, "turn *position d_model"]:
        layer, position = key if isinstance(key, tuple) else (key, None)
        if layer not in self.layers or position not in (None, *self.positions):
            raise UserError(
                f"{layer}, {position}: not in {self.path}; it has layers {', '.join(map(str, self.layers))} "
                f"and positions {', '.join(self.positions)}"
            )
        with safe_open(str(self.path), framework="numpy") as file:
            values = file.get_slice(self.hook_point.format(layer=layer))
            return values[:] if position is None else values[:, self.positions.index(position)]


class StoreWriter:
    """A store in the making: `append` readings until nothing is `missing`, then `finish`."""

    def __init__(
        self,
        path: str | Path,
        corpus: Corpus,
        *,
        layers: Sequence[int],
        positions: Sequence[str],
        hook_point: str,
        d_model: int,
        provenance: Mapping[str, Any],
    ) -> None:
        """Start a store at `path`, or resume one that was started with exactly these arguments.

        Raises `UserError` when the disk is full, or when `path` holds anything else.
        """
        self.path = Path(path)
        self._part, self._note = _unfinished(self.path)
        self._transcripts = set(corpus.usable)
        facts: dict[str, Any] = {
            "format": "interp.activations/1",
            "layers": list(layers),
            "positions": list(positions),
            "hook_point": hook_point,
            "questions": list(corpus.questions),
            "personas": list(corpus.turns.persona),
            "provenance": dict(provenance),
        }
        identity = json.dumps([facts, corpus.digest])
        self._fingerprint = facts["fingerprint"] = hashlib.sha256(identity.encode()).hexdigest()
        self._names = [hook_point.format(layer=layer) for layer in layers]
        n_turns = len(corpus.turns)
        shapes = {name: ("I64", [n_turns]) for name in COLUMNS}
        shapes |= {name: ("F32", [n_turns, len(positions), d_model]) for name in self._names}
        self._row_bytes = 4 * len(positions) * d_model
        header, self._offsets, size = _layout(shapes, facts)
        self.done: set[int] = set()
        if self.path.exists():
            self._require(ActivationStore(self.path).fingerprint)
            self.done = set(self._transcripts)
        elif self._note.exists() and self._part.exists():
            try:
                note = read_json(self._note, _Note)
            except ValueError:
                raise UserError(f"{self._note}: damaged; start over with --restart") from None
            self._require(note.fingerprint)
            self.done = note.done
        else:
            self._start(header, size, corpus)

    @property
    def missing(self) -> int:
        """How many transcripts are still to be read."""
        return len(self._transcripts - self.done)

    def append(self, readings: Readings) -> None:
        """Write the turns of some transcripts; on return they survive a kill."""
        runs = np.split(np.arange(len(readings.rows)), np.flatnonzero(np.diff(readings.rows) != 1) + 1)
        with self._part.open("rb+") as file:
            for layer, name in enumerate(self._names):
                for run in runs:
                    file.seek(self._offsets[name] + int(readings.rows[run[0]]) * self._row_bytes)
                    file.write(np.ascontiguousarray(readings.values[run, :, layer]).tobytes())
            file.flush()
            os.fsync(file.fileno())
        self.done |= set(readings.transcripts)
        self._write_note()

    def finish(self) -> ActivationStore:
        """Give the whole store its name and open it."""
        if self.missing:
            raise ValueError(f"{self.missing} transcripts are not read yet")
        if not self.path.exists():
            os.replace(self._part, self.path)
        self._note.unlink(missing_ok=True)
        return ActivationStore(self.path)

    def _start(self, header: bytes, size: int, corpus: Corpus) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._part.open("wb") as file:
                _allocate(file.fileno(), len(header) + size)
                file.write(header)
                for column in corpus.turns.columns().values():  # first in the layout, in this order
                    file.write(column.astype(np.int64).tobytes())
        except OSError as error:
            with suppress(OSError):
                self._part.unlink()
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise UserError(
                f"{self.path}: cannot lay out {(len(header) + size) / 1e6:,.1f} MB of activations "
                f"({error.strerror}); {'make room, choose fewer layers or' if full else 'choose'} another --out"
            ) from error
        self._write_note()

    def _write_note(self) -> None:
        write_json(self._note, {"fingerprint": self._fingerprint, "done": sorted(self.done)}, indent=None)

    def _require(self, fingerprint: str) -> None:
        if fingerprint != self._fingerprint:
            raise UserError(
                f"{self.path.parent}: holds activations of another model, other transcripts or other settings; "
                "replace them with --restart, or give another --out"
            )


def discard(path: str | Path) -> None:
    """Remove a store, complete or not."""
    for part in (Path(path), *_unfinished(Path(path))):
        part.unlink(missing_ok=True)


def _allocate(descriptor: int, size: int) -> None:
    """Reserve space for a file; raises `OSError` on a full disk."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS: a sparse file, so a full disk shows only while it is filled
        os.ftruncate(descriptor, size)


def _unfinished(path: Path) -> tuple[Path, Path]:
    """The data and the note of an unfinished store."""
    return path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")


def _layout(shapes: Mapping[str, tuple[str, list[int]]], facts: Mapping[str, Any]) -> tuple[bytes, dict[str, int], int]:
    """The header of a safetensors file, where each tensor starts in the file, and the size of the data."""
    header: dict[str, Any] = {"__metadata__": {"interp": json.dumps(facts)}}
    starts, end = {}, 0
    for name, (dtype, shape) in shapes.items():
        starts[name], end = end, end + {"F32": 4, "I64": 8}[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [starts[name], end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, {name: 8 + len(text) + at for name, at in starts.items()}, end


def read_activations(
    model: Model,
    corpus: Corpus,
    path: Path,
    *,
    layers: Sequence[int] | None = None,
    site: Site = "resid_post",
    positions: Sequence[str] = ("last",),
    batch_tokens: int = 2048,
    restart: bool = False,
    data: dict[str, Any] | None = None,
    progress: Progress = lambda *_: None,
) -> ActivationStore:
    """Stream the corpus through the model into a store on disk, resuming where a killed call stopped.

    `data` says where the transcripts came from.

    >>> corpus = interp.activations.Corpus.build(transcripts[:2], model.tokenizer)
    >>> interp.activations.read_activations(model, corpus, tmp_path / "a.safetensors").layers
    (0, 1, 2, 3)
    """
    chosen = model.chosen_layers(layers)
    if restart:
        discard(path)
    writer = StoreWriter(
        path,
        corpus,
        layers=chosen,
        positions=positions,
        hook_point=SITES[site],
        d_model=model.d_model,
        provenance={"model": model.provenance, "transcripts": data or {}, "versions": package_versions()},
    )
    total = len(corpus.usable)
    progress("reading activations", total - writer.missing, total)
    settings: dict[str, Any] = {"site": site, "positions": positions, "batch_tokens": batch_tokens}
    for batch in stream(model, corpus, layers=chosen, **settings, done=writer.done):
        writer.append(batch)
        progress("reading activations", total - writer.missing, total)
    return writer.finish()
