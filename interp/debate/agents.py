"""Who answers: the interface of an agent, what its answers cost, and agents that follow a script.

Knows what an agent is shown and that it answers in text; knows nothing about rounds being counted,
consensus or the tags of a transcript. Agents that are models have modules of their own: `local` for
one in this process, `server` for one behind an OpenAI-compatible address.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from interp.debate.personas import Persona
from interp.debate.scripted.notation import read_steps
from interp.debate.scripted.review import Review, revision
from interp.debate.scripted.wording import STYLES, closing
from interp.debate.scripted.working import Fault, Term, Working, find_fault, parse_expression, solve
from interp.debate.tasks import boxed, number
from interp.errors import UserError

BOXED = r"Give your final answer in \boxed{} at the end."


@dataclass(frozen=True, slots=True)
class Request:
    """What an agent is shown when its turn comes.

    `agent` is the seat that it fills for this question and `round` the round, both from 1; `own` is
    its own text of the round before and `others` the (agent, text) pairs of the other seats, both
    empty in round 1. A text is empty where that agent gave no answer. `instruction` is what the task
    says about the form of an answer.
    """

    question: str
    agent: int
    round: int = 1
    own: str | None = None
    others: tuple[tuple[int, str], ...] = ()
    instruction: str = BOXED


@dataclass(frozen=True, slots=True)
class Answer:
    """An agent's text and what it took to get it.

    Tokens are summed over every attempt that was counted. `error` names what kept the agent from
    answering, and `text` is then empty; `detail` says more about it, in one line. `failures` names
    each failed attempt in order, those that a later attempt made good included. `cut` says that the
    text ran into the limit on its length, `estimated` that its tokens could only be estimated.
    """

    text: str
    input_tokens: int
    output_tokens: int
    error: str | None = None
    detail: str = ""
    failures: tuple[str, ...] = ()
    cut: bool = False
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a number of answers cost; usages add up."""

    calls: int = 0
    """Requests that an agent was asked to answer, each counted once however often it was tried."""
    input_tokens: int = 0
    output_tokens: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed attempts by name."""
    unanswered: Mapping[str, int] = field(default_factory=dict)
    """Calls that stayed without an answer, by what kept the agent from it."""
    cut: int = 0
    """Calls whose text ran into the limit on its length."""
    estimated: int = 0
    """Calls whose tokens could only be estimated."""
    details: Mapping[str, str] = field(default_factory=dict)
    """The first detail, where there is one, for each name in `unanswered`."""

    @staticmethod
    def of(answers: Iterable[Answer]) -> Usage:
        """The usage of these answers."""
        answers = list(answers)
        return Usage(
            len(answers),
            sum(a.input_tokens for a in answers),
            sum(a.output_tokens for a in answers),
            Counter(kind for a in answers for kind in a.failures),
            Counter(a.error for a in answers if a.error is not None),
            sum(a.cut for a in answers),
            sum(a.estimated for a in answers),
            {a.error: a.detail for a in reversed(answers) if a.error is not None and a.detail},
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            Counter(self.failures) + Counter(other.failures),
            Counter(self.unanswered) + Counter(other.unanswered),
            self.cut + other.cut,
            self.estimated + other.estimated,
            {**other.details, **self.details},
        )

    def record(self) -> dict[str, Any]:
        """All fields as JSON takes them, names in alphabetical order; `Usage(**record)` reads it back."""
        by_name = {name: dict(sorted(getattr(self, name).items())) for name in ("failures", "unanswered", "details")}
        return {**asdict(self), **by_name}


COLDEST = 1e-4
"""The lowest temperature above 0: logits divided by much less are no numbers any more."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model chooses its words. The defaults are the paper's (Latent Agents, benchmarks).

    A temperature of 0 is greedy; sampled texts depend on `seed` and the request. `max_new_tokens`
    limits each answer. Raises `UserError` for values out of range.
    """

    max_new_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens {self.max_new_tokens} given: an answer takes at least 1 token")
        if self.temperature and not COLDEST <= self.temperature < float("inf"):
            raise UserError(f"temperature {self.temperature} given: give 0 (greedy), or a number from {COLDEST} on")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed {self.seed} given: give a number from 0 to 2^63 - 1")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p} given: it is a probability, give more than 0 and at most 1")

    @property
    def options(self) -> dict[str, Any]:
        """As arguments of `interp.generation.generate`, the seed apart, which is each text's own."""
        return {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature, "top_p": self.top_p}


Keep = Callable[[int, Answer], None]
"""Called with the index of a request and its answer."""


def ignore(index: int, answer: Answer) -> None:
    """Keeps nothing."""


class Agent(Protocol):
    """Something with a persona that answers requests; which seat it fills, each request says."""

    @property
    def persona(self) -> Persona:
        """The character that it plays, in whatever seat."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What its answers are made with, as JSON takes it: for the provenance of whatever keeps them."""
        ...

    def answer(self, requests: Sequence[Request], keep: Keep = ignore) -> list[Answer]:
        """One answer for each request, in their order; how they are batched must not change the texts.

        An agent that takes its time calls `keep` with each answer as soon as it is there.
        """
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


def chat_messages(persona: Persona, request: Request) -> list[dict[str, str]]:
    """A request as the messages of a chat: dictionaries with `role` and `content`.

    The persona's prompt is the system's. In later rounds the agent's own earlier text stands where it
    said it, and the others' latest texts follow by number; an empty text counts as no answer.
    """
    messages = [{"role": "system", "content": persona.system_prompt}] if persona.system_prompt else []
    problem = f"Problem: {request.question}"
    if not request.others and not request.own:
        return [*messages, {"role": "user", "content": f"{problem}\n\n{request.instruction}"}]
    shown = [
        f"Agent {agent} wrote:\n\n{text}" if text else f"Agent {agent} gave no answer."
        for agent, text in request.others
    ]
    review = (
        "These are the latest solutions of the other agents to the same problem. Check them, and your own, "
        "for mistakes; then keep or correct your answer and write out your full solution. "
        f"{request.instruction}"
    )
    seen = "\n\n".join([*shown, review])
    if not request.own:
        return [*messages, {"role": "user", "content": f"{problem}\n\n{seen}"}]
    messages.append({"role": "user", "content": f"{problem}\n\n{request.instruction}"})
    messages.append({"role": "assistant", "content": request.own})
    return [*messages, {"role": "user", "content": seen}]


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
