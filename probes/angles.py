"""Angles between the subspaces of a probe, against chance, and the subspace in which activations spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.directions.subspaces import Levels, Subspace, Values, drawn, principal_angles, span, within_question
from interp.statistics import deal
from probes.factors import N_FOLDS, shuffled_within, whole_subspace


def spread_subspace(values: Values, question: Levels, *, largest: int = 32, seed: int = 0) -> Subspace:
    """Principal directions of activations, the longest first; as many as held-out questions are likeliest with.

    The likelihood is that of probabilistic principal component analysis (Tipping and Bishop 1999).
    """
    fold, d_model = deal(question, N_FOLDS, seed), values.shape[1]
    most = min(largest, d_model - 1, int((fold != 0).sum()) - 2)
    likelihood = np.zeros(most + 1)
    for f in range(N_FOLDS):
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


def random_angles(
    first: Subspace, dimension: int, spread: Float[np.ndarray, "k d_model"], n: int = 200, seed: int = 0
) -> Float[np.ndarray, "draw angle"]:
    """The angles between a subspace and random ones, drawn with the covariance of the rows of `spread`."""
    vectors = drawn(spread, n * dimension, seed).reshape(n, dimension, -1)
    return np.stack([principal_angles(first, span(each)) for each in vectors])


@dataclass(frozen=True)
class Angles:
    """Principal angles between two subspaces with chance levels (2.5th to 97.5th percentile), in degrees."""

    angles: tuple[float, ...]
    random: tuple[tuple[float, float], ...]
    """Between the first and random subspaces of the activations' covariance."""
    shuffled: tuple[tuple[float, float], ...]
    """Between the first and the second's counterpart from shuffled levels."""


def compare_subspaces(
    first: Subspace, second: Subspace, values: Values, levels: Levels, question: Levels, *, n: int = 50, seed: int = 0
) -> Angles:
    """Angles of two subspaces against chance; `values`, `levels` and `question` belong to the second."""
    centred, rng = within_question(values, question), np.random.default_rng(seed)
    wrong = ({"": levels[shuffled_within(question, rng)]} for _ in range(n))
    others = (whole_subspace(centred, each, "", question).first(second.dimension) for each in wrong)
    shuffled = [principal_angles(first, other) for other in others]
    chance = random_angles(first, second.dimension, centred, n, seed)
    return Angles(
        tuple(principal_angles(first, second).round(2).tolist()), angle_range(chance), angle_range(np.stack(shuffled))
    )


def angle_range(draws: Float[np.ndarray, "draw angle"]) -> tuple[tuple[float, float], ...]:
    """The range of 95 % of the draws of each angle, in degrees."""
    low, high = np.quantile(draws, (0.025, 0.975), axis=0).round(2)
    return tuple(zip(low.tolist(), high.tolist(), strict=True))
