"""A scripted agent: works a sum out with slips, reads the others' turns and revises.

Knows what a turn says; how it is worded, the other modules of this folder know.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interp.debate.agents import Answer, Keep, Request, chat_messages, ignore
from interp.debate.grading.answers import boxed, number
from interp.debate.personas import Persona
from interp.debate.scripted.notation import read_steps
from interp.debate.scripted.review import Review, revision
from interp.debate.scripted.wording import STYLES, closing
from interp.debate.scripted.working import Fault, Term, Working, find_fault, parse_expression, solve
from interp.errors import UserError

STUBBORNNESS = 0.1
"""How often a scripted agent keeps its answer without working it out again."""

YIELDING = 0.5
"""How often it gives way to a majority of the others in whose workings it noticed nothing wrong, and
how often it prefers its earlier answer, where another agent shares that, to a new one that none has."""


@dataclass(frozen=True, slots=True)
class ScriptedAgent:
    """Solves sums of products in the style of its persona, with slips that show in the working.

    `error_rate` in [0, 1] is the probability of a slip in each working, and of overlooking a wrong
    step when it reads another's. The text depends only on `seed`, the persona and the request. Its
    tokens are words, numbers and signs, those of the chat messages that a model would be shown
    counted as input. Raises `UserError` for a persona without a script, for an error rate outside [0, 1], and for a
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

    @property
    def facts(self) -> dict[str, Any]:
        return {"kind": "scripted", **asdict(self)}

    def answer(self, requests: Sequence[Request], keep: Keep = ignore) -> list[Answer]:
        return [scripted_answer(self.persona, request, self._text(request)) for request in requests]

    def _text(self, request: Request) -> str:
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


def scripted_answer(persona: Persona, request: Request, text: str) -> Answer:
    """A text that follows a script, its words, numbers and signs counted as tokens.

    What counts as input is what a model in its place would be shown.
    """
    shown = sum(_pieces(message["content"]) for message in chat_messages(persona, request))
    return Answer(text, shown, _pieces(text))


def _pieces(text: str) -> int:
    """Words, numbers and signs in a text."""
    return len(re.findall(r"\w+|[^\w\s]", text))


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
