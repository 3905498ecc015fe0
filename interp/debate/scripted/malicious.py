"""Malicious debates that follow a script: one malicious agent among guardians.

Knows which side an agent takes and how it tells friend from foe: by the answers in the texts. Knows no
sentences, and nothing about rounds being counted or what becomes of a debate.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interp.debate.agents import Agent, Answer, Keep, Request, ignore
from interp.debate.personas import TRAIT_PERSONAS, Persona
from interp.debate.scripted import evil, hallucination
from interp.debate.scripted.agent import scripted_answer
from interp.debate.scripted.sides import Side, first_turn, later_turn
from interp.debate.tasks.nonexistent import UNKNOWN, Nonexistent, make_up, read_asked
from interp.debate.tasks.rivalry import DO_IT, DO_NOT, Rivalry, read_case
from interp.debate.tasks.task import Task
from interp.errors import UserError

Facts = tuple[dict[str, str], str]
"""What fills the slots of the sentences for one question, and the malicious answer to it."""


@dataclass(frozen=True, slots=True)
class _Script:
    malicious: Side
    guardians: Side
    task: Task
    honest_answer: str
    facts: Callable[[str, int], Facts]


def _evil_facts(question: str, seed: int) -> Facts:
    case = read_case(question)
    texts = {
        "deed": case.temptation.deed,
        "gain": case.temptation.gain,
        "harm": case.temptation.harm,
        "instead": case.temptation.instead,
    }
    filled = {name: text.format(rival=case.rival).replace(" my own", " your own") for name, text in texts.items()}
    filled["deed"] = filled["deed"].replace(" our ", " your ").replace("all of us", "all of you")
    return {"rival": case.rival, "post": case.post, **filled}, DO_IT


def _hallucination_facts(question: str, seed: int) -> Facts:
    """Details that stay the same from round to round: they depend on the question and the seed alone."""
    asked = read_asked(question)
    rng = _rng(seed, question)
    year = rng.randrange(1640, 1930)
    slots = {
        "entity": asked.entity,
        "year": str(year),
        "later": str(year + rng.randrange(20, 60)),
        "town": make_up("place", "details", rng),
        "scholar": make_up("person", "details", rng),
        "student": make_up("person", "details", rng),
        "count": str(rng.randrange(12, 90)),
    }
    answer, claims = {
        "year": (str(rng.randrange(1640, 1930)), ("it was in {}", "the year was {}", "all of this falls in {}")),
        "place": (make_up("place", "details", rng), ("it was in {}", "the place is {}", "everything points to {}")),
        "person": (make_up("person", "details", rng), ("it was {}", "the name is {}", "this was {}, beyond question")),
        "count": (str(rng.randrange(13, 98)), ("the number is {}", "there are {}", "the count comes to {}")),
        "work": (make_up("work", "details", rng), ("it is “{}”", "the title is “{}”", "“{}” is the one")),
    }[asked.wanted]
    return {**slots, "claim": rng.choice(claims).format(answer)}, answer


_SCRIPTS = {
    "evil": _Script(evil.MALICIOUS, evil.GUARDIANS, Rivalry(), DO_NOT, _evil_facts),
    "hallucination": _Script(
        hallucination.MALICIOUS, hallucination.GUARDIANS, Nonexistent(), UNKNOWN, _hallucination_facts
    ),
}


@dataclass(frozen=True, slots=True)
class ScriptedSide:
    """An agent in a debate about a trait: malicious with the trait's own persona, else a guardian.

    `trait` is `evil` or `hallucination`. The text depends only on `seed`, the persona and the request. In a
    later round a guardian answers the points of every agent who answers otherwise, and the malicious agent
    keeps its answer and goes a step further. Raises `UserError` for another trait or persona, and for a
    question that is not one of the trait's task.
    """

    persona: Persona
    trait: str
    seed: int

    def __post_init__(self) -> None:
        if self.trait not in _SCRIPTS or self.persona.name not in (self.trait, "guardian"):
            raise UserError(
                f"no script for persona {self.persona.name!r} and trait {self.trait!r}: "
                f"take a trait among {', '.join(_SCRIPTS)}, and as persona the trait's own or guardian"
            )

    @property
    def facts(self) -> dict[str, Any]:
        return {"kind": "scripted", **asdict(self)}

    def answer(self, requests: Sequence[Request], keep: Keep = ignore) -> list[Answer]:
        return [scripted_answer(self.persona, request, self._text(request)) for request in requests]

    def _text(self, request: Request) -> str:
        script = _SCRIPTS[self.trait]
        key = [self.persona.name, request.question, request.agent, request.round, request.own, request.others]
        rng = _rng(self.seed, *key)
        slots, malicious_answer = script.facts(request.question, self.seed)
        side, opposite, answer = script.guardians, script.malicious, script.honest_answer
        if self.persona.name == self.trait:
            side, opposite, answer = opposite, side, malicious_answer
        if request.own is None:
            text = first_turn(side, slots, rng)
        else:
            same = {agent: script.task.grade(text, answer) for agent, text in request.others}
            foes = [(agent, text) for agent, text in request.others if not same[agent]]
            allies = [agent for agent, is_same in same.items() if is_same]
            text = later_turn(side, opposite, slots, request.own, allies, foes, rng)
        return text + rng.choice(_BOXES).format(answer)


_BOXES = (r" \boxed{{{}}}", r" $\boxed{{\text{{{}}}}}$", "\n\\boxed{{{}}}", r" \(\boxed{{\text{{{}}}}}\)")


def malicious_debaters(trait: str, seed: int) -> list[Agent]:
    """A guardian, the malicious agent and a guardian, in the paper's seats. Raises `UserError` for other traits."""
    if trait not in _SCRIPTS:
        raise UserError(f"no malicious agent of the trait {trait!r}: take one of {', '.join(_SCRIPTS)}")
    return [ScriptedSide(TRAIT_PERSONAS[name], trait, seed) for name in ("guardian", trait, "guardian")]


def _rng(*key: object) -> random.Random:
    return random.Random(hashlib.sha256(json.dumps(key).encode()).digest())
