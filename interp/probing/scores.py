"""How good predictions are: accuracy, AUC and calibration, with intervals from resampling questions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from interp.probing.fitting import HeldOut, ProbeExamples
from interp.statistics import Interval
from interp.statistics.old import counts, of

N_BOOTSTRAP = 500
COUPLED = 2**0.5
"""Factor by which intervals are wider than for given predictions: of two questions in different folds, each helps to
fit the probe that predicts the other. If there is nothing to find, both predictions are the same inner product, so half
as many things were measured as the bootstrap counts, and the variance doubles."""
PAIRS = 10**7  # of examples that are compared at a time

Scored = dict[str, Interval]
"""Measures by name: accuracy, auc (for several classes, each against the rest, averaged), brier, ece; for numbers r2,
error (mean absolute) and exact (right when rounded)."""
Measured = dict[str, Float[np.ndarray, " resample"]]


@dataclass(frozen=True)
class Resamples:
    """The bootstrap over the questions of some examples, shared by everything that is compared on them."""

    examples: ProbeExamples
    seed: int = 0

    @cached_property
    def _place(self) -> Int[np.ndarray, " example"]:
        """The question of each example, counted from 0."""
        return np.unique(self.examples.question, return_inverse=True)[1]

    @cached_property
    def weights(self) -> Float[np.ndarray, "resample question"]:
        """How often each question counts; the first row is the sample itself."""
        n = int(self._place.max()) + 1
        return np.concatenate([np.ones((1, n)), counts(n, self.seed, N_BOOTSTRAP)])

    def score(self, held: HeldOut) -> Scored:
        """All measures of the predictions."""
        return {name: over_resamples(values) for name, values in self.measures(held).items()}

    def difference(self, first: HeldOut, second: HeldOut, other: Resamples | None = None) -> Scored:
        """By how much the first's measures exceed the second's, which may be on `other` labels of the questions."""
        a, b = self.measures(first), (other or self).measures(second)
        return {name: over_resamples(a[name] - b[name]) for name in a}

    def measures(self, held: HeldOut) -> Measured:
        """All measures on the sample itself and on every resample, which are spread by `COUPLED` about the first."""
        found = self._numbers(held.predicted) if self.examples.numeric else self._classes(held)
        spread = {name: values[0] + COUPLED * (values - values[0]) for name, values in found.items()}
        return {name: v if name in ("r2", "error") else v.clip(0, 1) for name, v in spread.items()}

    def _numbers(self, predicted: Float[np.ndarray, " example"]) -> Measured:
        labels = self.examples.labels - self.examples.labels.mean()
        error = np.abs(self.examples.labels - predicted)
        variance = np.maximum(self._mean(labels**2) - self._mean(labels) ** 2, 1e-12)
        r2 = 1 - self._mean(error**2) / variance
        return {"r2": r2, "error": self._mean(error), "exact": self._mean(error < 0.5)}

    def _classes(self, held: HeldOut) -> Measured:
        labels, predicted = self.examples.labels, held.predicted
        truth, right = np.eye(len(self.examples.classes))[labels], predicted.argmax(axis=1) == labels
        columns = [1] if truth.shape[1] == 2 else np.flatnonzero(truth.any(axis=0))
        auc = np.stack([self._auc(predicted[:, c], truth[:, c], held.fold) for c in columns]).mean(axis=0)
        brier = ((predicted - truth) ** 2).sum(axis=1) / 2
        ece = self._ece(predicted.max(axis=1), right)
        return {"accuracy": self._mean(right), "auc": auc, "brier": self._mean(brier), "ece": ece}

    def _sum(self, values: Float[np.ndarray, " example"]) -> Float[np.ndarray, " resample"]:
        return np.asarray(self.weights @ np.bincount(self._place, values, self.weights.shape[1]))

    def _mean(self, values: np.ndarray) -> Float[np.ndarray, " resample"]:
        return self._sum(values) / self._sum(np.ones(len(values)))

    def _auc(self, score: np.ndarray, positive: np.ndarray, fold: np.ndarray) -> Float[np.ndarray, " resample"]:
        """The chance that a positive example scores above a negative one of the same fold, ties half.

        Scores of different folds do not compare: each fold's probe leans to the classes that its own fold has few of.
        """
        above, pairs = np.zeros(len(self.weights)), np.zeros(len(self.weights))
        for f in np.unique(fold):
            of_fold = np.unique(self._place[fold == f])
            place = np.searchsorted(of_fold, self._place)
            ups, downs = (np.flatnonzero((fold == f) & (positive == side)) for side in (1, 0))
            weights, n = self.weights[:, of_fold], len(of_fold)
            wins = np.zeros((n, n))  # of a question's positive examples over another's negative ones
            for some in np.array_split(ups, 1 + len(ups) * len(downs) // PAIRS):
                won = np.sign(score[some, None] - score[downs]) / 2 + 0.5
                np.add.at(wins, place[some], won @ np.eye(n)[place[downs]])
            above += ((weights @ wins) * weights).sum(axis=1)
            n_up, n_down = (weights @ np.bincount(place[side], minlength=n) for side in (ups, downs))
            pairs += n_up * n_down
        return np.where(pairs > 0, above / np.maximum(pairs, 1e-12), 0.5)

    def _ece(self, confidence: np.ndarray, right: np.ndarray) -> Float[np.ndarray, " resample"]:
        """Expected calibration error: |confidence − share right| over bins of equal size, weighted by size."""
        gap = confidence - right
        inside = [np.isin(np.arange(len(right)), rows) for rows in _bins(confidence)]
        return sum(np.abs(self._sum(np.where(rows, gap, 0))) for rows in inside) / self._sum(np.ones(len(right)))


def over_resamples(values: Float[np.ndarray, " resample"]) -> Interval:
    """The value on the sample itself, which comes first, with its 95 % interval over the resamples."""
    found = of(values[0], values[1:])
    return Interval(*(round(v, 5) for v in (found.mean, found.low, found.high)))


def reliability(held: HeldOut, examples: ProbeExamples) -> list[tuple[float, float, int]]:
    """Mean confidence, share right and number of examples in ten bins of equal size; empty for numbers."""
    if examples.numeric:
        return []
    sure, right = held.predicted.max(axis=1), held.predicted.argmax(axis=1) == examples.labels
    return [(round(float(sure[r].mean()), 4), round(float(right[r].mean()), 4), len(r)) for r in _bins(sure)]


def false_alarms(score: np.ndarray, positive: np.ndarray, recall: float = 0.99) -> tuple[float, float]:
    """The share of negative examples above the threshold that catches this share of the positive ones, and that."""
    caught = np.sort(score[positive])[::-1]
    threshold = float(caught[min(int(np.ceil(recall * len(caught))), len(caught)) - 1])
    return float((score[~positive] >= threshold).mean()), threshold


def _bins(confidence: np.ndarray) -> list[np.ndarray]:
    return [rows for rows in np.array_split(np.argsort(confidence, kind="stable"), 10) if len(rows)]
