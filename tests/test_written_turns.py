"""Steering the turns of an agent while the model itself writes them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from test_steered import direction, prompts, sharp

from interp.debate.embedded import read_embedded
from interp.debate.transcript import speaking
from interp.errors import UserError
from interp.generation.cache import Batching
from interp.generation.sampling import generate
from interp.steering.changes import Ranges, WrittenTurns
from interp.steering.steering import Steering, add


class Debating:
    """A tokenizer in which one token in four is a tag: what a model with random weights writes becomes a debate."""

    tags = ("<|Agent 1 Solution|>", "<|Agent 2 Solution|>", "<|Round 2 - Revision|>", "<|Agent 2 Revision|>")

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.tags[i // 8 % 4] if i % 8 == 0 else f" w{i}" for i in ids)


def spoken_at(ids: Sequence[int], n_prompt: int, agent: int) -> Ranges:
    """The places of an agent's words behind the prompt, found in the finished text."""
    inside, found = False, []
    for place, i in enumerate(ids):
        if i % 8 == 0:
            inside = (1, 2, None, 2)[i // 8 % 4] == agent
        elif inside and place >= n_prompt:
            found.append((place, place + 1))
    return Ranges(tuple(found))


def test_it_is_the_steering_of_the_same_tokens_known_beforehand() -> None:
    model, asked = sharp(), prompts(12)
    vector = direction(7, length=12.0)
    live = add(vector, 1.0, tokens=WrittenTurns(Debating(), 2))
    plain = [g.ids for g in generate(model, asked, max_new_tokens=24)]
    steered = [g.ids for g in generate(model, asked, max_new_tokens=24, steering=live)]
    assert sum(a != b for a, b in zip(plain, steered, strict=True)) > 3
    for prompt, text in zip(asked, steered, strict=True):
        known = add(vector, 1.0, tokens=spoken_at([*prompt, *text], len(prompt), 2))
        [again] = generate(model, [prompt], max_new_tokens=24, steering=known)
        assert again.ids == text
    mixed = [live if i % 2 else Steering() for i in range(len(asked))]
    rows = [g.ids for g in generate(model, asked, max_new_tokens=24, steering=mixed, batch_size=5)]
    assert rows == [s if i % 2 else p for i, (p, s) in enumerate(zip(plain, steered, strict=True))]
    with live.on(model):
        assert [g.ids for g in generate(model, asked, max_new_tokens=24)] == steered
    batching = model.batching
    try:
        for model.batching in Batching:  # even where the whole text is read again for each token
            assert [g.ids for g in generate(model, asked[:6], max_new_tokens=24, steering=live)] == steered[:6]
    finally:
        model.batching = batching


def test_a_round_can_be_chosen() -> None:
    turns = WrittenTurns(Debating(), 2, 2)
    assert not turns.holds([8, 9]), "agent 2 in round 1"
    assert turns.holds([8, 9, 16, 24, 9])
    assert not turns.holds([8, 9, 16, 24]), "only the tag"
    assert not turns.holds([8, 9, 16, 0, 9]), "agent 1"
    assert add(direction(0), 1, tokens=turns).facts[0]["tokens"] == {"agent": 2, "round": 2}


def test_other_ways_to_generate_say_that_they_cannot() -> None:
    with (
        add(direction(0), 1, tokens=WrittenTurns(Debating(), 1)).on(sharp()),
        pytest.raises(UserError, match=r"use interp\.generate"),
    ):
        sharp().hf(input_ids=torch.tensor([[5, 6]]))


def test_who_is_speaking_as_a_debate_is_written() -> None:
    debate = read_embedded("scripted")[0]
    text = debate.render()
    for turn in debate.turns:
        begin = text.index(turn.text)
        for end in (begin + 1, begin + len(turn.text) // 2, begin + len(turn.text)):
            assert speaking(text[:end]) == (turn.agent, turn.round)
        assert speaking(text[:begin]) is None
        assert speaking(text[: begin + len(turn.text)] + "\n\n<|Agen") is None
    assert speaking(text) is None
    assert speaking("") is None
