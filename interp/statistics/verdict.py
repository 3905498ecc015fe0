"""What can be said of a question: shown, not shown with the power to show it, or cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from interp.statistics.intervals import Interval
from interp.statistics.significance import POWER, Test, draws_needed, holm

LEVEL = 0.05
SMALLEST = 0.05
"""The smallest effect that matters, unless said otherwise: in AUC, accuracy, area, trait score or share of answers."""
Outcome = Literal["shown", "not shown", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one test of a family says, after Holm's correction.

    Shown: the corrected p is at most 0.05. Not shown: it is not, though an effect of `smallest` had a power of 80 %.
    Cannot tell: an effect that matters would often have been missed, or there was no room for one.

    >>> test = interp.statistics.difference_test("A is better", np.tile([1.0, 1.0, 0.0, 1.0], 5))
    >>> verdict, = interp.statistics.judge([test], smallest=0.1)
    >>> verdict.outcome
    'shown'
    """

    asked: str
    outcome: Outcome
    estimate: Interval
    p: float
    p_corrected: float
    family: int
    """How many tests were made together."""
    detectable: float
    """The effect shown with a power of 80 % in this family (at 0.05 / `family`); infinite if none can be."""
    smallest: float
    """The smallest effect that matters."""
    headroom: float
    """The largest effect that was possible."""
    questions: int
    how: str
    draws: int | None = None
    """Random directions that it was ranked among."""
    choices: int = 1
    """The settings among which it was chosen, which p accounts for."""
    unit: str = "question"
    """What `questions` counts."""
    correction: str = "Holm"

    def record(self) -> dict[str, Any]:
        """As JSON, with what it says in words; numbers that are not finite are None."""
        numbers = {name: v if np.isfinite(v) else None for name, v in asdict(self).items() if isinstance(v, float)}
        return asdict(self) | numbers | {"estimate": self.estimate.record(), "words": self.in_words()}

    def in_words(self) -> str:
        """One sentence.

        >>> test = interp.statistics.difference_test("A is better", np.array([1.0, 1.0, 0.0]))
        >>> print(interp.statistics.judge([test], smallest=0.1)[0].in_words())
        A is better: cannot tell; 3 questions are too few to say.
        """
        corrected = f"p = {self.p_corrected:.2g}" + (f" after {self.correction} over {self.family}" * (self.family > 1))
        found = f"by {self.estimate}, {corrected}, {self.how}, {self.questions} {self.unit}s"
        if self.outcome == "shown":
            return f"{self.asked}: shown ({found})."
        if self.outcome == "not shown":
            power = f"an effect of {self.detectable:.2g} would have been with a power of {POWER:.0%}"
            return f"{self.asked}: not shown, though {power} ({found})."
        if not np.isfinite(self.detectable):
            are, needed = "s are" if self.questions != 1 else " is", draws_needed(self.family * self.choices)
            few = f"{self.questions} {self.unit}{are} too few to say"
            if self.draws is not None and self.draws + 1 < 20 * self.family * self.choices:
                few = f"{self.draws} random directions are too few to say, {needed} would do"
            return f"{self.asked}: cannot tell; {few}."
        if self.headroom < self.detectable:
            why = f"at most {self.headroom:.2g} was possible, and only {self.detectable:.2g} would be seen"
        else:
            why = f"only an effect of {self.detectable:.2g} would be seen with a power of {POWER:.0%}"
        return f"{self.asked}: cannot tell; {why} ({found})."


def judge(
    tests: Sequence[Test], *, smallest: float = SMALLEST, headroom: float | Sequence[float] = np.inf
) -> list[Verdict]:
    """The verdicts of a family of tests, in order. `headroom` is the largest effect that each could have found.

    >>> tests = [interp.statistics.rank_test(name, np.ones(5), np.zeros((99, 5))) for name in ("one", "two")]
    >>> [verdict.p_corrected for verdict in interp.statistics.judge(tests, smallest=0.1)]
    [0.02, 0.02]
    """
    found = []
    rooms = np.broadcast_to(np.asarray(headroom, dtype=float), len(tests))
    for test, p, room in zip(tests, holm([test.p for test in tests]), rooms, strict=True):
        detectable = test.detectable(LEVEL / len(tests), POWER)
        outcome: Outcome = "not shown" if detectable <= min(smallest, room) else "cannot tell"
        outcome = "shown" if p <= LEVEL and np.isfinite(detectable) else outcome
        about = (len(tests), detectable, smallest, float(room), test.questions, test.how, test.draws)
        found.append(Verdict(test.asked, outcome, test.estimate, test.p, p, *about, test.choices, test.unit))
    return found
