"""Intervals and tests for accuracies, with questions as what was sampled.

Knows numbers, one row a run and one column a question; knows nothing about where they come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

_Z = float(ndtri(0.975))


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    mean: float
    low: float
    high: float


def accuracy(correct: Float[np.ndarray, "run question"]) -> Interval:
    """The share of right answers over all runs and questions.

    The interval of one run is Wilson's (1927). With several it is Agresti and Coull's (1998) idea on the
    questions' own means: Wald's interval after two questions were added that are always right and two
    that never are, so that runs on the same questions count for what they add.
    """
    n_runs, n = correct.shape
    by_question = correct.mean(axis=0)
    p = float(by_question.mean())
    if n_runs == 1:
        centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * (p * (1 - p) / n + _Z**2 / (4 * n**2)) ** 0.5
    else:
        adjusted = np.append(by_question, [1.0, 1.0, 0.0, 0.0])
        centre = float(adjusted.mean())
        half = _Z * float(adjusted.std()) / len(adjusted) ** 0.5
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


@dataclass(frozen=True, slots=True)
class PairedTest:
    """How two methods differ on the same questions.

    `difference` is the first's accuracy minus the second's; `p` the two-sided exact p-value of the
    sign-flip test. `better`, `worse` and `tied` count the questions.
    """

    difference: Interval
    p: float
    better: int
    worse: int
    tied: int


def paired_test(first: Float[np.ndarray, "run question"], second: Float[np.ndarray, "run_b question"]) -> PairedTest:
    """Compare the right answers of two methods, question by question; their numbers of runs may differ.

    The test takes the sign of each question's difference as a fair coin and works out the distribution
    of their sum exactly; with one run on each side it is McNemar's exact test (1947). The interval is
    Bonett and Price's (2012): Wald's after one question was added in favour of either side, with several
    runs by as much as questions that differ do so (root mean square).
    """
    n_first, n_second = first.shape[0], second.shape[0]
    scaled = np.rint(first.sum(axis=0) * n_second - second.sum(axis=0) * n_first).astype(np.int64)
    difference = scaled / (n_first * n_second)
    differing = difference[scaled != 0]
    size = float(np.sqrt(np.mean(differing**2))) if len(differing) else 1.0
    adjusted = np.append(difference, [size, -size])
    half = _Z * float(adjusted.std()) / len(adjusted) ** 0.5
    centre = float(adjusted.mean())
    mean = float(difference.mean())
    return PairedTest(
        Interval(mean, max(-1.0, centre - half), min(1.0, centre + half)),
        _sign_flip(scaled),
        int((scaled > 0).sum()),
        int((scaled < 0).sum()),
        int((scaled == 0).sum()),
    )


def _sign_flip(differences: Int[np.ndarray, " question"]) -> float:
    """Probability that random signs give a sum at least as far from 0, by convolution."""
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    differences = differences // np.gcd.reduce(differences)
    sizes = np.abs(differences)
    distribution = np.ones(1)  # of the sum of those flipped to plus; the whole sum is 2 × it − total
    for size in sizes:
        grown = np.zeros(len(distribution) + size)
        grown[: len(distribution)] += distribution / 2
        grown[size:] += distribution / 2
        distribution = grown
    total = int(sizes.sum())
    sums = 2 * np.arange(total + 1) - total
    return min(1.0, float(distribution[np.abs(sums) >= abs(int(differences.sum()))].sum()))


_N_BOOTSTRAP = 2000


def resampled(values: Float[np.ndarray, " question"], seed: int = 0) -> Interval:
    """The mean over questions with its 95 % bootstrap interval (percentiles)."""
    means = values[_draws(len(values), seed)].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))


def relative_gain(
    first: Float[np.ndarray, " question"], second: Float[np.ndarray, " question"], seed: int = 0
) -> Interval:
    """By how much the first mean exceeds the second, as a share of the second: 0.154 is +15.4 %.

    Both have the same questions in the same order, and these are resampled together.
    """
    draws = _draws(len(first), seed)
    with np.errstate(divide="ignore", invalid="ignore"):  # over a base of 0: no number
        ratios = first[draws].mean(axis=1) / second[draws].mean(axis=1) - 1
        mean = first.mean() / second.mean() - 1
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Interval(float(mean), float(low), float(high))


def _draws(n: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, n, (_N_BOOTSTRAP, n))


@lru_cache(maxsize=8)
def _weights(n: int, seed: int) -> Float[np.ndarray, "question resample"]:
    """What each question weighs in each resample."""
    return np.stack([np.bincount(draw, minlength=n) for draw in _draws(n, seed)], axis=1) / n


def deal(question: Int[np.ndarray, " example"], n_folds: int, seed: int) -> Int[np.ndarray, " example"]:
    """The fold of each example, 0 up to `n_folds`; all examples of a question are in one fold."""
    unique, index = np.unique(question, return_inverse=True)
    of_question = np.random.default_rng(seed).permutation(np.arange(len(unique)) % n_folds)
    return np.asarray(of_question[index])
