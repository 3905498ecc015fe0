"""Agents × rounds → transcripts, and what counts as consensus."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, permutations
from typing import Any

from interp.debate.agents import Agent, Answer, Request, Usage
from interp.debate.sentences import read_sentences
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, without_tags
from interp.errors import UserError

_SAY = read_sentences("consensus")


@dataclass(frozen=True, slots=True)
class Consensus:
    """An answer that a strict majority of the agents gives."""

    answer: str
    votes: int
    n_agents: int

    @property
    def unanimous(self) -> bool:
        return self.votes == self.n_agents


def consensus(answers: Sequence[str | None], same: Callable[[str, str], bool]) -> Consensus | None:
    """The answer of a strict majority, as its first agent worded it, or None; an agent's answer may be None.

    >>> interp.debate.consensus(["3", "3", None], lambda a, b: a == b)
    Consensus(answer='3', votes=2, n_agents=3)
    """
    stated = [answer for answer in answers if answer is not None]
    for answer in stated:
        votes = sum(same(other, answer) for other in stated)
        if 2 * votes > len(answers):
            return Consensus(answer, votes, len(answers))
    return None


def seatings(n_agents: int) -> list[tuple[int, ...]]:
    """All orders of up to four agents, else the rotations; each `n_agents` in a row seat all agents equally often."""
    rest = range(1, n_agents)
    rows = [(0, *base) for base in (permutations(rest) if n_agents <= 4 else [rest])]
    return [(*row[shift:], *row[:shift]) for row in rows for shift in range(n_agents)]


def plurality(answers: Sequence[str | None], same: Callable[[str, str], bool]) -> str | None:
    """The most frequent answer, the first of several; None if nobody answers.

    >>> interp.debate.plurality(["4", "3", "3"], lambda a, b: a == b)
    '3'
    """
    stated = [answer for answer in answers if answer is not None]
    return max(stated, key=lambda answer: sum(same(other, answer) for other in stated), default=None)


@dataclass(frozen=True, slots=True)
class Debate:
    """A finished debate, the answer agreed on (None if undecided), and the usage of all agents and rounds."""

    transcript: Transcript
    answer: str | None
    usage: Usage


def debates(
    questions: Sequence[Question],
    agents: Sequence[Agent],
    *,
    task: Task,
    rounds: int = 2,
    rotate: bool = False,
    start: int = 0,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Debate]:
    """Let the agents debate every question (Latent Agents, section 3); yields the debates in order, as they finish.

    A debate ends when a round is unanimous; otherwise each agent sees the others' latest turns and revises. After the
    last of `rounds` a strict majority is the consensus; without one, `extra` has `{"undecided": True}`. A failed turn
    is empty and has no vote (counted in `extra["turns_failed"]`); tags in a text are removed (`"turns_with_tags"`).

    `chunk` questions are debated at a time (None: all), which does not change the debates. Agent k sits in seat k; with
    `rotate` the `seatings` follow one another, `start` being the number of questions debated by earlier calls.
    `progress` gets the turns written and those expected if no further debate ends early.

    >>> task = interp.debate.make_task("arithmetic")
    >>> agents = [interp.debate.ScriptedAgent(persona, 0.2, seed=0) for persona in interp.debate.PERSONAS.values()]
    >>> [debate.answer for debate in interp.debate.debates(task.questions(2, seed=0), agents, task=task)]
    ['-4353', '416']
    """
    if len(agents) < 2 or rounds < 1:
        raise UserError(f"{len(agents)} agents, {rounds} rounds: too few; a debate has at least 2 agents and 1 round")
    size = max(len(questions), 1) if chunk is None else chunk
    if size < 1:
        raise UserError(f"chunk {size}: too small; give 1 or more")
    orders = seatings(len(agents)) if rotate else [tuple(range(len(agents)))]
    names = [agent.persona.name for agent in agents]

    def run() -> Iterator[Debate]:
        written = 0
        for first in range(0, len(questions), size):
            numbered = enumerate(questions[first : first + size], start=start + first)
            seated = [_Open(question, orders[i % len(orders)], task) for i, question in numbered]
            later = (len(questions) - first - len(seated)) * len(agents) * rounds
            for round in range(1, rounds + 1):
                going = [d for d in seated if d.agreed is None or not d.agreed.unanimous]
                expected = written + len(going) * len(agents) * (rounds - round + 1) + later
                given: list[Sequence[Answer]] = []
                for index, agent in enumerate(agents if going else ()):
                    given.append(agent.answer([d.request(d.order.index(index) + 1, round) for d in going]))
                    written += len(going)
                    if progress is not None:
                        progress(written, expected)
                for d, *answers in zip(going, *given, strict=True):
                    d.close_round([answers[index] for index in d.order])
            for d in seated:
                yield Debate(d.transcript(names), d.agreed.answer if d.agreed else None, Usage.of(d.answers))

    return run()


def debate(questions: Sequence[Question], agents: Sequence[Agent], *, task: Task, **how: Any) -> list[Transcript]:
    """The transcripts of `debates`, all at once; takes the same arguments."""
    return [d.transcript for d in debates(questions, agents, task=task, **how)]


class _Open:
    """A debate in progress; `order[k - 1]` is the index of the agent in seat k."""

    def __init__(self, question: Question, order: tuple[int, ...], task: Task) -> None:
        self.question, self.order, self.task = question, order, task
        self.rounds: list[list[str]] = []
        self.answers: list[Answer] = []
        self.agreed: Consensus | None = None

    def request(self, seat: int, round: int) -> Request:
        latest = self.rounds[-1] if self.rounds else []
        others = tuple((agent, text) for agent, text in enumerate(latest, start=1) if agent != seat)
        own = latest[seat - 1] if latest else None
        return Request(self.question.text, seat, round, own, others, self.task.instruction)

    def close_round(self, answers: list[Answer]) -> None:
        self.answers += answers
        self.rounds.append([without_tags(answer.text) for answer in answers])
        self.agreed = consensus([self.task.answer(text) for text in self.rounds[-1]], self.task.grade)

    def transcript(self, personas: list[str]) -> Transcript:
        extra: dict[str, object] = {} if self.agreed else {"undecided": True}
        if tagged := sum(a.text != text for a, text in zip(self.answers, chain(*self.rounds), strict=True)):
            extra["turns_with_tags"] = tagged
        if failed := Counter(answer.error for answer in self.answers if answer.error is not None):
            extra["turns_failed"] = dict(sorted(failed.items()))
        said = None
        if agreed := self.agreed:
            key = repr((self.question.text, self.rounds)).encode()
            forms: list[str] = _SAY["unanimous" if agreed.unanimous else "majority"]
            form = random.Random(hashlib.sha256(key).digest()).choice(forms)
            said = form.format(n=agreed.n_agents, k=agreed.votes, a=without_tags(agreed.answer))
        seated = [personas[index] for index in self.order]
        gold = self.question.gold_answer
        return Transcript.build(self.question.text, self.rounds, said, gold_answer=gold, personas=seated, extra=extra)
