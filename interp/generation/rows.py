"""Rows of a batch as a model reads them, with a KV cache: what they share once, each under its own steering."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from interp.generation.cache import Batching, growing_cache
from interp.models.model import Model
from interp.steering.hooks import Steered

Ids = Sequence[int]


@dataclass
class Rows:
    """Prompts being continued, by index: what the model has read of each, and what it expects next."""

    index: list[int]
    cache: Any
    mask: Int[Tensor, "row column"]
    """0 for padding."""
    logits: Float[Tensor, "row token"]

    def chosen(self, places: list[int], index: list[int]) -> Rows:
        """The rows in these places, as those of the prompts `index`."""
        if places == list(range(len(self.index))):
            return Rows(index, self.cache, self.mask, self.logits)
        at = torch.tensor(places, device=self.mask.device)
        self.cache.reorder_cache(at)
        return Rows(index, self.cache, self.mask[at], self.logits[at])

    def joined(self, other: Rows) -> Rows:
        """These rows and others, the shorter ones padded on the left."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        left, right = width - self.mask.shape[1], width - other.mask.shape[1]
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([pad(mine.keys, (0, 0, left, 0)), pad(theirs.keys, (0, 0, right, 0))])
            mine.values = torch.cat([pad(mine.values, (0, 0, left, 0)), pad(theirs.values, (0, 0, right, 0))])
        mask = torch.cat([pad(self.mask, (left, 0)), pad(other.mask, (right, 0))])
        return Rows(self.index + other.index, self.cache, mask, torch.cat([self.logits, other.logits]))

    def trimmed(self) -> Rows:
        """Without columns that are padding in every row."""
        n = int(self.mask.any(0).byte().argmax())
        for layer in self.cache.layers if n else ():
            layer.keys, layer.values = layer.keys[:, :, n:], layer.values[:, :, n:]
        return Rows(self.index, self.cache, self.mask[:, n:], self.logits)


@dataclass
class Reader:
    """A model under steering that is told which rows it reads."""

    model: Model
    steered: Steered
    whole: bool
    """Whether hooks must see whole prompts, batch by batch."""
    batching: Batching
    opening: Rows | None = None
    last: tuple[Ids, Rows] | None = None
    """The beginning that a whole batch had in common, and what was read of it, for rows that join later."""
    read_so_far: dict[int, Ids] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache = "cache_params" if "cache_params" in self.model.takes else "past_key_values"

    def most(self, prompts: Iterable[Ids]) -> int:
        """How many of these prompts, from the first on, can be read together."""
        if self.batching >= Batching.ALONE:
            return 1
        lengths = [len(prompt) for prompt in prompts]
        return lengths.count(lengths[0]) if self.batching is Batching.EQUAL else len(lengths)

    def read(self, index: list[int], texts: Sequence[Ids], before: Rows | None = None) -> Rows:
        """Read tokens of these prompts, padded on the left, after those that were read before."""
        if self.batching is Batching.UNCACHED:
            before, texts = None, [[*self.read_so_far.get(i, ()), *text] for i, text in zip(index, texts, strict=True)]
            self.read_so_far |= zip(index, texts, strict=True)
        width, device = max(map(len, texts)), self.model.device
        mask = torch.tensor([[0] * (width - len(t)) + [1] * len(t) for t in texts], device=device)
        ids = torch.tensor([[0] * (width - len(t)) + list(t) for t in texts], device=device)  # any id, being masked
        if before is not None:
            mask = torch.cat([before.mask, mask], dim=1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -width:]
        self.steered.expect(index, positions, mask[:, -width:])
        given = {
            "input_ids": ids,
            # recurrent models take the mask of new tokens only, which are all present
            "attention_mask": None if before and self.cache == "cache_params" else mask,
            "position_ids": positions,
            self.cache: before.cache if before else growing_cache() if self.batching is Batching.JOINED else None,
            "use_cache": self.batching is not Batching.UNCACHED,
            "logits_to_keep": 1,
        }
        out = self.model.hf(**{name: value for name, value in given.items() if name in self.model.takes})
        return Rows(index, getattr(out, self.cache, None), mask, out.logits[:, -1].float())

    def open(self, index: Sequence[int], prompts: Sequence[Ids]) -> None:
        """Read what all these prompts begin with, up to the first steered token; each keeps one token of its own."""
        if self.whole or self.batching is not Batching.JOINED or len(index) < 2:
            return
        longest = min(min(len(prompts[i]) - 1, self.steered.untouched(i)) for i in index)
        first = prompts[index[0]]
        n = next((k for k in range(longest) if any(prompts[i][k] != first[k] for i in index)), longest)
        if n:
            self.opening = self.read([index[0]], [first[:n]])

    def prompts(self, index: list[int], prompts: Sequence[Ids]) -> Rows:
        """Read, after the opening, each different unsteered beginning once, then the rest of each row."""
        rows = copy.deepcopy(self.opening)
        n_opening = 0 if rows is None else rows.mask.shape[1]
        places, stops = [0] * len(index), [n_opening] * len(index)
        free = [self.steered.untouched(i) for i in index]
        if any(n < len(p) for n, p in zip(free, prompts, strict=True)):  # then each row has a rest
            free = [min(n, len(p) - 1) for n, p in zip(free, prompts, strict=True)]
        heads = [tuple(p[n_opening:n]) for p, n in zip(prompts, free, strict=True)]
        different = list(dict.fromkeys(heads))
        resumed = self.batching is Batching.JOINED or max(len(p) - n for p, n in zip(prompts, free, strict=True)) <= 1
        shared = len(different) < len(heads) or (self.last is not None and different == [self.last[0]])
        if all(heads) and shared and not self.whole and resumed:
            first = [index[heads.index(head)] for head in different]
            if self.last and different == [self.last[0]]:
                rows = copy.deepcopy(self.last[1])
            else:
                rows = self.read(first, different, rows and rows.chosen([0] * len(first), first))
                if len(different) == 1 and self.batching is Batching.JOINED:
                    self.last = different[0], copy.deepcopy(rows)
            places, stops = [different.index(head) for head in heads], free
        rest = [p[n:] for p, n in zip(prompts, stops, strict=True)]
        rows = rows and rows.chosen(places, index)
        return self.read(index, rest, rows) if rows is None or any(rest) else rows
