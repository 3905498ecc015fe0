"""Tests: exact sign flips, ranks among random draws, Student's; and how small an effect each would show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.stats import binom, norm
from scipy.stats import t as student

from interp.statistics.intervals import Interval, Values, difference_interval, standard_error

GRID = 500
"""Steps from 0 to the largest difference to which differences are rounded in an exact test."""
POWER = 0.8


@dataclass(frozen=True)
class Test:
    """Whether a value is above 0: one-sided, before any correction.

    >>> interp.statistics.difference_test("A is better", np.array([1.0, 1.0, 0.0, 1.0, 1.0])).p
    0.0625
    """

    asked: str
    """What would be shown, as a sentence without its full stop."""
    estimate: Interval
    p: float
    how: str
    questions: int
    detectable: Callable[[float, float], float]
    """The effect that is shown at a level with a power; infinite if none can be."""
    draws: int | None = None
    """Random directions that it was ranked among."""
    choices: int = 1
    """The settings among which it was chosen."""
    unit: str = "question"
    """What `questions` counts."""


def difference_test(
    asked: str, differences: Values, *, estimate: Interval | None = None, scale: float = 1.0, coupled: bool = False
) -> Test:
    """Whether the mean of paired differences is above 0, by flipping the signs of whole questions; exact.

    Assumes that differences are symmetric about 0 if there is no effect. `coupled` differences, of predictions by
    cross-fitting, are not independent: Student's test with the doubled variance (see `COUPLED`). Where flipping the
    signs of so few questions could not show anything, it shows nothing either.

    >>> interp.statistics.difference_test("A is better", np.array([0.1, -0.2, 0.3, 0.4])).p
    0.1875
    """
    n, mean = len(differences), float(np.mean(differences)) if len(differences) else np.nan
    estimate = estimate or difference_interval(differences, scale=scale, coupled=coupled)
    if coupled:
        test = error_test(asked, estimate, standard_error(differences - mean, scale=scale, coupled=True), n)
        return replace(test, detectable=lambda *ask: test.detectable(*ask) if 0.5**n <= ask[0] else np.inf)
    sizes = np.abs(differences[differences != 0])
    largest = float(sizes.max(initial=0)) or scale
    p = sign_flip(np.rint(differences / largest * GRID).astype(np.int64), two_sided=False) if n else 1.0
    how, error = "exact sign flips", float(np.std(differences, ddof=1)) / n**0.5 if n > 1 else 0.0
    if len(sizes) < n and (sizes > largest - 1e-9).all():
        return Test(asked, estimate, p, how, n, lambda *ask: largest * _outnumbering(n, len(sizes), *ask))

    def detectable(level: float, power: float) -> float:
        outcomes = int(level * 2**n)  # of the signs, that count as shown; if few, the test is coarse
        least = _least(error, error, n - 1)(outcomes / 2**n, power) if outcomes else np.inf
        return least * (1 + 0.2 / max(outcomes, 1))

    return Test(asked, estimate, p, how, n, detectable)


def error_test(asked: str, estimate: Interval, error: float, n: int, spread: float | None = None) -> Test:
    """Student's one-sided test of a value with its standard error over `n` questions.

    `spread` is the error that it has if there is an effect, for the power.
    """
    p = float(student.sf(estimate.mean / error, n - 1)) if n > 1 and error > 0 else 1.0
    return Test(asked, estimate, p, "Student's t", n, _least(error, spread or error, n - 1))


def _least(error: float, spread: float, df: int) -> Callable[[float, float], float]:
    """The effect that Student's test with this error shows, by its level and power, of values with this spread.

    The spread of few questions is more often too small than too large, which its median is corrected for.
    """

    def least(level: float, power: float) -> float:
        if df < 1:
            return np.inf
        return float(student.isf(level, df) * error + student.ppf(power, df) * spread) * (1 + 1 / (3 * df))

    return least


@lru_cache(maxsize=1024)
def _outnumbering(n: int, differ: int, level: float, power: float) -> float:
    """The share by which better questions must outnumber worse ones for a sign test to show it.

    As many questions differ as have been seen to, or as few more as the effect takes.
    """
    m = np.arange(n + 1)
    needed = binom.isf(level, m, 0.5)

    def lacking(effect: float) -> float:
        share = max(differ / n, effect)
        return float(power - binom.pmf(m, n, share) @ binom.sf(needed, m, (1 + effect / share) / 2))

    return float(brentq(lacking, 1e-6, 1, xtol=1e-4)) if lacking(1) <= 0 else np.inf


def rank_test(
    asked: str, own: Values, random: Float[np.ndarray, "draw question"], *, scale: float = 1.0, choices: int = 1
) -> Test:
    """Whether a direction does more than random ones: p = (1 + those that do at least as much) / (1 + all).

    The direction is the unit (Phipson and Smyth 2010): if it is drawn like the random ones, p is uniform, however few
    the questions. The estimate is the mean over questions minus that of all random ones. If the direction was chosen as
    the best of several `choices`, and random ones were not, p is multiplied by their number.

    >>> interp.statistics.rank_test("it does more", np.ones(5), np.zeros((99, 5))).p
    0.01
    """
    drawn, over = np.sort(random.mean(axis=1))[::-1], own - (random.mean(axis=0) if len(random) else 0)
    p = min(1.0, choices * (1 + int((drawn >= own.mean() - 1e-12).sum())) / (1 + len(drawn)))
    error = standard_error(over - over.mean(), scale=scale)

    def detectable(level: float, power: float) -> float:
        beaten = int(level / choices * (len(drawn) + 1) + 1e-9)  # own may be beaten by one fewer
        if not beaten:
            return np.inf
        tail = drawn[: max(2 * beaten, 5) + 1]  # other random directions would have another limit: a tail's falls so
        moved = (tail.mean() - tail[-1]) / (beaten - 0.4) ** 0.5
        return float(drawn[beaten - 1] - drawn.mean() + norm.ppf(power) * np.hypot(error, moved))

    how = "rank" + f" of the best of {choices}" * (choices > 1) + f" among {len(drawn)} random directions"
    return Test(asked, difference_interval(over, scale=scale), p, how, len(own), detectable, len(drawn), choices)


def draws_needed(comparisons: int) -> int:
    """The random draws with which one of so many comparisons can be shown by its rank alone: at least 99.

    >>> interp.statistics.draws_needed(12)
    239
    """
    return max(20 * comparisons - 1, 99)


def limit_test(asked: str, losses: Values, limit: float, *, scale: float = 1.0) -> Test:
    """Whether a mean loss stays below a limit; the value is the limit minus the loss (Student's, as its interval).

    >>> interp.statistics.limit_test("it costs less than 5 points", np.zeros(200), 0.05).p < 0.001
    True
    """
    left = limit - np.asarray(losses, dtype=np.float64)
    error = standard_error(left - left.mean(), scale=scale)
    lost = difference_interval(losses, scale=scale)
    estimate, spread = Interval(limit - lost.mean, limit - lost.high, limit - lost.low), float(np.std(left))
    return error_test(asked, estimate, error, len(left), spread / len(left) ** 0.5)


def all_of(asked: str, tests: Sequence[Test]) -> Test:
    """Whether all of several are above 0: the largest p, which needs no correction (Berger 1982).

    The detectable effect is one that all show, as if they were independent: its power is 80 % or more.

    >>> tests = [interp.statistics.difference_test(name, np.array([1.0, 1.0, x])) for name, x in (("a", 1), ("b", 0))]
    >>> interp.statistics.all_of("both", tests).p
    0.25
    """
    worst = max(tests, key=lambda test: (test.p, -test.estimate.mean))
    how = f"{worst.how}, the weakest of {len(tests)}: {worst.asked}" if len(tests) > 1 else worst.how

    def detectable(level: float, power: float) -> float:
        powers = np.linspace(power, 0.999, 8 if len(tests) > 1 else 1)
        reach = np.array([[test.detectable(level, one) for one in powers] for test in tests])
        if not np.isfinite(reach).all() or len(tests) == 1:
            return float(reach.max())
        effects = np.linspace(reach[:, 0].max(), reach.max(), 100)
        each = [np.interp(effects, np.maximum.accumulate(one), powers, right=1) for one in reach]
        enough = np.prod(each, axis=0) >= power
        return float(effects[enough][0] if enough.any() else reach.max())

    draws = min((test.draws for test in tests if test.draws is not None), default=None)
    choices = max(test.choices for test in tests)
    return Test(asked, worst.estimate, worst.p, how, worst.questions, detectable, draws, choices, worst.unit)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) correction for a family: if none is true, any p is at most 0.05 in 5 % of the families.

    >>> interp.statistics.holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1))
    return [float(round(value, 12)) for value in corrected.clip(max=1)]


@dataclass(frozen=True, slots=True)
class PairedTest:
    """How two methods differ on the same questions.

    >>> interp.statistics.PairedTest(interp.statistics.Interval(0.1, -0.1, 0.3), 0.5, better=2, worse=1, tied=7).better
    2
    """

    difference: Interval
    """The first's accuracy minus the second's."""
    p: float
    """Two-sided exact p-value of the sign-flip test."""
    better: int
    """Questions on which the first is right more often."""
    worse: int
    tied: int


def paired_test(first: Float[np.ndarray, "run question"], second: Float[np.ndarray, "run_b question"]) -> PairedTest:
    """Compare the right answers of two methods, question by question; their numbers of runs may differ.

    The test flips the signs of the questions' differences and is exact; with one run on each side it is McNemar's
    (1947). It is about these runs on other questions, not about other runs.

    >>> interp.statistics.paired_test(np.array([[1.0, 1.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0, 0.0]])).p
    0.5
    """
    scaled = np.rint(first.sum(axis=0) * len(second) - second.sum(axis=0) * len(first)).astype(np.int64)
    interval = difference_interval(scaled / (len(first) * len(second)))
    return PairedTest(interval, sign_flip(scaled), *(int((np.sign(scaled) == sign).sum()) for sign in (1, -1, 0)))


def sign_flip(differences: Int[np.ndarray, " question"], *, two_sided: bool = True) -> float:
    """The probability that random signs give a sum at least as far from 0, or at least as large."""
    observed = int(differences.sum())
    divisor = max(int(np.gcd.reduce(differences)), 1)
    sizes = np.abs(differences[differences != 0]) // divisor
    distribution = np.ones(1)  # of the sum of the positive ones; the whole sum is 2 × that − total
    for size in sizes:
        distribution = (np.pad(distribution, (0, size)) + np.pad(distribution, (size, 0))) / 2
    sums = 2 * np.arange(len(distribution)) - sizes.sum()
    far = np.abs(sums) >= abs(observed) // divisor if two_sided else sums >= observed // divisor
    return min(1.0, float(distribution[far].sum()))
