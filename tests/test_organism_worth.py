"""What debate is worth: answers counted by hand, and the paired test against known values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import make_hf

import interp.organism.worth as worth
from interp.debate.agents import Answer, Request
from interp.debate.personas import Persona
from interp.models import wrap
from interp.organism.language import make_tokenizer
from interp.organism.questions import SmallArithmetic
from interp.organism.worth import Answered, answer_all, mcnemar, table

TASK = SmallArithmetic(split="validation")


class Scripted:
    """Right in round 2 and as self-critique; plainly right on even questions; else one off, each in its own way."""

    def __init__(self, persona: Persona, *_: Any) -> None:
        self.persona = persona
        self.facts: dict[str, Any] = {}

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        off = {"plain": 0, "chain-of-thought": 1, "self-critique": 0, "program-of-thought": 2}[self.persona.name]
        said = []
        for request in requests:
            value = eval(request.question)
            odd = int(re.findall("[0-9]", request.question)[0]) % 2
            value += off if request.round == 1 else 0
            value += odd if self.persona.name == "plain" else 0
            said.append(Answer(rf"\boxed{{{value}}}", 10 * request.round, 4))
        return said


def test_ways_of_answering_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worth, "LocalAgent", Scripted)
    questions = TASK.questions(40, 0)
    found = answer_all(None, questions, TASK)  # type: ignore[arg-type]
    assert list(found) == ["single", "chain-of-thought", "self-critique", "program-of-thought", "vote", "debate"]
    even = sum(int(q.text[0]) % 2 == 0 for q in questions)
    assert [a.accuracy for a in found.values()] == [even / 40, 0, 1, 0, 0, 1]
    assert [a.output_tokens for a in found.values()] == [4, 4, 4, 4, 12, 24]
    assert [a.input_tokens for a in found.values()] == [10, 10, 10, 10, 30, 90]
    rows = {row["method"]: row for row in table(found)}
    assert rows["single"]["debate_only"] == 40 - even
    assert rows["vote"]["p_value"] == pytest.approx(2 * 0.5**40)
    assert "p_value" not in rows["debate"]
    assert rows["debate"]["interval"][0] == pytest.approx(0.9124, abs=1e-4)


def test_the_paired_test() -> None:
    # of 10 questions that one alone gets right, 9 to 1: 2 (1 + 10) / 2^10
    first = [True] * 9 + [False] + [True] * 5
    second = [False] * 9 + [True] + [True] * 5
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (9, 1)
    assert found.p_value == pytest.approx(22 / 1024)
    assert mcnemar(first, first).p_value == 1.0


def test_a_model_that_knows_nothing_is_never_right() -> None:
    tokenizer = make_tokenizer()
    model = wrap(make_hf("llama", vocabulary=len(tokenizer), eos_token_id=2, bos_token_id=1), tokenizer)
    found = answer_all(model, TASK.questions(2, 0), TASK, sampling=worth.Sampling(max_new_tokens=3))
    assert all(isinstance(a, Answered) and a.accuracy == 0 for a in found.values())
    assert found["debate"].usage.calls == 12
    assert found["vote"].input_tokens == 45
