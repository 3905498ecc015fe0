"""Agents × rounds → transcripts, and what counts as consensus.

Knows who speaks when and when a debate ends; knows nothing about how agents answer or how a task
tells answers apart.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

from interp.debate.agents import Agent, Request
from interp.debate.tasks import Question, Task
from interp.debate.transcript import Transcript, without_tags
from interp.errors import UserError

_UNANIMOUS = (
    r"All {n} agents arrive at \boxed{{{a}}}.",
    r"The agents agree without exception: \boxed{{{a}}}.",
    r"Unanimous answer: \boxed{{{a}}}.",
    r"Every agent gives the same answer, \boxed{{{a}}}.",
)
_MAJORITY = (
    r"With {k} of {n} agents behind it, the answer is \boxed{{{a}}}.",
    r"Not all agree, but a majority of {k} out of {n} settles on \boxed{{{a}}}.",
    r"Majority answer ({k} of {n} agents): \boxed{{{a}}}.",
    r"By {k} votes among {n} agents the debate closes with \boxed{{{a}}}.",
)
_PERMUTED_UP_TO = 4


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
    """The answer of a strict majority, or None where there is none.

    `answers` has one entry for each agent, None for an agent without an answer, which still counts as
    an agent; `same` tells whether two answers are one. The wording kept is that of the first agent in
    the majority.
    """
    stated = [answer for answer in answers if answer is not None]
    for answer in stated:
        votes = sum(same(other, answer) for other in stated)
        if 2 * votes > len(answers):
            return Consensus(answer, votes, len(answers))
    return None


def seatings(n_agents: int) -> list[tuple[int, ...]]:
    """Orders of `range(n_agents)` in which each agent sits in each seat equally often.

    All permutations for up to four agents, the cyclic rotations beyond. Every run of `n_agents`
    entries that starts at a multiple of `n_agents` is balanced by itself.
    """
    bases = list(permutations(range(1, n_agents))) if n_agents <= _PERMUTED_UP_TO else [tuple(range(1, n_agents))]
    rows = [(0, *base) for base in bases]
    return [(*row[shift:], *row[:shift]) for row in rows for shift in range(n_agents)]


def debate(
    questions: Sequence[Question],
    agents: Sequence[Agent],
    *,
    task: Task,
    rounds: int = 2,
    rotate: bool = False,
    start: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Transcript]:
    """Let the agents debate every question; one transcript for each, in order.

    A debate ends as soon as a round is unanimous, in the first round too; otherwise each agent sees
    the others' latest turns and revises. After the last of `rounds` a strict majority is the
    consensus; a debate without one is kept, with no consensus and `{"undecided": True}` in `extra`.
    Each round asks each agent for all its open questions in one batch (Latent Agents, section 3).

    Agent k sits in seat k; with `rotate` the `seatings` follow one another over the questions,
    `start` being the number of questions that earlier calls of the same run have debated. The same
    agent may be given for several seats. `progress` is called after each batch with the number of
    turns written and the number expected if no further debate ends early. Tags in an agent's text are
    taken out and the turns concerned counted in `extra["turns_with_tags"]`.

    Raises `UserError` for fewer than two agents or fewer than one round.
    """
    if len(agents) < 2 or rounds < 1:
        raise UserError(f"{len(agents)} agents and {rounds} rounds given: a debate takes at least 2 agents and 1 round")
    orders = seatings(len(agents)) if rotate else [tuple(range(len(agents)))]
    debates = [_Debate(q, orders[(start + i) % len(orders)]) for i, q in enumerate(questions)]
    written = 0
    for round in range(1, rounds + 1):
        open_debates = [d for d in debates if d.agreed is None or not d.agreed.unanimous]
        texts: list[dict[int, str]] = [{} for _ in open_debates]
        expected = written + len(open_debates) * len(agents) * (rounds - round + 1)
        for index, agent in enumerate(agents):
            requests = [d.request(d.order.index(index) + 1, round) for d in open_debates]
            answers = agent.answer(requests) if requests else []
            for request, turn, text in zip(requests, texts, answers, strict=True):
                turn[request.agent] = text
            written += len(requests)
            if progress is not None and requests:
                progress(written, expected)
        for d, turn in zip(open_debates, texts, strict=True):
            d.close_round([turn[seat] for seat in sorted(turn)], task)
    return [d.transcript([agent.persona.name for agent in agents]) for d in debates]


class _Debate:
    """A debate in progress; `order[k - 1]` is the index of the agent in seat k."""

    def __init__(self, question: Question, order: tuple[int, ...]) -> None:
        self.question = question
        self.order = order
        self.rounds: list[list[str]] = []
        self.agreed: Consensus | None = None
        self.turns_with_tags = 0

    def request(self, seat: int, round: int) -> Request:
        if not self.rounds:
            return Request(self.question.text, seat, round)
        latest = list(enumerate(self.rounds[-1], start=1))
        others = tuple((agent, text) for agent, text in latest if agent != seat)
        return Request(self.question.text, seat, round, latest[seat - 1][1], others)

    def close_round(self, texts: list[str], task: Task) -> None:
        plain = [without_tags(text) for text in texts]
        self.turns_with_tags += sum(a != b for a, b in zip(texts, plain, strict=True))
        self.rounds.append(plain)
        self.agreed = consensus([task.answer(text) for text in plain], task.grade)

    def transcript(self, personas: list[str]) -> Transcript:
        extra: dict[str, object] = {} if self.agreed else {"undecided": True}
        if self.turns_with_tags:
            extra["turns_with_tags"] = self.turns_with_tags
        return Transcript.build(
            self.question.text,
            self.rounds,
            None if self.agreed is None else self._sentence(self.agreed),
            gold_answer=self.question.gold_answer,
            personas=[personas[index] for index in self.order],
            extra=extra,
        )

    def _sentence(self, agreed: Consensus) -> str:
        key = repr((self.question.text, self.rounds)).encode()
        forms = _UNANIMOUS if agreed.unanimous else _MAJORITY
        form = random.Random(hashlib.sha256(key).digest()).choice(forms)
        return form.format(n=agreed.n_agents, k=agreed.votes, a=without_tags(agreed.answer))
