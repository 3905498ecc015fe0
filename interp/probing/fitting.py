"""Linear probes: what can be read off activations, by a probe that never saw the question.

Knows arrays of activations with labels and questions, and scikit-learn; knows nothing about models,
transcripts or what a label means. Questions are dealt into folds; whatever is fitted (scales, words,
weights) and whatever is chosen (regularisation) comes from the training folds alone, and each example
is predicted by a probe that was fitted without its question.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
CHOOSE_ON = 3
"""One in so many training questions are held out once more, to choose the regularisation and the layer on."""
STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Of logistic probes, scikit-learn's C: the smaller, the stronger the regularisation."""
TOLERANCE = 1e-3
"""Of logistic probes, scikit-learn's tol: measures do not change in their third digit, and fits take two thirds."""
PENALTIES = (1e1, 1e2, 1e3, 1e4)
"""Of ridge probes, scikit-learn's alpha."""


@dataclass(frozen=True)
class Examples:
    """What is to be decoded: one label an example, and the question that the example belongs to."""

    labels: np.ndarray
    """Indices into `classes`, or numbers where there are none."""
    question: Int[np.ndarray, " example"]
    classes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    """What stands in the text where the activation was read: for the bag-of-words baseline."""
    surface: Float[np.ndarray, "example feature"] | None = None
    """Length and position: for the baseline that knows no words."""
    types: Int[np.ndarray, " example"] | None = None
    """What a control task gives a random label to, each type one of its own; types recur across questions."""

    def __post_init__(self) -> None:
        columns = (self.question, self.texts or self.labels, self.surface, self.types)
        if any(column is not None and len(column) != len(self.labels) for column in columns):
            raise ValueError(f"{len(self.labels)} labels need as many questions, texts, surfaces and types")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def numeric(self) -> bool:
        return not self.classes

    def relabelled(self, labels: np.ndarray) -> Examples:
        """The same examples with other labels."""
        return replace(self, labels=labels)

    def require_usable(self, n_folds: int = N_FOLDS) -> None:
        """Raises `UserError` where there is nothing to tell apart, or nothing to hold out."""
        n = len(np.unique(self.question))
        if n < 2 * n_folds:
            raise UserError(f"{n} questions given: a probe needs {2 * n_folds} or more; give more transcripts")
        if len(np.unique(self.labels)) < 2:
            raise UserError("all examples have the same label: there is nothing to decode; give more transcripts")


@dataclass(frozen=True)
class Recipe:
    """How a probe is made: an estimator that is not yet fitted, and the settings to choose from."""

    estimator: Any
    grid: tuple[Mapping[str, Any], ...] = ({},)
    """Settings of the estimator itself, not of the steps in front of it."""
    front: tuple[Any, ...] = ()
    """What the features go through first, fitted on the same examples."""


def linear(numeric: bool, *front: Any, weaker: float = 1.0) -> Recipe:
    """Logistic regression, or ridge for numbers, behind the given steps (by default: standardise).

    Regularisation is `weaker` by this factor, for features much smaller than standardised ones.
    """
    steps = front or (StandardScaler(),)
    if numeric:
        return Recipe(Ridge(), tuple({"alpha": a / weaker} for a in PENALTIES), steps)
    return Recipe(LogisticRegression(max_iter=200, tol=TOLERANCE), tuple({"C": c * weaker} for c in STRENGTHS), steps)


def mass_mean(numeric: bool) -> Recipe:
    """Only the class means count: each example's place along their differences (Marks and Tegmark 2023)."""
    return linear(numeric, MassMean(), StandardScaler())


def boosted(numeric: bool) -> Recipe:
    """Gradient boosting, for question-only baselines: what a strong reader without a model could know."""
    made = HistGradientBoostingRegressor if numeric else HistGradientBoostingClassifier
    return Recipe(made(max_iter=80, learning_rate=0.15, max_leaf_nodes=15, random_state=0))


class MassMean(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Projects on mean differences: of each class against the mean of the others, of two only one.

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
        """The places [example, direction] along the directions."""
        return np.asarray(X) @ self.directions_.T


@dataclass(frozen=True)
class Fitted:
    """A probe after fitting: what was chosen, and how well that did where it was chosen (higher is better)."""

    estimator: Any
    setting: Mapping[str, Any]
    merit: float


def fit(recipe: Recipe, X: Any, labels: np.ndarray, question: np.ndarray, seed: int) -> Fitted:
    """Fit a probe; its regularisation is what does best on a third of these very questions, fitted on the others.

    The merit is the log likelihood there, or minus the squared error relative to the labels' variance; where
    there is a single setting nothing is chosen, and it is NaN.
    """
    merits = [np.nan]
    with config_context(assume_finite=True, skip_parameter_validation=True):  # else half of the time
        if len(recipe.grid) > 1:
            test = deal(question, CHOOSE_ON, seed) == 0
            front, seen = _front(recipe, X[~test], labels[~test])
            asked = X[test] if front is None else front.transform(X[test])
            merits = [_merit(_fit_one(recipe, s, seen, labels[~test]), asked, labels[test]) for s in recipe.grid]
        best = int(np.argmax(merits))
        front, seen = _front(recipe, X, labels)
        estimator = _fit_one(recipe, recipe.grid[best], seen, labels)
    whole = estimator if front is None else make_pipeline(*(step for _, step in front.steps), estimator)
    return Fitted(whole, recipe.grid[best], merits[best])


@dataclass(frozen=True)
class HeldOut:
    """Predictions for every example by probes that never saw its question."""

    predicted: np.ndarray
    """Probabilities [example, class], or numbers [example]."""
    fold: Int[np.ndarray, " example"]
    merit: Float[np.ndarray, " fold"]
    """On the third of each fold's training questions that settings are chosen on: for choosing a layer, too."""
    settings: tuple[Mapping[str, Any], ...]


def held_out(
    recipe: Recipe,
    X: Any,
    examples: Examples,
    seed: int = 0,
    n_folds: int = N_FOLDS,
    fitted_on: np.ndarray | None = None,
) -> HeldOut:
    """Predict each example by a probe fitted on the other folds' questions.

    `X` is indexed by example: activations, texts (an array of strings) or other features. `fitted_on`
    marks the examples that may be fitted on, and those alone: all are predicted, so that with one seat
    left out the probe is held against a seat that it never saw.
    """
    fold = deal(examples.question, n_folds, seed)
    usable = np.full(len(examples), True) if fitted_on is None else fitted_on
    shape = (len(examples),) if examples.numeric else (len(examples), len(examples.classes))
    predicted = np.zeros(shape)
    fits = []
    for f in range(n_folds):
        train, test = (fold != f) & usable, fold == f
        fitted = fit(recipe, X[train], examples.labels[train], examples.question[train], seed)
        fits.append(fitted)
        predicted[test] = predict(fitted.estimator, X[test], len(examples.classes))
    return HeldOut(predicted, fold, np.array([f.merit for f in fits]), tuple(f.setting for f in fits))


def predict(estimator: Any, X: Any, n_classes: int) -> np.ndarray:
    """Probabilities [example, class], a class that was not fitted having 0; numbers where there are no classes."""
    if not n_classes:
        return np.asarray(estimator.predict(X))
    probability = np.zeros((len(X), n_classes))
    probability[:, estimator.classes_.astype(int)] = estimator.predict_proba(X)
    return probability


def chosen_layer(by_layer: Sequence[HeldOut]) -> tuple[HeldOut, list[int]]:
    """Predictions at the layer that did best on each fold's own training questions, and which layers these were.

    The best of many layers looks better than it is; this one is chosen without the questions that score it.
    """
    best = np.stack([held.merit for held in by_layer]).argmax(axis=0)
    at = best[by_layer[0].fold]
    predicted = np.stack([held.predicted for held in by_layer])[at, np.arange(len(at))]
    settings = tuple(by_layer[b].settings[f] for f, b in enumerate(best))
    merit = np.stack([held.merit for held in by_layer])[best, np.arange(len(best))]
    return HeldOut(predicted, by_layer[0].fold, merit, settings), best.tolist()


def _front(recipe: Recipe, X: Any, labels: np.ndarray) -> tuple[Any, Any]:
    """What stands in front of the estimator, fitted, and the features behind it."""
    if not recipe.front:
        return None, X
    front = make_pipeline(*map(clone, recipe.front))
    return front, front.fit_transform(X, labels)


def _fit_one(recipe: Recipe, setting: Mapping[str, Any], X: Any, labels: np.ndarray) -> Any:
    if labels.dtype.kind != "f" and len(np.unique(labels)) < 2:
        return DummyClassifier().fit(X, labels)  # a rare class that all lies elsewhere: nothing can be learned here
    estimator = clone(recipe.estimator).set_params(**setting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak regularisation on few examples: others are chosen
        return estimator.fit(X, labels)


def _merit(estimator: Any, X: Any, labels: np.ndarray) -> float:
    if labels.dtype.kind == "f":
        return -float(((labels - estimator.predict(X)) ** 2).mean() / max(labels.var(), 1e-12))
    probability = estimator.predict_proba(X)
    place = np.searchsorted(estimator.classes_, labels).clip(max=len(estimator.classes_) - 1)
    known = estimator.classes_[place] == labels
    given = probability[np.arange(len(labels)), place][known]
    return float(np.log(given.clip(min=1e-9)).mean()) if known.any() else -np.inf
