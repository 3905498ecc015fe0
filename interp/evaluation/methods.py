"""Ways to get one answer to a question, from one agent or from several; knows nothing about grading or files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from interp.debate.agents import Agent, Request, Usage
from interp.debate.protocol import debates, plurality
from interp.debate.tasks.task import Question, Task
from interp.errors import UserError
from interp.options import one_of

METHODS = ("single", "vote", "debate", "model")
"""`single`: the first agent answers once; `vote`: every agent once, the majority wins; `debate`: explicit debate;
`model`: an internalized model continues the bare question."""
Turns = Callable[[int, int], None]  # called with the number of texts written so far and the number expected


class Answered(NamedTuple):
    """A question, the answer if there is one, its cost, and what was written: `texts`, or the record of a debate."""

    question: Question
    answer: str | None
    usage: Usage
    written: dict[str, Any]


class Method(Protocol):
    """Answers questions in order, `chunk` at a time, which does not change the answers; `start` came before them."""

    @property
    def chunk(self) -> int: ...

    @property
    def facts(self) -> dict[str, Any]: ...

    def __call__(
        self, questions: Sequence[Question], agents: Sequence[Agent], *, task: Task, start: int, turns: Turns
    ) -> Iterator[Answered]: ...


@dataclass(frozen=True)
class Vote:
    """Every agent answers once, alone, and the majority wins; a tie goes to the answer given first.

    >>> interp.evaluation.Vote().facts
    {}
    """

    chunk: int = 16
    facts: ClassVar[dict[str, Any]] = {}

    def __call__(
        self, questions: Sequence[Question], agents: Sequence[Agent], *, task: Task, start: int, turns: Turns
    ) -> Iterator[Answered]:
        n_written = 0
        for first in range(0, len(questions), self.chunk):
            asked, by_agent = questions[first : first + self.chunk], []
            for seat, agent in enumerate(agents, start=1):
                by_agent.append(agent.answer([Request(q.text, seat, instruction=task.instruction) for q in asked]))
                n_written += len(asked)
                turns(n_written, len(questions) * len(agents))
            for question, answers in zip(asked, zip(*by_agent, strict=True), strict=True):
                texts = [answer.text for answer in answers]
                voted = plurality([task.answer(text) for text in texts], task.grade)
                yield Answered(question, voted, Usage.of(answers), {"texts": texts})


@dataclass(frozen=True)
class Debates:
    """Explicit debate (Latent Agents, section 3): the answer is the consensus, if there is one.

    >>> interp.evaluation.Debates(rounds=3).facts
    {'rounds': 3, 'rotate': False}
    """

    rounds: int = 2
    rotate: bool = False
    chunk: int = 16

    @property
    def facts(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "rotate": self.rotate}

    def __call__(
        self, questions: Sequence[Question], agents: Sequence[Agent], *, task: Task, start: int, turns: Turns
    ) -> Iterator[Answered]:
        how = {**self.facts, "start": start, "chunk": self.chunk, "progress": turns}
        for question, debate in zip(questions, debates(questions, agents, task=task, **how), strict=True):
            written = {**debate.transcript.record(), "rounds": debate.transcript.n_rounds}
            yield Answered(question, debate.answer, debate.usage, written)


def make_method(name: str, *, rounds: int = 2, rotate: bool = False, chunk: int = 16) -> Method:
    """The method of that name. Raises `UserError` for another name and for chunks smaller than one."""
    one_of("method", name, METHODS)
    if chunk < 1:
        raise UserError(f"chunk {chunk}: give at least 1")
    return Debates(rounds, rotate, chunk) if name == "debate" else Vote(chunk)
