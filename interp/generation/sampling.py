"""Prompts → text with a KV cache; the other prompts in a batch do not change what is written, up to rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from interp.errors import UserError
from interp.generation.cache import growing_cache
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.steering.hooks import Steered, steered_rows
from interp.steering.steering import Steering

Hook = Callable[[Tensor, Any], Tensor | None]
Ids = Sequence[int]


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
) -> Generated | list[Generated]:
    """Continue one text, or a list of texts or of token ids; a prompt that fills the context gets no tokens.

    At a temperature above 0, tokens are drawn from the smallest set whose probability reaches `top_p`, with
    `seeds[i]` (by default i) for prompt i. `steering` is one for all prompts or one per prompt, on top of what already
    steers the model; a row that it makes overflow ends there. `hooks` are pairs of a hook point and a function (value,
    hook) → new value or None. `received` is called with the index and result of each prompt as it ends. Raises
    `UserError` for an empty prompt.

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
    with (
        torch.inference_mode(),
        steered_rows(model, [one.changes for one in given], [len(prompt) for prompt in ids]) as steered,
        model.bridge.hooks(fwd_hooks=list(hooks)),
        model.only_hooks([name for name, _ in hooks]),
    ):
        reader = _Reader(model, steered, whole=bool(hooks))
        for row, generated in _continue(reader, ids, [i for i in order if room[i]], room, pick, batch_size):
            written[row] = generated
            received(row, generated)
    return written[0] if isinstance(prompts, str) else written


def end_tokens(model: Model) -> set[int]:
    """The ids that end a text: the model's and the tokenizer's."""
    of_model = getattr(model.hf.generation_config, "eos_token_id", None)
    ids = of_model if isinstance(of_model, list) else [of_model]
    return {int(i) for i in (*ids, model.tokenizer.eos_token_id) if i is not None}


def _continue(
    reader: _Reader, prompts: Sequence[Ids], order: Sequence[int], room: Sequence[int], pick: _Pick, batch_size: int
) -> Iterator[tuple[int, Generated]]:
    """Continue the prompts in `order`; yields each with its index as it ends. Others join when a quarter has ended."""
    ends, tokenizer = end_tokens(reader.model), reader.model.tokenizer
    joining = not (reader.whole or reader.windowed)
    waiting, texts = list(order), {i: list[int]() for i in order}
    live: _Rows | None = None
    reader.open(order, prompts)
    while waiting or live is not None:
        if waiting and (live is None or (joining and 4 * len(live.index) <= 3 * batch_size)):
            free = batch_size - (0 if live is None else len(live.index))
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
            elif len(text) == room[i]:
                yield i, Generated(text, len(text), False, tokenizer=tokenizer)
            else:
                stay.append(place)
                reader.steered.wrote(i, prompts[i], text)
        if stay:
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
        self.cache.batch_select_indices(at)
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
    opening: _Rows | None = None

    @property
    def windowed(self) -> bool:
        """Whether some layer attends to less than all before; a window counts padding between parts of a prompt."""
        config = self.model.hf.config
        full = {*(getattr(config, "layer_types", None) or ())} <= {"full_attention"}
        return not full or getattr(config, "sliding_window", None) is not None

    def read(self, index: list[int], texts: Sequence[Ids], before: _Rows | None = None) -> _Rows:
        """Read tokens of these prompts, padded on the left, after those that were read before."""
        width, device = max(map(len, texts)), self.model.device
        mask = torch.tensor([[0] * (width - len(t)) + [1] * len(t) for t in texts], device=device)
        ids = torch.tensor([[0] * (width - len(t)) + list(t) for t in texts], device=device)  # any id, being masked
        if before is not None:
            mask = torch.cat([before.mask, mask], dim=1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -width:]
        self.steered.expect(index, positions, mask[:, -width:])
        out = self.model.hf(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=growing_cache() if before is None and not self.windowed else before and before.cache,
            use_cache=True,
            **({"logits_to_keep": 1} if self.model.hf._supports_logits_to_keep() else {}),
        )
        return _Rows(index, out.past_key_values, mask, out.logits[:, -1].float())

    def open(self, index: Sequence[int], prompts: Sequence[Ids]) -> None:
        """Read what all these prompts begin with, up to the first steered token; each keeps one token of its own."""
        if self.whole or self.windowed or len(index) < 2:
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
        padded = len({len(p) - n for p, n in zip(prompts, free, strict=True)}) > 1
        if all(heads) and len(different) < len(heads) and not self.whole and not (padded and self.windowed):
            first = [index[heads.index(head)] for head in different]
            rows = self.read(first, different, rows and rows.chosen([0] * len(first), first))
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
