"""Who answers: the interface of an agent, and agents that follow a script.

Knows what an agent is shown and that it answers in text; knows nothing about rounds being counted,
consensus or the tags of a transcript.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from interp.debate.personas import Persona
from interp.debate.scripted.notation import read_steps
from interp.debate.scripted.review import Review, revision
from interp.debate.scripted.wording import STYLES, closing
from interp.debate.scripted.working import Fault, Term, Working, find_fault, parse_expression, solve
from interp.debate.tasks import boxed, number
from interp.errors import UserError


@dataclass(frozen=True, slots=True)
class Request:
    """What an agent is shown when its turn comes.

    `agent` is the seat that it fills for this question and `round` the round, both from 1; `own` is
    its own text of the round before and `others` the (agent, text) pairs of the other seats, both
    empty in round 1.
    """

    question: str
    agent: int
    round: int = 1
    own: str | None = None
    others: tuple[tuple[int, str], ...] = ()


class Agent(Protocol):
    """Something with a persona that answers requests; which seat it fills, each request says."""

    @property
    def persona(self) -> Persona:
        """The character that it plays, in whatever seat."""
        ...

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One text for each request, in their order; how they are batched must not change the texts."""
        ...


STUBBORNNESS = 0.1
"""How often a scripted agent keeps its answer without working it out again."""

YIELDING = 0.5
"""How often it gives way to a majority of the others in whose workings it noticed nothing wrong, and
how often it prefers its earlier answer, where another agent shares that, to a new one that none has."""


@dataclass(frozen=True, slots=True)
class ScriptedAgent:
    """Solves sums of products in the style of its persona, with slips that show in the working.

    `error_rate` in [0, 1] is the probability of a slip in each working, and of overlooking a wrong
    step when it reads another's. The text depends only on `seed`, the persona and the request.
    Raises `UserError` for a persona without a script, for an error rate outside [0, 1], and for a
    question that is not a sum of products.
    """

    persona: Persona
    error_rate: float
    seed: int

    def __post_init__(self) -> None:
        if self.persona.name not in STYLES:
            raise UserError(f"no script for persona {self.persona.name!r}: take one of {', '.join(STYLES)}")
        if not 0 <= self.error_rate <= 1:
            raise UserError(f"error rate {self.error_rate} given: it is a probability, give 0 to 1")

    def answer(self, requests: Sequence[Request]) -> list[str]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> str:
        key = [self.seed, self.persona.name, request.question, request.agent, request.round]
        key += [request.own, request.others]
        rng = random.Random(hashlib.sha256(json.dumps(key).encode()).digest())
        terms = parse_expression(request.question)
        if request.own is None and not request.others:
            working = solve(terms, rng, self.error_rate)
            text = STYLES[self.persona.name](terms, working, rng)
            return text + "\n" * rng.randrange(2) + closing(self.persona.name, str(working.answer), rng)
        return revision(self.persona.name, terms, self._review(terms, request, rng), rng)

    def _review(self, terms: Sequence[Term], request: Request, rng: random.Random) -> Review:
        """Compare the workings and make up its mind."""
        own = None if request.own is None else _stated(request.own)
        others = {agent: _stated(text) for agent, text in request.others}
        faults = {
            agent: fault for agent, text in request.others if (fault := self._noticed(terms, text, rng)) is not None
        }
        if own is not None and rng.random() < STUBBORNNESS:
            earlier = _shown(request.own, own)
            return Review(own, others, faults, None, None, own, "stay", earlier)
        again = solve(terms, rng, self.error_rate)
        result = str(again.answer)
        votes = Counter(answer for answer in others.values() if answer is not None)
        alone = result not in votes
        sound = Counter({a: n for a, n in votes.items() if not faults.keys() & _holders(others, a)})
        if own is not None and own in sound and result != own and alone and rng.random() < YIELDING:
            return Review(own, others, faults, None, result, own, "supported", _shown(request.own, own))
        favourite, n_votes = max(sound.items(), key=lambda item: item[1], default=(result, 0))
        majority = n_votes > 1 and 2 * n_votes > len(others)
        if majority and favourite != own and (alone or result == own) and rng.random() < YIELDING:
            source = rng.choice(_holders(others, favourite))
            shown = _shown(dict(request.others)[source], favourite)
            return Review(own, others, faults, None, result, favourite, "yield", shown, source)
        if result == own:
            return Review(own, others, faults, None, result, own, "confirmed", again)
        own_fault = None if request.own is None else self._noticed(terms, request.own, rng)
        return Review(own, others, faults, own_fault, result, result, "changed", again)

    def _noticed(self, terms: Sequence[Term], text: str, rng: random.Random) -> Fault | None:
        """The wrong step in a text, where there is one and this agent does not overlook it."""
        overlooks = rng.random() < self.error_rate
        answer = _stated(text)
        shown = None if answer is None else _shown(text, answer)
        return None if overlooks or shown is None else find_fault(terms, shown.steps)


def _holders(answers: Mapping[int, str | None], answer: str) -> list[int]:
    return [agent for agent, other in answers.items() if other == answer]


def _stated(text: str) -> str | None:
    """The answer in a text, written as a plain number so that equal answers are equal strings."""
    answer = boxed(text)
    value = None if answer is None else number(answer)
    return None if value is None else str(value)


def _shown(text: str | None, answer: str) -> Working | None:
    """The working in a text, where it can be read and leads to the answer."""
    steps = read_steps(text or "")
    return Working(steps, steps[-1].result) if steps and str(steps[-1].result) == answer else None
