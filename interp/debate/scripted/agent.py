"""A scripted agent: solves a sum with slips, reads the others' turns and decides; other modules word its turns."""

from __future__ import annotations

import hashlib
import json
import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from interp.debate.agents import Answer, Keep, Request, chat_messages
from interp.debate.grading.answers import boxed, number
from interp.debate.personas import Persona
from interp.debate.scripted.notation import read_steps
from interp.debate.scripted.review import Review, revision
from interp.debate.scripted.wording import STYLES, closing
from interp.debate.scripted.working import Fault, Term, Working, find_fault, parse_expression, solve
from interp.errors import UserError

STUBBORNNESS = 0.1  # probability of keeping an answer without working it out again
YIELDING = 0.5  # of joining a majority whose workings look right, and of keeping a shared answer over a new, lone one


class Scripted(ABC):
    """What agents with a script share. Tokens are words, numbers and signs; a model's chat messages are the input."""

    persona: Persona
    seed: int

    @property
    def facts(self) -> dict[str, Any]:
        return {"kind": "scripted", **asdict(self)}  # type: ignore[call-overload]

    def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
        answers = []
        for request in requests:
            *asked, _instruction = astuple(request)
            text = self._text(request, rng_of(self.seed, self.persona.name, *asked))
            shown = "\n".join(message["content"] for message in chat_messages(self.persona, request))
            n_read, n_written = (len(re.findall(r"\w+|[^\w\s]", t)) for t in (shown, text))
            answers.append(Answer(text, n_read, n_written))
        return answers

    @abstractmethod
    def _text(self, request: Request, rng: random.Random) -> str: ...


def rng_of(*key: object) -> random.Random:
    """A generator whose numbers depend on the key alone."""
    return random.Random(hashlib.sha256(json.dumps(key).encode()).digest())


@dataclass(frozen=True)
class ScriptedAgent(Scripted):
    r"""Solves sums of products in the style of its persona, with slips that show in the working.

    `error_rate` is the probability of a slip in each working, and of overlooking another's slip. The text depends only
    on `seed`, the persona and the request.

    >>> agent = interp.debate.ScriptedAgent(interp.debate.PERSONAS["self-critique"], error_rate=0.0, seed=0)
    >>> print(agent.answer([interp.debate.Request("12+3*4", agent=1)])[0].text.splitlines()[-1])
    My answer: \boxed{24}
    """

    persona: Persona
    error_rate: float
    seed: int

    def __post_init__(self) -> None:
        if self.persona.name not in STYLES:
            raise UserError(f"persona {self.persona.name}: has no script; choose one of {', '.join(STYLES)}")
        if not 0 <= self.error_rate <= 1:
            raise UserError(f"error rate {self.error_rate}: not a probability; give a number from 0 to 1")

    def _text(self, request: Request, rng: random.Random) -> str:
        terms = parse_expression(request.question)
        if request.own is not None or request.others:
            return revision(self.persona.name, terms, self._review(terms, request, rng), rng)
        working = solve(terms, rng, self.error_rate)
        text = STYLES[self.persona.name](terms, working, rng)
        return text + "\n" * rng.randrange(2) + closing(self.persona.name, str(working.answer), rng)

    def _review(self, terms: Sequence[Term], request: Request, rng: random.Random) -> Review:
        """Compare the workings and decide on an answer."""
        own, others = _stated(request.own), {agent: _stated(text) for agent, text in request.others}
        noticed = {agent: self._noticed(terms, text, rng) for agent, text in request.others}
        faults = {agent: fault for agent, fault in noticed.items() if fault is not None}
        if own is not None and rng.random() < STUBBORNNESS:
            return Review(own, others, faults, None, None, own, "stay", _shown(request.own, own))
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
        """The first wrong step in a text, unless this agent overlooks it."""
        overlooks = rng.random() < self.error_rate
        shown = _shown(text, _stated(text))
        return None if overlooks or shown is None else find_fault(terms, shown.steps)


def _holders(answers: Mapping[int, str | None], answer: str) -> list[int]:
    return [agent for agent, other in answers.items() if other == answer]


def _stated(text: str | None) -> str | None:
    """The answer in a text as a plain number, so that equal answers are equal strings."""
    value = number(boxed(text or "") or "")
    return None if value is None else str(value)


def _shown(text: str | None, answer: str | None) -> Working | None:
    """The working in a text, if it can be read and leads to the answer."""
    steps = read_steps(text or "")
    return Working(steps, steps[-1].result) if steps and str(steps[-1].result) == answer else None
