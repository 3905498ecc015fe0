"""How good held-out predictions are: accuracy, AUC and calibration, each as what the questions contribute to it.

A measure that is the mean of contributions has an interval, and the difference of two measures on the same questions
is the difference of their contributions. So is the mean over seeds, whose interval is about these deals of the folds.
Every question also helps to fit the probe that predicts the others, so all intervals are `coupled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from interp.probing.fitting import HeldOut, ProbeExamples
from interp.statistics import Interval, Test, estimate_interval
from interp.statistics.intervals import standard_error
from interp.statistics.significance import error_test


@dataclass(frozen=True)
class Measured:
    """A measure of predictions, or a difference of two, as the mean of a contribution of each question.

    The interval is seen to cover in 0.93 to 1: it is conservative where an effect is strong (see `COUPLED`). An R²
    beyond 0.9 over up to 48 questions has less (0.88): the fit varies, not only the questions.
    """

    by_question: Float[np.ndarray, " question"]
    """The value plus the question's influence on it: n × its change if the question counted more."""
    trials: float
    """How many independent trials it is worth at least, as its variance is not known better than from so many."""
    bounds: tuple[float, float] = (0.0, 1.0)
    by_chance: float = 0.0
    """By how much noise alone raises it, for which the lower end allows."""

    @property
    def value(self) -> float:
        return float(self.by_question.mean())

    @property
    def error(self) -> float:
        """The standard error."""
        off = self.by_question - self.value
        if np.abs(off).max() < 1e-12:
            off = np.zeros(max(int(self.trials), 1))
        return standard_error(off, scale=self.bounds[1] if np.isfinite(self.bounds[1]) else 1.0, coupled=True)

    @property
    def interval(self) -> Interval:
        """With its 95 % interval, to five digits."""
        value, (low, high) = self.value, self.bounds
        bounds = self.bounds if np.isfinite(high - low) else None
        found = estimate_interval(value, self.by_question - value, bounds, coupled=True, least=self.trials)
        ends = max(found.low - self.by_chance, low), found.high
        if np.isfinite(high) and bounds is None:  # R²: 1 − R² is a ratio, whose logarithm is more even
            rest = max(1 - value, 1e-12)
            times = np.exp(min((found.high - value) / rest, 100.0))
            ends = 1 - rest * times, 1 - rest / times
        return Interval(*(round(float(v), 5) for v in (value, *ends)))

    def __sub__(self, other: Measured | float) -> Measured:
        """A paired difference, also from chance."""
        theirs = other if isinstance(other, Measured) else replace(self, by_question=np.array([other]))
        bounds = self.bounds[0] - theirs.bounds[1], self.bounds[1] - theirs.bounds[0]
        return Measured(self.by_question - theirs.by_question, min(self.trials, theirs.trials), bounds)

    def test(self, asked: str) -> Test:
        """Whether a difference is above 0."""
        found = error_test(asked, self.interval, self.error, int(self.trials))
        return replace(found, questions=len(self.by_question))


Scored = dict[str, Measured]
"""Measures by name: accuracy, auc (for several classes, each against the rest, averaged), brier, ece; for numbers r2,
error (mean absolute) and exact (right when rounded)."""


def over_seeds(measured: Sequence[Measured]) -> Measured:
    """The mean over seeds, on the same questions."""
    by_question = np.mean([m.by_question for m in measured], axis=0)
    by_chance = float(np.mean([m.by_chance for m in measured]))
    return replace(measured[0], by_question=by_question, trials=min(m.trials for m in measured), by_chance=by_chance)


def measure(held: HeldOut, examples: ProbeExamples) -> Scored:
    """All measures of the predictions."""
    place = np.unique(examples.question, return_inverse=True)[1]
    labels, predicted, every = examples.labels, held.predicted, np.ones(len(examples))
    if examples.numeric:
        error, spread = np.abs(labels - predicted), (labels - labels.mean()) ** 2
        return {
            "r2": _ratio(spread - error**2, spread, place, bounds=(-np.inf, 1.0)),
            "error": _ratio(error, every, place, bounds=(-np.inf, np.inf)),
            "exact": _ratio(error < 0.5, every, place),
        }
    right, sure = predicted.argmax(axis=1) == labels, predicted.max(axis=1)
    truth = np.eye(len(examples.classes))[labels]
    columns = [1] if truth.shape[1] == 2 else np.flatnonzero(truth.any(axis=0))
    side, by_chance = np.zeros(len(labels)), 0.0
    for rows in filter(len, np.array_split(np.argsort(sure, kind="stable"), 10)):
        side[rows] = np.sign((sure - right)[rows].sum())
        by_chance += float((2 / np.pi * (sure * (1 - sure))[rows].sum()) ** 0.5) / len(labels)
    return {
        "accuracy": _ratio(right, every, place),
        "auc": over_seeds([_auc(predicted[:, c], truth[:, c] > 0, held.fold, place) for c in columns]),
        "brier": _ratio(((predicted - truth) ** 2).sum(axis=1) / 2, every, place),
        "ece": replace(_ratio(side * (sure - right), every, place), by_chance=by_chance),
    }


def _ratio(
    top: np.ndarray,
    bottom: np.ndarray,
    place: Int[np.ndarray, " example"],
    bounds: tuple[float, float] = (0.0, 1.0),
    pairs: int = 1,
) -> Measured:
    """The sum of one by that of the other; `pairs` is 2 where each term is that of two examples."""
    total = bottom.sum()
    value = top.sum() / total
    size = np.bincount(place, bottom)
    influence = len(size) * pairs * np.bincount(place, top - value * bottom) / total
    return Measured(value + influence, float(total**2 / (size**2).sum()), bounds)


def _auc(
    score: np.ndarray, positive: np.ndarray, fold: Int[np.ndarray, " example"], place: Int[np.ndarray, " example"]
) -> Measured:
    """The chance that a positive example scores above a negative one of the same fold, ties half.

    The components of DeLong, DeLong and Clarke-Pearson (1988), summed by question (Obuchowski 1997). Scores of
    different folds do not compare: each fold's probe leans to the classes that its own fold has few of. It is worth at
    least as many trials as questions with an example of the rarer class (van Dantzig 1951).
    """
    won, against = np.zeros(len(score)), np.zeros(len(score))
    for own in (fold == f for f in np.unique(fold)):
        for side in (True, False):
            here, others = own & (positive == side), np.sort(score[own & (positive != side)])
            below = np.searchsorted(others, score[here], "left") + np.searchsorted(others, score[here], "right")
            won[here] = below / 2 if side else len(others) - below / 2
            against[here] = len(others)
    if not against.any():
        return Measured(np.full(place.max() + 1, 0.5), trials=0.0)
    trials = min(len(np.unique(place[(positive == side) & (against > 0)])) for side in (True, False))
    return replace(_ratio(won, against, place, pairs=2), trials=float(trials))
