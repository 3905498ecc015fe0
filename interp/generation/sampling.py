"""Prompts as tokens → text as tokens, in batches, with a KV cache.

Knows a model; knows nothing about agents, chats or what the tokens say. What a prompt is answered
with does not depend on the prompts beside it, up to the rounding of the model's arithmetic: positions
count from each prompt's own first token, and each sampled row has random numbers of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from interp.generation.cache import growing_cache
from interp.models.model import Model
from interp.steering.hooks import Steered, steered_rows
from interp.steering.steering import Steering

Hook = Callable[[Tensor, Any], Tensor | None]


@dataclass(frozen=True, slots=True)
class Generated:
    """The tokens written after one prompt; `ended` unless the limit cut them off."""

    ids: list[int]
    """Without the token that ends the text."""
    n_tokens: int
    """Tokens that the model wrote, the one that ends the text included."""
    ended: bool
    end: int | None = None
    """The token that ended the text, where one did."""
    finite: bool = True
    """False where the text stops because the model's numbers were beyond what it can compute with."""


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
    batch_size: int = 16,
    steering: Steering | Sequence[Steering] | None = None,
    hooks: Sequence[tuple[str, Hook]] = (),
    received: Callable[[int, Generated], None] = lambda *_: None,
) -> list[Generated]:
    """Continue every prompt (token ids, at least one); the results are in the order of the prompts.

    At most `batch_size` prompts are continued at a time, those of like length together, and what they share
    at the beginning is read once; one that ends leaves, and others take the places. A text ends with one of
    the model's end tokens, after `max_new_tokens`, or where the context is full; a prompt that fills the
    context gets no tokens. With a temperature above 0, tokens are drawn from the smallest set whose
    probability reaches `top_p`, and `seeds[i]` (by default i) with prompt i fixes what is drawn.

    `steering` is one for all prompts or one for each, on top of what steers the model already. A row whose
    numbers it drives out of range ends there, and no other row is touched. Prompts that are the same are read
    once as far as nothing in them is steered.

    Only the hook points named in `hooks`, pairs of a name and a function (value, hook) → new value or
    None, are live besides; without any, the plain model runs. `received` is called with the index of each prompt
    and what was written after it, as soon as that has ended.
    """
    given = [steering] if isinstance(steering, Steering) else steering or ()
    changes = [one.changes for one in given]
    room = [max_new_tokens] * len(prompts)
    if model.context_length is not None:
        room = [max(0, min(max_new_tokens, model.context_length - len(prompt))) for prompt in prompts]
    written = [Generated([], 0, False)] * len(prompts)
    # the same ones side by side, so that they are read together
    order = sorted((i for i in range(len(prompts)) if room[i]), key=lambda i: (-len(prompts[i]), tuple(prompts[i])))
    for i in set(range(len(prompts))) - set(order):
        received(i, written[i])
    pick = _Pick(model, temperature, top_p, range(len(prompts)) if seeds is None else seeds)
    with (
        torch.inference_mode(),
        steered_rows(model, changes, [len(prompt) for prompt in prompts]) as steered,
        model.bridge.hooks(fwd_hooks=list(hooks)),
        model.only_hooks([name for name, _ in hooks]),
    ):
        reader = _Reader(model, steered)
        for row, generated in _continue(reader, prompts, order, room, pick, batch_size, hooked=bool(hooks)):
            written[row] = generated
            received(row, generated)
    return written


def end_tokens(model: Model) -> set[int]:
    """The ids that end a text: the model's, of which there may be several, and the tokenizer's."""
    of_model = getattr(model.hf.generation_config, "eos_token_id", None)
    ids = of_model if isinstance(of_model, list) else [of_model]
    return {int(i) for i in (*ids, model.tokenizer.eos_token_id) if i is not None}


def _continue(
    reader: _Reader,
    prompts: Sequence[Sequence[int]],
    order: Sequence[int],
    room: Sequence[int],
    pick: Callable[[Tensor, Sequence[int]], Tensor],
    batch_size: int,
    *,
    hooked: bool,
) -> Iterator[tuple[int, Generated]]:
    """Continue the prompts `order` names; yields each as it ends, with its index.

    What all begin with is read once, and once a quarter of the places are free, further prompts take them.
    Hooks are to see whole prompts, batch by batch; and a sliding window counts the padding between a
    prompt's parts. There nothing is shared, and no place is taken before all are free.
    """
    ends = end_tokens(reader.model)
    plain = not hooked and getattr(reader.model.hf.config, "sliding_window", None) is None
    waiting = list(order)
    shared = _Shared.read(reader, order, prompts) if plain else _Shared()
    live: _Rows | None = None
    texts: dict[int, list[int]] = {i: [] for i in order}
    while waiting or live is not None:
        if waiting and (live is None or (plain and 4 * len(live.index) <= 3 * batch_size)):
            free = batch_size - (0 if live is None else len(live.index))
            new, waiting = waiting[:free], waiting[free:]
            fresh = _Rows.read(reader, new, [prompts[i] for i in new], shared, once=not hooked)
            live = fresh if live is None else live.joined(fresh)
        assert live is not None
        chosen = pick(live.logits, live.index)
        stay = []
        finite = reader.finite(live, chosen)
        for place, (i, token, sound) in enumerate(zip(live.index, chosen.tolist(), finite, strict=True)):
            if not sound:
                yield i, Generated(texts[i], len(texts[i]), False, finite=False)
                continue
            texts[i].append(token)
            if token in ends:
                yield i, Generated(texts[i][:-1], len(texts[i]), True, token)
            elif len(texts[i]) == room[i]:
                yield i, Generated(texts[i], len(texts[i]), False)
            else:
                stay.append(place)
                reader.steered.wrote(i, prompts[i], texts[i])
        live = live.advanced(reader, stay, chosen) if stay else None


@dataclass(frozen=True)
class _Reader:
    """A model under steering that is told which rows it reads."""

    model: Model
    steered: Steered

    def read(self, index: list[int], ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> _Rows:
        """Read `ids` [row, token] behind what is in the cache; `mask` has a column for each token of both."""
        self.steered.expect(index, positions, mask[:, -ids.shape[1] :])
        out = self.model.hf(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **({"logits_to_keep": 1} if self.model.hf._supports_logits_to_keep() else {}),
        )
        return _Rows(index, out.past_key_values, mask, out.logits[:, -1].float())

    def finite(self, rows: _Rows, chosen: Int[Tensor, " row"]) -> list[bool]:
        """Which rows the model could compute; what is not a number always is what gets chosen."""
        likely = rows.logits.gather(1, chosen[:, None])[:, 0].isfinite()
        return (likely & ~self.steered.overflowed[rows.index]).tolist()


@dataclass(frozen=True)
class _Shared:
    """What prompts begin with, such as a persona's, and what the model keeps of it."""

    n_tokens: int = 0
    cache: Any = None

    @classmethod
    def read(cls, reader: _Reader, order: Sequence[int], prompts: Sequence[Sequence[int]]) -> _Shared:
        """Read the tokens that all prompts begin with, up to the first that is steered; each keeps one of its own."""
        if len(order) < 2:
            return cls()
        longest = min(min(len(prompts[i]) - 1, reader.steered.untouched(i)) for i in order)
        first = prompts[order[0]]
        n = next((k for k in range(longest) if any(prompts[i][k] != first[k] for i in order)), longest)
        if not n:
            return cls()
        ids = torch.tensor([first[:n]], device=reader.model.device)
        read = reader.read(
            [order[0]], ids, torch.ones_like(ids), torch.arange(n, device=ids.device)[None], growing_cache()
        )
        return cls(n, read.cache)

    def repeated(self, n_rows: int) -> Any:
        """A cache of its own for so many rows."""
        cache = copy.deepcopy(self.cache)
        if cache is not None:
            cache.batch_repeat_interleave(n_rows)
        return cache


@dataclass
class _Rows:
    """Prompts being continued: what the model has read of each, and what it expects next."""

    index: list[int]
    """Which prompts they are."""
    cache: Any
    mask: Int[Tensor, "row column"]
    """Which columns of the cache a row has; the others are padding."""
    logits: Float[Tensor, "row token"]

    @classmethod
    def read(
        cls, reader: _Reader, index: list[int], prompts: Sequence[Sequence[int]], shared: _Shared, *, once: bool
    ) -> _Rows:
        """Read the prompts, which go on from what is shared; with `once` those that are the same only once.

        Of these each row reads on its own what follows the first steered token; where rows differ in how
        much that is, all is read for each row.
        """
        own = [tuple(prompt[shared.n_tokens :]) for prompt in prompts]
        free = [reader.steered.untouched(i) - shared.n_tokens for i in index]
        n_tail = {max(0, len(o) - n) for o, n in zip(own, free, strict=True)}
        if once and len(n_tail) == 1:
            tail = n_tail.pop()
            heads = [o[: len(o) - tail] for o in own]
            different = list(dict.fromkeys(heads))
            if len(different) < len(heads) and all(heads):
                first = [index[heads.index(head)] for head in different]
                read = cls._read(reader, first, different, shared)
                rows = read.chosen([different.index(head) for head in heads], index)
                if not tail:
                    return rows
                device = reader.model.device
                positions = rows.mask.sum(1, keepdim=True) + torch.arange(tail, device=device)
                ids = torch.tensor([o[len(o) - tail :] for o in own], device=device)
                return reader.read(index, ids, pad(rows.mask, (0, tail), value=1), positions, rows.cache)
        return cls._read(reader, index, own, shared)

    @classmethod
    def _read(cls, reader: _Reader, index: list[int], own: Sequence[Sequence[int]], shared: _Shared) -> _Rows:
        n_shared, device = shared.n_tokens, reader.model.device
        width = max(map(len, own))
        mask = torch.tensor([[1] * n_shared + [0] * (width - len(o)) + [1] * len(o) for o in own], device=device)
        # What stands in the padding is masked out; any id will do.
        ids = torch.tensor([[0] * (width - len(o)) + list(o) for o in own], device=device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, n_shared:]
        return reader.read(index, ids, mask, positions, shared.repeated(len(own)))

    def chosen(self, places: list[int], index: list[int]) -> _Rows:
        """The rows in these places, which may come several times, as those of the prompts `index`."""
        at = torch.tensor(places, device=self.mask.device)
        self.cache.batch_select_indices(at)
        return _Rows(index, self.cache, self.mask[at], self.logits[at])

    def advanced(self, reader: _Reader, stay: list[int], chosen: Int[Tensor, " row"]) -> _Rows:
        """The rows in the places `stay`, each with its chosen token read."""
        rows = self
        if len(stay) < len(self.index):
            rows = self.chosen(stay, [self.index[place] for place in stay])
            chosen = chosen[torch.tensor(stay, device=chosen.device)]
        positions = rows.mask.sum(1, keepdim=True)
        return reader.read(rows.index, chosen[:, None], pad(rows.mask, (0, 1), value=1), positions, rows.cache)

    def joined(self, other: _Rows) -> _Rows:
        """These rows and others, the shorter ones padded on the left."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        left, right = width - self.mask.shape[1], width - other.mask.shape[1]
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([pad(mine.keys, (0, 0, left, 0)), pad(theirs.keys, (0, 0, right, 0))])
            mine.values = torch.cat([pad(mine.values, (0, 0, left, 0)), pad(theirs.values, (0, 0, right, 0))])
        mask = torch.cat([pad(self.mask, (left, 0)), pad(other.mask, (right, 0))])
        return _Rows(self.index + other.index, self.cache, mask, torch.cat([self.logits, other.logits]))


class _Pick:
    """Chooses the next token of each live row.

    A draw is the largest of log-probability plus Gumbel noise. Unlike a search in cumulated
    probabilities it does not turn on their last digits, which change with the batch.
    """

    def __init__(self, model: Model, temperature: float, top_p: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        self.top_p = top_p
        self.noise = [torch.Generator(model.device).manual_seed(seed) for seed in seeds]

    def __call__(self, logits: Float[Tensor, "row token"], live: Sequence[int]) -> Int[Tensor, " row"]:
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits / self.temperature
        if self.top_p < 1:
            ordered, order = logits.softmax(-1).sort(descending=True, stable=True)
            beyond = ordered.cumsum(-1) - ordered >= self.top_p
            logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
        waits = torch.stack(
            [torch.empty_like(row).exponential_(generator=self.noise[k]) for k, row in zip(live, logits, strict=True)]
        )
        return (logits - waits.log()).argmax(-1)
