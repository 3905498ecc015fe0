"""Percentile bootstraps, leaving today: nothing new may use them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from interp.statistics.intervals import Interval, mean_interval


def of(value: Any, resamples: Float[np.ndarray, " resample"]) -> Interval:
    return Interval(float(value), *map(float, percentiles(resamples)))


def accuracy(correct: Float[np.ndarray, "run question"]) -> Interval:
    return mean_interval(correct.mean(axis=0))


def resampled(values: Float[np.ndarray, " question"], seed: int = 0) -> Interval:
    return of(values.mean(), values[_draws(len(values), seed)].mean(axis=1))


def relative_gain(
    first: Float[np.ndarray, " question"], second: Float[np.ndarray, " question"], seed: int = 0
) -> Interval:
    drawn = _draws(len(first), seed)
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN or infinite if the second mean is 0
        ratios = first[drawn].mean(axis=1) / second[drawn].mean(axis=1) - 1
        return of(first.mean() / second.mean() - 1, ratios)


def _draws(n: int, seed: int) -> Int[np.ndarray, "resample question"]:
    return np.random.default_rng(seed).integers(0, n, (2000, n))


@lru_cache(maxsize=8)
def weights(n: int, seed: int = 0) -> Float[np.ndarray, "question resample"]:
    return np.stack([np.bincount(draw, minlength=n) for draw in _draws(n, seed)], axis=1) / n


def counts(n: int, seed: int | np.random.Generator, resamples: int) -> Int[np.ndarray, "resample question"]:
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)


def percentiles(values: np.ndarray, axis: int = 0) -> tuple[Any, Any]:
    low, high = np.quantile(values, (0.025, 0.975), axis=axis)
    return low, high
