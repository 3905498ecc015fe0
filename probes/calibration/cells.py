"""A cell of the grid: data of a known truth, drawn again and again, and how often what is said of them holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from interp.statistics import Interval, Test, judge
from interp.statistics.intervals import Z

SIZES = (10, 20, 48, 200)
EFFECTS = (0.01, 0.05, 0.2, 0.5, 0.9, 0.99, 0.994)
ROUNDS = (1, 2, 4)
LABELS = ("agent 1", "agent 2", "agent 3")
LOWEST, HIGHEST = 0.93, 0.97
"""The coverage that a 95 % interval may have."""
LEVEL = 0.05
POWER, SLACK = 0.80, 0.05
TYPICAL = 400
"""Data sets without an effect that say which effect is detectable; their median counts."""

Measure = Literal["coverage", "false positives", "power"]
Generator = np.random.Generator


class Rate(NamedTuple):
    """A share of data sets; `error` is the half-width of its 95 % interval, 0 where all outcomes were summed."""

    value: float
    error: float
    data_sets: int


@dataclass(frozen=True)
class Cell:
    """One simulation. Equal cells give equal numbers, in whatever order they are run."""

    what: str
    """The kind of data, in words."""
    function: str
    """What is simulated, by its name in the toolkit."""
    measure: Measure
    setting: Mapping[str, float]
    simulate: Callable[[Generator, int], Rate]
    conservative: bool = False
    """Whether the interval is said to cover more often than 95 %, or the power to be at least 80 %."""
    costs: int = 1
    """By how much fewer data sets it gets."""

    def place(self) -> dict[str, Any]:
        """What the cell is, as JSON."""
        what = {"what": self.what, "function": self.function, "measure": self.measure}
        return what | {"conservative": self.conservative, "setting": dict(self.setting)}

    def holds(self, rate: Rate) -> bool:
        """Whether the rate is what is claimed."""
        if self.measure == "coverage":
            return bool(LOWEST <= rate.value <= (1 if self.conservative else HIGHEST))
        if self.measure == "false positives":
            return bool(rate.value <= LEVEL + rate.error)
        return bool(POWER - SLACK <= rate.value <= (1 if self.conservative else POWER + SLACK))


def share(outcomes: Iterable[bool]) -> Rate:
    """How often something was so, with the error of Agresti and Coull (1998)."""
    found = np.fromiter(outcomes, dtype=bool)
    near = (found.sum() + 2) / (len(found) + 4)
    return Rate(float(found.mean()), float(Z * (near * (1 - near) / (len(found) + 4)) ** 0.5), len(found))


def covers(interval: Interval, truth: float) -> bool:
    """Whether the truth lies in the interval; the last digits of its ends are rounded."""
    return bool(interval.low - 1e-12 <= truth <= interval.high + 1e-12)


def coverage(draw: Callable[[Generator], Interval], truth: float, rng: Generator, data_sets: int) -> Rate:
    """How often the interval of a data set covers the truth."""
    return share(covers(draw(rng), truth) for _ in range(data_sets))


def false_positives(draw: Callable[[Generator], list[Test]], rng: Generator, data_sets: int) -> Rate:
    """How often anything is shown in a family of tests in which nothing is true."""
    return share(any(v.outcome == "shown" for v in judge(draw(rng), smallest=0)) for _ in range(data_sets))


def power(draw: Callable[[Generator, float], list[Test]], rng: Generator, data_sets: int) -> Rate:
    """How often the first test of a family is shown if its effect is the one said to be detectable."""
    stated = [judge(draw(rng, 0.0), smallest=0)[0].detectable for _ in range(TYPICAL)]
    effect = float(np.median(stated))
    return share(judge(draw(rng, effect), smallest=0)[0].outcome == "shown" for _ in range(data_sets))
