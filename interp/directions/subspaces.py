"""Subspaces of the residual stream: bases, their dimension, and the angles between them.

Knows arrays of activations with factors (agent, persona, round) and questions; knows nothing about models.
A factor's effects are the mean activations of its levels, beside the effects of the other factors: a least
squares fit of all of them together, so that with seats and personas that are not fully crossed neither takes
what is the other's. The subspace of a factor is spanned by its effects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import subspace_angles

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.statistics import deal

Factors = Mapping[str, Int[np.ndarray, " example"]]
"""Levels of each factor, as numbers from 0."""


@dataclass(frozen=True)
class Subspace:
    """An orthonormal basis, by rows; of dimension 0 where there is nothing."""

    basis: Float[np.ndarray, "k d_model"]
    sizes: Float[np.ndarray, " k"]
    """How long the effects (or directions) that span it are along each row, in descending order."""

    @property
    def dimension(self) -> int:
        return len(self.basis)

    def first(self, k: int) -> Subspace:
        """The subspace of the first rows."""
        return Subspace(self.basis[:k], self.sizes[:k])

    def coordinates(self, values: Float[np.ndarray, "*rest d_model"]) -> Float[np.ndarray, "*rest k"]:
        """The places of activations along the basis."""
        return np.asarray(values @ self.basis.T)

    def without(self, values: Float[np.ndarray, "*rest d_model"]) -> Float[np.ndarray, "*rest d_model"]:
        """The activations with the subspace projected out."""
        return np.asarray(values - self.coordinates(values) @ self.basis)


def span(vectors: Float[np.ndarray, "n d_model"] | Sequence[Direction]) -> Subspace:
    """The subspace of several directions: an orthonormal basis by singular value decomposition."""
    rows = vectors if isinstance(vectors, np.ndarray) else np.stack([d.vector for d in vectors])
    _, sizes, basis = np.linalg.svd(np.asarray(rows, dtype=np.float64), full_matrices=False)
    kept = sizes > 1e-6 * max(sizes[0], 1e-300)
    return Subspace(basis[kept], sizes[kept])


def effects(
    values: Float[np.ndarray, "example d_model"], factors: Factors
) -> dict[str, Float[np.ndarray, "level d_model"]]:
    """The effect of each level of each factor on the mean activation; those of a factor sum to zero.

    Raises `UserError` where the factors cannot be told apart, as seats and personas that never change places.
    """
    columns, places = [np.ones((len(values), 1))], {}
    width = 1
    for name, levels in factors.items():
        n = int(levels.max()) + 1
        coded = np.eye(n)[levels][:, :-1] - (levels == n - 1)[:, None]  # the last level is minus the sum of the others
        columns.append(coded)
        places[name] = slice(width, width + n - 1)
        width += n - 1
    design = np.concatenate(columns, axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise UserError(f"{', '.join(factors)} always change together: let the personas rotate through the seats")
    solved = np.linalg.lstsq(design, np.asarray(values, dtype=np.float64), rcond=None)[0]
    return {name: np.concatenate([solved[at], -solved[at].sum(axis=0, keepdims=True)]) for name, at in places.items()}


def within_question(
    values: Float[np.ndarray, "example d_model"], question: Int[np.ndarray, " example"]
) -> Float[np.ndarray, "example d_model"]:
    """The activations minus the mean of their question's: what turns on the question alone cancels."""
    _, index, count = np.unique(question, return_inverse=True, return_counts=True)
    sums = np.zeros((len(count), values.shape[1]))
    np.add.at(sums, index, values)
    return np.asarray(values - (sums / count[:, None])[index])


@dataclass(frozen=True)
class FactorSubspace:
    """The subspace of one factor, with what speaks for it."""

    subspace: Subspace
    """Its dimension is the chosen one; 0 where no direction does better than none."""
    gains: tuple[float, ...]
    """By dimension, from 0: how much of the held-out effects the training questions' effects predict (1: all)."""
    p: float
    """How often shuffled levels give a held-out effect as strong."""
    share_of_variance: float
    """Of the activations within their questions."""


def factor_subspace(
    values: Float[np.ndarray, "example d_model"],
    factors: Factors,
    name: str,
    question: Int[np.ndarray, " example"],
    *,
    n_folds: int = 5,
    n_shuffles: int = 99,
    seed: int = 0,
) -> FactorSubspace:
    """The subspace of a factor beside the others, its dimension chosen by cross-validation over questions.

    For each fold the effects on the other questions, cut to their first k singular directions, predict those
    on the fold's. The gain of k is one minus the squared error over the squared length; chosen is the smallest
    k that is within one standard error (over folds) of the best. The test is Freedman and Lane's permutation
    (1983): what the other factors leave of the activations is shuffled within each question; the statistic is the
    inner product of the training questions' effects and the fold's.
    """
    centred = within_question(values, question)
    coded = {n: _within(levels, question) for n, levels in factors.items()}
    fold = deal(question, n_folds, seed)
    folds = [(fold != f, fold == f) for f in range(n_folds)]
    readers = [tuple(_reader({n: c[rows] for n, c in coded.items()}, name) for rows in each) for each in folds]

    def by_fold(data: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(a @ data[train], b @ data[test]) for (a, b), (train, test) in zip(readers, folds, strict=True)]

    fits = by_fold(centred)
    lost = np.array([[_lost(train, test, k) for k in range(len(train))] for train, test in fits])
    gains = 1 - lost / max(lost[:, 0].mean(), 1e-300)  # of no direction everything is lost
    mean, error = gains.mean(axis=0), gains.std(axis=0, ddof=1) / n_folds**0.5
    best = int(mean.argmax())
    dimension = int(np.flatnonzero(mean >= mean[best] - error[best])[0])
    subspace = whole_subspace(values, factors, name, question).first(dimension)

    rng = np.random.default_rng(seed)
    rest = {n: c for n, c in coded.items() if n != name}
    left = centred - np.concatenate(list(rest.values()), axis=1) @ _weights(centred, rest) if rest else centred
    strength = _strength(fits)
    shuffled = [_strength(by_fold(left[_shuffled_within(question, rng)])) for _ in range(n_shuffles)]
    p = (1 + sum(s >= strength for s in shuffled)) / (1 + n_shuffles)
    return FactorSubspace(subspace, tuple(mean.tolist()), p, share_of_variance(subspace, centred))


def whole_subspace(
    values: Float[np.ndarray, "example d_model"], factors: Factors, name: str, question: Int[np.ndarray, " example"]
) -> Subspace:
    """All that the effects of a factor span, beside the other factors; the strongest direction first."""
    coded = {n: _within(levels, question) for n, levels in factors.items()}
    return span(_solve(within_question(values, question), coded)[name])


def spread_subspace(
    values: Float[np.ndarray, "example d_model"],
    question: Int[np.ndarray, " example"],
    *,
    largest: int = 32,
    n_folds: int = 5,
    seed: int = 0,
) -> Subspace:
    """Where the activations spread (an agent's turns, say): principal directions, the longest first.

    Their number is the one under which held-out questions are likeliest, in probabilistic principal component
    analysis (Tipping and Bishop 1999): so many directions of their own, and the same variance along all others.
    """
    fold = deal(question, n_folds, seed)
    d_model = values.shape[1]
    most = min(largest, d_model - 1, int((fold != 0).sum()) - 2)
    likelihood = np.zeros(most + 1)
    for f in range(n_folds):
        train, test = values[fold != f], values[fold == f]
        centre = train.mean(axis=0, dtype=np.float64)
        _, sizes, rows = np.linalg.svd(train - centre, full_matrices=False)
        variance = sizes**2 / len(train)
        seen = ((test - centre) @ rows[:most].T) ** 2
        seen, whole = seen.mean(axis=0), float(((test - centre) ** 2).sum(axis=1).mean())
        for k in range(most + 1):
            rest = max(float(variance[k:].sum()) / (d_model - k), 1e-12)
            left = max(whole - float(seen[:k].sum()), 0.0)
            own = float((np.log(variance[:k]) + seen[:k] / variance[:k]).sum())
            likelihood[k] -= (own + (d_model - k) * np.log(rest) + left / rest) / 2
    _, sizes, rows = np.linalg.svd(values - values.mean(axis=0, dtype=np.float64), full_matrices=False)
    k = int(likelihood.argmax())
    return Subspace(rows[:k], sizes[:k] / len(values) ** 0.5)


def share_of_variance(subspace: Subspace, values: Float[np.ndarray, "example d_model"]) -> float:
    """Which part of the variance of activations lies in the subspace, from 0 to 1."""
    centred = values - values.mean(axis=0)
    return float((subspace.coordinates(centred) ** 2).sum() / (centred**2).sum())


def principal_angles(first: Subspace, second: Subspace) -> Float[np.ndarray, " angle"]:
    """The angles between two subspaces in degrees, ascending; as many as the smaller has dimensions."""
    if not first.dimension or not second.dimension:
        return np.zeros(0)
    return np.sort(np.degrees(subspace_angles(first.basis.T, second.basis.T)))


def random_angles(
    first: Subspace, dimension: int, n: int = 200, seed: int = 0, within: Subspace | None = None
) -> Float[np.ndarray, "draw angle"]:
    """The angles between a subspace and random ones of a dimension, for comparison.

    In few dimensions random subspaces are near one another. With `within`, they are drawn there: where the
    activations spread, rather than anywhere; each row of that basis counts as much as its size.
    """
    rng = np.random.default_rng(seed)
    d_model = first.basis.shape[1]
    frame = np.eye(d_model) if within is None else within.basis * within.sizes[:, None]
    drawn = (span(rng.standard_normal((dimension, len(frame))) @ frame) for _ in range(n))
    return np.stack([principal_angles(first, other) for other in drawn])


@dataclass(frozen=True)
class Angles:
    """The principal angles between two subspaces, beside what chance gives (2.5th to 97.5th percentile), in degrees."""

    angles: tuple[float, ...]
    random: tuple[tuple[float, float], ...]
    """Between the first and random subspaces of the second's dimension, drawn where the activations spread."""
    shuffled: tuple[tuple[float, float], ...]
    """Between the first and the subspace that shuffled levels give in place of the second."""


def compare_subspaces(
    first: Subspace,
    second: Subspace,
    values: Float[np.ndarray, "example d_model"],
    levels: Int[np.ndarray, " example"],
    question: Int[np.ndarray, " example"],
    *,
    n: int = 50,
    seed: int = 0,
) -> Angles:
    """Angles of two subspaces against chance; `values`, `levels` and `question` are those behind the second."""
    centred = within_question(values, question)
    rng = np.random.default_rng(seed)
    shuffled = []
    for _ in range(n):
        wrong = _within(levels[_shuffled_within(question, rng)], question)
        shuffled.append(principal_angles(first, span(_solve(centred, {"": wrong})[""]).first(second.dimension)))
    chance = random_angles(first, second.dimension, n, seed, within=span(centred))
    return Angles(tuple(principal_angles(first, second).round(2).tolist()), _range(chance), _range(np.stack(shuffled)))


def _within(levels: Int[np.ndarray, " example"], question: Int[np.ndarray, " example"]) -> np.ndarray:
    """The coded levels [example, level − 1] minus their question's mean."""
    n = int(levels.max()) + 1
    return within_question(np.eye(n)[levels][:, :-1] - (levels == n - 1)[:, None], question)


def _solve(centred: np.ndarray, coded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The effects of every factor from activations and levels that are centred within questions."""
    design = np.concatenate(list(coded.values()), axis=1)
    if np.linalg.matrix_rank(design.T @ design, tol=1e-8 * len(design)) < design.shape[1]:
        raise UserError(f"{', '.join(coded)} always change together: let the personas rotate through the seats")
    return {name: _reader(coded, name) @ centred for name in coded}


def _weights(centred: np.ndarray, coded: Mapping[str, np.ndarray]) -> Float[np.ndarray, "column d_model"]:
    design = np.concatenate(list(coded.values()), axis=1)
    return np.asarray(np.linalg.pinv(design.T @ design, hermitian=True) @ (design.T @ centred))


def _reader(coded: Mapping[str, np.ndarray], name: str) -> Float[np.ndarray, "level example"]:
    """The matrix that takes centred activations to the effects of one factor, all fitted together."""
    design = np.concatenate(list(coded.values()), axis=1)
    solve = np.linalg.pinv(design.T @ design, hermitian=True) @ design.T
    start = sum(columns.shape[1] for columns in list(coded.values())[: list(coded).index(name)])
    own = solve[start : start + coded[name].shape[1]]
    return np.concatenate([own, -own.sum(axis=0, keepdims=True)])


def _strength(fits: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    return sum(float((train * test).sum()) for train, test in fits)


def _lost(train: np.ndarray, test: np.ndarray, k: int) -> float:
    """The squared error of predicting effects by others' first k directions."""
    basis = span(train).first(k).basis
    return float(((test - train @ basis.T @ basis) ** 2).sum())


def _shuffled_within(question: Int[np.ndarray, " example"], rng: np.random.Generator) -> Int[np.ndarray, " example"]:
    """Which example's activation each example is given, among those of its question."""
    places = np.empty(len(question), dtype=np.int64)
    places[np.argsort(question, kind="stable")] = np.lexsort((rng.random(len(question)), question))
    return places


def _range(draws: Float[np.ndarray, "draw angle"]) -> tuple[tuple[float, float], ...]:
    low, high = np.quantile(draws, (0.025, 0.975), axis=0).round(2)
    return tuple(zip(low.tolist(), high.tolist(), strict=True))
