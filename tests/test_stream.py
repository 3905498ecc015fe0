"""Texts that join and leave while others are written are those that `generate` writes of each alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from test_generation import prompts, sharp

from interp.directions.directions import Direction
from interp.generation.drawing import Drawing
from interp.generation.rows import Ids
from interp.generation.sampling import Generated, generate
from interp.generation.stream import PIECE, Asked, streaming
from interp.models.model import Model
from interp.steering.steering import Steering, ablate, add, clamp, gate

ARCHITECTURES = ("llama", "qwen2", "mistral")


@dataclass(eq=False)
class Told(Asked):
    """One that tells how much was written, and ends after so many tokens."""

    ends: int = 99
    told: list[int] = field(default_factory=list)

    def until(self, text: Ids) -> bool:
        self.told.append(len(text))
        return len(text) == self.ends


def steerings(model: Model) -> list[Steering]:
    rng = np.random.default_rng(0)
    a, b = (
        Direction(rng.standard_normal(model.d_model), f"agent {k}", k - 1, f"blocks.{k - 1}.hook_resid_post", 4.0)
        for k in (1, 2)
    )
    gated = add(b, 0.5, tokens="everywhere", when=gate(a, 0.1), keep_norm=True)
    others = [add(a, 0.5), add(b, -0.5, tokens="prompt") + ablate(a), clamp(b, 0.3, tokens="everywhere")]
    return [Steering(), *others, gated]


def lasting(model: Model) -> list[list[int]]:
    """Prompts of texts that go on."""
    return [prompt for prompt in prompts(20) if generate(model, [prompt], max_new_tokens=30)[0].n_tokens == 30]


def written(model: Model, n: int, arrivals: Sequence[tuple[int, Asked]]) -> tuple[list[Generated], list[int]]:
    """The texts of rows that come at these steps as soon as there is room, and how many were written at each step."""
    waiting, done, at_once = list(arrivals), dict[Asked, Generated](), list[int]()
    with streaming(model, n) as stream:
        while waiting or len(done) < len(arrivals):
            now = [asked for at, asked in waiting if at <= len(at_once)][: len(stream.free)]
            waiting = [(at, asked) for at, asked in waiting if asked not in now]
            if now:
                stream.enter(now)
            done |= stream.step()
            at_once.append(n - len(stream.free))
    return [done[asked] for _, asked in arrivals], at_once


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_text_is_that_which_is_written_alone(architecture: str) -> None:
    model, rng, ways = sharp(architecture), random.Random(1), [(0.0, 1.0), (0.8, 0.9), (1.2, 1.0)]
    each = steerings(model)
    arrivals, alone = [], []
    for k, prompt in enumerate(prompts(24)):
        (temperature, top_p), room, steering = ways[k % 3], rng.randint(1, 40), each[k % 5]
        drawing = Drawing(temperature, top_p)
        arrivals.append((rng.randint(0, 60), Asked(prompt, room, steering.changes, drawing, k)))
        how = {"max_new_tokens": room, "temperature": temperature, "top_p": top_p, "seeds": [k]}
        alone += generate(model, [prompt], steering=steering, **how)
    texts, at_once = written(model, 5, arrivals)
    assert texts == alone
    assert max(at_once) == 5
    assert len({tuple(text.ids) for text in alone}) > 18
    always = Steering(tuple(replace(change, gate=None) for change in each[4].changes))
    gated, steered = (generate(model, prompts(24), max_new_tokens=12, steering=one) for one in (each[4], always))
    assert gated != steered


def test_a_text_that_is_stopped_makes_room_and_a_long_prompt_holds_nobody_up() -> None:
    model = sharp("llama", max_position_embeddings=2048)
    greedy, rng = Drawing(0.0, 1.0), random.Random(3)
    long = [rng.randrange(5, 64) for _ in range(5 * PIECE + 7)]
    first, stopped = lasting(model)[:2]
    asked = [
        (0, Told(first, 30, (), greedy, 0)),
        (0, Told(stopped, 30, (), greedy, 0, ends=4)),
        (2, Asked(long, 5, (), greedy, 0)),
        (2, Asked(stopped, 3, (), greedy, 0)),
    ]
    texts, at_once = written(model, 3, asked)
    whole = generate(model, [first, stopped, long, stopped], max_new_tokens=30)
    n = [len(whole[0].ids), 4, 5, 3]
    assert [text.ids for text in texts] == [w.ids[:k] for w, k in zip(whole, n, strict=True)]
    assert isinstance(asked[0][1], Told)
    assert asked[0][1].told == list(range(1, 31)), "while the long prompt was read, the first text got its tokens"
    assert at_once[1] == 2
    assert at_once[2] == 3
    assert len(at_once) == 30, "the long prompt was read and continued meanwhile"


def test_columns_that_nobody_needs_any_more_are_let_go() -> None:
    model = sharp("llama", max_position_embeddings=2048)
    greedy, [prompt] = Drawing(0.0, 1.0), prompts(1)
    with streaming(model, 2) as stream:
        widest = 0
        for k in range(400):
            if stream.free and k % 20 == 0:
                stream.enter([Asked(prompt[: 1 + k % 7], 30, (), greedy, k)])
            list(stream.step())
            widest = max([widest, *(rows.mask.shape[1] for _, rows in stream.live)])
    assert widest < 2 * (7 + 30)


def test_a_text_under_way_is_steered_no_further_by_one_that_joins() -> None:
    model = sharp("llama")
    shake, [first, other] = steerings(model)[1], lasting(model)[:2]
    with streaming(model, 2) as stream:
        stream.enter([Asked(first, 12, (), Drawing(0.0, 1.0), 0)])
        list(stream.step())
        stream.enter([Asked(other, 12, shake.changes, Drawing(0.0, 1.0), 0)])
        stream.steered.paused, ids = True, torch.tensor([first])
        unsteered = model.hf(ids).logits
        stream.steered.paused = False
        done = dict(pair for _ in range(14) for pair in stream.step())
    torch.testing.assert_close(unsteered, model.hf(ids).logits, rtol=1e-4, atol=1e-4)
    assert [text.ids for text in done.values()] == [
        generate(model, [first], max_new_tokens=12)[0].ids,
        generate(model, [other], max_new_tokens=12, steering=shake)[0].ids,
    ]
