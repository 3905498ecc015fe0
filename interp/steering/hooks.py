"""How steerings are carried out: on the rows of a batch, each with its own.

Knows hook points, rows and positions; knows nothing about agents or where directions come from. The
changes of all rows are made together, at each hook point the first of every row, then the second, and
so on; at tokens that are not to be changed the values stay the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import UserError
from interp.models.model import Model
from interp.steering.changes import END, Change, WrittenTurns


@dataclass
class _Pass:
    """Whose tokens a pass over the model holds, and which."""

    rows: Int[Tensor, " row"]
    """Which steerings."""
    positions: Int[Tensor, "row token"]
    """Counted from the first token of each text."""
    present: Bool[Tensor, "row token"]
    """False for padding."""


class _Step:
    """One change for each row: x → x − (x·Bᵀ)B + o at its positions. A row may have none."""

    def __init__(self, changes: Sequence[Change | None], d_model: int, device: torch.device) -> None:
        self.changes = changes
        self.followed = {row for row, c in enumerate(changes) if c is not None and isinstance(c.tokens, WrittenTurns)}
        self.offset = torch.zeros(len(changes), d_model, device=device)
        rank = max(len(change.basis) for change in changes if change is not None)
        self.basis = torch.zeros(len(changes), rank, d_model, device=device) if rank else None
        for row, change in enumerate(changes):
            if change is not None:
                self.offset[row] = torch.from_numpy(change.offset)
                if self.basis is not None and len(change.basis):
                    self.basis[row, : len(change.basis)] = torch.from_numpy(change.basis)

    def place(self, n_prompt: Sequence[int]) -> None:
        """Say how long each row's prompt is."""
        ranges = [
            [] if change is None else list(change.tokens(n)) for change, n in zip(self.changes, n_prompt, strict=True)
        ]
        most = max(1, *map(len, ranges))
        filled = [[*r, *[(0, 0)] * (most - len(r))] for r in ranges]
        table = torch.tensor(filled, device=self.offset.device).clamp(max=END)
        self.start, self.stop = table[..., 0], table[..., 1]

    def follow(self, row: int, ids: Sequence[int]) -> None:
        """Say what a row's text is, whose last token is read next."""
        change = self.changes[row]
        assert change is not None
        assert isinstance(change.tokens, WrittenTurns)
        last = len(ids) - 1
        self.start[row, 0], self.stop[row, 0] = (last, last + 1) if change.tokens.holds(ids) else (0, 0)

    def __call__(self, value: Float[Tensor, "row token d_model"], now: _Pass) -> tuple[Tensor, Tensor]:
        """The changed values, in float32 where they were less, and where they are meant."""
        at = now.positions[..., None]
        meant = ((at >= self.start[now.rows][:, None]) & (at < self.stop[now.rows][:, None])).any(-1) & now.present
        changed = value.float()
        if self.basis is not None:
            basis = self.basis[now.rows]
            changed = changed - (changed @ basis.mT) @ basis
        return changed + self.offset[now.rows][:, None], meant


class Steered:
    """Steerings at work on a model; `steered` and `steered_rows` make one.

    `overflowed[i]` says whether what row i came to is beyond what the model can compute with: its length
    at a hook point, which every normalisation takes, is not finite.
    """

    def __init__(self, model: Model, steerings: Sequence[Sequence[Change]], n_prompt: Sequence[int] | None) -> None:
        for changes in steerings:
            _require_fit(changes, model)
        self.model = model
        self.steerings = steerings
        self.paused = False
        self._now: _Pass | None = None
        self._known = n_prompt
        self._n_prompt: Sequence[int] | None = None
        self._read: Tensor | None = None
        self._spread(max(len(steerings), len(n_prompt or ())))

    @property
    def hooks(self) -> list[tuple[str, Callable[..., Tensor | None]]]:
        """The hook points that are steered, each with what is to be done there."""
        return [(name, partial(self._act, name)) for name in self._steps]

    def untouched(self, row: int) -> int:
        """How many tokens the row's prompt has before the first that is changed."""
        assert self._n_prompt is not None
        n = self._n_prompt[row]
        starts = [start for change in self.steerings[row] for start, stop in change.tokens(n) if start < stop]
        return max(0, min([n, *starts]))

    def wrote(self, row: int, prompt: Sequence[int], text: Sequence[int]) -> None:
        """Say what was written after a row's prompt; the last token of it is read next."""
        for step in self._following:
            if row in step.followed:
                step.follow(row, [*prompt, *text])

    @property
    def _following(self) -> list[_Step]:
        return [step for steps in self._steps.values() for step in steps if step.followed]

    def expect(self, rows: Sequence[int], positions: Tensor, present: Tensor) -> None:
        """Say which rows, and which tokens of them, the next pass holds."""
        self._now = _Pass(torch.tensor(rows, device=self.model.device), positions, present.bool())

    def _act(self, name: str, value: Tensor, hook: Any) -> Tensor | None:
        now = self._now
        if self.paused or now is None:
            return None
        for step in self._steps[name]:
            changed, meant = step(value, now)
            too_large = ~changed.square().sum(-1).isfinite() & meant
            self.overflowed[now.rows] |= too_large.any(-1)
            value = torch.where(meant[..., None], changed.to(value.dtype), value)
        return value

    def look(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find out what a pass holds from what the model is called with."""
        if self.paused:
            return
        if self._following:
            raise UserError("turns that are being written can be steered by interp.generation alone: use its generate")
        ids = kwargs.get("input_ids", args[0] if args else None)
        tokens = kwargs["inputs_embeds"][..., 0] if ids is None else ids
        n_rows, width = tokens.shape
        cache = kwargs.get("past_key_values")
        n_before = 0 if cache is None else int(cache.get_seq_length())
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dim() == 2:
            present = mask[:, -width:].bool()
            positions = mask.long().cumsum(1)[:, -width:] - 1
        else:
            present = torch.ones(n_rows, width, dtype=torch.bool, device=tokens.device)
            given = kwargs.get("position_ids")
            positions = torch.arange(n_before, n_before + width, device=tokens.device) if given is None else given
            positions = positions.expand(n_rows, width)
        if n_rows != len(self.overflowed):
            self._spread(n_rows)
        if self._known is None and not n_before and not self._continues(tokens):
            self._place(present.sum(1).tolist())
        if self._n_prompt is None:
            raise UserError(
                f"{n_rows} texts are gone on with that were not begun here: say n_prompt, where prompts end"
            )
        self._read = tokens if not n_before else None
        self._now = _Pass(torch.arange(n_rows, device=tokens.device), positions, present)

    def _continues(self, tokens: Tensor) -> bool:
        """Without a cache: whether these are the texts of the last pass, and more."""
        last = self._read
        if last is None or len(last) != len(tokens) or last.shape[1] >= tokens.shape[1]:
            return False
        return torch.equal(last, tokens[:, : last.shape[1]])

    def _spread(self, n_rows: int) -> None:
        """Give each steering as many rows as there are for each."""
        each, odd = divmod(n_rows, len(self.steerings))
        if odd or not each:
            raise UserError(f"{len(self.steerings)} steerings for a batch of {n_rows} rows: give one, or one for each")
        self._steps = _steps([s for s in self.steerings for _ in range(each)], self.model)
        self.overflowed = torch.zeros(n_rows, dtype=torch.bool, device=self.model.device)
        self._n_prompt = None
        if self._known is not None:
            each, odd = divmod(n_rows, len(self._known))
            if odd or not each:
                raise UserError(f"n_prompt has {len(self._known)} numbers for a batch of {n_rows} rows: give one a row")
            self._place([n for n in self._known for _ in range(each)])

    def _place(self, n_prompt: Sequence[int]) -> None:
        self._n_prompt = n_prompt
        for steps in self._steps.values():
            for step in steps:
                step.place(n_prompt)


@contextmanager
def steered(
    model: Model, steerings: Sequence[Sequence[Change]], *, n_prompt: Sequence[int] | None = None
) -> Iterator[Steered]:
    """Steer whatever the model reads and writes: with one steering, or with one for each row of a batch.

    Several rows for each (beams, returned sequences) stand beside one another. For `n_prompt` see
    `Steering.on`. Raises `UserError` for directions that do not fit the model.
    """
    live = Steered(model, steerings, n_prompt)
    with model.only_hooks([name for name, _ in live.hooks]), model.bridge.hooks(fwd_hooks=live.hooks):
        handle = model.hf.base_model.register_forward_pre_hook(live.look, with_kwargs=True)
        model.steered.append(live)
        try:
            yield live
        finally:
            model.steered.remove(live)
            handle.remove()


@contextmanager
def steered_rows(model: Model, steering: Sequence[Sequence[Change]], n_prompt: Sequence[int]) -> Iterator[Steered]:
    """Steer rows that come and go, on top of what steers the model already; each pass is announced by `expect`.

    `steering` has the changes of all rows, or those of each; `n_prompt` has the number of each row's prompt tokens.
    """
    n_rows = len(n_prompt)
    around = list(model.steered)
    layers = [*(live.steerings for live in around), steering]
    rows: list[Sequence[Change]] = [()] * n_rows
    for given in layers:
        if len(given) not in (0, 1, n_rows):
            raise UserError(f"{len(given)} steerings for {n_rows} prompts: give one, or one for each")
        if given:
            each = given if len(given) == n_rows else [given[0]] * n_rows
            rows = [(*a, *b) for a, b in zip(rows, each, strict=True)]
    live = Steered(model, rows or [()], n_prompt or [1])
    paused = [other.paused for other in around]
    try:
        for other in around:
            other.paused = True
        with model.only_hooks([name for name, _ in live.hooks]), model.bridge.hooks(fwd_hooks=live.hooks):
            yield live
    finally:
        for other, before in zip(around, paused, strict=True):
            other.paused = before


def _steps(steerings: Sequence[Sequence[Change]], model: Model) -> dict[str, list[_Step]]:
    """At each hook point every row's first change, every row's second, and so on."""
    steps: dict[str, list[_Step]] = {}
    for name in dict.fromkeys(change.hook_point for s in steerings for change in s):
        by_row = [[change for change in s if change.hook_point == name] for s in steerings]
        steps[name] = [
            _Step([own[i] if i < len(own) else None for own in by_row], model.d_model, model.device)
            for i in range(max(map(len, by_row)))
        ]
    return steps


def _require_fit(changes: Sequence[Change], model: Model) -> None:
    for change in changes:
        if change.hook_point not in model.bridge.hook_dict:
            raise UserError(
                f"no hook point {change.hook_point} in {model.name}, which has layers 0 to {model.n_layers - 1}; "
                "steer with directions that were extracted from this model"
            )
        if len(change.offset) != model.d_model:
            raise UserError(
                f"a direction of width {len(change.offset)} for {model.name}, whose width is {model.d_model}; "
                "steer with directions that were extracted from this model"
            )
