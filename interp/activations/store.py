"""Activations on disk: one safetensors file that opens as memory-mapped arrays.

Knows nothing about models. The file is laid out before the first reading (so a full disk is found
out at once) and filled in place, transcript by transcript; until it is whole it carries another name
and a note of what is done, so that a killed run goes on where it was.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.activations.corpus import COLUMNS, Corpus, TurnTable
from interp.activations.reading import Readings, stream
from interp.errors import Progress, UserError
from interp.models.layers import SITES, Site
from interp.models.model import Model
from interp.storage.files import write_json
from interp.storage.provenance import package_versions

_FORMAT = "interp.activations/1"


class ActivationStore:
    """A whole store, for reading.

    `store[layer]` is a memory-mapped float32 array of shape [turn, position, d_model] whose rows are
    those of `turns`; the file is also an ordinary safetensors file with one tensor a hook point.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            size = self.path.stat().st_size
            with self.path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, size)))
            self.facts: dict[str, Any] = json.loads(header["__metadata__"]["interp"])
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            whole = size == 8 + length + max(entry["data_offsets"][1] for entry in tensors)
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise UserError(f"{path}: not a whole store of activations; remove it, or give --restart to make it anew")
        self._header, self._data_start = header, 8 + length
        self.layers: tuple[int, ...] = tuple(self.facts["layers"])
        self.positions: tuple[str, ...] = tuple(self.facts["positions"])
        self.questions: tuple[str, ...] = tuple(self.facts["questions"])
        columns = {name: np.array(self._map(name)) for name in COLUMNS}
        self.turns = TurnTable(**columns, persona=tuple(self.facts["personas"]))

    def __getitem__(self, layer: int) -> Float[np.ndarray, "turn position d_model"]:
        return self._map(self.facts["hook_point"].format(layer=layer))

    def _map(self, name: str) -> np.ndarray:
        entry = self._header[name]
        dtype = {"F32": np.float32, "I64": np.int64}[entry["dtype"]]
        offset = self._data_start + entry["data_offsets"][0]
        return np.memmap(self.path, dtype=dtype, mode="r", offset=offset, shape=tuple(entry["shape"]))


class StoreWriter:
    """A store in the making; `append` readings until `missing` is empty, then `finish`."""

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
        """Begin a store at `path`, or go on with one that was begun with exactly these arguments.

        Raises `UserError` when the disk has no room, or when another extraction was begun there.
        """
        self.path = Path(path)
        self._part, self._note = _unfinished(self.path)
        self._transcripts = set(corpus.usable)
        facts: dict[str, Any] = {
            "format": _FORMAT,
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
        shapes = {name: ("I64", [n_turns]) for name in corpus.turns.columns()}
        shapes |= {name: ("F32", [n_turns, len(positions), d_model]) for name in self._names}
        self._row_bytes = 4 * len(positions) * d_model
        header, self._offsets, size = _layout(shapes, {"interp": json.dumps(facts)})
        self.done: set[int] = set()
        if self.path.exists():
            self._require(ActivationStore(self.path).facts["fingerprint"])
            self.done = set(self._transcripts)
        elif self._note.exists() and self._part.exists():
            try:
                note = json.loads(self._note.read_text())
                begun, done = note["fingerprint"], set(note["done"])
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{self._note}: is damaged; give --restart to begin anew") from None
            self._require(begun)
            self.done = done
        else:
            self._begin(header, size, corpus)

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

    def _begin(self, header: bytes, size: int, corpus: Corpus) -> None:
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
                f"{self.path.parent}: holds activations begun with another model, transcripts or settings; "
                f"give --restart to drop them, or another --out"
            )


def discard(path: str | Path) -> None:
    """Remove a store, whole or begun."""
    for part in (Path(path), *_unfinished(Path(path))):
        part.unlink(missing_ok=True)


def _allocate(descriptor: int, size: int) -> None:
    """Take the room for a file; raises `OSError` where there is none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS: a file with a hole, so that a full disk is found out only while filling it
        os.ftruncate(descriptor, size)


def _unfinished(path: Path) -> tuple[Path, Path]:
    """The data and the note of a store in the making."""
    return path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")


def _layout(
    shapes: Mapping[str, tuple[str, list[int]]], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int], int]:
    """The header of a safetensors file, where each tensor starts in the file, and the size of the data."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + {"F32": 4, "I64": 8}[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    offsets = {name: start + header[name]["data_offsets"][0] for name in shapes}
    return len(text).to_bytes(8, "little") + text, offsets, end


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
    """Stream the corpus through the model into a store on disk, going on where a killed call left off."""
    chosen = model.chosen_layers(layers)
    settings: dict[str, Any] = {
        "layers": chosen,
        "positions": positions,
        "hook_point": SITES[site],
        "d_model": model.d_model,
        "provenance": {"model": model.provenance, "transcripts": data or {}, "versions": package_versions()},
    }
    if restart:
        discard(path)
    writer = StoreWriter(path, corpus, **settings)
    total = len(corpus.usable)
    progress("reading activations", total - writer.missing, total)
    readings = stream(
        model,
        corpus,
        layers=chosen,
        site=site,
        positions=positions,
        batch_tokens=batch_tokens,
        done=writer.done,
    )
    for batch in readings:
        writer.append(batch)
        progress("reading activations", total - writer.missing, total)
    return writer.finish()
