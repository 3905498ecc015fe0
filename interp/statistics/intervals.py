"""95 % intervals. Questions are independent draws; what is measured on one question is not, and counts as one value.

`interp calibrate` simulates each: docs/calibration.md has the coverage that was seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import betaincinv
from scipy.stats import t as student

Values = Float[np.ndarray, " question"]
Z = 1.959963984540054
COUPLED = 2
"""By how much the variance of cross-fitted values exceeds that of independent ones: of two questions in different
folds, each helps to fit what scores the other. If there is nothing to find, both scores are the same inner product;
with a strong effect they are nearly independent, and the interval is wider than it need be."""
FEW = 4
"""If no more questions than this make a mean what it is, larger values may be unseen."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval.

    >>> print(interp.statistics.Interval(0.5, 0.25, 0.75))
    0.50 [0.25, 0.75]
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def record(self) -> dict[str, float | None]:
        """As JSON; numbers that are not finite are None."""
        return {end: value if np.isfinite(value) else None for end, value in asdict(self).items()}


def standard_error(deviations: Values, *, scale: float = 1.0, coupled: bool = False) -> float:
    """The standard error of a value from each question's deviation from it (its influence), of mean 0.

    Two more questions are added, as far from the value as the farthest seen, or, where all agree, as far as `scale`: a
    few values of a skewed distribution, or many of a rare event, show too little of its spread.
    """
    n, farthest = len(deviations), float(np.abs(deviations).max(initial=0))
    variance = (float((deviations**2).sum()) + 2 * (farthest if farthest > 1e-12 else scale) ** 2) / (n + 2)
    return float((variance * (COUPLED if coupled else 1) / n) ** 0.5)


def estimate_interval(
    value: float,
    deviations: Values,
    bounds: tuple[float, float] | None = None,
    *,
    coupled: bool = False,
    least: float | None = None,
) -> Interval:
    """The interval of any value that is nearly a mean over questions, from each question's influence on it.

    `deviations` have mean 0: n × the change of the value when the question counts more. Without `bounds` it is
    Student's. With them it is Clopper and Pearson's for as many independent trials as have the same standard error
    (Korn and Graubard 1998), at least `least` or one a question: exact for shares, and never beyond the scale. Where
    few questions make the value what it is (Kish's effective number, counted from the nearer end), as many as there are
    questions: the others may hide some as far from it as the scale allows. Conservative; seen in 0.95 to 1 for shares,
    shares over rounds and Beta-distributed scores with means of 0.01 to 0.994, from 10 questions on.

    >>> print(interp.statistics.estimate_interval(0.0, np.zeros(200), (0, 1)))
    0.00 [0.00, 0.02]
    """
    n, value = len(deviations), float(value)
    if not np.isfinite(value) or n < 1:
        return Interval(value, np.nan, np.nan)
    quantile = float(student.ppf(0.975, n - 1)) if n > 1 else np.inf
    if bounds is None:
        reach = quantile * standard_error(deviations, coupled=coupled) if n > 1 else np.inf
        return Interval(value, value - reach, value + reach)
    low, high = bounds
    share, apart = min(max((value - low) / (high - low), 0.0), 1.0), deviations / (high - low)
    nearest, least = min(share, 1 - share), n if least is None else least
    trials = float(least)
    if n > 1 and nearest > 0:
        making = n / (1 + float((apart**2).mean()) / nearest**2)
        unseen = min(1.0, FEW / making) ** 6
        quantile = float(student.ppf(0.975, max(min(n, least) - 1, 1)))
        error, rare = quantile / Z * standard_error(apart, scale=0.5), share * (1 - share) / max(least, 1)
        trials = max(least, share * (1 - share) / ((1 - unseen) * error**2 + unseen * rare))
    ends = clopper_pearson(share, trials / (COUPLED if coupled else 1))
    return Interval(value, *(low + end * (high - low) for end in ends))


def clopper_pearson(share: float, trials: float) -> tuple[float, float]:
    """Clopper and Pearson's (1934) interval of a share of a number of trials, which need not be whole."""
    hits, misses = share * trials, (1 - share) * trials
    low = float(betaincinv(hits, misses + 1, 0.025)) if hits > 1e-9 else 0.0
    high = float(betaincinv(hits + 1, misses, 0.975)) if misses > 1e-9 else 1.0
    return low, high


def mean_interval(
    values: Values, bounds: tuple[float, float] | None = (0.0, 1.0), *, coupled: bool = False
) -> Interval:
    """The mean over questions of scores within `bounds`, or of unbounded ones; see `estimate_interval`.

    `coupled`: the scores are of predictions by cross-fitting.

    >>> print(interp.statistics.mean_interval(np.array([1.0, 1.0, 0.0, 1.0])))
    0.75 [0.19, 0.99]
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean()) if len(values) else np.nan
    return estimate_interval(mean, values - mean, bounds, coupled=coupled)


def difference_interval(differences: Values, *, scale: float = 1.0, coupled: bool = False) -> Interval:
    """The mean of paired differences, question by question, none beyond ± `scale`: see `estimate_interval`.

    Where all agree, two questions that differ by `scale` are added, as Bonett and Price (2012) do. Conservative; seen
    in 0.94 to 1 for right against wrong answers and differences of scores.

    >>> print(interp.statistics.difference_interval(np.array([0.25, 0.0, 0.5, 0.25, 0.0])))
    0.20 [-0.43, 0.72]
    """
    return mean_interval(differences, (-scale, scale), coupled=coupled)


def ratio_interval(first: Values, second: Values) -> Interval:
    """By how much the first mean exceeds the second, as a share of it: 0.154 is +15.4 %. Questions are in one order.

    Fieller's (1954), which is −1 to infinity where the second mean may be 0. Seen to cover in 0.94 to 0.98.

    >>> print(interp.statistics.ratio_interval(np.array([0.4, 0.5, 0.6, 0.5]), np.array([0.2, 0.3, 0.3, 0.2])))
    1.00 [0.58, 1.74]
    """
    n, a, b = len(first), float(first.mean()), float(second.mean())
    if n < 2 or b <= 0:
        return Interval(np.nan if b == 0 else a / b - 1, -1.0, np.inf)
    (xx, xy), (_, yy) = np.cov(first, second) / n * float(student.ppf(0.975, n - 1)) ** 2
    square, product = b**2 - yy, a * b - xy
    if square <= 0:
        return Interval(a / b - 1, -1.0, np.inf)
    root = max(product**2 - square * (a**2 - xx), 0.0) ** 0.5
    return Interval(a / b - 1, (product - root) / square - 1, (product + root) / square - 1)


def seeds_interval(values: Float[np.ndarray, "seed question"], bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """The mean over seeds and questions, where other seeds are meant, too: a statement about the procedure.

    Both are drawn at random and crossed: the variance is that of the two-way layout without replication (Searle,
    Casella and McCulloch 1992), its degrees of freedom Satterthwaite's (1946). One seed has `mean_interval`, which is
    about that seed. Conservative; seen in 0.94 to 1 with 3 and 5 seeds whose accuracies differ by a standard deviation
    of 0 to 4 points; two seeds (0.89) say too little about how seeds differ.

    >>> right = np.tile([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]], 10)
    >>> print(interp.statistics.seeds_interval(right))
    0.67 [0.34, 0.90]
    """
    (seeds, n), mean = values.shape, float(values.mean())
    if seeds == 1 or n == 1:
        return mean_interval(values.mean(axis=0), bounds)
    by_seed, by_question = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_question + mean
    square = np.array([n * by_seed.var(ddof=1), seeds * by_question.var(ddof=1)])  # mean squares
    noise = float((rest**2).sum()) / ((seeds - 1) * (n - 1))
    total = max(square.sum() - noise, square.max())
    low, high = bounds
    share = (mean - low) / (high - low)
    trials = float(n)
    if total > 1e-24 and 0 < share < 1:
        free = np.array([seeds - 1, n - 1, (seeds - 1) * (n - 1)])
        degrees = total**2 / float((np.append(square, noise) ** 2 / free).sum())
        quantile = float(student.ppf(0.975, min(max(degrees, seeds - 1), n - 1)))
        error = (total / (seeds * n)) ** 0.5 / (high - low)
        trials = min(share * (1 - share) * (Z / quantile / error) ** 2, seeds * n)
    return Interval(mean, *(low + end * (high - low) for end in clopper_pearson(share, trials)))
