"""Intervals on synthetic data: shares, scores, differences, ratios, seeds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import product

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, multinomial, norm

from interp.statistics import Interval, difference_interval, mean_interval, ratio_interval, seeds_interval
from probes.calibration.cells import EFFECTS, ROUNDS, SIZES, Cell, Generator, Rate, coverage, covers

ALIKE = 0.3
"""Correlation of two rounds on one question."""
SPREADS = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations of the accuracy over seeds, in points."""


def cells() -> Iterator[Cell]:
    """Every interval over the grid."""
    for n, mean, rounds in product(SIZES, EFFECTS, ROUNDS):
        setting = {"questions": n, "effect": mean, "rounds": rounds}
        share_of = partial(_shares, n, mean) if rounds == 1 else partial(_rounds, n, mean, rounds)
        yield Cell("right answers", "mean_interval", "coverage", setting, share_of, conservative=True)
        scores = partial(_scores, n, mean, rounds)
        yield Cell("scores", "mean_interval", "coverage", setting, scores, conservative=True)
    for n, skewness in product(SIZES, (0.0, 1.0)):
        setting = {"questions": n, "skewness": skewness}
        draw = partial(_free, n, skewness)
        yield Cell("log-perplexities", "mean_interval", "coverage", setting, draw, conservative=True)
    for n, effect, others in product(SIZES, (0.0, 0.01, 0.05, 0.2, 0.5, 0.9, 0.99), (0.05, 0.5)):
        differ = effect + others * (1 - effect)
        setting = {"questions": n, "effect": effect, "differ": round(differ, 4)}
        draw = partial(_pairs, n, effect, differ)
        yield Cell("pairs, right or wrong", "difference_interval", "coverage", setting, draw, conservative=True)
    for n, effect, rounds in product(SIZES, (0.0, 0.05, 0.2, 0.5, 0.9), ROUNDS):
        setting = {"questions": n, "effect": effect, "rounds": rounds}
        draw = partial(_paired_scores, n, effect, rounds)
        yield Cell("pairs of scores", "difference_interval", "coverage", setting, draw, conservative=True)
    for n, gain in product(SIZES, (0.0, 0.2, 1.0, 4.0)):
        setting = {"questions": n, "gain": gain}
        yield Cell("areas, one over another", "ratio_interval", "coverage", setting, partial(_ratio, n, gain))
    for n, mean, seeds, spread in product(SIZES, EFFECTS, (3, 5), SPREADS):
        if spread / 100 <= min(mean, 1 - mean):  # else most seeds lie at the end of the scale
            setting = {"questions": n, "effect": mean, "seeds": seeds, "spread": spread}
            draw = partial(_seeds, n, mean, seeds, spread / 100)
            yield Cell("right answers of seeds", "seeds_interval", "coverage", setting, draw, conservative=True)


@lru_cache(maxsize=8)
def _of_outcomes(n: int) -> list[Interval]:
    """The interval of 0, 1 … n right answers."""
    return [mean_interval((np.arange(n) < right).astype(float)) for right in range(n + 1)]


def _shares(n: int, mean: float, rng: Generator, data_sets: int) -> Rate:
    """Right answers, one a question: the sum over all outcomes."""
    found = [covers(interval, mean) for interval in _of_outcomes(n)]
    return Rate(float(binom.pmf(np.arange(n + 1), n, mean) @ found), 0.0, 0)


def answers(n: int, mean: float, rounds: int, rng: Generator) -> np.ndarray:
    """The share of rounds in which each question is answered right; questions differ in difficulty."""
    easy = rng.beta(mean * (1 / ALIKE - 1), (1 - mean) * (1 / ALIKE - 1), n)
    return rng.binomial(rounds, easy) / rounds


def _rounds(n: int, mean: float, rounds: int, rng: Generator, data_sets: int) -> Rate:
    return coverage(lambda rng: mean_interval(answers(n, mean, rounds, rng)), mean, rng, data_sets)


def scores(n: int, mean: float, rounds: int, rng: Generator) -> np.ndarray:
    """The mean over rounds of scores between 0 and 1, as ROUGE's: a part that rounds share, and one of each round."""
    shape = 2 * mean, 2 * (1 - mean)
    shared, single = rng.beta(*shape, n), rng.beta(*shape, (rounds, n)).mean(axis=0)
    return np.asarray(shared + single) / 2


def _scores(n: int, mean: float, rounds: int, rng: Generator, data_sets: int) -> Rate:
    return coverage(lambda rng: mean_interval(scores(n, mean, rounds, rng)), mean, rng, data_sets)


def _free(n: int, skewness: float, rng: Generator, data_sets: int) -> Rate:
    shape = 4 / skewness**2 if skewness else 1e4

    def draw(rng: Generator) -> Interval:
        return mean_interval(rng.gamma(shape, 1 / shape**0.5, n), None)

    return coverage(draw, shape**0.5, rng, data_sets)


@lru_cache(maxsize=8)
def _of_pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All outcomes of n pairs (better, worse, tied), and the ends of the interval of each."""
    outcomes = np.array([(up, down, n - up - down) for up in range(n + 1) for down in range(n + 1 - up)])
    values = np.array([1.0, -1.0, 0.0])
    found = [difference_interval(np.repeat(values, outcome)) for outcome in outcomes]
    return outcomes, np.array([(one.low - 1e-12, one.high + 1e-12) for one in found])


def _pairs(n: int, effect: float, differ: float, rng: Generator, data_sets: int) -> Rate:
    """Right against wrong answers: the sum over all outcomes."""
    outcomes, ends = _of_pairs(n)
    inside = (ends[:, 0] <= effect) & (effect <= ends[:, 1])
    up, down = (differ + effect) / 2, (differ - effect) / 2
    chance = multinomial.pmf(outcomes, n, [up, down, 1 - up - down])
    return Rate(float(chance @ inside), 0.0, 0)


def _paired_scores(n: int, effect: float, rounds: int, rng: Generator, data_sets: int) -> Rate:
    low = (1 - effect) / 2

    def draw(rng: Generator) -> Interval:
        return difference_interval(scores(n, low + effect, rounds, rng) - scores(n, low, rounds, rng))

    return coverage(draw, effect, rng, data_sets)


def _ratio(n: int, gain: float, rng: Generator, data_sets: int) -> Rate:
    def draw(rng: Generator) -> Interval:
        shared = rng.gamma(4, 1, n)
        return ratio_interval((shared + rng.gamma(4, 1, n)) * (1 + gain), shared + rng.gamma(4, 1, n))

    return coverage(draw, gain, rng, data_sets)


@lru_cache(maxsize=64)
def between_seeds(mean: float, spread: float) -> tuple[float, float]:
    """Mean and standard deviation, in probits, of accuracies with this mean and standard deviation over seeds."""
    at, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()

    def centre(deviation: float) -> float:
        return float(norm.ppf(mean) * (2 + deviation**2) ** 0.5)

    def too_wide(deviation: float) -> float:
        accuracy = norm.cdf((centre(deviation) + deviation * at) / 2**0.5)  # questions differ by 1
        return float((weight @ (accuracy - mean) ** 2) ** 0.5 - spread)

    deviation = float(brentq(too_wide, 0, 5)) if spread else 0.0
    return centre(deviation), deviation


def _seeds(n: int, mean: float, seeds: int, spread: float, rng: Generator, data_sets: int) -> Rate:
    centre, deviation = between_seeds(mean, spread)

    def draw(rng: Generator) -> Interval:
        easy = centre + rng.standard_normal(n) + deviation * rng.standard_normal((seeds, 1))
        return seeds_interval((rng.random((seeds, n)) < norm.cdf(easy)).astype(float))

    return coverage(draw, mean, rng, data_sets)
