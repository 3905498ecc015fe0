"""How the length limit and the structure coefficient change during stage 2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from interp.errors import UserError


class Point(NamedTuple):
    """The length limit in tokens and the factor of the structure reward at one moment."""

    limit: int
    coefficient: float


@dataclass(frozen=True, slots=True)
class Descent:
    """From the first limit and coefficient to the last; the defaults are the paper's.

    Raises `UserError` for limits that rise or are below 1.

    >>> interp.training.Descent(160, 10, geometric=True).at(0.5).limit
    40
    """

    first_limit: int = 2048
    last_limit: int = 512
    first_coefficient: float = 1.0
    last_coefficient: float = 0.05
    geometric: bool = False
    """Lower the limit by equal ratios instead of equal differences: for limits that end at a few tokens."""

    def __post_init__(self) -> None:
        if not 1 <= self.last_limit <= self.first_limit:
            raise UserError(f"limits {self.first_limit} to {self.last_limit}: expected falling ones, the last >= 1")

    def at(self, fraction: float) -> Point:
        """The point after a fraction of the way, from 0 to 1; the limit is rounded."""
        first, last = self.first_limit, self.last_limit
        limit = first * (last / first) ** fraction if self.geometric else first + (last - first) * fraction
        fallen = (self.last_coefficient - self.first_coefficient) * fraction
        return Point(round(limit), self.first_coefficient + fallen)


class Schedule:
    """The limit and the coefficient by the trainer's step; `Waiting` depends on accuracy instead."""

    def at(self, step: int, max_steps: int) -> Point:
        """The point at an optimizer step."""
        raise NotImplementedError

    def observe(self, accuracy: float) -> None:
        """Record the share of right answers of a batch of completions."""

    def state(self) -> dict[str, Any]:
        """What has to be saved, besides the trainer's state, to resume exactly."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a saved state."""


@dataclass(frozen=True)
class Steps(Schedule):
    """Equal parts of training, each with one limit: the paper's 2048, 1280, 512 (coefficient 1.0, 0.525, 0.05).

    >>> [interp.training.Steps().at(step, 300).limit for step in (0, 100, 200)]
    [2048, 1280, 512]
    """

    descent: Descent = field(default_factory=Descent)
    parts: int = 3

    def at(self, step: int, max_steps: int) -> Point:
        part = min(step * self.parts // max(max_steps, 1), self.parts - 1)
        return self.descent.at(part / (self.parts - 1) if self.parts > 1 else 0.0)


@dataclass(frozen=True)
class Smooth(Schedule):
    """The limit falls at every step and reaches its last value after the share `until` of training.

    >>> interp.training.Smooth(until=0.8).at(step=40, max_steps=100).limit
    1280
    """

    descent: Descent = field(default_factory=Descent)
    until: float = 0.8

    def at(self, step: int, max_steps: int) -> Point:
        return self.descent.at(min(step / (max(max_steps, 1) * self.until), 1.0))


@dataclass
class Waiting(Schedule):
    """The limit falls only while the running accuracy holds.

    After `warmup` observations, each moves the limit down one of `moves` equal parts of the descent if the running
    accuracy (over about `memory` observations) is at least `keep` times the reference, which rises with the running
    accuracy and falls ten times as slowly: one lucky stretch does not stop the descent for good. Below `collapse` times
    the reference the limit moves back: with no right completion there is no reward to learn from.

    >>> schedule = interp.training.Waiting(interp.training.Descent(100, 10), moves=9, warmup=1)
    >>> schedule.observe(accuracy=0.5)
    >>> schedule.at(step=0, max_steps=1).limit
    90
    """

    kept: ClassVar[tuple[str, ...]] = ("seen", "moved", "running", "reference")
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
        self.reference = max(self.reference + (self.running - self.reference) / (10 * self.memory), self.running)
        if self.running >= self.keep * self.reference and self.running > 0:
            self.moved = min(self.moved + 1, self.moves)
        elif self.running < self.collapse * self.reference:
            self.moved = max(self.moved - 1, 0)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.kept}

    def restore(self, state: dict[str, Any]) -> None:
        vars(self).update({name: state[name] for name in self.state()})


@dataclass
class Removals(Waiting):
    """When stepwise internalization takes more away: `warmup` steps before each move, and waiting that ends in time."""

    kept = (*Waiting.kept, "done", "late")
    collapse: float = 0.0
    memory: float = 20.0
    steps: int = 0
    done: int = field(default=0, init=False)
    late: int = field(default=0, init=False)
    """Moves that could not wait any longer."""

    def observe(self, accuracy: float) -> None:
        before, self.done = self.moved, self.done + 1
        super().observe(accuracy)
        needed = (self.moves - before - 1) * self.warmup + min(self.warmup, self.steps - self.moves * self.warmup)
        if self.moved == before < self.moves and self.steps - self.done <= needed:
            self.moved, self.late = before + 1, self.late + 1
        if self.moved > before:
            self.seen = 0  # what is left is another text
