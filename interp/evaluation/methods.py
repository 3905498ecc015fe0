"""Ways to get one answer to a question, from one agent or from several.

Knows who is asked what and how the answers become one; knows nothing about grading or files. Each
method takes questions and yields an outcome for each, in order, as they finish; the questions are
worked on `chunk` at a time, which changes nothing in the outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from interp.debate.agents import Agent, Answer, Request, Usage
from interp.debate.protocol import debates, plurality
from interp.debate.tasks.task import Question, Task
from interp.errors import UserError

Turns = Callable[[int, int], None]
"""Called with the number of texts written so far and the number expected."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a method answers to a question (None where it comes to no answer), and what that took."""

    question: Question
    answer: str | None
    usage: Usage
    said: dict[str, Any]
    """What the agents wrote: `texts`, or the record of a debate."""


class Method(Protocol):
    """Something that answers questions; `start` questions of the same run were answered before."""

    @property
    def facts(self) -> dict[str, Any]:
        """Its settings, as JSON takes them."""
        ...

    def __call__(
        self, questions: Sequence[Question], agents: Sequence[Agent], *, task: Task, start: int, turns: Turns
    ) -> Iterator[Answered]: ...


@dataclass(frozen=True)
class Vote:
    """Every agent answers once, alone, and most votes win; a tie goes to the answer given first.

    With one agent this is a single model's single answer.
    """

    chunk: int = 16

    @property
    def facts(self) -> dict[str, Any]:
        return {}

    def __call__(
        self, questions: Sequence[Question], agents: Sequence[Agent], *, task: Task, start: int, turns: Turns
    ) -> Iterator[Answered]:
        n_written, n_expected = 0, len(questions) * len(agents)
        for first in range(0, len(questions), self.chunk):
            asked = questions[first : first + self.chunk]
            by_agent: list[list[Answer]] = []
            for seat, agent in enumerate(agents, start=1):
                by_agent.append(agent.answer([Request(q.text, seat, instruction=task.instruction) for q in asked]))
                n_written += len(asked)
                turns(n_written, n_expected)
            for question, answers in zip(asked, zip(*by_agent, strict=True), strict=True):
                texts = [answer.text for answer in answers]
                voted = plurality([task.answer(text) for text in texts], task.grade)
                yield Answered(question, voted, Usage.of(answers), {"texts": texts})


@dataclass(frozen=True)
class Debates:
    """Explicit debate (Latent Agents, section 3): the answer is the consensus, where there is one."""

    rounds: int = 2
    rotate: bool = False
    chunk: int = 16

    @property
    def facts(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "rotate": self.rotate}

    def __call__(
        self, questions: Sequence[Question], agents: Sequence[Agent], *, task: Task, start: int, turns: Turns
    ) -> Iterator[Answered]:
        finished = debates(
            questions,
            agents,
            task=task,
            rounds=self.rounds,
            rotate=self.rotate,
            start=start,
            chunk=self.chunk,
            progress=turns,
        )
        for question, debate in zip(questions, finished, strict=True):
            said = {**debate.transcript.record(), "rounds": debate.transcript.n_rounds}
            yield Answered(question, debate.answer, debate.usage, said)


METHODS = ("single", "vote", "debate", "model")
"""`single`: one agent answers once; `vote`: every agent once, most votes win; `debate`: explicit debate;
`model`: the model goes on from the bare question, as an internalized model was trained to."""


def make_method(name: str, *, rounds: int = 2, rotate: bool = False, chunk: int = 16) -> Method:
    """The method of that name. Raises `UserError` for another name and for chunks of less than one."""
    if name not in METHODS:
        raise UserError(f"method {name}: not known; give one of {', '.join(METHODS)}")
    if chunk < 1:
        raise UserError(f"chunks of {chunk} questions asked for: give 1 or more")
    return Debates(rounds, rotate, chunk) if name == "debate" else Vote(chunk)
