"""Changes applied to the rows of a batch, each with its own; tokens not steered keep their values to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from interp.activations.reading import read_tokens
from interp.errors import UserError
from interp.models.model import Model
from interp.steering.changes import END, Change, Gate, WrittenTurns, paired

_Pass = tuple[Int[Tensor, " row"], Int[Tensor, "row token"], Bool[Tensor, "row token"]]
"""What a pass over the model holds: whose changes apply, positions from each text's first token, False for padding."""

_Place = tuple[str, int]
"""A hook point, and which of the steps there."""

_TABLES = ("offset", "basis", "start", "stop", "keep", "gate", "weights", "bias", "toward")
"""Tensors of a step, with a line for each row."""


class _Step:
    """For each row a change x → x − (x·Bᵀ)B + o at its positions, or a gate that is read, or nothing.

    `read` says where the gate of a row is read.
    """

    def __init__(
        self,
        entries: Sequence[Change | Gate | None],
        read: Mapping[tuple[int, Gate], _Place],
        d_model: int,
        device: torch.device,
    ) -> None:
        self.changes = [entry if isinstance(entry, Change) else None for entry in entries]
        given = [(row, change) for row, change in enumerate(self.changes) if change is not None]
        gates = [(row, entry) for row, entry in enumerate(entries) if isinstance(entry, Gate)]
        self.followed = {row: change.tokens for row, change in given if isinstance(change.tokens, WrittenTurns)}
        self.rules = {row: change for row, change in given if change.rule is not None}
        self.needs = list(dict.fromkeys(read[row, change.gate] for row, change in given if change.gate is not None))
        zeros = partial(torch.zeros, len(entries), device=device)
        most = max((len(np.atleast_2d(change.offset)) for _, change in given), default=0)
        self.offset = zeros(most, d_model)
        self.basis = zeros(max((len(change.basis) for _, change in given if not change.rule), default=0), d_model)
        self.keep = zeros(int(any(change.keep_norm for _, change in given)), dtype=torch.bool)
        self.gate = zeros(min(1, len(self.needs)), dtype=torch.long).fill_(len(self.needs))
        outputs = max((1 + len(gate.weights) for _, gate in gates), default=0)
        self.weights, self.bias, self.toward = zeros(outputs, d_model), zeros(outputs).fill_(-torch.inf), zeros(1)
        for row, change in given:
            self.offset[row, : len(change.offset) if change.source else most] = torch.from_numpy(change.offset)
            self.keep[row] = change.keep_norm
            if change.rule is None:
                self.basis[row, : len(change.basis)] = torch.from_numpy(change.basis)
            if change.gate is not None:
                self.gate[row] = self.needs.index(read[row, change.gate])
        for row, gate in gates:
            n = len(gate.weights)
            self.weights[row, :n], self.bias[row, :n] = torch.from_numpy(gate.weights), torch.from_numpy(gate.bias)
            self.bias[row, 0] -= gate.limit
            self.toward[row] = -1 if gate.below else 1
            if n == 1:
                self.bias[row, 1] = 0  # no others: the log of exp(0) is taken off

    def place(self, n_prompt: Sequence[int]) -> None:
        """Take the length of each row's prompt."""
        ranges = [list(c.tokens(n)) if c else [] for c, n in zip(self.changes, n_prompt, strict=True)]
        for i, change in enumerate(self.changes):
            ranges[i] = paired(ranges[i], len(change.offset)) if change and change.source else ranges[i]
        most = max(1, *map(len, ranges))
        filled = [[*r, *[(0, 0)] * (most - len(r))] for r in ranges]
        self.start, self.stop = torch.tensor(filled, device=self.offset.device).clamp(max=END).unbind(-1)

    def extend(self, row: int, position: int) -> None:
        """Apply to one more token of a row, the last so far."""
        last = int(self.stop[row].argmax())
        if self.stop[row, last] != position:  # a new range
            self.start, self.stop, last = pad(self.start, (0, 1)), pad(self.stop, (0, 1)), self.stop.shape[1]
            self.start[row, last] = position
        self.stop[row, last] = position + 1

    def seats(self, n: int) -> _Step:
        """The same step for `n` rows that nothing changes yet."""
        made = copy.copy(self)
        for name in _TABLES:
            old = getattr(self, name)
            setattr(made, name, old.new_zeros(n, *old.shape[1:]))
        return made

    def read(self, value: Float[Tensor, "row token d_model"], now: _Pass) -> Bool[Tensor, "row token"]:
        """Where the gates are open."""
        rows = now[0]
        score = value.float() @ self.weights[rows].mT + self.bias[rows][:, None]
        return (score[..., 0] - score[..., 1:].logsumexp(-1)) * self.toward[rows] > 0

    def __call__(
        self, value: Float[Tensor, "row token d_model"], now: _Pass, open: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The changed values, in at least float32, and the tokens where they apply; `open` says where gates are."""
        rows, positions, present = now
        at = positions[..., None]
        inside = (at >= self.start[rows][:, None]) & (at < self.stop[rows][:, None])
        changed, offset = value.float(), self.offset[rows]
        if self.basis.shape[1]:
            basis = self.basis[rows]
            changed = changed - (changed @ basis.mT) @ basis
        if offset.shape[1] > 1:  # the i-th token gets the i-th offset
            nth = inside.byte().argmax(-1).clamp(max=offset.shape[1] - 1)
            offset = offset.take_along_dim(nth[..., None], dim=1)
        changed, here = changed + offset, inside.any(-1) & present
        if self.needs:
            of_row = torch.stack([*open, torch.ones_like(present)])
            here = here & of_row[self.gate[rows, 0], torch.arange(len(rows), device=rows.device)]
        for i, row in enumerate(rows.tolist() if self.rules else ()):
            if row in self.rules:
                changed[i, here[i]] = _ruled(self.rules[row], value[i, here[i]].float())
        if self.keep.shape[1]:
            tiny = torch.finfo(changed.dtype).tiny
            kept = changed / changed.abs().amax(-1, keepdim=True).clamp(min=tiny)  # whose square does not overflow
            length, now_long = (x.norm(dim=-1, keepdim=True) for x in (value.float(), kept))
            changed = torch.where(self.keep[rows][..., None], kept * (length / now_long.clamp(min=tiny)), changed)
        return changed, here


def _ruled(change: Change, values: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_model"]:
    """What a user's own rule makes of some tokens; `UserError` for anything but as many numbers."""
    assert change.rule is not None
    function, by = change.rule
    sound, like = bool(values.isfinite().all()), torch.empty_like(values)
    out = function(values, torch.tensor(change.basis, device=values.device), by) if len(values) else values
    given, wanted = (f"{getattr(x, 'dtype', type(x).__name__)} {[*getattr(x, 'shape', ())]}" for x in (out, like))
    if not isinstance(out, Tensor) or given != wanted or out.device != like.device:
        raise UserError(f"{change.facts['function']}: returned {given}; return {wanted}, as it was given")
    if sound and out.isnan().any():
        raise UserError(f"{change.facts['function']}: returned NaN; return numbers")
    return out


class Steered:
    """Changes at work on a model. `overflowed[i]`: whether row i's activations became too long to normalise."""

    def __init__(self, model: Model, steerings: Sequence[Sequence[Change]], n_prompt: Sequence[int] | None) -> None:
        steerings = resolved(model, steerings)
        self.model, self.steerings, self.paused, self._known = model, steerings, False, n_prompt
        self.now: _Pass | None = None
        self._open: dict[_Place, tuple[_Pass, Tensor]] = {}
        """Where the gates read there were open, in which pass."""
        self.seated: Steered | None = None
        """Acts in place of this one while set: some of its rows, in tensors that stay where they are."""
        self._n_prompt: Sequence[int] | None = None
        self._read: Tensor | None = None
        self._spread(max(len(steerings), len(n_prompt or ())))

    @property
    def hooks(self) -> list[tuple[str, Callable[..., Tensor | None]]]:
        """The steered hook points, each with its function."""
        return [(name, partial(self._act, name)) for name in self._steps]

    def untouched(self, row: int) -> int:
        """Number of tokens in the row's prompt before the first steered one."""
        assert self._n_prompt is not None
        n = self._n_prompt[row]
        return max(0, min([n, *(a for change in self.steerings[row] for a, b in change.tokens(n) if a < b)]))

    def wrote(
        self, row: int, prompt: Sequence[int], text: Sequence[int], seat: tuple[Steered, int] | None = None
    ) -> None:
        """Take the text written after a row's prompt; its last token is read next, in this seat if it has one."""
        last, seated = len(prompt) + len(text) - 1, seat[0] if seat else self
        for step, now in zip(self._each, seated._each, strict=True):
            if row in step.followed and step.followed[row].holds([*prompt, *text]):
                if seat:
                    now.start[seat[1], 0], now.stop[seat[1], 0] = last, last + 1
                else:
                    step.extend(row, last)

    @property
    def _each(self) -> list[_Step]:
        return list(chain(*self._steps.values()))

    @property
    def follows(self) -> bool:
        """Whether what is steered depends on what is written."""
        return any(step.followed for step in self._each)

    @property
    def calls(self) -> bool:
        """Whether it calls a user's own function, which no GPU records."""
        return any(step.rules for step in self._each)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Of its tensors, but for the number of rows: two that share it can use the same seats."""
        each = ((name, step) for name, steps in self._steps.items() for step in steps)
        return tuple((name, *step.needs, *(getattr(step, table).shape[1:] for table in _TABLES)) for name, step in each)

    def seats(self, n: int) -> Steered:
        """One like it with `n` rows, for `seat` to fill."""
        made = copy.copy(self)
        made._open, made._steps = {}, {name: [s.seats(n) for s in steps] for name, steps in self._steps.items()}
        made.overflowed = torch.zeros(n, dtype=torch.bool, device=self.model.device)
        return made

    def seat(self, seats: Tensor, other: Steered, rows: Tensor) -> None:
        """Copy rows of another with the same `shape` into these seats; `other` may be itself."""
        for mine, theirs in zip(self._each, other._each, strict=True):
            for name in _TABLES:
                getattr(mine, name)[seats] = getattr(theirs, name)[rows]
        self.overflowed[seats] = other.overflowed[rows]

    def expect(self, rows: Sequence[int], positions: Tensor, present: Tensor) -> None:
        """Announce the rows and tokens of the next pass."""
        self.now = torch.tensor(rows, device=self.model.device), positions, present.bool()

    def _act(self, name: str, value: Tensor, hook: Any) -> Tensor | None:
        now = self.now
        if self.seated is not None:
            return self.seated._act(name, value, hook)
        if self.paused or now is None:
            return None
        layer, value = value.device, value.to(self.model.device)  # another in a sharded model
        for k, step in enumerate(self._steps[name]):
            if step.weights.shape[1]:
                self._open[name, k] = now, step.read(value, now)
            if not step.offset.shape[1]:
                continue
            changed, here = step(value, now, [self._opened(place, now, name) for place in step.needs])
            self.overflowed[now[0]] |= (~changed.square().sum(-1).isfinite() & here).any(-1)
            value = torch.where(here[..., None], changed.to(value.dtype), value)
        return value.to(layer)

    def _opened(self, place: _Place, now: _Pass, name: str) -> Bool[Tensor, "row token"]:
        """Where the gates read at a place were open in this pass."""
        read = self._open.get(place)
        if read is None or read[0] is not now:
            raise UserError(f"{name}: {self.model.name} computes it before {place[0]}, where the gate's score is read")
        return read[1]

    def look(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Work out what a pass holds from the model's arguments."""
        if self.paused:
            return
        if self.follows:
            raise UserError("turns cannot be steered here as they are written; use interp.generate")
        ids = kwargs.get("input_ids", args[0] if args else None)
        tokens = kwargs["inputs_embeds"][..., 0] if ids is None else ids
        n_rows, width = tokens.shape
        mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        if kwargs.get("cache_params", kwargs.get("state")) is not None:
            raise UserError(
                f"{self.model.name}: what its layers keep does not say how much they read; use interp.generate"
            )
        n_before = 0 if cache is None else int(cache.get_seq_length())
        if mask is not None and mask.dim() == 2:
            n_before = max(n_before, mask.shape[1] - width)
            present = mask[:, -width:].bool()
            positions = mask.long().cumsum(1)[:, -width:] - 1
        else:
            present = torch.ones_like(tokens, dtype=torch.bool)
            given = kwargs.get("position_ids")
            positions = torch.arange(n_before, n_before + width, device=tokens.device) if given is None else given
            positions = positions.expand(n_rows, width)
        if n_rows != len(self.overflowed):
            self._spread(n_rows)
        last = self._read
        longer = last is not None and last.shape[1] < width and torch.equal(last, tokens[:, : last.shape[1]])
        if self._known is None and not n_before and not longer:  # without a cache, longer texts keep their prompts
            self._place(present.sum(1).tolist())
        if self._n_prompt is None:
            raise UserError(f"{n_rows} texts continue a cache made elsewhere; give n_prompt, their prompts' lengths")
        self._read = tokens if not n_before else None
        self.now = torch.arange(n_rows, device=tokens.device), positions, present

    def _spread(self, n_rows: int) -> None:
        """Divide a batch among the steerings, and make steps of every row's first, second, … change at a hook point."""
        each, model = _repeated(self.steerings, n_rows, "steering"), self.model
        self._steps: dict[str, list[_Step]] = {}
        entries = [_entries(changes) for changes in each]
        by_row, read = dict[str, list[Any]](), dict[tuple[int, Gate], _Place]()
        for name in dict.fromkeys(entry.hook_point for row in entries for entry in row):
            by_row[name] = [[entry for entry in row if entry.hook_point == name] for row in entries]
            gates = ((i, e, k) for i, row in enumerate(by_row[name]) for k, e in enumerate(row) if isinstance(e, Gate))
            read |= {(i, gate): (name, k) for i, gate, k in gates}
        for name, rows in by_row.items():
            self._steps[name] = [_Step(step, read, model.d_model, model.device) for step in zip_longest(*rows)]
        self.overflowed = torch.zeros(n_rows, dtype=torch.bool, device=self.model.device)
        self._n_prompt = None
        if self._known is not None:
            self._place(_repeated(self._known, n_rows, "n_prompt"))

    def _place(self, n_prompt: Sequence[int]) -> None:
        self._n_prompt = n_prompt
        for step in chain(*self._steps.values()):
            step.place(n_prompt)


@contextmanager
def steered(
    model: Model, steerings: Sequence[Sequence[Change]], *, n_prompt: Sequence[int] | None = None
) -> Iterator[Steered]:
    """Steer a model with the changes of all rows or those of each; see `Steering.on`.

    >>> with interp.steering.steered(model, [interp.add(found[2, 1]).changes]) as live:
    ...     [name for name, _ in live.hooks]
    ['blocks.1.hook_resid_post']
    """
    live = Steered(model, steerings, n_prompt)
    with model.only_hooked(), model.bridge.hooks(fwd_hooks=live.hooks):
        handle = model.hf.base_model.register_forward_pre_hook(live.look, with_kwargs=True)
        model.steered.append(live)
        try:
            yield live
        finally:
            model.steered.remove(live)
            handle.remove()


@contextmanager
def steered_rows(model: Model, steering: Sequence[Sequence[Change]], n_prompt: Sequence[int]) -> Iterator[Steered]:
    """Steer rows that come and go, on top of what already steers the model; `expect` announces each pass."""
    rows: list[Sequence[Change]] = [()] * len(n_prompt)
    for given in [*(live.steerings for live in model.steered), steering]:
        rows = [(*a, *b) for a, b in zip(rows, by_row(given, len(rows)), strict=True)]
    live = Steered(model, rows or [()], n_prompt or [1])
    with unsteered(model), model.only_hooked(), model.bridge.hooks(fwd_hooks=live.hooks):
        yield live


def by_row(given: Sequence[Sequence[Change]], n_rows: int) -> Sequence[Sequence[Change]]:
    """The changes of each row: its own, those of all, or none."""
    if len(given) not in (0, 1, n_rows):
        raise UserError(f"{len(given)} steerings for {n_rows} prompts; give one, or one per prompt")
    return given if len(given) == n_rows else [*given, ()][:1] * n_rows


@contextmanager
def unsteered(model: Model) -> Iterator[None]:
    """Within this context nothing steers the model but what begins in it."""
    around = [(live, live.paused) for live in model.steered]
    try:
        for live, _ in around:
            live.paused = True
        yield
    finally:
        for live, paused in around:
            live.paused = paused


def resolved(model: Model, steerings: Sequence[Sequence[Change]]) -> list[list[Change]]:
    """The changes, those with a source with what they take from it; every source is read once, unsteered.

    Raises `UserError` for directions that do not fit the model.
    """
    known = model.bridge.hook_dict
    for entry in chain(*map(_entries, steerings)):
        name, width = entry.hook_point, (entry.weights if isinstance(entry, Gate) else entry.offset).shape[-1]
        if name not in known:
            wrong = f"{name}: {model.name} has no such hook point, and layers 0 to {model.n_layers - 1}"
        elif width != model.d_model:
            wrong = f"{name}: {model.name} has width {model.d_model}, the direction {width}"
        else:
            continue
        raise UserError(f"{wrong}; steer with directions extracted from this model")
    found = {c: c.source(model.tokenizer) for c in chain(*steerings) if c.source and c.offset.ndim == 1}
    names, texts = list(dict.fromkeys(c.hook_point for c in found)), list(dict.fromkeys(found.values()))
    with unsteered(model):
        read = dict(zip(texts, read_tokens(model, names, texts), strict=True))
    parts = {c: read[text][:, names.index(c.hook_point)] for c, text in found.items()}
    taken = {c: replace(c, offset=part @ c.basis.T @ c.basis) for c, part in parts.items()}
    own = {c.gate: replace(c.gate) for c in chain(*steerings) if c.gate is not None}  # one context's is not another's
    known = [[taken.get(c, c) for c in changes] for changes in steerings]
    return [[c if c.gate is None else replace(c, gate=own[c.gate]) for c in changes] for changes in known]


def _entries(changes: Sequence[Change]) -> list[Change | Gate]:
    """The changes of a row in order, each gate before the first that it decides on."""
    entries: list[Change | Gate] = []
    for change in changes:
        entries += [] if change.gate is None or change.gate in entries else [change.gate]
        entries.append(change)
    return entries


def _repeated(given: Sequence[Any], n_rows: int, what: str) -> list[Any]:
    """One entry per row; several rows may share one (beams, returned sequences)."""
    each, odd = divmod(n_rows, len(given))
    if odd or not each:
        raise UserError(f"{what}: {len(given)} given for a batch of {n_rows} rows; give one, or one per row")
    return [entry for entry in given for _ in range(each)]
