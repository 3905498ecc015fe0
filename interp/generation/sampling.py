"""Prompts → text with a KV cache; the other prompts in a batch do not change what is written, up to rounding."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import UserError
from interp.generation.cache import SLOWER, Batching, supposed_batching
from interp.generation.drawing import Drawing, Pick, keys_of
from interp.generation.engine import written as elsewhere
from interp.generation.rows import Ids, Reader, Rows
from interp.generation.seats import OVERFLOWED, TURNS, Seats, sizes
from interp.models.adapters import RAISED
from interp.models.model import LOGIT_TOLERANCE, Model
from interp.models.tokens import Encoder
from interp.steering.hooks import Steered, steered_rows, unsteered
from interp.steering.steering import Steering

Hook = Callable[[Tensor, Any], Tensor | None]
SEATED = {"cuda"}
"""Kinds of devices that record steps."""


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
    steering: Steering | Sequence[Steering | None] | None = None,
    hooks: Sequence[tuple[str, Hook]] = (),
    received: Callable[[int, Generated], None] = lambda *_: None,
    until: Callable[[int, Ids], bool] | None = None,
) -> Generated | list[Generated]:
    """Continue one text, or a list of texts or of token ids; a prompt that fills the context gets no tokens.

    At a temperature above 0, tokens are drawn from the smallest set whose probability reaches `top_p`, with
    `seeds[i]` (by default i) for prompt i. `steering` is one for all prompts, or one or None for each, on top of what
    already steers the model; a row that it makes overflow ends there. `hooks` are pairs of a hook point and a function
    (value, hook) → new value or None. `received` is called with the index and result of each prompt as it ends. `until`
    is asked after each token, with a prompt's index and the text so far, whether it ends there. Raises `UserError` for
    an empty prompt.

    >>> steering = interp.add(found[2, 1])
    >>> len(interp.generate(model, ["Problem: 3+4*2", "Problem: 1+1*2"], max_new_tokens=4, steering=steering))
    2
    """
    encode = Encoder(model.tokenizer)
    listed = [prompts] if isinstance(prompts, str) else prompts
    ids = [encode.prompt(prompt) if isinstance(prompt, str) else prompt for prompt in listed]
    if not all(ids):
        raise UserError(f"prompt {ids.index([]) + 1}: empty; give at least one token")
    given = [steering] if isinstance(steering, Steering) else [one or Steering() for one in steering or ()]
    room = [max_new_tokens] * len(ids)
    if model.context_length is not None:
        room = [max(0, min(max_new_tokens, model.context_length - len(prompt))) for prompt in ids]
    written = [Generated([], 0, False, tokenizer=model.tokenizer)] * len(ids)
    order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), tuple(ids[i])))  # identical prompts together
    for i in (i for i in range(len(ids)) if not room[i]):
        received(i, written[i])
    if model.engine is not None:
        if hooks:
            raise model.engine.refusal("runs no functions at hook points; give a steering")
        draw, how = range(len(ids)) if seeds is None else seeds, {"temperature": temperature, "top_p": top_p}
        sampled = {i: how | {"seed": draw[i] % 2**63, "max_tokens": room[i]} for i in order if room[i]}
        changes = [one.changes for one in given]
        for i, facts in elsewhere(model, ids, sampled, changes, end_tokens(model), until):
            written[i] = Generated(*facts, **{"tokenizer": model.tokenizer})
            received(i, written[i])
        return written[0] if isinstance(prompts, str) else written
    keys = keys_of(range(len(ids)) if seeds is None else seeds, model.device)
    texts = Texts(model, ids, room, Drawing(temperature, top_p), keys, until)
    with torch.inference_mode(), unsteered(model):
        ways = plans(model, [len(prompt) for prompt in ids], room)
    with (
        torch.inference_mode(),
        steered_rows(model, [one.changes for one in given], [len(prompt) for prompt in ids]) as steered,
        model.bridge.hooks(fwd_hooks=list(hooks)),
    ):
        for plan in sorted(set(ways)):
            reader = Reader(model, steered, bool(hooks), plan[0])
            rows = [i for i in order if room[i] and ways[i] == plan]
            at_work = _continue(reader, texts, rows, batch_size)
            if not hooks and _seated(model, plan[0]) and not steered.calls:
                n, columns = min(batch_size, len(rows)), max(len(ids[i]) + room[i] for i in rows)
                seats = Seats.of(model, steered, texts.pick, texts.ends, n, columns)
                at_work = _in_seats(reader, texts, rows, seats)
            for row, generated in at_work:
                written[row] = generated
                received(row, generated)
    return written[0] if isinstance(prompts, str) else written


def plans(model: Model, lengths: Sequence[int], room: Sequence[int]) -> list[tuple[Batching, bool]]:
    """How to read each prompt, and whether it is a long one, which may share a batch with long ones only."""
    batching, (kind, limit, _) = proven_batching(model), model.varying or ("", sys.maxsize, 0)
    ways = []
    for n_prompt, n_new in zip(lengths, room, strict=True):
        if n_prompt + n_new <= limit:
            ways.append((batching, False))
        elif kind == "longrope" and n_prompt > limit + 1:
            ways.append((max(batching, Batching.PADDED), True))  # whole: a beginning alone would get other frequencies
        else:
            ways.append((Batching.UNCACHED, False))
            note = f"positions change beyond {limit} tokens: a text that passes is read again for each token"
            model.notes += [note] if note not in model.notes else []
    return ways


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


def _proven(model: Model, batching: Batching, *, seated: bool = False) -> bool:
    """Whether four unlike texts, written to in batches of three, get the logits of the plain model that reads each."""
    longest = min(40, model.context_length or 40, (model.varying or ("", 40))[1])
    room = [3, 2, 3, 2]
    n = [max(1, longest * part // 6 - 3) for part in (6, 5, 5, 3)]
    usable = range(model.hf.get_input_embeddings().weight.shape[0])
    draw = random.Random(0)
    alike = draw.choices(usable, k=max(0, longest // 4 - 1))
    texts = [(alike + draw.choices(usable, k=longest))[: a + b] for a, b in zip(n, room, strict=True)]
    plain = [model.hf(torch.tensor([t], device=model.device), use_cache=False).logits[0].float() for t in texts]
    off = list[float]()

    def follow(logits: Tensor, keys: Tensor, written: Tensor) -> Tensor:
        chosen = []
        for row, (i, taken), k in zip(logits, keys.tolist(), written.tolist(), strict=True):
            if not taken or k == room[i]:  # a seat that nobody has taken, or whose text has ended
                chosen.append(0)
                continue
            expected = plain[i][n[i] + k - 1]
            off.append(float((row - expected).abs().max() / expected.abs().max()))
            chosen.append(texts[i][n[i] + k])
        return torch.tensor(chosen, device=model.device)

    def at_work(texts: Texts) -> Iterator[tuple[int, Generated]]:
        if not seated:
            return _continue(reader, texts, range(len(n)), batch_size=3)
        seats = Seats(model, reader.steered, follow, set(), n=3, columns=max(map(len, plain)))
        seats.recordable = False
        return _in_seats(reader, texts, range(len(n)), seats)

    reader = Reader(model, Steered(model, [()] * len(n), n), False, batching)
    keys = torch.tensor([[i, 1] for i in range(len(n))], dtype=torch.int32, device=model.device)
    list(at_work(Texts(model, [t[:k] for t, k in zip(texts, n, strict=True)], room, follow, keys)))
    rounding = 5 * LOGIT_TOLERANCE.get(model.dtype, 1e-2)  # other shapes of matrices round more than hooks do
    return all(far <= rounding for far in off)


def _seated(model: Model, batching: Batching) -> bool:
    """Whether rows are written in seats: on a GPU, where that gives the logits of the plain model."""
    if model.device.type not in SEATED or batching is Batching.UNCACHED:
        return False
    if model.sits is None:
        model.sits = False
        together = model.varying is None and not hasattr(model.hf, "hf_device_map")
        if together and batching is Batching.JOINED:
            with model.only_hooked(deaf=True), suppress(*RAISED):
                model.sits = _proven(model, batching, seated=True)
        model.notes += [] if model.sits else ["no step of its writing can be recorded and replayed on a GPU"]
    return model.sits


def end_tokens(model: Model) -> set[int]:
    """The ids that end a text: the model's and the tokenizer's."""
    of_model = getattr(model.hf.generation_config, "eos_token_id", None)
    ids = of_model if isinstance(of_model, list) else [of_model]
    return {int(i) for i in (*ids, model.tokenizer.eos_token_id) if i is not None}


class Texts:
    """Texts being written, by index, and when they end."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Ids],
        room: Sequence[int],
        pick: Pick,
        keys: Int[Tensor, "row 2"],
        until: Callable[[int, Ids], bool] | None = None,
    ) -> None:
        self.prompts, self.room, self.pick, self.keys, self.until = list(prompts), list(room), pick, keys, until
        self.ends, self.tokenizer = end_tokens(model), model.tokenizer
        self.texts: list[list[int]] = [[] for _ in prompts]

    def first(self, rows: Rows, steered: Steered) -> list[int]:
        """The next token of each row, as `took` takes it."""
        index = torch.tensor(rows.index, device=rows.logits.device)
        written = torch.tensor([len(self.texts[i]) for i in rows.index], device=index.device)
        chosen = self.chosen(rows.logits, index, written)
        likely = rows.logits.gather(1, chosen[:, None])[:, 0].isfinite()  # NaN always is what gets chosen
        tokens: list[int] = torch.where(likely & ~steered.overflowed[index], chosen, OVERFLOWED).tolist()
        return tokens

    def chosen(self, logits: Tensor, index: Int[Tensor, " row"], written: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        return self.pick(logits, self.keys[index], written)

    def took(self, i: int, token: int) -> Generated | None:
        """Take the next token of a text; the whole text if it ends."""
        text = self.texts[i]
        if token == OVERFLOWED:
            return Generated(text, len(text), False, finite=False, tokenizer=self.tokenizer)
        text.append(token)
        if token in self.ends:
            return Generated(text[:-1], len(text), True, token, tokenizer=self.tokenizer)
        stopped = self.until is not None and self.until(i, text)
        if stopped or len(text) == self.room[i]:
            return Generated(text, len(text), stopped, tokenizer=self.tokenizer)
        return None


def _continue(reader: Reader, texts: Texts, order: Sequence[int], batch_size: int) -> Iterator[tuple[int, Generated]]:
    """Continue the prompts in `order`; yields each with its index as it ends. Others join when a quarter has ended."""
    joining = reader.batching is Batching.JOINED and not reader.whole
    waiting, live = list(order), None
    reader.open(order, texts.prompts)
    while waiting or live is not None:
        if waiting and (live is None or (joining and 4 * len(live.index) <= 3 * batch_size)):
            free = batch_size - (0 if live is None else len(live.index))
            free = min(free, reader.most(texts.prompts[i] for i in waiting))
            new, waiting = waiting[:free], waiting[free:]
            fresh = reader.prompts(new, [texts.prompts[i] for i in new])
            live = fresh if live is None else live.joined(fresh)
        assert live is not None
        ended, live = stepped(reader, texts, live)
        yield from ended


def stepped(reader: Reader, texts: Texts, live: Rows) -> tuple[list[tuple[int, Generated]], Rows | None]:
    """Write one token of each row; those that end, and the others having read it."""
    ended, stay = [], []
    for place, (i, token) in enumerate(zip(live.index, texts.first(live, reader.steered), strict=True)):
        if generated := texts.took(i, token):
            ended.append((i, generated))
        else:
            stay.append(place)
            reader.steered.wrote(i, texts.prompts[i], texts.texts[i])
    if not stay:
        return ended, None
    left, last = set(stay), (place for place in stay if place >= len(stay))  # who fill the gaps of the ended
    stay = [place if place in left else next(last) for place in range(len(stay))]
    live = live.chosen(stay, [live.index[place] for place in stay])
    return ended, reader.read(live.index, [texts.texts[i][-1:] for i in live.index], live)


def _in_seats(reader: Reader, texts: Texts, order: Sequence[int], seats: Seats) -> Iterator[tuple[int, Generated]]:
    """Continue the prompts in `order`, as `_continue` does, in seats; several tokens each before it looks at them."""
    waiting, sitting = list(order), dict[int, int]()
    prompts, steered = texts.prompts, reader.steered
    turns = 1 if texts.until or steered.follows else TURNS
    reader.open(order, prompts)
    while waiting or sitting:
        if waiting and 4 * len(sitting) <= 3 * seats.n:
            free = [seat for seat in range(seats.n) if seat not in sitting]
            new, waiting = waiting[: len(free)], waiting[len(free) :]
            fresh, stay = reader.prompts(new, [prompts[i] for i in new]), []
            for place, (i, token) in enumerate(zip(new, texts.first(fresh, steered), strict=True)):
                if generated := texts.took(i, token):
                    yield i, generated
                else:
                    stay.append(place)
            if stay:
                taken = dict(zip(free, (new[place] for place in stay), strict=False))
                read, room = [texts.texts[i][-1] for i in taken.values()], [texts.room[i] for i in taken.values()]
                seats.enter([*taken], fresh, stay, read, texts.keys, room)
                sitting |= taken
                for seat, i in taken.items():
                    steered.wrote(i, prompts[i], texts.texts[i], (seats.steered, seat))
            continue
        size = next(size for size in sizes(seats.n) if size >= len(sitting))
        if outside := [seat for seat in sitting if seat >= size]:
            free = [seat for seat in range(size) if seat not in sitting][: len(outside)]
            seats.move(outside, free)
            sitting |= {to: sitting.pop(seat) for seat, to in zip(outside, free, strict=True)}
        n_turns = min(turns, max(texts.room[i] - len(texts.texts[i]) for i in sitting.values()))
        longest = max(len(prompts[i]) + len(texts.texts[i]) for i in sitting.values())
        gone = []
        for tokens in seats.write(size, longest + n_turns - 1, n_turns):
            for seat, i in list(sitting.items()):
                if generated := texts.took(i, tokens[seat]):
                    yield i, generated
                    gone.append(seat)
                    del sitting[seat]
                else:
                    steered.wrote(i, prompts[i], texts.texts[i], (seats.steered, seat))
        if gone and texts.until:
            seats.leave(gone)
