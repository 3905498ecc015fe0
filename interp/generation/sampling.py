"""Prompts → text with a KV cache; the other prompts in a batch do not change what is written, up to rounding."""

from __future__ import annotations

import copy
import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from interp.errors import UserError
from interp.generation.cache import SLOWER, Batching, growing_cache, supposed_batching
from interp.models.model import LOGIT_TOLERANCE, Model
from interp.models.tokens import Encoder
from interp.steering.hooks import Steered, steered_rows, unsteered
from interp.steering.steering import Steering

Hook = Callable[[Tensor, Any], Tensor | None]
Ids = Sequence[int]
_Picking = Callable[[Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True, slots=True)
class Generated:
    """The tokens written after one prompt.

    >>> out = interp.generate(model, "Problem: 3+4*2", max_new_tokens=4)
    >>> out.text == model.tokenizer.decode(out.ids), out.n_tokens, out.ended
    (True, 4, False)
    """

    ids: list[int]
    """Without the end token."""
    n_tokens: int
    """Including the end token."""
    ended: bool
    """False if the limit cut the text off."""
    end: int | None = None
    finite: bool = True
    """False if the text stops because the model's numbers overflowed."""
    tokenizer: Any = field(default=None, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The tokens as text, special tokens included."""
        return str(self.tokenizer.decode(self.ids))


@overload
def generate(model: Model, prompts: str, **options: Any) -> Generated: ...
@overload
def generate(model: Model, prompts: Sequence[str] | Sequence[Ids], **options: Any) -> list[Generated]: ...
def generate(  # type: ignore[misc]  # the options are these
    model: Model,
    prompts: str | Sequence[str] | Sequence[Ids],
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
    batch_size: int = 16,
    steering: Steering | Sequence[Steering] | None = None,
    hooks: Sequence[tuple[str, Hook]] = (),
    received: Callable[[int, Generated], None] = lambda *_: None,
    until: Callable[[int, Ids], bool] = lambda *_: False,
) -> Generated | list[Generated]:
    """Continue one text, or a list of texts or of token ids; a prompt that fills the context gets no tokens.

    At a temperature above 0, tokens are drawn from the smallest set whose probability reaches `top_p`, with
    `seeds[i]` (by default i) for prompt i. `steering` is one for all prompts or one per prompt, on top of what already
    steers the model; a row that it makes overflow ends there. `hooks` are pairs of a hook point and a function (value,
    hook) → new value or None. `received` is called with the index and result of each prompt as it ends. `until` is
    asked after each token, with a prompt's index and the text so far, whether it ends there. Raises `UserError` for an
    empty prompt.

    >>> steering = interp.add(found[2, 1])
    >>> len(interp.generate(model, ["Problem: 3+4*2", "Problem: 1+1*2"], max_new_tokens=4, steering=steering))
    2
    """
    encode = Encoder(model.tokenizer)
    listed = [prompts] if isinstance(prompts, str) else prompts
    ids = [encode.prompt(prompt) if isinstance(prompt, str) else prompt for prompt in listed]
    if not all(ids):
        raise UserError(f"prompt {ids.index([]) + 1}: empty; give at least one token")
    given = [steering] if isinstance(steering, Steering) else steering or ()
    room = [max_new_tokens] * len(ids)
    if model.context_length is not None:
        room = [max(0, min(max_new_tokens, model.context_length - len(prompt))) for prompt in ids]
    written = [Generated([], 0, False, tokenizer=model.tokenizer)] * len(ids)
    order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), tuple(ids[i])))  # identical prompts together
    for i in (i for i in range(len(ids)) if not room[i]):
        received(i, written[i])
    pick = _Pick(model, temperature, top_p, range(len(ids)) if seeds is None else seeds)
    with torch.inference_mode(), unsteered(model):
        plans = _plans(model, [len(prompt) for prompt in ids], room)
    with (
        torch.inference_mode(),
        steered_rows(model, [one.changes for one in given], [len(prompt) for prompt in ids]) as steered,
        model.bridge.hooks(fwd_hooks=list(hooks)),
    ):
        for plan in sorted(set(plans)):
            reader = _Reader(model, steered, bool(hooks), plan[0])
            rows = [i for i in order if room[i] and plans[i] == plan]
            for row, generated in _continue(reader, ids, rows, room, pick, batch_size, until):
                written[row] = generated
                received(row, generated)
    return written[0] if isinstance(prompts, str) else written


def _plans(model: Model, lengths: Sequence[int], room: Sequence[int]) -> list[tuple[Batching, bool]]:
    """How to read each prompt, and whether it is a long one, which may share a batch with long ones only."""
    batching, (kind, limit, _) = proven_batching(model), model.varying or ("", sys.maxsize, 0)
    plans = []
    for n_prompt, n_new in zip(lengths, room, strict=True):
        if n_prompt + n_new <= limit:
            plans.append((batching, False))
        elif kind == "longrope" and n_prompt > limit + 1:
            plans.append((max(batching, Batching.PADDED), True))  # whole: a beginning alone would get other frequencies
        else:
            plans.append((Batching.UNCACHED, False))
            note = f"positions change beyond {limit} tokens: a text that passes is read again for each token"
            model.notes += [note] if note not in model.notes else []
    return plans


def proven_batching(model: Model) -> Batching:
    """How the model's rows are read: the fastest way that gives, the first time, the logits of the plain model."""
    if model.batching is None:
        with model.only_hooked(deaf=True):
            batching = supposed_batching(model)
            while batching < Batching.UNCACHED and not _proven(model, batching):
                batching = Batching(batching + 1)
        model.batching = batching
        model.notes += [SLOWER[batching]] if batching in SLOWER else []
    return Batching(model.batching)


def _proven(model: Model, batching: Batching) -> bool:
    """Whether four unlike texts, written to in batches of three, get the logits of the plain model that reads each."""
    longest = min(40, model.context_length or 40, (model.varying or ("", 40))[1])
    room = [3, 2, 3, 2]
    n = [max(1, longest * part // 6 - 3) for part in (6, 5, 5, 3)]
    usable = range(model.hf.get_input_embeddings().weight.shape[0])
    draw = random.Random(0)
    alike = draw.choices(usable, k=max(0, longest // 4 - 1))
    texts = [(alike + draw.choices(usable, k=longest))[: a + b] for a, b in zip(n, room, strict=True)]
    plain = [model.hf(torch.tensor([t], device=model.device), use_cache=False).logits[0].float() for t in texts]
    steps, off = [0] * len(texts), list[float]()

    def follow(logits: Tensor, live: Sequence[int]) -> Tensor:
        for row, i in zip(logits, live, strict=True):
            at = n[i] + steps[i]
            steps[i] += 1
            off.append(float((row - plain[i][at - 1]).abs().max() / plain[i][at - 1].abs().max()))
        return torch.tensor([texts[i][n[i] + steps[i] - 1] for i in live], device=model.device)

    reader = _Reader(model, Steered(model, [()] * len(n), n), False, batching)
    list(_continue(reader, [t[:k] for t, k in zip(texts, n, strict=True)], range(len(n)), room, follow, batch_size=3))
    rounding = 5 * LOGIT_TOLERANCE.get(model.dtype, 1e-2)  # other shapes of matrices round more than hooks do
    return all(far <= rounding for far in off)


def end_tokens(model: Model) -> set[int]:
    """The ids that end a text: the model's and the tokenizer's."""
    of_model = getattr(model.hf.generation_config, "eos_token_id", None)
    ids = of_model if isinstance(of_model, list) else [of_model]
    return {int(i) for i in (*ids, model.tokenizer.eos_token_id) if i is not None}


def _continue(
    reader: _Reader,
    prompts: Sequence[Ids],
    order: Sequence[int],
    room: Sequence[int],
    pick: _Picking,
    batch_size: int,
    until: Callable[[int, Ids], bool] = lambda *_: False,
) -> Iterator[tuple[int, Generated]]:
    """Continue the prompts in `order`; yields each with its index as it ends. Others join when a quarter has ended."""
    ends, tokenizer = end_tokens(reader.model), reader.model.tokenizer
    joining = reader.batching is Batching.JOINED and not reader.whole
    waiting, texts = list(order), {i: list[int]() for i in order}
    live: _Rows | None = None
    reader.open(order, prompts)
    while waiting or live is not None:
        if waiting and (live is None or (joining and 4 * len(live.index) <= 3 * batch_size)):
            free = batch_size - (0 if live is None else len(live.index))
            free = min(free, reader.most(prompts[i] for i in waiting))
            new, waiting = waiting[:free], waiting[free:]
            fresh = reader.prompts(new, [prompts[i] for i in new])
            live = fresh if live is None else live.joined(fresh)
        assert live is not None
        chosen = pick(live.logits, live.index)
        stay = []
        likely = live.logits.gather(1, chosen[:, None])[:, 0].isfinite()  # NaN always is what gets chosen
        finite = (likely & ~reader.steered.overflowed[live.index]).tolist()
        for place, (i, token, sound) in enumerate(zip(live.index, chosen.tolist(), finite, strict=True)):
            text = texts[i]
            if not sound:
                yield i, Generated(text, len(text), False, finite=False, tokenizer=tokenizer)
                continue
            text.append(token)
            if token in ends:
                yield i, Generated(text[:-1], len(text), True, token, tokenizer=tokenizer)
            elif (stopped := until(i, text)) or len(text) == room[i]:
                yield i, Generated(text, len(text), stopped, tokenizer=tokenizer)
            else:
                stay.append(place)
                reader.steered.wrote(i, prompts[i], text)
        if stay:
            left, last = set(stay), (place for place in stay if place >= len(stay))  # who fill the gaps of the ended
            stay = [place if place in left else next(last) for place in range(len(stay))]
            live = live.chosen(stay, [live.index[place] for place in stay])
            live = reader.read(live.index, [texts[i][-1:] for i in live.index], live)
        else:
            live = None


@dataclass
class _Rows:
    """Prompts being continued, by index: what the model has read of each, and what it expects next."""

    index: list[int]
    cache: Any
    mask: Int[Tensor, "row column"]
    """0 for padding."""
    logits: Float[Tensor, "row token"]

    def chosen(self, places: list[int], index: list[int]) -> _Rows:
        """The rows in these places, as those of the prompts `index`."""
        if places == list(range(len(self.index))):
            return _Rows(index, self.cache, self.mask, self.logits)
        at = torch.tensor(places, device=self.mask.device)
        self.cache.reorder_cache(at)
        return _Rows(index, self.cache, self.mask[at], self.logits[at])

    def joined(self, other: _Rows) -> _Rows:
        """These rows and others, the shorter ones padded on the left."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        left, right = width - self.mask.shape[1], width - other.mask.shape[1]
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([pad(mine.keys, (0, 0, left, 0)), pad(theirs.keys, (0, 0, right, 0))])
            mine.values = torch.cat([pad(mine.values, (0, 0, left, 0)), pad(theirs.values, (0, 0, right, 0))])
        mask = torch.cat([pad(self.mask, (left, 0)), pad(other.mask, (right, 0))])
        return _Rows(self.index + other.index, self.cache, mask, torch.cat([self.logits, other.logits]))


@dataclass
class _Reader:
    """A model under steering that is told which rows it reads."""

    model: Model
    steered: Steered
    whole: bool
    """Whether hooks must see whole prompts, batch by batch."""
    batching: Batching
    opening: _Rows | None = None
    last: tuple[Ids, _Rows] | None = None
    """The beginning that a whole batch had in common, and what was read of it, for rows that join later."""
    read_so_far: dict[int, Ids] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = inspect.signature(self.model.hf.forward).parameters
        self.cache = "cache_params" if "cache_params" in self.known else "past_key_values"

    def most(self, prompts: Iterable[Ids]) -> int:
        """How many of these prompts, from the first on, can be read together."""
        if self.batching >= Batching.ALONE:
            return 1
        lengths = [len(prompt) for prompt in prompts]
        return lengths.count(lengths[0]) if self.batching is Batching.EQUAL else len(lengths)

    def read(self, index: list[int], texts: Sequence[Ids], before: _Rows | None = None) -> _Rows:
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
        out = self.model.hf(**{name: value for name, value in given.items() if name in self.known})
        return _Rows(index, getattr(out, self.cache, None), mask, out.logits[:, -1].float())

    def open(self, index: Sequence[int], prompts: Sequence[Ids]) -> None:
        """Read what all these prompts begin with, up to the first steered token; each keeps one token of its own."""
        if self.whole or self.batching is not Batching.JOINED or len(index) < 2:
            return
        longest = min(min(len(prompts[i]) - 1, self.steered.untouched(i)) for i in index)
        first = prompts[index[0]]
        n = next((k for k in range(longest) if any(prompts[i][k] != first[k] for i in index)), longest)
        if n:
            self.opening = self.read([index[0]], [first[:n]])

    def prompts(self, index: list[int], prompts: Sequence[Ids]) -> _Rows:
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


class _Pick:
    """Chooses the next token of each live row: a draw is the largest of log-probability plus Gumbel noise.

    A search in cumulated probabilities would turn on their last digits, which change with the batch.
    """

    def __init__(self, model: Model, temperature: float, top_p: float, seeds: Sequence[int]) -> None:
        self.temperature, self.top_p = temperature, top_p
        self.noise = [torch.Generator(model.device).manual_seed(seed) for seed in seeds]

    def __call__(self, logits: Float[Tensor, "row token"], live: Sequence[int]) -> Int[Tensor, " row"]:
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits / self.temperature
        if self.top_p < 1:
            ordered, order = logits.softmax(-1).sort(descending=True, stable=True)
            beyond = ordered.cumsum(-1) - ordered >= self.top_p
            logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
        each = zip(logits, live, strict=True)
        waits = torch.stack([torch.empty_like(row).exponential_(generator=self.noise[k]) for row, k in each])
        return (logits - waits.log()).argmax(-1)
