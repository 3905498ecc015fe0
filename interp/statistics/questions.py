"""Values by question, and the folds that keep a question together."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np
from jaxtyping import Int

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The values of each key, both in order of appearance.

    >>> interp.statistics.grouped([("a", 1), ("b", 2), ("a", 3)])
    {'a': [1, 3], 'b': [2]}
    """
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def means(pairs: Iterable[tuple[K, float]]) -> dict[K, float]:
    """The mean value of each key, in order of appearance.

    >>> interp.statistics.means([("a", 1), ("b", 2), ("a", 3)])
    {'a': 2.0, 'b': 2.0}
    """
    return {key: float(np.mean(values)) for key, values in grouped(pairs).items()}


def deal(
    question: Int[np.ndarray, " example"], n_folds: int, seed: int | np.random.Generator
) -> Int[np.ndarray, " example"]:
    """The fold of each example, from 0; all examples of a question share one.

    >>> interp.statistics.deal(np.array([7, 7, 8, 8, 9, 9]), n_folds=3, seed=0)
    array([2, 2, 0, 0, 1, 1])
    """
    unique, index = np.unique(question, return_inverse=True)
    of_question = np.random.default_rng(seed).permutation(np.arange(len(unique)) % n_folds)
    return np.asarray(of_question[index])
