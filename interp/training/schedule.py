"""How the limit on length and the structure coefficient move during stage 2.

Knows steps and accuracies as plain numbers; knows nothing about trainers, rewards or models. A schedule
says what *fraction* of the way it has gone, and a `Descent` what limit and coefficient hold there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from interp.errors import UserError


@dataclass(frozen=True, slots=True)
class Point:
    """What holds at a moment: the most tokens that count, and the structure reward's multiple."""

    limit: int
    coefficient: float


@dataclass(frozen=True, slots=True)
class Descent:
    """From the first limit and coefficient to the last; the defaults are the paper's (Latent Agents, stage 2).

    Raises `UserError` for limits below 1 or that rise.
    """

    first_limit: int = 2048
    """Tokens that a completion may have at the start."""
    last_limit: int = 512
    """Tokens that it may have at the end."""
    first_coefficient: float = 1.0
    """Multiple of the structure reward at the start."""
    last_coefficient: float = 0.05
    """Multiple of the structure reward at the end."""
    geometric: bool = False
    """The limit falls by equal ratios, not by equal numbers of tokens: for limits that end at a few tokens."""

    def __post_init__(self) -> None:
        if not 1 <= self.last_limit <= self.first_limit:
            raise UserError(f"limits {self.first_limit} to {self.last_limit} given: wanted are falling ones, 1 or more")

    def at(self, fraction: float) -> Point:
        """The point after a fraction in [0, 1] of the way; both parts go straight, the limit rounded."""
        if self.geometric:
            limit = self.first_limit * (self.last_limit / self.first_limit) ** fraction
        else:
            limit = self.first_limit + (self.last_limit - self.first_limit) * fraction
        coefficient = self.first_coefficient + (self.last_coefficient - self.first_coefficient) * fraction
        return Point(round(limit), coefficient)


class Schedule(Protocol):
    """The limit and the coefficient, driven by the trainer's state and, where it looks, by accuracy."""

    def at(self, step: int, max_steps: int) -> Point:
        """The point at optimizer step `step` of `max_steps`; asking changes nothing."""
        ...

    def observe(self, accuracy: float) -> None:
        """Take note of the share of right answers inside the limit, once for each batch of completions."""
        ...

    def state(self) -> dict[str, Any]:
        """What must be kept, besides the trainer's state, to go on exactly; JSON."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a kept state."""
        ...


class _Clock:
    """A schedule that looks at nothing but the step."""

    def observe(self, accuracy: float) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Steps(_Clock):
    """Equal parts of training, each with one limit: the paper's 2048, 1280, 512 (coefficient 1.0, 0.525, 0.05)."""

    descent: Descent = field(default_factory=Descent)
    parts: int = 3

    def at(self, step: int, max_steps: int) -> Point:
        part = min(step * self.parts // max(max_steps, 1), self.parts - 1)
        return self.descent.at(part / (self.parts - 1) if self.parts > 1 else 0.0)


@dataclass(frozen=True)
class Smooth(_Clock):
    """The limit falls at every step and is at its last from the share `until` of training on."""

    descent: Descent = field(default_factory=Descent)
    until: float = 0.8

    def at(self, step: int, max_steps: int) -> Point:
        return self.descent.at(min(step / (max(max_steps, 1) * self.until), 1.0))


@dataclass
class Waiting:
    """The limit moves on only while a running accuracy holds.

    The first `warmup` observations set the reference and move nothing. From then on each observation
    moves the limit on by one of `moves` equal parts of the descent, if the running accuracy (a mean that
    forgets with `memory` observations) is at least `keep` of the reference. The reference rises with
    the running accuracy, so that what training gained is held as well, and follows it down ten times as
    slowly as that forgets: one lucky stretch does not stop the descent for good. Below `keep` the limit
    stands. Below `collapse` of the reference it moves back by one part: where no completion is right any
    more, no reward tells one from another, and the model would stay there for ever.
    """

    descent: Descent = field(default_factory=Descent)
    moves: int = 50
    keep: float = 0.95
    collapse: float = 0.5
    warmup: int = 5
    memory: float = 5.0
    seen: int = field(default=0, init=False)
    moved: int = field(default=0, init=False)
    running: float = field(default=0.0, init=False)
    reference: float = field(default=0.0, init=False)

    def at(self, step: int, max_steps: int) -> Point:
        return self.descent.at(self.moved / self.moves)

    def observe(self, accuracy: float) -> None:
        self.seen += 1
        share = 1 / min(self.seen, self.memory)  # a plain mean until there is something to forget
        self.running += share * (accuracy - self.running)
        if self.seen < self.warmup:
            return
        forgotten = self.reference + (self.running - self.reference) / (10 * self.memory)
        self.reference = max(forgotten, self.running)
        if self.running >= self.keep * self.reference and self.running > 0:
            self.moved = min(self.moved + 1, self.moves)
        elif self.running < self.collapse * self.reference:
            self.moved = max(self.moved - 1, 0)

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen, "moved": self.moved, "running": self.running, "reference": self.reference}

    def restore(self, state: dict[str, Any]) -> None:
        self.seen, self.moved = state["seen"], state["moved"]
        self.running, self.reference = state["running"], state["reference"]
