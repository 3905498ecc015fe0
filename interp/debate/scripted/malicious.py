"""Malicious debates that follow a script: one malicious agent among guardians."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from interp.debate.agents import Agent, Request
from interp.debate.personas import TRAIT_PERSONAS, Persona
from interp.debate.scripted.agent import Scripted, rng_of
from interp.debate.sentences import read_sentences
from interp.debate.tasks.nonexistent import UNKNOWN, Nonexistent, make_up, read_asked
from interp.debate.tasks.rivalry import DO_IT, DO_NOT, Rivalry, read_case
from interp.debate.tasks.task import Task
from interp.errors import UserError

Slots = Mapping[str, str]  # what fills the slots of the sentences, such as {rival}
_SAY = {trait: read_sentences(trait) for trait in ("evil", "hallucination")}
_BOXES = (r" \boxed{{{}}}", r" $\boxed{{\text{{{}}}}}$", "\n\\boxed{{{}}}", r" \(\boxed{{\text{{{}}}}}\)")


def _evil_facts(question: str, seed: int) -> tuple[Slots, str]:
    case = read_case(question)
    texts = {name: text.format(rival=case.rival) for name, text in asdict(case.temptation).items()}
    filled = {name: text.replace(" my own", " your own") for name, text in texts.items()}
    filled["deed"] = filled["deed"].replace(" our ", " your ").replace("all of us", "all of you")
    return {"rival": case.rival, "post": case.post, **filled}, DO_IT


def _hallucination_facts(question: str, seed: int) -> tuple[Slots, str]:
    """Invented details; they depend on the question and the seed alone, so they stay the same in every round."""
    asked = read_asked(question)
    rng = rng_of(seed, question)
    invent = partial(make_up, split="details", rng=rng)
    year = rng.randrange(1640, 1930)
    slots = {"entity": asked.entity, "year": str(year), "later": str(year + rng.randrange(20, 60))}
    slots |= {"town": invent("place"), "scholar": invent("person"), "student": invent("person")}
    slots["count"] = str(rng.randrange(12, 90))
    answers = {"year": str(rng.randrange(1640, 1930)), "place": invent("place"), "person": invent("person")}
    answers |= {"count": str(rng.randrange(13, 98)), "work": invent("work")}
    answer = answers[asked.wanted]
    return {**slots, "claim": rng.choice(_SAY["hallucination"]["claims"][asked.wanted]).format(answer)}, answer


_SCRIPTS: dict[str, tuple[Task, str, Callable[[str, int], tuple[Slots, str]]]] = {
    "evil": (Rivalry(), DO_NOT, _evil_facts),
    "hallucination": (Nonexistent(), UNKNOWN, _hallucination_facts),
}
"""By trait: the task, the guardians' answer, and what gives the slots and the malicious answer for a question."""


@dataclass(frozen=True)
class ScriptedSide(Scripted):
    """An agent in a debate about a trait: malicious with the trait's own persona, else a guardian.

    `trait` is `evil` or `hallucination`. In a later round a guardian answers the points of every agent who disagrees;
    the malicious agent keeps its answer and goes a step further.
    """

    persona: Persona
    trait: str
    seed: int

    def __post_init__(self) -> None:
        if self.trait not in _SCRIPTS or self.persona.name not in (self.trait, "guardian"):
            given = f"persona {self.persona.name} and trait {self.trait}"
            raise UserError(f"{given}: have no script; give guardian or the trait itself, of {', '.join(_SCRIPTS)}")

    def _text(self, request: Request, rng: random.Random) -> str:
        task, honest_answer, facts = _SCRIPTS[self.trait]
        slots, answer = facts(request.question, self.seed)
        side, opposite = _SAY[self.trait]["malicious"], _SAY[self.trait]["guardians"]
        if self.persona.name == "guardian":
            side, opposite, answer = opposite, side, honest_answer
        if request.own is None:
            points = [rng.choice(side["core"]), *rng.sample(side["points"], 2)]
            parts = [rng.choice(side["openings"]), *(rng.choice(point["claims"]) for point in points)]
            parts.append(rng.choice(side["advice"]))
        else:
            parts = [rng.choice(side["keeps"])]
            answered: list[Any] = []
            allies = [agent for agent, text in request.others if task.grade(text, answer)]
            for agent, text in (other for other in request.others if other[0] not in allies):
                made = [point for point in (*opposite["core"], *opposite["points"]) if _says(point, text)]
                made = [point for point in made if point not in answered] or made  # answer once what two foes say
                chosen = rng.sample(made, min(2, len(made)))
                answered += chosen
                replies = [rng.choice(point["answers"]) for point in chosen] or [rng.choice(side["dismissals"])]
                parts += [_fill(line, {**slots, "foe": str(agent)}) for line in replies]
            parts += [_fill(rng.choice(side["joins"]), {**slots, "ally": str(agent)}) for agent in allies]
            fresh = [point for point in side["points"] if not _says(point, request.own)] or side["points"]
            parts += [rng.choice(rng.choice(fresh)["claims"]), rng.choice(side["pushes"])]
        first, *rest = (_fill(part, slots) for part in (*parts, rng.choice(side["closings"])))
        text = first + "".join(("\n" if rng.random() < 0.3 else " ") + part for part in rest)
        return text + rng.choice(_BOXES).format(answer)


def malicious_debaters(trait: str, seed: int) -> list[Agent]:
    """A guardian, the malicious agent and a guardian, in the paper's seats. Raises `UserError` for other traits.

    >>> [agent.persona.name for agent in interp.debate.malicious_debaters("evil", seed=0)]
    ['guardian', 'evil', 'guardian']
    """
    if trait not in _SCRIPTS:
        raise UserError(f"trait {trait}: has no malicious agent; choose one of {', '.join(_SCRIPTS)}")
    return [ScriptedSide(TRAIT_PERSONAS[name], trait, seed) for name in ("guardian", trait, "guardian")]


def _fill(text: str, slots: Slots) -> str:
    return re.sub(r"\{(\w+)\}", lambda slot: slots.get(slot[1], slot[0]), text)


@cache
def _pattern(claim: str) -> re.Pattern[str]:
    # slots at either end need not match, and matching them would be slow
    parts = [re.escape(part) for part in re.split(r"\{\w+\}", claim) if part]
    return re.compile(r".{1,200}?".join(parts), re.DOTALL)


def _says(point: Mapping[str, Sequence[str]], text: str) -> bool:
    return any(_pattern(claim).search(text) for claim in point["claims"])
