"""An agent behind a memory is asked nothing twice, not even by the run after a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from interp.debate.agents import Answer, Keep, Request
from interp.debate.memory import Memory
from interp.debate.personas import PERSONAS
from interp.debate.protocol import debates
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.storage.journal import Lines

TASK = Arithmetic()


class Killed(Exception):  # noqa: N818 - not an error
    """Stands for a kill."""


class Counting:
    """Counts what it is asked, and is killed after a number of answers."""

    def __init__(self, persona: str, asked: Counter[tuple[str, Request]], life: list[int]) -> None:
        self.agent = ScriptedAgent(PERSONAS[persona], 0.4, seed=3)
        self.asked, self.life = asked, life

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
        for index, request in enumerate(requests):
            if not self.life[0]:
                raise Killed
            self.life[0] -= 1
            self.asked[self.persona.name, request] += 1
            keep(index, *self.agent.answer([request]))
        return self.agent.answer(requests)


def test_a_run_killed_again_and_again_asks_everything_once(tmp_path: Path) -> None:
    questions = TASK.questions(9, seed=1)
    whole = list(debates(questions, [ScriptedAgent(p, 0.4, seed=3) for p in PERSONAS.values()], task=TASK, chunk=4))
    asked: Counter[tuple[str, Request]] = Counter()
    finished: list[Any] = []
    n_kills = 0
    while len(finished) < len(questions):
        lines = Lines(tmp_path / "answers.jsonl")
        memory = Memory(lines)
        life = [7]
        agents = memory.agents([Counting(name, asked, life) for name in PERSONAS])
        try:
            finished += debates(questions[len(finished) :], agents, task=TASK, start=len(finished), chunk=4)
        except Killed:
            n_kills += 1
        lines.close()
    assert n_kills > 3
    assert finished == whole
    assert set(asked.values()) == {1}
    assert sum(asked.values()) == sum(d.usage.calls for d in whole)


def test_runs_and_seats_have_answers_of_their_own(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "answers.jsonl")
    agent = ScriptedAgent(PERSONAS["self-critique"], 0.4, seed=3)
    request = Request("1+2*3+4-5*6", 1)
    Memory(lines).agents([agent, agent])[0].answer([request])
    lines.close()
    asked: Counter[Any] = Counter()
    again = Memory(Lines(tmp_path / "answers.jsonl"))
    for index, run, times in ((0, 0, 0), (1, 0, 1), (0, 1, 2)):
        counting = [Counting("self-critique", asked, [9])] * 2
        assert again.agents(counting, run)[index].answer([request]) == agent.answer([request])
        assert sum(asked.values()) == times


def test_a_failure_is_remembered_like_any_answer_unless_it_is_to_be_tried_again(tmp_path: Path) -> None:
    failed = Answer("", 3, 0, "timeout", "no answer within 2 s", ("status 503", "timeout"), True, True)

    class Failing(Counting):
        def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
            super().answer(requests)
            return [failed] * len(requests)

    request = Request("1+2*3+4-5*6", 2, 2, own="3", others=((1, "4"),))
    for life in (1, 0):
        lines = Lines(tmp_path / "answers.jsonl")
        agent = Failing("self-critique", Counter(), [life])
        assert Memory(lines).agents([agent])[0].answer([request]) == [failed]
        lines.close()
    with pytest.raises(Killed):
        Memory(Lines(tmp_path / "answers.jsonl"), retry=True).agents([agent])[0].answer([request])
