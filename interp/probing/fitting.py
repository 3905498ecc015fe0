"""Linear probes that are scored on questions they never saw.

Questions are dealt into folds. Everything that is fitted (scales, words, weights) or chosen (regularisation) comes
from the training folds, and each example is predicted by a probe fitted without its question. Knows arrays, labels
and scikit-learn; knows nothing about models, transcripts or what a label means.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from interp.errors import UserError
from interp.statistics import deal

N_FOLDS = 5
CHOOSE_ON = 3
"""The regularisation and the layer are chosen on one in this many training questions."""
STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Logistic regression: scikit-learn's C, the inverse of the regularisation."""
TOLERANCE = 1e-3
"""Logistic regression: scikit-learn's tol. Scores agree to three digits with the default's, a third faster."""
PENALTIES = (1e1, 1e2, 1e3, 1e4)
"""Ridge regression: scikit-learn's alpha."""


@dataclass(frozen=True)
class ProbeExamples:
    """What to decode: a label for each example, and the question it belongs to.

    >>> examples = interp.probing.ProbeExamples(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), ("right", "wrong"))
    >>> len(examples), examples.numeric
    (4, False)
    """

    labels: np.ndarray
    """Indices into `classes`, or numbers if there are no classes."""
    question: Int[np.ndarray, " example"]
    classes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    """The text at the place where the activation was read, for the bag-of-words baseline."""
    surface: Float[np.ndarray, "example feature"] | None = None
    """Length and position, for the baseline without words."""
    types: Int[np.ndarray, " example"] | None = None
    """Groups of examples that share a random label in a control task; they recur across questions."""

    def __post_init__(self) -> None:
        columns = (self.question, self.texts or self.labels, self.surface, self.types)
        if any(column is not None and len(column) != len(self.labels) for column in columns):
            raise ValueError(f"{len(self.labels)} labels need as many questions, texts, surfaces and types")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def numeric(self) -> bool:
        return not self.classes

    def relabelled(self, labels: np.ndarray) -> ProbeExamples:
        """The same examples with other labels."""
        return replace(self, labels=labels)

    def require_usable(self) -> None:
        """Raises `UserError` if there is nothing to decode, or nothing to hold out."""
        n = len(np.unique(self.question))
        if n < 2 * N_FOLDS:
            raise UserError(f"{n} questions: a probe needs at least {2 * N_FOLDS}; give more transcripts")
        if len(np.unique(self.labels)) < 2:
            raise UserError("all examples have the same label: nothing to decode; give more transcripts")


class _MayBeConstant:
    """A classifier that predicts the only class if its training folds hold one alone, as with a rare class."""

    classes_: np.ndarray

    def fit(self, X: Any, y: np.ndarray) -> Any:
        self.classes_ = np.unique(y)
        return super().fit(X, y) if len(self.classes_) > 1 else self  # type: ignore[misc]

    def predict_proba(self, X: Any) -> np.ndarray:
        alone = len(self.classes_) == 1
        return np.ones((X.shape[0], 1)) if alone else super().predict_proba(X)  # type: ignore[misc]


class _Logistic(_MayBeConstant, LogisticRegression):  # type: ignore[misc]
    pass


class _Boosted(_MayBeConstant, HistGradientBoostingClassifier):  # type: ignore[misc]
    pass


class MassMean(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Projects on mean differences: each class against the mean of the others, or one direction for two classes.

    For numbers it is the covariance with the number. `directions_` has shape [direction, d_model].
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> MassMean:
        """Take the means of the rows of X [example, d_model] by label y."""
        y = np.asarray(y)
        X = np.asarray(X, dtype=np.float64)
        if y.dtype.kind == "f":
            self.directions_ = ((y - y.mean()) @ (X - X.mean(axis=0)) / (len(y) * y.var()))[None]
            return self
        means = np.stack([X[y == label].mean(axis=0) for label in np.unique(y)])
        n = len(means)
        directions = (means - means.mean(axis=0)) * n / (n - 1)
        self.directions_ = directions[1:] if n == 2 else directions
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Coordinates [example, direction] along the directions."""
        return np.asarray(X) @ self.directions_.T


def merit(estimator: Any, X: Any, labels: np.ndarray) -> float:
    """Log likelihood of classes, or minus the squared error of numbers relative to their variance."""
    if labels.dtype.kind == "f":
        return -float(((labels - estimator.predict(X)) ** 2).mean() / max(labels.var(), 1e-12))
    probability = estimator.predict_proba(X)
    place = np.searchsorted(estimator.classes_, labels).clip(max=len(estimator.classes_) - 1)
    known = estimator.classes_[place] == labels
    given = probability[np.arange(len(labels)), place][known]
    return float(np.log(given.clip(min=1e-9)).mean()) if known.any() else -np.inf


class Chosen(BaseEstimator):  # type: ignore[misc]
    """An estimator behind some steps, with the value of one parameter that does best on one inner split.

    As scikit-learn's `GridSearchCV` over a pipeline, but the steps are fitted once, which takes a third less time on
    small data. After `fit`, `best_params_`, `best_score_` and `best_estimator_` are those of `GridSearchCV`.
    """

    def __init__(self, front: tuple[Any, ...], estimator: Any, parameter: str, values: tuple[float, ...]) -> None:
        self.front, self.estimator, self.parameter, self.values = front, estimator, parameter, values

    def fit(self, X: Any, y: np.ndarray, chosen_on: np.ndarray) -> Chosen:
        """Choose on the marked examples and fit on all."""
        front, inner = make_pipeline(*map(clone, self.front)) if self.front else None, ~chosen_on
        seen, asked = X[inner], X[chosen_on]
        if front is not None:
            seen, asked = front.fit_transform(seen, y[inner]), front.transform(asked)
        made = [clone(self.estimator).set_params(**{self.parameter: value}) for value in self.values]
        scores = [merit(estimator.fit(seen, y[inner]), asked, y[chosen_on]) for estimator in made]
        best = int(np.argmax(scores))
        self.best_score_, self.best_params_ = scores[best], {self.parameter: self.values[best]}
        self.best_estimator_ = make_pipeline(*map(clone, (*self.front, made[best]))).fit(X, y)
        return self


def linear(numeric: bool, *front: Any, weaker: float = 1.0) -> Chosen:
    """Logistic regression, or ridge for numbers, behind the given steps (by default: standardise).

    Regularisation is `weaker` by this factor, for features much smaller than standardised ones.

    >>> interp.probing.linear(numeric=False).values
    (0.001, 0.01, 0.1)
    """
    front = front or (StandardScaler(),)
    if numeric:
        return Chosen(front, Ridge(), "alpha", tuple(a / weaker for a in PENALTIES))
    return Chosen(front, _Logistic(max_iter=200, tol=TOLERANCE), "C", tuple(c * weaker for c in STRENGTHS))


def mass_mean(numeric: bool) -> Chosen:
    """A probe that uses only the class means: coordinates along their differences (Marks and Tegmark 2023)."""
    return linear(numeric, MassMean(), StandardScaler())


def boosted(numeric: bool) -> Any:
    """Gradient boosting: a strong reader for baselines that know the question but no activations."""
    made = HistGradientBoostingRegressor if numeric else _Boosted
    return made(max_iter=80, learning_rate=0.15, max_leaf_nodes=15, random_state=0)


def fit(probe: Any, X: Any, labels: np.ndarray, question: np.ndarray, seed: int) -> Any:
    """A fitted copy of a probe; one that is `Chosen` is chosen on a third of these questions."""
    split = {"chosen_on": deal(question, CHOOSE_ON, seed) == 0} if isinstance(probe, Chosen) else {}
    with config_context(assume_finite=True, skip_parameter_validation=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak regularisation, which is rarely chosen
        return clone(probe).fit(X, labels, **split)


@dataclass(frozen=True)
class HeldOut:
    """Predictions for every example by probes that never saw its question."""

    predicted: np.ndarray
    """Probabilities [example, class], or numbers [example]."""
    fold: Int[np.ndarray, " example"]
    merit: Float[np.ndarray, " fold"]
    """How well each fold's probe did on the training questions that its setting, or the layer, is chosen on."""
    settings: tuple[Mapping[str, Any], ...]


Front = Callable[[Any, np.ndarray], Callable[[Any], Any]]
"""Fits on features and labels, and returns what then changes features."""


def held_out(
    probe: Any,
    X: Any,
    examples: ProbeExamples,
    seed: int = 0,
    fitted_on: np.ndarray | None = None,
    front: Front | None = None,
) -> HeldOut:
    """Predict each example by a probe fitted on the other folds' questions.

    `X` has a row per example: activations, texts (an array of strings) or other features. `fitted_on` marks the
    examples to fit on; all are predicted, so that a probe can be tested on a seat it never saw. `front` is fitted on
    the whole training part of each fold and changes the features.

    >>> examples = interp.probing.ProbeExamples(np.arange(40) % 2, np.arange(40), ("even", "odd"))
    >>> held = interp.probing.held_out(interp.probing.linear(False), np.arange(40)[:, None] % 2, examples)
    >>> held.predicted.shape, bool((held.predicted.argmax(axis=1) == examples.labels).all())
    ((40, 2), True)
    """
    fold = deal(examples.question, N_FOLDS, seed)
    usable = np.full(len(examples), True) if fitted_on is None else fitted_on
    predicted = np.zeros(len(examples) if examples.numeric else (len(examples), len(examples.classes)))
    fits = []
    for f in range(N_FOLDS):
        train, test = (fold != f) & usable, fold == f
        change = front(X[train], examples.labels[train]) if front else lambda features: features
        fitted = fit(probe, change(X[train]), examples.labels[train], examples.question[train], seed)
        fits.append(fitted)
        reader = getattr(fitted, "best_estimator_", fitted)
        if examples.numeric:
            predicted[test] = reader.predict(change(X[test]))
        else:  # a class that was not fitted has probability 0
            predicted[np.ix_(test, reader.classes_.astype(int))] = reader.predict_proba(change(X[test]))
    merits = np.array([getattr(fitted, "best_score_", np.nan) for fitted in fits])
    return HeldOut(predicted, fold, merits, tuple(getattr(fitted, "best_params_", {}) for fitted in fits))


def at_chosen_layer(by_layer: Sequence[HeldOut]) -> tuple[HeldOut, list[int]]:
    """Predictions at the layer that did best on each fold's own training questions, and the layers' indices by fold.

    The best of many layers looks better than it is; this one is chosen without the questions that score it.
    """
    best = np.stack([held.merit for held in by_layer]).argmax(axis=0)
    at = best[by_layer[0].fold]
    predicted = np.stack([held.predicted for held in by_layer])[at, np.arange(len(at))]
    settings = tuple(by_layer[b].settings[f] for f, b in enumerate(best))
    merits = np.stack([held.merit for held in by_layer])[best, np.arange(len(best))]
    return HeldOut(predicted, by_layer[0].fold, merits, settings), best.tolist()
