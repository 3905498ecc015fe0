"""Activations on disk, in one safetensors file.

It has its full size before the first reading, so a full disk shows at once. Until complete it has another name, and
beside it a note of what is done, from which a killed run resumes.
"""

from __future__ import annotations

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
from interp.storage.files import checked, write_json
from interp.storage.provenance import package_versions


@dataclass(frozen=True)
class _Header:
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
    fingerprint: str
    done: set[int]


class ActivationStore:
    """A complete store: `store[layer]` is float32 [turn, position, d_model], with the rows of `turns`.

    `store[layer, "last"]` reads one position only.

    >>> corpus = interp.activations.Corpus.build(transcripts[:2], model.tokenizer)
    >>> store = interp.activations.read_activations(model, corpus, tmp_path / "a.safetensors", layers=[2])
    >>> store[2].shape, store[2, "last"].shape
    ((9, 1, 128), (9, 128))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with safe_open(str(path), framework="numpy") as file:
                header = checked(_Header, (file.metadata() or {}).get("interp", "null"))
                columns = {name: file.get_tensor(name) for name in COLUMNS}
        except (OSError, SafetensorError, ValueError) as error:
            what = f"not a complete store of activations ({error})"
            raise UserError(f"{path}: {what}; remove it, or replace it with --restart") from None
        self.layers, self.positions, self.questions = header.layers, header.positions, header.questions
        self.hook_point, self.provenance, self.fingerprint = header.hook_point, header.provenance, header.fingerprint
        self.turns = TurnTable(**columns, persona=header.personas)

    def __getitem__(self, key: int | tuple[int, str]) -> Float[np.ndarray, "turn *position d_model"]:
        layer, position = key if isinstance(key, tuple) else (key, None)
        if layer not in self.layers or position not in (None, *self.positions):
            held = f"layers {', '.join(map(str, self.layers))} and positions {', '.join(self.positions)}"
            raise UserError(f"{layer}, {position}: not in {self.path}; it has {held}")
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
        """Start a store, or resume one; raises `UserError` on a full disk, and where `path` holds anything else."""
        self.path, self._part, self._note = _files(path)
        self._transcripts = set(corpus.usable)
        facts: dict[str, Any] = {
            "format": "interp.activations/1",
            "layers": layers,
            "positions": positions,
            "hook_point": hook_point,
            "questions": corpus.questions,
            "personas": corpus.turns.persona,
            "provenance": provenance,
        }
        identity = json.dumps([facts, corpus.digest]).encode()
        self._fingerprint = facts["fingerprint"] = hashlib.sha256(identity).hexdigest()
        self._names = [hook_point.format(layer=layer) for layer in layers]
        n_turns = len(corpus.turns)
        shapes = {name: ("I64", [n_turns]) for name in COLUMNS}
        shapes |= {name: ("F32", [n_turns, len(positions), d_model]) for name in self._names}
        self._row_bytes = 4 * len(positions) * d_model
        header, self._offsets, size = _layout(shapes, facts)
        self.done: set[int] = set()
        if self.path.exists():
            held, self.done = ActivationStore(self.path).fingerprint, set(self._transcripts)
        elif self._note.exists() and self._part.exists():
            try:
                note = checked(_Note, self._note.read_bytes())
            except ValueError:
                raise UserError(f"{self._note}: damaged; start over with --restart") from None
            held, self.done = note.fingerprint, note.done
        else:
            held = self._fingerprint
            self._start(header, size, corpus)
        if held != self._fingerprint:
            holds = "holds activations of another model, other transcripts or other settings"
            raise UserError(f"{self.path.parent}: {holds}; replace them with --restart, or give another --out")

    @property
    def missing(self) -> int:
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
                # macOS has a sparse file instead, so a full disk shows only while it is filled
                reserve = getattr(os, "posix_fallocate", lambda file, _, size: os.ftruncate(file, size))
                reserve(file.fileno(), 0, len(header) + size)
                file.write(header)
                for column in corpus.turns.columns().values():  # first in the layout, in this order
                    file.write(column.astype(np.int64).tobytes())
        except OSError as error:
            with suppress(OSError):
                self._part.unlink()
            what = f"{(len(header) + size) / 1e6:,.1f} MB of activations ({error.strerror})"
            advice = "make room, read fewer layers, or give another --out"
            raise UserError(f"{self.path}: cannot lay out {what}; {advice}") from error
        self._write_note()

    def _write_note(self) -> None:
        write_json(self._note, {"fingerprint": self._fingerprint, "done": sorted(self.done)}, indent=None)


def discard(path: str | Path) -> None:
    """Remove a store, complete or not."""
    for file in _files(path):
        file.unlink(missing_ok=True)


def _files(path: str | Path) -> tuple[Path, Path, Path]:
    """The complete store, and the data and the note of an unfinished one."""
    return Path(path), Path(f"{path}.part"), Path(f"{path}.part.json")


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
    """Stream a corpus (made from `data`) into a store on disk, resuming where a killed call stopped.

    >>> corpus = interp.activations.Corpus.build(transcripts[:2], model.tokenizer)
    >>> interp.activations.read_activations(model, corpus, tmp_path / "a.safetensors").layers
    (0, 1, 2, 3)
    """
    provenance = {"model": model.provenance, "transcripts": data or {}, "versions": package_versions()}
    what: dict[str, Any] = {"layers": model.chosen_layers(layers), "positions": positions}
    if restart:
        discard(path)
    writer = StoreWriter(path, corpus, **what, hook_point=SITES[site], d_model=model.d_model, provenance=provenance)
    total = len(corpus.usable)
    progress("reading activations", total - writer.missing, total)
    for batch in stream(model, corpus, **what, site=site, batch_tokens=batch_tokens, done=writer.done):
        writer.append(batch)
        progress("reading activations", total - writer.missing, total)
    return writer.finish()
