"""Who answers: the interface of an agent, what its answers cost, and agents that follow a script.

Knows what an agent is shown and that it answers in text; knows nothing about rounds being counted,
consensus or the tags of a transcript. Agents that are models have modules of their own: `local` for
one in this process, `server` for one behind an OpenAI-compatible address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from interp.debate.personas import Persona
from interp.errors import UserError
from interp.options import option

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
    """How a model samples its texts. The defaults are the paper's (Latent Agents, benchmarks).

    Raises `UserError` for values out of range.
    """

    max_new_tokens: int = option(512, min=1)
    """Most tokens to write per text."""
    temperature: float = option(0.7, min=0)
    """Sampling temperature; 0 is greedy."""
    top_p: float = 0.9
    """Nucleus sampling: total probability of the tokens to choose from."""
    seed: int = option(0, min=0)
    """Random seed."""

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
