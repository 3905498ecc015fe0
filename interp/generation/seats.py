"""Decoding in seats: tensors that stay where they are, so that a GPU records one step and replays it (CUDA graphs).

Launched one by one, the thousands of small operations of a step keep a GPU waiting. Rows take and leave seats without a
new recording; their steering, their draws and their ends are read from the seats. On a CPU the same steps run without
a recording, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import rms_norm
from transformers.cache_utils import Cache, DynamicLayer

from interp.errors import first_line
from interp.generation.drawing import Pick
from interp.generation.rows import Rows
from interp.models.model import Model
from interp.steering.hooks import Steered

GONE, OVERFLOWED = -1, -2
"""In place of a token: nobody writes in this seat, or the model's numbers overflowed."""
TURNS = 8
"""Steps between two looks at what was written."""


class _SeatLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """Keys and values of all seats, [seat, head, token, d_head]; the token read now goes to its row's own column."""

    def __init__(self, seats: Seats, like: DynamicLayer) -> None:
        super().__init__()
        self.is_initialized, self.seats = True, seats
        self.all = [t.new_zeros(seats.n, t.shape[1], seats.columns, t.shape[3]) for t in (like.keys, like.values)]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        n, width = self.seats.used
        at, written = self.seats.at[:n, None, None, None], []
        for kept, new in zip(self.all, (key_states, value_states), strict=True):
            kept[:n].scatter_(2, at.expand(-1, *new.shape[1:]), new)
            written.append(kept[:n, :, :width])
        return written[0], written[1]

    def get_seq_length(self) -> int:
        return int(self.seats.used[1]) - 1


class Seats:
    """Rows being written, each in its seat: what was read of it, its last token, its seed and its steering."""

    def __init__(self, model: Model, steered: Steered, pick: Pick, ends: set[int], n: int, columns: int) -> None:
        self.model, self.pick, self.n, self.columns = model, pick, n, _width(columns)
        device = model.device
        self.numbers = torch.zeros(4, n, dtype=torch.long, device=device)
        """Of each seat: its last token, the column where that is read, tokens written, tokens allowed."""
        self.keys = torch.zeros(n, 2, dtype=torch.int32, device=device)
        self.live = torch.zeros(n, dtype=torch.bool, device=device)
        self.record = torch.zeros(TURNS, n, dtype=torch.long, device=device)
        self.turn = torch.zeros(1, dtype=torch.long, device=device)
        self.end_ids, self.ends = ends, torch.tensor(sorted(ends), device=device)
        self.order = torch.arange(max(n, self.columns), device=device)
        self.steered, self.acting = steered.seats(n), steered
        self.cache: Cache | None = None
        self.used = n, self.columns
        self.recordable = device.type == "cuda"
        self.recorded: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        """By seats and columns."""
        self._made_for = _addresses(model)
        self._fused = {norm: fused for norm in model.hf.modules() if (fused := _fused(norm))}

    @property
    def at(self) -> Int[Tensor, " seat"]:
        """The column where each seat's last token is read."""
        return self.numbers[1]

    @staticmethod
    def of(model: Model, steered: Steered, pick: Pick, ends: set[int], n: int, columns: int) -> Seats:
        """Those that the model was last decoded in, if they will do; else new ones, which it keeps."""
        kept: Seats | None = model.seats
        if (
            kept is None
            or (kept.n, kept.pick, kept.end_ids, kept.steered.shape) != (n, pick, ends, steered.shape)
            or kept.columns < columns
            or kept._made_for != _addresses(model)
        ):
            model.seats = None  # first of all its memory is given back
            del kept
            kept = model.seats = Seats(model, steered, pick, ends, n, columns)
        kept.acting = steered
        kept.live.zero_()
        return kept

    def enter(
        self,
        seats: Sequence[int],
        fresh: Rows,
        places: Sequence[int],
        tokens: Sequence[int],
        keys: Int[Tensor, "row 2"],
        room: Sequence[int],
    ) -> None:
        """Seat rows that were read, from these places of a batch, each with its first token."""
        device = self.model.device
        at, rows = torch.tensor(seats, device=device), torch.tensor(places, device=device)
        present = fresh.mask[rows].bool()
        lengths = present.sum(1)
        longest = int(lengths.max())
        first = (~present).byte().argsort(dim=1, stable=True)[:, None, :longest, None]
        if self.cache is None:
            self.cache = Cache(layers=[_SeatLayer(self, layer) for layer in fresh.cache.layers])
        for mine, theirs in zip(self.cache.layers, fresh.cache.layers, strict=True):
            for kept, read in zip(mine.all, (theirs.keys, theirs.values), strict=True):
                kept[at, :, :longest] = read[rows].take_along_dim(first, dim=2)
        token, allowed = torch.tensor([tokens, room], device=device)
        self.numbers[:, at] = torch.stack([token, lengths, torch.ones_like(lengths), allowed])
        index = torch.tensor([fresh.index[place] for place in places], device=device)
        self.keys[at], self.live[at] = keys[index], True
        self.steered.seat(at, self.acting, index)

    def leave(self, seats: Sequence[int]) -> None:
        """Nobody writes in these seats any more."""
        self.live[torch.tensor(seats, device=self.model.device)] = False

    def move(self, seats: Sequence[int], to: Sequence[int]) -> None:
        """Let rows change their seats."""
        old, new = torch.tensor([seats, to], device=self.model.device)
        assert self.cache is not None
        for tensor in (*(kept for layer in self.cache.layers for kept in layer.all), self.keys, self.live):
            tensor[new] = tensor[old]
        self.numbers[:, new] = self.numbers[:, old]
        self.steered.seat(new, self.steered, old)
        self.live[old] = False

    def write(self, n: int, width: int, turns: int) -> list[list[int]]:
        """What the first `n` seats write in so many turns: a token each, or `GONE` or `OVERFLOWED`.

        `width` is that of the longest text after these turns.
        """
        self.turn.zero_()
        self.used = n, min(_width(width), self.columns)
        for _ in range(turns):
            graph = self.recorded.get(self.used)
            if graph is None:
                self._step()
                if self.recordable:
                    self._graph()
            else:
                graph.replay()
        written: list[list[int]] = self.record[:turns, :n].tolist()
        return written

    def _graph(self) -> None:
        """Record the step that was just made: once made, its kernels are loaded."""
        graph, known = torch.cuda.CUDAGraph(), next(iter(self.recorded.values()), None)
        try:
            with torch.cuda.graph(graph, pool=known.pool() if known else None):
                self._step()
        except RuntimeError as error:
            self.recordable = False
            self.model.notes.append(f"its steps cannot be recorded ({first_line(error)}): they are launched one by one")
        else:
            self.recorded[self.used] = graph

    def _step(self) -> None:
        n, width = self.used
        token, at, written, room = self.numbers[:, :n]
        live, order = self.live[:n], self.order
        dtype = self.model.dtype
        hidden = torch.zeros(n, width, dtype=dtype, device=at.device)
        hidden.masked_fill_(order[:width] > at[:, None], torch.finfo(dtype).min)
        self.steered.now = order[:n], at[:, None], torch.ones_like(live)[:, None]
        self.acting.seated = self.steered
        for norm, fused in self._fused.items():
            norm.forward = fused
        try:
            given = {"attention_mask": hidden[:, None, None], "position_ids": at[:, None], "logits_to_keep": 1}
            given |= {"input_ids": token[:, None], "past_key_values": self.cache, "use_cache": True}
            out = self.model.hf(**{name: given[name] for name in given if name in self.model.takes})
        finally:
            self.acting.seated = None
            for norm in self._fused:
                del norm.forward
        logits = out.logits[:, -1].float()
        chosen = self.pick(logits, self.keys[:n], written)
        sound = logits.gather(1, chosen[:, None])[:, 0].isfinite() & ~self.steered.overflowed[:n]
        seen = torch.where(live, torch.where(sound, chosen, OVERFLOWED), GONE)
        self.record[:, :n].index_copy_(0, self.turn, seen[None])
        self.turn += 1
        token.copy_(chosen)
        written += live
        live &= sound & ~(chosen[:, None] == self.ends).any(1) & (written < room)
        at += live


def sizes(n: int) -> list[int]:
    """How many of `n` seats a step may have: with fewer rows, a smaller step."""
    return [*(size for size in (4**k for k in range(8)) if size < n), n]


def _width(needed: int) -> int:
    """Columns for texts of this length: few different numbers, none a quarter longer than asked beyond 256."""
    step = max(64, 2 ** (needed.bit_length() - 3))
    return -(-needed // step) * step


def _fused(norm: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """One kernel for what an RMS normalisation does in seven, if this is one that it does."""
    weight, eps = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if weight is None or not isinstance(eps, float) or not type(norm).__name__.endswith("RMSNorm"):
        return None
    fused = partial(rms_norm, normalized_shape=weight.shape, weight=weight, eps=eps)
    given = torch.linspace(-2, 2, len(weight), dtype=weight.dtype, device=weight.device)
    expected = norm(given)
    off = (fused(given) - expected).abs().max()
    return fused if off <= torch.finfo(weight.dtype).eps * expected.abs().max() else None


def _addresses(model: Model) -> list[int]:
    """Where the weights lie: a recorded step reads them there."""
    return [weight.data_ptr() for weight in model.hf.parameters()]
