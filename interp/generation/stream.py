"""Texts that come and go: each joins the others while they are being written, steered and drawn in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.generation.cache import Batching
from interp.generation.drawing import Drawing, keys_of
from interp.generation.rows import Ids, Reader, Rows
from interp.generation.sampling import Generated, Texts, plans, proven_batching, stepped
from interp.models.model import Model
from interp.steering.changes import Change, WrittenTurns
from interp.steering.hooks import Steered, unsteered

PIECE = 256
"""Tokens of a long prompt that are read between two tokens of the other texts."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A text to be continued by at most `room` tokens, as `generate` would with the same settings."""

    prompt: Ids
    room: int
    changes: Sequence[Change]
    drawing: Drawing
    seed: int
    until: Callable[[Ids], bool]
    """Asked after each token, with the text so far, whether it ends there."""


class Stream(Texts):
    """Writes up to `n` texts at once on a model that it has to itself, in a `with` block and in one thread."""

    def __init__(self, model: Model, n: int) -> None:
        super().__init__(model, [()] * n, [0] * n, Drawing(0.0, 1.0), keys_of(range(n), model.device), self._asks)
        self.model, self.asked = model, list[Asked | None]([None] * n)
        self.live: list[tuple[Reader, Rows]] = []
        self.begun: list[tuple[Reader, int, Rows | None, int]] = []
        """Rows whose prompts are being read: what was read, and how many tokens."""
        self.readers: dict[Any, Reader] = {}

    def __enter__(self) -> Stream:
        proven_batching(self.model)
        with ExitStack() as stack:
            for context in (torch.inference_mode(), unsteered(self.model), self.model.only_hooked()):
                stack.enter_context(context)
            self.hooks = stack.enter_context(ExitStack())
            self.steered = Steered(self.model, [()] * len(self.asked), [1] * len(self.asked))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self.stack.close()

    @property
    def free(self) -> list[int]:
        return [row for row, asked in enumerate(self.asked) if asked is None]

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within this context the model is as if it wrote nothing."""
        self.steered.paused = True
        try:
            yield
        finally:
            self.steered.paused = False

    def enter(self, asked: Sequence[Asked]) -> None:
        """Begin these texts, at most as many as are free. Raises `UserError` for changes that do not fit the model."""
        new = dict(zip(self.free, asked, strict=False))
        ways = plans(self.model, [len(a.prompt) for a in asked], [a.room for a in asked])
        for row, each in new.items():
            self.asked[row], self.prompts[row], self.room[row], self.texts[row] = each, each.prompt, each.room, []
        self.keys[list(new)] = keys_of([each.seed for each in new.values()], self.keys.device)
        self._steer(list(new))
        for way in sorted(set(ways)):
            reader = self.readers.setdefault(way, Reader(self.model, self.steered, False, way[0]))
            rows = [row for row, its in zip(new, ways, strict=True) if its == way]
            if way[0] is Batching.JOINED:
                self.begun += [(reader, row, None, 0) for row in rows if len(self.prompts[row]) > PIECE]
                rows = [row for row in rows if len(self.prompts[row]) <= PIECE]
            rows.sort(key=lambda row: (-len(self.prompts[row]), tuple(self.prompts[row])))
            while rows:
                n = reader.most(self.prompts[row] for row in rows)
                self._join(reader, reader.prompts(rows[:n], [self.prompts[row] for row in rows[:n]]))
                rows = rows[n:]

    def step(self) -> Iterator[tuple[Asked, Generated]]:
        """Write one token of every text, and read a piece of one long prompt; yields those that end."""
        before, self.live = self.live, []
        for reader, rows in before:
            ended, left = stepped(reader, self, rows)
            if left is not None:
                joined = ended and reader.batching is Batching.JOINED
                self.live.append((reader, left.trimmed() if joined else left))
            for row, generated in ended:
                yield self._leave(row), generated
        if self.begun:
            reader, row, read, n = self.begun.pop(0)
            asked = self.asked[row]
            assert asked is not None
            if asked.until(()):
                yield self._leave(row), Generated([], 0, True, tokenizer=self.tokenizer)
                return
            read = reader.read([row], [asked.prompt[n : n + PIECE]], read)
            if n + PIECE < len(asked.prompt):
                self.begun.append((reader, row, read, n + PIECE))
            else:
                self._join(reader, read)

    def chosen(self, logits: Tensor, index: Int[Tensor, " row"], written: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        drawings = [asked.drawing for row in index.tolist() if (asked := self.asked[row]) is not None]
        chosen = torch.zeros_like(index)
        for drawing in set(drawings):
            at = torch.tensor([k for k, its in enumerate(drawings) if its == drawing], device=index.device)
            chosen[at] = drawing(logits[at], self.keys[index[at]], written[at])
        return chosen

    def _asks(self, row: int, text: Ids) -> bool:
        asked = self.asked[row]
        return asked is not None and asked.until(text)

    def _join(self, reader: Reader, rows: Rows) -> None:
        if reader.batching is Batching.JOINED:
            rows = next((live.joined(rows) for its, live in self.live if its is reader), rows)
            self.live = [(its, live) for its, live in self.live if its is not reader]
        self.live.append((reader, rows))

    def _leave(self, row: int) -> Asked:
        asked, self.asked[row] = self.asked[row], None
        for reader in self.readers.values():
            reader.read_so_far.pop(row, None)
        assert asked is not None
        return asked

    def _steer(self, new: Sequence[int]) -> None:
        """Let the changes of all texts act, `new` ones among them."""
        changes = [() if asked is None else asked.changes for asked in self.asked]
        steered = Steered(self.model, changes, [len(prompt) or 1 for prompt in self.prompts])
        self.steered.overflowed[list(new)] = False
        steered.overflowed |= self.steered.overflowed
        for row, its in enumerate(changes):
            if any(isinstance(change.tokens, WrittenTurns) for change in its):
                for n in range(len(self.texts[row])):
                    steered.wrote(row, self.prompts[row], self.texts[row][: n + 1])
        self.hooks.close()
        self.hooks.enter_context(self.model.bridge.hooks(fwd_hooks=steered.hooks))
        self.steered = steered
        for reader in self.readers.values():
            reader.steered = steered
