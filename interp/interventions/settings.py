"""What sweep and suppress try, as settings. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from interp.debate.agents import Sampling
from interp.errors import UserError
from interp.models.layers import parse_layers
from interp.options import check_choices, numbers, one_of, option
from interp.steering.settings import Placement, Tokens

PLAIN_QUESTION = "plain"
"""A question without any persona, which measures accuracy; a trained model gets it as it was trained."""
SUPPRESSED = 0.05
"""The trait score below which a trait counts as suppressed."""
RANGE = (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)
Context = Literal["turn", "question"]
Elicit = Literal["persona", "question", "turn"]
Tried = Literal["add", "clamp"]


@dataclass(frozen=True)
class TriedSettings(Placement):
    """What sweep and suppress have in common."""

    coefficients: tuple[float, ...] = option(RANGE, parse=numbers)
    """Coefficients to try besides 0, separated by commas; negative ones subtract."""
    random_controls: int | None = option(None, min=0, max=100_000, shown="as many as the comparisons need")
    """Random directions of the same length for each that is tested, as controls; by default at least 99."""
    sampling: Sampling = Sampling(128, 0.0)  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers == ():
            raise UserError("layers: none given; give at least one, or all")
        if not any(self.coefficients):
            raise UserError(f"coefficients {self.coefficients}: give at least one that is not 0")


@dataclass(frozen=True)
class SweepSettings(TriedSettings):
    """What a sweep tries.

    >>> interp.interventions.SweepSettings(layers=(1, 2)).coefficients
    (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)
    """

    layers: tuple[int, ...] | None = option(parse=parse_layers)
    operation: str = option("add", metavar="[add|clamp|FILE.py:FUNCTION]")
    """Add the direction, clamp the projection on it to the coefficient, or call a function of your own: (values, unit
    directions, coefficient) → values."""
    contexts: tuple[Context, ...] = option(get_args(Context), name="context")
    """Continue a debate from an agent's tag (turn), or from the bare question; repeat for both."""
    direction_of: tuple[str, ...] = ()
    """Agent, by seat (2) or label, whose direction to use; repeat for several."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if ":" not in self.operation:
            one_of("operation", self.operation, get_args(Tried))


@dataclass(frozen=True)
class SuppressSettings(TriedSettings):
    """What is tried against a trait.

    >>> interp.interventions.SuppressSettings(operations=("add", "clamp")).tokens
    'writing'
    """

    layers: tuple[int, ...] | None = option(None, parse=parse_layers, shown="all")
    operations: tuple[Tried, ...] = option(("add",), name="operation")
    """Add the direction, or clamp the projection on it to the coefficient; repeat for both."""
    tokens: Tokens = "writing"
    max_accuracy_loss: float = option(0.05, min=0, max=1)
    """Accuracy that a remedy may cost at most; held only where its interval is, too."""


@dataclass(frozen=True)
class TraitSettings:
    """A trait: the questions in which it shows, how it is elicited and scored.

    >>> interp.interventions.TraitSettings(elicit=("question",)).task
    'small-arithmetic'
    """

    trait: Path | None = None
    """Pairs of texts with (positive) and without (negative) a trait of your own, as interp fit takes them, each with
    its prompt: half of the prompts give the direction, the others are asked."""
    task: str = "small-arithmetic"
    """Questions in which the trait shows: small-arithmetic, evil or hallucination."""
    persona: str | None = option(None, shown="the task's, or evil")
    """The malicious persona."""
    benign: str = "guardian"
    """Persona on the other side of the prompts' contrast, and of the fine-tune."""
    guard: str | None = option(None, shown="guardian; chain-of-thought for the organism")
    """System prompt to compare against: a persona, a text, or none."""
    elicit: tuple[Elicit, ...] = ("persona",)
    """How the trait is elicited: by the malicious persona's system prompt (persona), by the bare question, or by a
    debate up to the malicious agent's tag (turn); repeat for several."""
    seat: int = option(2, min=1)
    """Seat of the malicious agent in debates, with --elicit turn."""
    accuracy_task: str | None = option(None, shown="arithmetic, as small as the task's")
    """Plain questions that measure accuracy."""
    score: str | None = option(None, shown="rule if the task has one", metavar="[rule|classifier|judge|FILE.py:NAME]")
    """How the trait is scored: by a rule on the answer, a classifier (with --trait fitted on the pairs), a judge, or a
    function of your own: text → a number from 0 to 1."""
    judge: str | None = None
    """The server's name for the judge's model."""
    server: str | None = None
    """Address of an OpenAI-compatible server."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's key."""
    fit_questions: int = option(256, min=1)
    """Questions for the prompts' contrast and the fine-tune."""
    validation_questions: int = option(200, min=1)
    """Questions on which layer and coefficient are chosen; fewer than 60 cannot hold a loss of 5 points."""
    questions: int = option(200, min=1)
    """Number of questions."""

    def __post_init__(self) -> None:
        check_choices(self)
        if self.score is not None and ":" not in self.score:
            one_of("score", self.score, ("rule", "classifier", "judge"))
