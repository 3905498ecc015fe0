"""How good predictions are: accuracy, AUC and calibration, with intervals from resampling questions.

Knows labels, predictions and questions; knows nothing about what predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from interp.evaluation.statistics import Interval
from interp.probing import Examples, HeldOut

N_BOOTSTRAP = 500
N_BINS = 10

Scored = dict[str, Interval]
"""Measures by name: accuracy, auc (of several classes each against the rest, averaged), brier, ece; of numbers r2,
error (mean absolute) and exact (right when rounded)."""


@dataclass(frozen=True)
class Resamples:
    """The bootstrap over the questions of some examples, the same for all that is compared on them."""

    examples: Examples
    seed: int = 0

    @cached_property
    def weights(self) -> Float[np.ndarray, "resample example"]:
        """How often each example counts; the first row is the sample itself."""
        unique, index = np.unique(self.examples.question, return_inverse=True)
        n = len(unique)
        counts = np.random.default_rng(self.seed).multinomial(n, np.full(n, 1 / n), size=N_BOOTSTRAP)
        return np.concatenate([np.ones((1, n)), counts])[:, index].astype(np.float32)

    def score(self, held: HeldOut) -> Scored:
        """All measures of the predictions."""
        return {name: interval(values) for name, values in self.measures(held).items()}

    def difference(self, first: HeldOut, second: HeldOut) -> Scored:
        """By how much the first predictions' measures exceed the second's, both on the same resamples."""
        a, b = self.measures(first), self.measures(second)
        return {name: interval(a[name] - b[name]) for name in a}

    def gap(self, first: HeldOut, other: Examples, second: HeldOut) -> Scored:
        """Measures on these labels minus those on other labels of the same questions, both on the same resamples."""
        a, b = self.measures(first), Resamples(other, self.seed).measures(second)
        return {name: interval(a[name] - b[name]) for name in a}

    def measures(self, held: HeldOut) -> dict[str, Float[np.ndarray, " resample"]]:
        """All measures on every resample, the first being the sample itself; sums and differences may be taken."""
        labels, predicted = self.examples.labels, held.predicted
        if self.examples.numeric:
            mean = self._mean(labels)
            spread = self._mean((labels - mean[:, None]) ** 2)
            error = np.abs(labels - predicted)
            return {
                "r2": 1 - self._mean(error**2) / np.maximum(spread, 1e-12),
                "error": self._mean(error),
                "exact": self._mean(error < 0.5),
            }
        truth = np.eye(len(self.examples.classes))[labels]
        right = predicted.argmax(axis=1) == labels
        columns = [1] if truth.shape[1] == 2 else [c for c in range(truth.shape[1]) if truth[:, c].any()]
        areas = np.stack([self._auc(predicted[:, c], truth[:, c], held.fold) for c in columns])
        brier = ((predicted - truth) ** 2).sum(axis=1) / 2
        return {
            "accuracy": self._mean(right),
            "auc": areas.mean(axis=0),
            "brier": self._mean(brier),
            "ece": self._ece(predicted.max(axis=1), right),
        }

    def _mean(self, values: np.ndarray) -> Float[np.ndarray, " resample"]:
        total = self.weights.sum(axis=1)
        if values.ndim == 2:
            return (self.weights * values).sum(axis=1) / total
        return self.weights @ values.astype(np.float32) / total

    def _auc(self, score: np.ndarray, positive: np.ndarray, fold: np.ndarray) -> Float[np.ndarray, " resample"]:
        """The chance that a positive example scores above a negative one of the same fold, ties half.

        Across folds scores do not compare: each fold's probe leans to the classes that its own fold has few of,
        which would put what knows nothing below one half.
        """
        above, pairs = np.zeros(len(self.weights)), np.zeros(len(self.weights))
        for f in np.unique(fold):
            rows = np.flatnonzero(fold == f)
            rows = rows[np.argsort(score[rows], kind="stable")]
            weights = self.weights[:, rows].astype(np.float64)
            starts = np.flatnonzero(np.diff(score[rows], prepend=-np.inf))
            ups = np.add.reduceat(weights * positive[rows], starts, axis=1)
            downs = np.add.reduceat(weights * (1 - positive[rows]), starts, axis=1)
            above += (ups * (np.cumsum(downs, axis=1) - downs / 2)).sum(axis=1)
            pairs += ups.sum(axis=1) * downs.sum(axis=1)
        return np.where(pairs > 0, above / np.maximum(pairs, 1e-12), 0.5)

    def _ece(self, confidence: np.ndarray, right: np.ndarray) -> Float[np.ndarray, " resample"]:
        """Expected calibration error: |confidence − share right| over bins of equal size, weighted by size."""
        gaps = np.zeros(len(self.weights))
        for rows in _bins(confidence):
            gaps += np.abs(self.weights[:, rows] @ (confidence[rows] - right[rows]).astype(np.float32))
        return gaps / self.weights.sum(axis=1)


def reliability(held: HeldOut, examples: Examples) -> list[tuple[float, float, int]]:
    """Mean confidence, share right and number of examples in ten bins of equal size; nothing for numbers."""
    if examples.numeric:
        return []
    confidence, right = held.predicted.max(axis=1), held.predicted.argmax(axis=1) == examples.labels
    return [
        (round(float(confidence[rows].mean()), 4), round(float(right[rows].mean()), 4), len(rows))
        for rows in _bins(confidence)
    ]


def false_alarms(score: np.ndarray, positive: np.ndarray, recall: float = 0.99) -> tuple[float, float]:
    """The share of negative examples above the threshold that catches this share of the positive ones, and that."""
    caught = np.sort(score[positive])[::-1]
    threshold = float(caught[min(int(np.ceil(recall * len(caught))), len(caught)) - 1])
    return float((score[~positive] >= threshold).mean()), threshold


def _bins(confidence: np.ndarray) -> list[np.ndarray]:
    return [rows for rows in np.array_split(np.argsort(confidence, kind="stable"), N_BINS) if len(rows)]


def interval(values: Float[np.ndarray, " resample"]) -> Interval:
    """The value on the sample, with its 95 % interval over the resamples."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Interval(*(round(float(v), 5) for v in (values[0], low, high)))
