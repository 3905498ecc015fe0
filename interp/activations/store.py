"""Activations on disk, in one safetensors file.

It has its full size before the first reading, so a full disk shows at once. Each turn has a checksum at each layer: a
killed run resumes with what is there whole, and a complete store is checked when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open

from interp.activations.corpus import COLUMNS, Corpus, TurnTable
from interp.activations.reading import Readings, stream
from interp.errors import Progress, UserError
from interp.models.layers import SITES, Site
from interp.models.model import Model
from interp.processes import gather, once, place
from interp.storage.files import checked, require_lock
from interp.storage.provenance import package_versions

_FORMAT = "interp.activations/2"
_SUMS = "crc32"
"""One more column: the checksum of each turn at each layer, [turn, layer]."""


@dataclass(frozen=True)
class _Header:
    format: Literal["interp.activations/2"]
    layers: tuple[int, ...]
    positions: tuple[str, ...]
    hook_point: str
    questions: tuple[str, ...]
    personas: tuple[str, ...]
    provenance: dict[str, Any]
    fingerprint: str


class ActivationStore:
    """A complete store: `store[layer]` is float32 [turn, position, d_model], with the rows of `turns`.

    `store[layer, "last"]` reads one position only.

    >>> corpus = interp.activations.Corpus.build(transcripts[:2], model.tokenizer)
    >>> store = interp.activations.read_activations(model, corpus, tmp_path / "a.safetensors", layers=[2])
    >>> store[2].shape, store[2, "last"].shape
    ((9, 1, 128), (9, 128))
    """

    def __init__(self, path: str | Path) -> None:
        """Raises `UserError` for a file that is not whole."""
        self.path = Path(path)
        try:
            with safe_open(str(path), framework="numpy") as file:
                header = checked(_Header, (file.metadata() or {}).get("interp", "null"))
                columns = {name: file.get_tensor(name) for name in COLUMNS}
            whole = _whole(self.path, [header.hook_point.format(layer=layer) for layer in header.layers])
            if not whole.all() or {len(column) for column in columns.values()} != {len(header.personas)}:
                raise ValueError(f"{(~whole).sum()} of its {len(header.personas)} turns are damaged")
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

    def rows(self, layer: int, position: str, rows: Int[np.ndarray, "*some"]) -> Float[np.ndarray, "*some d_model"]:
        """Some turns' activations, without the others in memory."""
        start, (_, n_positions, d_model) = _places(self.path)[self.hook_point.format(layer=layer)]
        read = np.empty((rows.size, d_model), dtype=np.float32)
        with self.path.open("rb", buffering=0) as file:
            for values, row in zip(read, rows.ravel().tolist(), strict=True):
                file.seek(start + 4 * d_model * (row * n_positions + self.positions.index(position)))
                file.readinto(values.data)
        return read.reshape(*rows.shape, d_model)


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
        self.path, part = _files(path)
        self._file_path = self.path if self.path.exists() else part
        self._transcripts = set(corpus.usable)
        what = {"layers": layers, "positions": positions, "hook_point": hook_point, "provenance": provenance}
        facts = {"format": _FORMAT, **what, "questions": corpus.questions, "personas": corpus.turns.persona}
        identity = json.dumps([facts, corpus.digest]).encode()
        facts["fingerprint"] = hashlib.sha256(identity).hexdigest()
        names = [hook_point.format(layer=layer) for layer in layers]
        n_turns = len(corpus.turns)
        shapes = {name: ("I64", [n_turns]) for name in COLUMNS} | {_SUMS: ("I64", [n_turns, len(layers)])}
        shapes |= {name: ("F32", [n_turns, len(positions), d_model]) for name in names}
        header, starts, size = _layout(shapes, facts)
        self._starts = [starts[name] for name in (*names, _SUMS)]
        columns = b"".join(column.astype(np.int64).tobytes() for column in corpus.turns.columns().values())
        # of several processes the first lays the file out
        self._file_path, begun = once(lambda: self._lay_out(header, columns, size))  # the columns come first
        if place()[0]:
            self._file = self._file_path.open("rb+")
        whole = once(lambda: _whole(self._file_path, names)) if begun else np.full(n_turns, False)
        self.done = self._transcripts - set(corpus.turns.transcript[~whole].tolist())

    def _lay_out(self, header: bytes, columns: bytes, size: int) -> tuple[Path, bool]:
        """Open the file at its full size; returns its path, and whether it was begun before."""
        begun, same = b"", False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file_path.touch()
            self._file = self._file_path.open("rb+")
            require_lock(self._file, self.path)
            begun = self._file.read(len(header)).rstrip(b"\0")
            if same := header.startswith(begun):
                # macOS has a sparse file instead, so a full disk shows only while it is filled
                reserve = getattr(os, "posix_fallocate", lambda file, _, size: os.ftruncate(file, size))
                reserve(self._file.fileno(), 0, size)
                self._file.truncate(size)
                self._file.seek(0)
                self._file.write(header + columns)
                self._file.flush()
        except OSError as error:
            with suppress(OSError):
                if not begun:
                    self._file_path.unlink()
            advice = "make room, read fewer layers, or give another --out"
            cannot = f"cannot lay out {size / 1e6:,.1f} MB of activations ({error.strerror})"
            raise UserError(f"{self.path}: {cannot}; {advice}") from error
        if not same:
            holds = "holds activations of another model, other transcripts or other settings"
            raise UserError(f"{self.path.parent}: {holds}; replace them with --restart, or give another --out")
        return self._file_path, bool(begun)

    @property
    def missing(self) -> int:
        return len(self._transcripts - self.done)

    def append(self, readings: Readings) -> None:
        """Write the turns of some transcripts; on return they survive a kill."""
        for row, turn in zip(readings.rows.tolist(), readings.values, strict=True):
            data = [np.ascontiguousarray(turn[:, layer]).tobytes() for layer in range(turn.shape[1])]
            sums = np.array([zlib.crc32(each) for each in data], dtype=np.int64)
            for start, each in zip(self._starts, (*data, sums.tobytes()), strict=True):
                self._file.seek(start + row * len(each))
                self._file.write(each)
        self._file.flush()
        self.done |= set(readings.transcripts)

    def finish(self, *, keep: bool = True) -> ActivationStore:
        """The complete store; unless kept, under the name of an unfinished one, so that the next run drops it."""
        os.fsync(self._file.fileno())
        self.done = set().union(*gather(self.done))
        if self.missing:
            raise ValueError(f"{self.missing} transcripts are not read yet")
        self.close()
        if keep:
            once(lambda: os.replace(self._file_path, self.path))
        return ActivationStore(self.path if keep else self._file_path)

    def close(self) -> None:
        """Let go of the file, so that another writer may resume."""
        self._file.close()


def _places(path: Path) -> dict[str, tuple[int, list[int]]]:
    """Where each tensor of a safetensors file starts, and its shape."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    return {name: (8 + size + at["data_offsets"][0], at["shape"]) for name, at in header.items() if "shape" in at}


def _whole(path: Path, names: Sequence[str]) -> Bool[np.ndarray, " turn"]:
    """Which turns have, in all tensors of these names, what their checksums were made of."""
    places = _places(path)
    with path.open("rb") as file:  # a mapped file would stay in memory

        def read(name: str, kind: type, row: int, n: int) -> np.ndarray:
            start, shape = places[name]
            width = int(np.prod(shape[1:]))
            file.seek(start + row * width * np.dtype(kind).itemsize)
            return np.fromfile(file, kind, n * width).reshape(n, *shape[1:])

        n_turns = places[_SUMS][1][0]
        sums = read(_SUMS, np.int64, 0, n_turns)
        whole = np.full(n_turns, True)
        for name, expected in zip(names, sums.T, strict=True):
            for row in range(0, n_turns, 1024):
                some = slice(row, min(row + 1024, n_turns))
                turns = read(name, np.float32, row, some.stop - row)
                whole[some] &= np.array([zlib.crc32(turn) for turn in turns]) == expected[some]
    return whole


def discard(path: str | Path) -> None:
    """Remove a store, complete or not."""
    for file in _files(path) if place()[0] == 0 else ():
        file.unlink(missing_ok=True)


def _files(path: str | Path) -> tuple[Path, Path]:
    """The complete store, and the unfinished one."""
    return Path(path), Path(f"{path}.part")


def _layout(shapes: Mapping[str, tuple[str, list[int]]], facts: Mapping[str, Any]) -> tuple[bytes, dict[str, int], int]:
    """The header of a safetensors file, where each tensor starts in the file, and the file's size."""
    header: dict[str, Any] = {"__metadata__": {"interp": json.dumps(facts)}}
    starts, end = {}, 0
    for name, (dtype, shape) in shapes.items():
        starts[name], end = end, end + {"F32": 4, "I64": 8}[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [starts[name], end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    text = len(text).to_bytes(8, "little") + text
    return text, {name: len(text) + at for name, at in starts.items()}, len(text) + end


def read_activations(
    model: Model,
    corpus: Corpus,
    path: Path,
    *,
    layers: Sequence[int] | None = None,
    site: Site = "resid_post",
    positions: Sequence[str] = ("last",),
    batch_tokens: int | None = None,
    restart: bool = False,
    keep: bool = True,
    data: dict[str, Any] | None = None,
    progress: Progress = lambda *_: None,
) -> ActivationStore:
    """Stream a corpus (made from `data`) into a store on disk, resuming where a killed call stopped.

    Unless it is to be kept, it is at `path` + `.part`, to be removed with `discard`.

    >>> corpus = interp.activations.Corpus.build(transcripts[:2], model.tokenizer)
    >>> interp.activations.read_activations(model, corpus, tmp_path / "a.safetensors").layers
    (0, 1, 2, 3)
    """
    provenance = {"model": model.provenance, "transcripts": data or {}, "versions": package_versions()}
    what: dict[str, Any] = {"layers": model.chosen_layers(layers), "positions": positions}
    if restart:
        discard(path)
    writer = StoreWriter(path, corpus, **what, hook_point=SITES[site], d_model=model.d_model, provenance=provenance)
    total, left, share = len(corpus.usable), writer.missing, place()
    how: dict[str, Any] = {"site": site, "batch_tokens": batch_tokens, "done": frozenset(writer.done), "share": share}
    with closing(writer):
        progress("reading activations", total - left, total)
        for batch in stream(model, corpus, **what, **how):
            writer.append(batch)
            read = share[1] * (left - writer.missing)  # the other processes are about as far
            progress("reading activations", total - max(0, left - read), total)
        return writer.finish(keep=keep)
