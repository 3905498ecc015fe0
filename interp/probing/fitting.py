"""Linear probes that predict questions they never saw: all that is fitted or chosen comes from the training folds.

Knows arrays and labels; knows nothing about models, transcripts or what a label means.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from interp.errors import UserError
from interp.statistics import deal

N_FOLDS = 5
CHOOSE_ON = 3  # one in so many training questions chooses the regularisation and the layer
STRENGTHS = (1e-3, 1e-2, 1e-1)  # logistic regression's C, the inverse of the regularisation
TOLERANCE = 1e-3  # its tol; scores agree to three digits with the default's, a third faster
PENALTIES = (1e1, 1e2, 1e3, 1e4)  # ridge regression's alpha


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

    def require_usable(self) -> None:
        """Raises `UserError` if there is nothing to decode, or nothing to hold out."""
        n = len(np.unique(self.question))
        if n < 2 * N_FOLDS:
            raise UserError(f"{n} questions: a probe needs at least {2 * N_FOLDS}; give more transcripts")
        if len(np.unique(self.labels)) < 2:
            raise UserError("all examples have the same label: nothing to decode; give more transcripts")


class MassMean(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Projects on mean differences: each class against the mean of the others, or one direction for two classes.

    For numbers it is the covariance with them. `directions_` are [direction, d_model].
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> MassMean:
        X, y = np.asarray(X, dtype=np.float64), np.asarray(y)
        if y.dtype.kind == "f":
            self.directions_ = ((y - y.mean()) @ (X - X.mean(axis=0)) / (len(y) * y.var()))[None]
            return self
        means = np.stack([X[y == label].mean(axis=0) for label in np.unique(y)])
        n = len(means)
        self.directions_ = ((means - means.mean(axis=0)) * n / (n - 1))[int(n == 2) :]
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(X) @ self.directions_.T


def _or_constant(estimator: Any, labels: np.ndarray) -> Any:
    """A copy, or for labels of one class alone (a rare one is in other folds) a classifier that predicts it."""
    return DummyClassifier() if labels.dtype.kind != "f" and (labels == labels[0]).all() else clone(estimator)


def _merit(estimator: Any, X: Any, labels: np.ndarray) -> float:
    """Log likelihood of classes, or minus the squared error of numbers relative to their variance."""
    if labels.dtype.kind == "f":
        return -float(((labels - estimator.predict(X)) ** 2).mean() / max(labels.var(), 1e-12))
    place = np.searchsorted(estimator.classes_, labels).clip(max=len(estimator.classes_) - 1)
    known = estimator.classes_[place] == labels
    given = estimator.predict_proba(X)[np.arange(len(labels)), place][known]
    return float(np.log(given.clip(min=1e-9)).mean()) if known.any() else -np.inf


class Chosen(BaseEstimator):  # type: ignore[misc]
    """An estimator behind some steps, with the value of one parameter that does best on one inner split.

    As `GridSearchCV` over a pipeline, but the steps are fitted once, which takes a third less time on small data.
    """

    def __init__(self, front: tuple[Any, ...], estimator: Any, parameter: str, values: tuple[float, ...]) -> None:
        self.front, self.estimator, self.parameter, self.values = front, estimator, parameter, values

    def fit(self, X: Any, y: np.ndarray, chosen_on: np.ndarray) -> Chosen:
        front, inner = make_pipeline(*map(clone, self.front), "passthrough"), ~chosen_on
        seen, asked = front.fit_transform(X[inner], y[inner]), front.transform(X[chosen_on])
        made = [clone(self.estimator).set_params(**{self.parameter: value}) for value in self.values]
        fits = [_or_constant(estimator, y[inner]).fit(seen, y[inner]) for estimator in made]
        scores = [_merit(estimator, asked, y[chosen_on]) for estimator in fits]
        best = int(np.argmax(scores))
        self.best_score_, self.best_params_ = scores[best], {self.parameter: self.values[best]}
        self.best_estimator_ = make_pipeline(*map(clone, self.front), _or_constant(made[best], y)).fit(X, y)
        return self


def linear(numeric: bool, *front: Any, weaker: float = 1.0) -> Chosen:
    """Logistic regression, or ridge for numbers, behind the given steps (by default: standardise).

    Regularisation is `weaker` by a factor, for features smaller than standardised ones.
    """
    front = front or (StandardScaler(),)
    if numeric:
        return Chosen(front, Ridge(), "alpha", tuple(a / weaker for a in PENALTIES))
    return Chosen(front, LogisticRegression(max_iter=200, tol=TOLERANCE), "C", tuple(c * weaker for c in STRENGTHS))


def mass_mean(numeric: bool) -> Chosen:
    """A probe that uses only the class means: coordinates along their differences (Marks and Tegmark 2023)."""
    return linear(numeric, MassMean(), StandardScaler())


def boosted(numeric: bool) -> Any:
    """Gradient boosting: a strong reader for baselines that know the question but no activations."""
    made = HistGradientBoostingRegressor if numeric else HistGradientBoostingClassifier
    return made(max_iter=80, learning_rate=0.15, max_leaf_nodes=15, random_state=0)


def fit(probe: Any, X: Any, labels: np.ndarray, question: np.ndarray, seed: int) -> Any:
    """A fitted copy of a probe; one that is `Chosen` is chosen on a third of these questions."""
    with config_context(assume_finite=True, skip_parameter_validation=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak regularisation, which is rarely chosen
        if isinstance(probe, Chosen):
            return clone(probe).fit(X, labels, chosen_on=deal(question, CHOOSE_ON, seed) == 0)
        return _or_constant(probe, labels).fit(X, labels)


@dataclass(frozen=True)
class HeldOut:
    """Predictions for every example by probes that never saw its question."""

    predicted: np.ndarray  # probabilities [example, class], or numbers [example]
    fold: Int[np.ndarray, " example"]
    merit: Float[np.ndarray, " fold"]  # on the training questions that the setting, or the layer, is chosen on


def held_out(
    probe: Any,
    X: Any,
    examples: ProbeExamples,
    seed: int = 0,
    fitted_on: np.ndarray | None = None,
    front: Callable[[Any, np.ndarray], Callable[[Any], Any]] = lambda *_: lambda features: features,
) -> HeldOut:
    """Predict each example by a probe fitted on the other folds' questions.

    `X` has a row per example: activations, texts or other features. `fitted_on` marks the examples to fit on; all are
    predicted. `front` is fitted on the training part of each fold and returns what then changes the features.
    """
    fold = deal(examples.question, N_FOLDS, seed)
    predicted = np.zeros(len(examples) if examples.numeric else (len(examples), len(examples.classes)))
    fits = []
    for f in range(N_FOLDS):
        train, test = (fold != f) & (True if fitted_on is None else fitted_on), fold == f
        change = front(X[train], examples.labels[train])
        fits.append(fit(probe, change(X[train]), examples.labels[train], examples.question[train], seed))
        reader = getattr(fits[f], "best_estimator_", fits[f])
        if examples.numeric:
            predicted[test] = reader.predict(change(X[test]))
        else:  # a class that was not fitted has probability 0
            predicted[np.ix_(test, reader.classes_.astype(int))] = reader.predict_proba(change(X[test]))
    return HeldOut(predicted, fold, np.array([getattr(fitted, "best_score_", np.nan) for fitted in fits]))


def at_chosen_layer(by_layer: Sequence[HeldOut]) -> tuple[HeldOut, list[int]]:
    """Predictions at the layer that did best on each fold's own training questions, and the layers' indices by fold."""
    merits, fold = np.stack([held.merit for held in by_layer]), by_layer[0].fold
    best = merits.argmax(axis=0)
    predicted = np.stack([held.predicted for held in by_layer])[best[fold], np.arange(len(fold))]
    return HeldOut(predicted, fold, merits.max(axis=0)), best.tolist()


def erasure(
    values: Float[np.ndarray, "example d_model"], labels: np.ndarray
) -> Callable[[Float[np.ndarray, "*rest d_model"]], Float[np.ndarray, "*rest d_model"]]:
    """What takes out all that a linear probe could learn of the labels from these examples: it does no better than a
    constant then. With `held_out(probe, …, front=erasure)` one reads what is left on questions that neither saw.

    Least-squares concept erasure (LEACE, Belrose et al. 2023): the least change that leaves no covariance.
    """
    import torch
    from concept_erasure import LeaceEraser

    z = labels[:, None] if labels.dtype.kind == "f" else np.eye(int(labels.max()) + 1)[labels]
    x, z = (torch.as_tensor(array, dtype=torch.float64) for array in (values, z))
    made = LeaceEraser.fit(x, z, shrinkage=False, svd_tol=1e-6)  # with shrinkage some covariance would be left
    return lambda other: np.asarray(made(torch.as_tensor(other, dtype=torch.float64)))
