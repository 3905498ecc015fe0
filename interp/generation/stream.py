"""Texts that come and go: each joins the others while they are being written, steered and drawn in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


@dataclass(eq=False)
class Asked:
    """A text to be continued by at most `room` tokens, as `generate` would with the same settings."""

    prompt: Ids
    room: int
    changes: Sequence[Change]
    drawing: Drawing
    seed: int

    def until(self, text: Ids) -> bool:
        """Asked after each token, and while a long prompt is read, whether the text ends there."""
        return False


@contextmanager
def streaming(model: Model, n: int) -> Iterator[Stream]:
    """Write up to `n` texts at once on a model that this thread has to itself."""
    proven_batching(model)
    with torch.inference_mode(), unsteered(model), model.only_hooked(), ExitStack() as hooks:
        yield Stream(model, n, hooks)


class Stream(Texts):
    """Texts being written, in rows that are `free` again when one ends."""

    def __init__(self, model: Model, n: int, hooks: ExitStack) -> None:
        keys = keys_of(range(n), model.device)
        super().__init__(
            model, [()] * n, [0] * n, Drawing(0.0, 1.0), keys, lambda row, text: self.asked[row].until(text)
        )
        self.model, self.hooks, self.steered = model, hooks, Steered(model, [()] * n, [1] * n)
        self.asked: list[Any] = [None] * n
        self.live = list[tuple[Reader, Rows]]()
        self.begun = list[tuple[Reader, int, Rows | None, int]]()  # long prompts, what was read and how many tokens
        self.readers = dict[Any, Reader]()

    @property
    def free(self) -> list[int]:
        return [row for row, asked in enumerate(self.asked) if asked is None]

    def enter(self, asked: Sequence[Asked]) -> None:
        """Begin these texts, at most as many as are free."""
        new = dict(zip(self.free, asked, strict=False))
        for row, each in new.items():
            self.asked[row], self.prompts[row], self.room[row], self.texts[row] = each, each.prompt, each.room, []
        self.keys[[*new]] = keys_of([each.seed for each in asked], self.keys.device)
        self._steer([*new])
        ways = plans(self.model, [len(each.prompt) for each in asked], [each.room for each in asked])
        for way in sorted(set(ways)):
            reader = self.readers.setdefault(way, Reader(self.model, self.steered, False, way[0]))
            rows = [row for row, its in zip(new, ways, strict=True) if its == way]
            rows.sort(key=lambda row: (-len(self.prompts[row]), tuple(self.prompts[row])))
            while rows:
                n = reader.most(self.prompts[row] for row in rows)
                if way[0] is Batching.JOINED and len(self.prompts[rows[0]]) > PIECE:
                    self.begun.append((reader, rows[0], None, 0))
                    n = 1
                else:
                    self._join(reader, reader.prompts(rows[:n], [self.prompts[row] for row in rows[:n]]))
                rows = rows[n:]

    def step(self) -> Iterator[tuple[Any, Generated]]:
        """Write one token of every text, and read a piece of one long prompt; yields those that end."""
        before, self.live = self.live, []
        for reader, rows in before:
            ended, left = stepped(reader, self, rows)
            if left is not None:
                joined = ended and reader.batching is Batching.JOINED
                self.live.append((reader, left.trimmed() if joined else left))
            for row, generated in ended:
                reader.read_so_far.pop(row, None)
                asked, self.asked[row] = self.asked[row], None
                yield asked, generated
        if self.begun:
            reader, row, read, n = self.begun.pop(0)
            asked = self.asked[row]
            if asked.until(()):
                self.asked[row] = None
                yield asked, Generated([], 0, True, tokenizer=self.tokenizer)
                return
            read = reader.read([row], [asked.prompt[n : n + PIECE]], read)
            if n + PIECE < len(asked.prompt):
                self.begun.append((reader, row, read, n + PIECE))
            else:
                self._join(reader, read)

    def chosen(self, logits: Tensor, index: Int[Tensor, " row"], written: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        drawings, chosen = [self.asked[row].drawing for row in index.tolist()], torch.zeros_like(index)
        for drawing in set(drawings):
            at = torch.tensor([k for k, its in enumerate(drawings) if its == drawing], device=index.device)
            chosen[at] = drawing(logits[at], self.keys[index[at]], written[at])
        return chosen

    def _join(self, reader: Reader, rows: Rows) -> None:
        for k, (its, live) in enumerate(self.live if reader.batching is Batching.JOINED else ()):
            if its is reader:
                self.live[k] = its, live.joined(rows)
                return
        self.live.append((reader, rows))

    def _steer(self, new: Sequence[int]) -> None:
        """Let the changes of all texts act, `new` ones among them."""
        changes = [() if asked is None else asked.changes for asked in self.asked]
        steered = Steered(self.model, changes, [len(prompt) or 1 for prompt in self.prompts])
        self.steered.overflowed[[*new]] = False
        steered.overflowed |= self.steered.overflowed
        for row, text in enumerate(self.texts):
            for n in range(len(text) if any(isinstance(c.tokens, WrittenTurns) for c in changes[row]) else 0):
                steered.wrote(row, self.prompts[row], text[: n + 1])
        self.hooks.close()
        self.hooks.enter_context(self.model.bridge.hooks(fwd_hooks=steered.hooks))
        self.steered = steered
        for reader in self.readers.values():
            reader.steered = steered
