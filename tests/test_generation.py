"""Batches, cache and hooks change how fast text is made, never which text."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_hf, make_tokenizer

from interp.directions.directions import Direction
from interp.generation.sampling import end_tokens, generate
from interp.models.model import Model, wrap
from interp.steering.steering import add

ARCHITECTURES = ("llama", "qwen2", "mistral")


@cache
def sharp(architecture: str, **changes: Any) -> Model:
    """A model with random weights that is as sure of its words as a trained one, and ends some texts."""
    sizes = {"vocabulary": 64, "n_layers": 2, "max_position_embeddings": 200, **changes}
    if architecture == "mistral":
        sizes |= {"sliding_window": 24}
    hf = make_hf(architecture, **sizes)
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    hf.generation_config.eos_token_id = [1, 2]
    return wrap(hf, make_tokenizer("bytes"), {"name": architecture})


def prompts(n: int) -> list[list[int]]:
    rng = random.Random(n)
    return [[rng.randrange(5, 64) for _ in range(rng.randint(1, 60))] for _ in range(n)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("way", [{}, {"temperature": 0.8, "top_p": 0.9}])
def test_a_batch_gives_the_same_tokens_as_one_at_a_time(architecture: str, way: dict[str, float]) -> None:
    model, asked = sharp(architecture), prompts(10)
    alone = [generate(model, [p], max_new_tokens=32, seeds=[i], **way)[0] for i, p in enumerate(asked)]
    assert generate(model, asked, max_new_tokens=32, batch_size=6, **way) == alone
    backwards = generate(model, asked[::-1], max_new_tokens=32, batch_size=4, seeds=range(9, -1, -1), **way)
    assert backwards[::-1] == alone
    assert len({tuple(g.ids) for g in alone}) == 10
    assert 0 < sum(g.ended for g in alone) < 10, "some rows leave their batch early, some never"
    for g in alone:
        assert not end_tokens(model) & set(g.ids)
        assert g.n_tokens == len(g.ids) + g.ended <= 32


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_prompts_share_is_read_once_and_changes_nothing(architecture: str) -> None:
    model, shared = sharp(architecture), prompts(1)[0][:1] * 3 + prompts(7)[3][:40]
    asked = [shared + own for own in ([], [9], *prompts(6))]
    alone = [generate(model, [p], max_new_tokens=24)[0] for p in asked]
    n_read: list[int] = []

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        n_read.append(kwargs["input_ids"].numel())

    handle = model.hf.register_forward_pre_hook(count, with_kwargs=True)
    together = generate(model, asked, max_new_tokens=24)
    handle.remove()
    assert together == alone
    widest = max(map(len, asked))
    if architecture == "mistral":  # its window
        assert n_read[0] == len(asked) * widest
    else:
        n_shared = len(shared) - 1  # the first has nothing of its own: it keeps the last token
        assert n_read[:2] == [n_shared, len(asked) * (widest - n_shared)]
    assert generate(model, [shared] * 3, max_new_tokens=24) == [alone[0]] * 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_tokens_are_those_of_the_plain_model_without_a_cache(architecture: str) -> None:
    model = sharp(architecture)
    for prompt in prompts(4):
        [generated] = generate(model, [prompt], max_new_tokens=30)
        ids = list(prompt)
        with torch.no_grad(), model.only_hooked():
            for token in generated.ids:
                assert int(model.hf(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()) == token
                ids.append(token)


def test_draws_follow_the_probabilities_and_the_seeds() -> None:
    model = sharp("llama")
    prompt = prompts(1)[0]
    with torch.no_grad(), model.only_hooked():
        likely = (model.hf(torch.tensor([prompt])).logits[0, -1] / 2).softmax(-1)
    n = 600

    def draw(seeds: range, **way: float) -> Counter[int]:
        drawn = generate(model, [prompt] * n, max_new_tokens=1, temperature=2.0, seeds=seeds, batch_size=n, **way)
        return Counter((*g.ids, -1)[0] for g in drawn)

    counts = draw(range(n))
    assert draw(range(n)) == counts != draw(range(n, 2 * n))
    for token in set(likely.topk(6).indices.tolist()) - end_tokens(model):
        expected = float(likely[token])
        assert abs(counts[token] / n - expected) < 4 * (expected * (1 - expected) / n) ** 0.5 + 1e-9
    nucleus = draw(range(n), top_p=0.5)
    ordered = likely.sort(descending=True)
    allowed = int((ordered.values.cumsum(0) < 0.5).sum()) + 1
    assert set(nucleus) - {-1} <= set(ordered.indices[:allowed].tolist())


def test_the_context_is_a_limit() -> None:
    model = sharp("llama")
    asked = [[5] * 190, [5] * 200, [5] * 300, [5, 6]]
    near, full, over, short = generate(model, asked, max_new_tokens=50)
    assert near.n_tokens <= 10
    assert full.n_tokens == over.n_tokens == 0
    assert full.ids == over.ids == []
    assert not full.ended
    assert short.n_tokens > 0
    assert generate(model, [], max_new_tokens=5) == []


def test_hooks_steer_while_text_is_made_and_are_gone_after() -> None:
    model, asked = sharp("llama"), prompts(6)
    plain = generate(model, asked, max_new_tokens=20)
    name = model.hook_name("resid_post", 1)
    seen: list[tuple[int, ...]] = []

    def watch(value: torch.Tensor, hook: Any) -> None:
        seen.append(tuple(value.shape))

    def push(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value + 5 * value.norm(dim=-1, keepdim=True) / value.shape[-1] ** 0.5

    assert generate(model, asked, max_new_tokens=20, hooks=[(name, watch)]) == plain
    assert seen[0] == (6, max(map(len, asked)), model.d_model)
    assert all(shape[1] == 1 for shape in seen[1:])
    steered = generate(model, asked, max_new_tokens=20, hooks=[(name, push)])
    assert steered != plain
    assert steered == [generate(model, [p], max_new_tokens=20, hooks=[(name, push)])[0] for p in asked]
    n_seen = len(seen)
    assert generate(model, asked, max_new_tokens=20) == plain
    assert len(seen) == n_seen


def test_all_end_tokens_count() -> None:
    model = sharp("qwen2")
    assert end_tokens(model) == {1, 2}
    model.hf.generation_config.eos_token_id = [5, 7]
    try:
        assert end_tokens(model) == {1, 5, 7}
    finally:
        model.hf.generation_config.eos_token_id = [1, 2]


def test_a_text_ends_where_it_is_told_to_in_a_batch_as_alone() -> None:
    model, asked = sharp("llama"), prompts(10)
    whole = [g.ids for g in generate(model, asked, max_new_tokens=24, batch_size=4)]
    told = {i: ids[min(i, len(ids) - 1)] for i, ids in enumerate(whole) if ids}
    out = generate(model, asked, max_new_tokens=24, batch_size=4, until=lambda i, text: text[-1] == told[i])
    for i, g in enumerate(out):
        if i in told:
            assert g.ids == whole[i][: whole[i].index(told[i]) + 1]
            assert g.ended
            assert g.n_tokens == len(g.ids)
    assert len({g.n_tokens for g in out}) > 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tokens", ["generated", "writing"])
def test_many_directions_on_a_few_prompts_read_each_prompt_once(architecture: str, tokens: str) -> None:
    model, n = sharp(architecture), 36
    rng = np.random.default_rng(0)
    ways = [Direction(v, "d", 1, model.hook_name("resid_post", 1)) for v in rng.standard_normal((n, model.d_model))]
    longest = sorted((p for p in prompts(20) if len(p) > 30), key=len)[-2:]
    asked = [prompt for prompt in longest for _ in ways]
    steering = [add(way.unit, 20.0, units="unit", tokens=tokens) for _ in longest for way in ways]
    alone = [generate(model, [p], max_new_tokens=9, steering=[s])[0] for p, s in zip(asked, steering, strict=True)]
    assert len({tuple(g.ids) for g in alone}) > n, "directions differ in what they do"
    n_read = [0]

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        n_read[0] += kwargs["input_ids"].numel()

    handle = model.hf.register_forward_pre_hook(count, with_kwargs=True)
    assert generate(model, asked, max_new_tokens=9, batch_size=8, steering=steering) == alone
    handle.remove()
    if architecture != "mistral":  # its window
        most = 3 * sum(map(len, longest)) + len(asked) + sum(g.n_tokens for g in alone)  # those of two prompts: again
        assert n_read[0] <= most < sum(map(len, asked)) / 2
