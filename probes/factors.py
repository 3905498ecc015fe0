"""The subspaces of factors (agent, persona, round) in what a model reads, each with the evidence for its dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.directions.subspaces import (
    Factors,
    Levels,
    Subspace,
    Values,
    coded_levels,
    effects,
    reader,
    span,
    within_question,
)
from interp.statistics import deal

N_FOLDS = 5


@dataclass(frozen=True)
class FactorSubspace:
    """The subspace of one factor, with the evidence for it."""

    subspace: Subspace
    """Of the chosen dimension; 0 where no direction predicts better than none."""
    gains: tuple[float, ...]
    """By dimension from 0: the share of the held-out effects that the training questions' effects predict."""
    p: float
    """How often shuffled levels give a held-out effect as strong."""
    share_of_variance: float
    """Of the activations within their questions."""


def factor_subspace(
    values: Values, factors: Factors, name: str, question: Levels, *, n_shuffles: int = 99, seed: int = 0
) -> FactorSubspace:
    """The subspace of a factor given the others, its dimension k chosen by cross-validation over questions.

    The effects on the other questions, cut to their first k singular directions, predict those on a fold's. The gain is
    one minus squared error over squared length; chosen is the smallest k within one standard error of the best. The
    test is Freedman and Lane's (1983): residuals after the other factors are shuffled within each question.
    """
    centred = within_question(values, question)
    coded = {n: coded_levels(levels, question) for n, levels in factors.items()}
    fold = deal(question, N_FOLDS, seed)
    folds = [(fold != f, fold == f) for f in range(N_FOLDS)]
    readers = [tuple(reader({n: c[rows] for n, c in coded.items()}, name) for rows in each) for each in folds]

    def by_fold(data: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(a @ data[train], b @ data[test]) for (a, b), (train, test) in zip(readers, folds, strict=True)]

    fits = by_fold(centred)
    lost = np.array([_lost(train, test) for train, test in fits])
    gains = 1 - lost / max(lost[:, 0].mean(), 1e-300)  # with k = 0 all is lost
    mean, error = gains.mean(axis=0), gains.std(axis=0, ddof=1) / N_FOLDS**0.5
    good = mean >= (mean - error)[mean.argmax()]
    subspace = whole_subspace(values, factors, name, question).first(int(good.argmax()))
    rng = np.random.default_rng(seed)
    left = centred
    if len(coded) > 1:
        design = np.concatenate([c for n, c in coded.items() if n != name], axis=1)
        left = centred - design @ (np.linalg.pinv(design.T @ design, hermitian=True) @ (design.T @ centred))
    strength = _strength(fits)
    shuffled = [_strength(by_fold(left[shuffled_within(question, rng)])) for _ in range(n_shuffles)]
    p = (1 + sum(s >= strength for s in shuffled)) / (1 + n_shuffles)
    return FactorSubspace(subspace, tuple(mean.tolist()), p, share_of_variance(subspace, centred))


def whole_subspace(values: Values, factors: Factors, name: str, question: Levels) -> Subspace:
    """The span of a factor's effects given the other factors, the strongest direction first."""
    return span(effects(values, factors, question)[name])


def share_of_variance(subspace: Subspace, values: Values) -> float:
    """The share of the activations' variance that lies in the subspace."""
    centred = values - values.mean(axis=0)
    return float((subspace.coordinates(centred) ** 2).sum() / (centred**2).sum())


def _strength(fits: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    return sum(float((train * test).sum()) for train, test in fits)


def _lost(train: np.ndarray, test: np.ndarray) -> list[float]:
    """Squared error of predicting effects from the first k directions of others, for each k."""
    basis = span(train).basis
    return [float(((test - train @ basis[:k].T @ basis[:k]) ** 2).sum()) for k in range(len(train))]


def shuffled_within(question: Levels, rng: np.random.Generator) -> Levels:
    """A permutation of the examples within each question."""
    places = np.empty(len(question), dtype=np.int64)
    places[np.argsort(question, kind="stable")] = np.lexsort((rng.random(len(question)), question))
    return places
