"""What the text alone says of a turn: its words, where it ends and how long it is, as if these were activations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array, diags_array, hstack

from interp.activations.corpus import Corpus
from interp.directions.contrast import Contrast, differences

N_WORDS = 300
_TAG_TOKENS = 16  # at most


@dataclass(frozen=True)
class TextDifferences:
    """Each label's turn minus the others' in features of the text."""

    features: Any
    """Sparse [turn, feature]."""
    rows: Int[np.ndarray, "group label"]

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.rows.shape, self.features.shape[1]

    def __getitem__(self, groups: np.ndarray) -> Float[np.ndarray, "group label feature"]:
        rows = self.rows[groups]
        return differences(self.features[rows.ravel()].toarray().reshape(*rows.shape, -1))


def text_controls(corpus: Corpus, contrast: Contrast, position: str) -> list[TextDifferences]:
    """Three kinds of features, of which a label may have the best: words, place, and both.

    Words are logarithms of the counts of the commonest tokens; place is the turn's end and its length, in tokens. All
    are scaled to the same spread within a group, so that a mean difference is a diagonal linear discriminant. At its
    tag a turn is not written yet, and the words are those since the turn before: the tag itself.
    """
    turns = corpus.turns
    start, stop = turns.start, turns.stop
    if position == "tag":
        before = np.where(np.roll(turns.transcript, 1) == turns.transcript, np.roll(stop, 1), 0)
        start, stop = np.maximum(before, turns.tag - _TAG_TOKENS), turns.tag
    words, counts, lengths = list[np.ndarray](), list[np.ndarray](), list[int]()
    for transcript in corpus.usable:  # its turns follow one another in the table
        ids = np.asarray(corpus.ids[transcript])
        for row in np.flatnonzero(turns.transcript == transcript):
            word, count = np.unique(ids[start[row] : stop[row]], return_counts=True)
            words.append(word)
            counts.append(np.log1p(count))
            lengths.append(len(word))
    word = np.concatenate(words)
    table = csr_array((np.concatenate(counts), word, np.cumsum([0, *lengths])), shape=(len(turns), int(word.max()) + 1))
    common = np.argsort(-np.bincount(word), kind="stable")[:N_WORDS]
    place = csr_array(np.stack([stop, stop - start], axis=1))
    whole = TextDifferences(hstack([table[:, common], place]).tocsr().astype(np.float32), contrast.rows)
    square = np.zeros(whole.shape[-1])
    for some in np.array_split(np.arange(len(contrast.rows)), len(contrast.rows) // 256 + 1):
        square += (whole[some].astype(np.float64) ** 2).sum(axis=(0, 1))
    scale = diags_array(1 / np.sqrt(np.where(square > 0, square / len(contrast.rows), 1)))
    features = (whole.features @ scale).tocsr().astype(np.float32)
    kinds = (slice(0, -2), slice(-2, None), slice(None))
    return [replace(whole, features=features[:, kind]) for kind in kinds]
