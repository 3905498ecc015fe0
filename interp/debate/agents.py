"""What an agent is: it is shown a request and answers in text, at a cost in tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from interp.debate.personas import Persona
from interp.errors import UserError
from interp.options import option
from interp.storage.files import EXACT, Whole

BOXED = r"Give your final answer in \boxed{} at the end."


@dataclass(frozen=True, slots=True)
class Request:
    """What an agent is shown: the question, its own last text and the other agents' (empty for no answer).

    >>> interp.debate.Request("1+2", agent=1).round
    1
    """

    question: str
    agent: int
    """The seat that it fills for this question, from 1."""
    round: int = 1
    own: str | None = None
    """Its text of the round before; None in round 1."""
    others: tuple[tuple[int, str], ...] = ()
    """The other seats and their texts of the round before."""
    instruction: str = BOXED
    """How the task wants the answer stated."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An agent's text, and its cost in tokens over all attempts."""

    text: str
    input_tokens: int
    output_tokens: int
    error: str | None = None
    """Why there is no answer; the text is then empty."""
    detail: str = ""
    failures: tuple[str, ...] = ()
    """Every failed attempt by name, in order."""
    cut: bool = False
    """Whether the text reached the limit on its length."""
    estimated: bool = False
    """Whether the tokens could only be estimated."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of a number of answers (see `Answer`); usages can be added."""

    __pydantic_config__ = EXACT
    calls: Whole = 0
    """Requests, each counted once however often it was tried."""
    input_tokens: Whole = 0
    output_tokens: Whole = 0
    failures: Mapping[str, Whole] = field(default_factory=dict)
    """Failed attempts by name."""
    unanswered: Mapping[str, Whole] = field(default_factory=dict)
    """Calls without an answer, by error."""
    cut: Whole = 0
    estimated: Whole = 0
    details: Mapping[str, str] = field(default_factory=dict)
    """The first detail of each error in `unanswered`, if any."""

    @staticmethod
    def of(answers: Iterable[Answer]) -> Usage:
        """The usage of these answers."""
        usage = Usage()
        for a in answers:
            failed = {} if a.error is None else {a.error: 1}
            details = {name: a.detail for name in failed if a.detail}
            usage += Usage(1, a.input_tokens, a.output_tokens, Counter(a.failures), failed, a.cut, a.estimated, details)
        return usage

    def __add__(self, other: Usage) -> Usage:
        values: dict[str, Any] = {"details": {**other.details, **self.details}}
        for name in ("failures", "unanswered"):
            values[name] = Counter(getattr(self, name)) + Counter(getattr(other, name))
        for name in ("calls", "input_tokens", "output_tokens", "cut", "estimated"):
            values[name] = getattr(self, name) + getattr(other, name)
        return Usage(**values)

    def losses(self) -> list[str]:
        """How many calls were left without an answer, and why; one text for each error."""
        said = {name: f" (the first: {detail})" for name, detail in self.details.items()}
        return [f"{n:,} of {self.calls:,}, {name}{said.get(name, '')}" for name, n in self.unanswered.items()]

    def record(self) -> dict[str, Any]:
        """All fields as JSON takes them, names in alphabetical order; `Usage(**record)` reads it back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: dict(sorted(v.items())) if isinstance(v, Mapping) else v for name, v in values.items()}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model samples its texts; the defaults are those of the paper's benchmarks (Latent Agents).

    >>> interp.debate.Sampling(temperature=0).options["max_new_tokens"]
    512
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
        for name, allowed, wanted in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            # dividing logits by less overflows
            ("temperature", self.temperature == 0 or 1e-4 <= self.temperature < float("inf"), "0 or at least 0.0001"),
            ("top_p", 0 < self.top_p <= 1, "more than 0 and at most 1"),
            ("seed", 0 <= self.seed < 2**63, "a number from 0 to 2^63 - 1"),
        ):
            if not allowed:
                raise UserError(f"{name} {getattr(self, name)}: out of range; give {wanted}")

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `interp.generation.generate`, except for the seed, which each text has its own."""
        return {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature, "top_p": self.top_p}


Keep = Callable[[int, Answer], None]
"""Called with the index of a request and its answer."""


class Agent(Protocol):
    """A persona that answers requests, in whatever seat each request names."""

    @property
    def persona(self) -> Persona: ...

    @property
    def facts(self) -> dict[str, Any]:
        """What determines its answers, as JSON, for provenance."""

    def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
        """One answer per request, in order, whatever the batch; a slow agent calls `keep` with each as it gets it."""


def chat_messages(persona: Persona, request: Request) -> list[dict[str, str]]:
    """A request as chat messages (`role` and `content`), with the persona's prompt as system prompt.

    In later rounds the agent's last text is the assistant's message, and the others' texts follow by number.
    """

    def message(role: str, *parts: str) -> dict[str, str]:
        return {"role": role, "content": "\n\n".join(parts)}

    system = [message("system", persona.system_prompt)] if persona.system_prompt else []
    problem = f"Problem: {request.question}"
    first = message("user", problem, request.instruction)
    if not request.others and not request.own:
        return [*system, first]
    others = [f"Agent {i} wrote:\n\n{text}" if text else f"Agent {i} gave no answer." for i, text in request.others]
    review = (
        "These are the latest solutions of the other agents to the same problem. Check them, and your own, for "
        "mistakes; then keep or correct your answer and write out your full solution. " + request.instruction
    )
    if not request.own:
        return [*system, message("user", problem, *others, review)]
    return [*system, first, message("assistant", request.own), message("user", *others, review)]


def without_system(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The messages with the system's, if they open with one, at the beginning of the user's that follows."""
    if len(messages) < 2 or [m["role"] for m in messages[:2]] != ["system", "user"]:
        return list(messages)
    system, user, *rest = messages
    return [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]


def content_text(content: Any) -> str | None:
    """The text of a message's content, which may come in parts, of which thoughts are left out; None if it has none."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    parts = [part for part in content if isinstance(part, dict)]
    texts = [part.get("text") for part in parts if part.get("type", "text") in ("text", "output_text")]
    return "".join(text for text in texts if isinstance(text, str))
