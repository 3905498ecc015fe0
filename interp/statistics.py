"""Intervals, paired tests, bootstraps and folds. Questions are what is sampled; the runs on one are not independent."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

_Z = float(ndtri(0.975))
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The values of each key, both in order of appearance."""
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def means(pairs: Iterable[tuple[K, float]]) -> dict[K, float]:
    """The mean value of each key, in order of appearance."""
    return {key: float(np.mean(values)) for key, values in grouped(pairs).items()}


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    mean: float
    low: float
    high: float

    @staticmethod
    def of(value: Any, resamples: Float[np.ndarray, " resample"]) -> Interval:
        """A value with the percentiles of its resamples."""
        return Interval(float(value), *map(float, percentiles(resamples)))


def accuracy(correct: Float[np.ndarray, "run question"]) -> Interval:
    """The share of right answers over all runs and questions.

    One run has Wilson's interval (1927). Several have Wald's interval of the questions' means, with two questions added
    that are always right and two that never are (after Agresti and Coull, 1998): runs on one question are dependent.

    >>> found = accuracy(np.array([[1.0, 1.0, 0.0, 1.0]]))
    >>> f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
    '0.75 [0.30, 0.95]'
    """
    n_runs, n = correct.shape
    p = float(correct.mean(axis=0).mean())
    if n_runs == 1:
        centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * (p * (1 - p) / n + _Z**2 / (4 * n**2)) ** 0.5
    else:
        centre, half = _wald(np.append(correct.mean(axis=0), [1.0, 1.0, 0.0, 0.0]))
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


@dataclass(frozen=True, slots=True)
class PairedTest:
    """How two methods differ on the same questions."""

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
    (1947). The interval is Bonett and Price's (2012): Wald's with one question added in favour of either side; with
    several runs, each of these differs by the root mean square of the differences that are not 0.

    >>> paired_test(np.array([[1.0, 1.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0, 0.0]])).p
    0.5
    """
    scaled = np.rint(first.sum(axis=0) * len(second) - second.sum(axis=0) * len(first)).astype(np.int64)
    difference = scaled / (len(first) * len(second))
    size = float(np.sqrt(np.mean(difference[scaled != 0] ** 2))) if scaled.any() else 1.0
    centre, half = _wald(np.append(difference, [size, -size]))
    interval = Interval(float(difference.mean()), max(-1.0, centre - half), min(1.0, centre + half))
    return PairedTest(interval, _sign_flip(scaled), *(int((np.sign(scaled) == sign).sum()) for sign in (1, -1, 0)))


def _wald(values: np.ndarray) -> tuple[float, float]:
    """The mean and half the width of its 95 % interval."""
    return float(values.mean()), _Z * float(values.std()) / len(values) ** 0.5


def _sign_flip(differences: Int[np.ndarray, " question"]) -> float:
    """The probability that random signs give a sum at least as far from 0."""
    differences = differences // max(np.gcd.reduce(differences), 1)
    sizes = np.abs(differences[differences != 0])
    distribution = np.ones(1)  # of the sum of the positive ones; the whole sum is 2 × that − total
    for size in sizes:
        distribution = (np.pad(distribution, (0, size)) + np.pad(distribution, (size, 0))) / 2
    sums = 2 * np.arange(len(distribution)) - sizes.sum()
    return min(1.0, float(distribution[np.abs(sums) >= abs(int(differences.sum()))].sum()))


def resampled(values: Float[np.ndarray, " question"], seed: int = 0) -> Interval:
    """The mean over questions with its bootstrap interval (percentiles)."""
    return Interval.of(values.mean(), values[_draws(len(values), seed)].mean(axis=1))


def relative_gain(
    first: Float[np.ndarray, " question"], second: Float[np.ndarray, " question"], seed: int = 0
) -> Interval:
    """By how much the first mean exceeds the second, as a share of it: 0.154 is +15.4 %. Questions are in one order."""
    drawn = _draws(len(first), seed)
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN or infinite if the second mean is 0
        ratios = first[drawn].mean(axis=1) / second[drawn].mean(axis=1) - 1
        return Interval.of(first.mean() / second.mean() - 1, ratios)


def _draws(n: int, seed: int) -> Int[np.ndarray, "resample question"]:
    """2,000 bootstrap samples of `n` questions, as indices."""
    return np.random.default_rng(seed).integers(0, n, (2000, n))


@lru_cache(maxsize=8)
def weights(n: int, seed: int = 0) -> Float[np.ndarray, "question resample"]:
    """The same samples as weights: each column sums to 1."""
    return np.stack([np.bincount(draw, minlength=n) for draw in _draws(n, seed)], axis=1) / n


def counts(n: int, seed: int | np.random.Generator, resamples: int) -> Int[np.ndarray, "resample question"]:
    """Bootstrap samples of `n` questions drawn as counts, which is faster for many questions."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)


def percentiles(values: np.ndarray, axis: int = 0) -> tuple[Any, Any]:
    """The ends of the 95 % interval over resamples along an axis."""
    low, high = np.quantile(values, (0.025, 0.975), axis=axis)
    return low, high


def deal(
    question: Int[np.ndarray, " example"], n_folds: int, seed: int | np.random.Generator
) -> Int[np.ndarray, " example"]:
    """The fold of each example, from 0; all examples of a question share one.

    >>> deal(np.array([7, 7, 8, 8, 9, 9]), n_folds=3, seed=0)
    array([2, 2, 0, 0, 1, 1])
    """
    unique, index = np.unique(question, return_inverse=True)
    of_question = np.random.default_rng(seed).permutation(np.arange(len(unique)) % n_folds)
    return np.asarray(of_question[index])
