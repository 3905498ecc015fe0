"""Prompts as tokens → text as tokens, in batches, with a KV cache.

Knows a model; knows nothing about agents, chats or what the tokens say. What a prompt is answered
with does not depend on the prompts beside it, up to the rounding of the model's arithmetic: positions
count from each prompt's own first token, and each sampled row has random numbers of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models import Model

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


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
    batch_size: int = 16,
    hooks: Sequence[tuple[str, Hook]] = (),
    received: Callable[[int, Generated], None] = lambda *_: None,
) -> list[Generated]:
    """Continue every prompt (token ids, at least one); the results are in the order of the prompts.

    Prompts of like length share a batch of at most `batch_size`; a row that ends leaves its batch, so
    the others go on without it. A text ends with one of the model's end tokens, after
    `max_new_tokens`, or where the context is full; a prompt that fills the context gets no tokens.
    With a temperature above 0, tokens are drawn from the smallest set whose probability reaches
    `top_p`, and `seeds[i]` (by default i) with prompt i fixes what is drawn.

    Only the hook points named in `hooks`, pairs of a name and a function (value, hook) → new value or
    None, are live; without any, the plain model runs. `received` is called with the index of each prompt
    and what was written after it, as soon as its batch is through.
    """
    room = [max_new_tokens] * len(prompts)
    if model.context_length is not None:
        room = [max(0, min(max_new_tokens, model.context_length - len(prompt))) for prompt in prompts]
    seeds = range(len(prompts)) if seeds is None else seeds
    order = sorted((i for i in range(len(prompts)) if room[i]), key=lambda i: len(prompts[i]), reverse=True)
    # Hooks are to see every row's own prompt. A window counts the padding between what is shared and the rest.
    sharing = not hooks and getattr(model.hf.config, "sliding_window", None) is None
    written = [Generated([], 0, False)] * len(prompts)
    for i in set(range(len(prompts))) - set(order):
        received(i, written[i])
    with (
        torch.inference_mode(),
        model.bridge.hooks(fwd_hooks=list(hooks)),
        model.only_hooks([name for name, _ in hooks]),
    ):
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            pick = _Pick(model, temperature, top_p, [seeds[i] for i in batch])
            n_shared = _n_shared([prompts[i] for i in batch]) if sharing else 0
            rows = _continue(model, [prompts[i] for i in batch], n_shared, [room[i] for i in batch], pick)
            for i, generated in zip(batch, rows, strict=True):
                written[i] = generated
                received(i, generated)
    return written


def end_tokens(model: Model) -> set[int]:
    """The ids that end a text: the model's, of which there may be several, and the tokenizer's."""
    of_model = getattr(model.hf.generation_config, "eos_token_id", None)
    ids = of_model if isinstance(of_model, list) else [of_model]
    return {int(i) for i in (*ids, model.tokenizer.eos_token_id) if i is not None}


def _n_shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, such as a persona's; each keeps at least one of its own."""
    longest = min(map(len, prompts)) - 1 if len(prompts) > 1 else 0
    first, last = min(prompts), max(prompts)  # what these two share, all between them share
    return next((i for i in range(longest) if first[i] != last[i]), longest)


def _continue(
    model: Model,
    prompts: Sequence[Sequence[int]],
    n_shared: int,
    room: Sequence[int],
    pick: Callable[..., Tensor],
) -> list[Generated]:
    """Continue the rows of one batch; what they share at the beginning is read once."""
    ends = end_tokens(model)
    last_only = {"logits_to_keep": 1} if model.hf._supports_logits_to_keep() else {}
    cache: Any = None
    if n_shared:
        shared = torch.tensor([prompts[0][:n_shared]], device=model.device)
        cache = model.hf(input_ids=shared, use_cache=True, **last_only).past_key_values
        cache.batch_repeat_interleave(len(prompts))
    own = [list(prompt[n_shared:]) for prompt in prompts]
    width = max(map(len, own))
    mask = torch.tensor([[1] * n_shared + [0] * (width - len(o)) + [1] * len(o) for o in own], device=model.device)
    # What stands in the padding is masked out; any id will do.
    ids = torch.tensor([[0] * (width - len(o)) + o for o in own], device=model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, n_shared:]
    written: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    live = list(range(len(prompts)))
    while True:
        out = model.hf(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **last_only,
        )
        cache = out.past_key_values
        chosen = pick(out.logits[:, -1].float(), live)
        for row, token in zip(live, chosen.tolist(), strict=True):
            written[row].append(token)
            ended[row] = token in ends
        stay = [k for k, row in enumerate(live) if not ended[row] and len(written[row]) < room[row]]
        if not stay:
            break
        if len(stay) < len(live):
            live = [live[k] for k in stay]
            index = torch.tensor(stay, device=model.device)
            cache.batch_select_indices(index)
            chosen, mask, positions = chosen[index], mask[index], positions[index]
        ids = chosen[:, None]
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        positions = positions[:, -1:] + 1
    return [
        Generated(tokens[:-1], len(tokens), True, tokens[-1]) if end else Generated(tokens, len(tokens), False)
        for tokens, end in zip(written, ended, strict=True)
    ]


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
