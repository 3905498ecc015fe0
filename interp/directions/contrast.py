"""Which turns are held against which, and the mean differences that come of it.

Knows tables of turns and arrays of activations; knows nothing about models or text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float, Int

from interp.activations.corpus import Skip, TurnTable
from interp.activations.reading import Readings
from interp.directions.settings import By
from interp.errors import UserError
from interp.options import one_of


@dataclass(frozen=True)
class Contrast:
    """Which turns are held against which: one group a transcript and round with every label once."""

    labels: tuple[str, ...]
    rows: Int[np.ndarray, "group label"]
    """Rows of the turn table."""
    question: Int[np.ndarray, " group"]
    round: Int[np.ndarray, " group"]
    skipped: tuple[Skip, ...] = ()
    """Groups that could not be used, each with its reason."""

    @staticmethod
    def build(turns: TurnTable, questions: Sequence[str], by: By = "agent", text_needed: bool = True) -> Contrast:
        """Group the turns by transcript and round and label them by agent or by persona.

        A group in which a label is missing, occurs twice or (with `text_needed`) has no text is
        skipped and named. Raises `UserError` when no group is left or personas are not known.
        """
        one_of("by", by, get_args(By))
        if by == "persona" and not all(turns.persona):
            raise UserError("the transcripts do not say which persona sits where; add personas, or use --by agent")
        names = [f"agent {a}" for a in turns.agent] if by == "agent" else list(turns.persona)
        if by == "agent":
            labels = tuple(f"agent {a}" for a in np.unique(turns.agent))
        else:
            labels = tuple(dict.fromkeys(turns.persona[i] for i in np.lexsort((turns.agent, turns.transcript))))
        if len(labels) < 2:
            raise UserError(f"the transcripts have only {labels[0]}; a contrast needs at least two")
        groups: dict[tuple[int, int], list[int]] = {}
        for row, key in enumerate(zip(turns.transcript.tolist(), turns.round.tolist(), strict=True)):
            groups.setdefault(key, []).append(row)
        used: list[list[int]] = []
        skipped: list[Skip] = []
        for (transcript, round_), members in sorted(groups.items()):
            reasons = []
            by_label: dict[str, list[int]] = {label: [] for label in labels}
            for row in members:
                by_label[names[row]].append(row)
            for label, rows in by_label.items():
                if not rows:
                    reasons.append(f"{label} is missing")
                elif len(rows) > 1:
                    reasons.append(f"{label} speaks {len(rows)} times")
                elif text_needed and turns.start[rows[0]] == turns.stop[rows[0]]:
                    reasons.append(f"{label} says nothing")
            if reasons:
                question = questions[turns.question[members[0]]]
                skipped.append(Skip(transcript + 1, question, round_, ", ".join(reasons)))
            else:
                used.append([by_label[label][0] for label in labels])
        if not used:
            first = skipped[0]
            raise UserError(
                f"no group with all of {', '.join(labels)}: all {len(skipped)} were skipped, the first "
                f"(transcript {first.transcript}, round {first.round}) because {first.reason}"
            )
        table = np.array(used)
        first_rows = table[:, 0]
        return Contrast(labels, table, turns.question[first_rows], turns.round[first_rows], tuple(skipped))

    @property
    def rounds(self) -> tuple[int, ...]:
        return tuple(int(r) for r in np.unique(self.round))


def differences(values: Float[np.ndarray, "group label *rest"]) -> Float[np.ndarray, "group label *rest"]:
    """Each label's activation minus the mean of the other labels' in its group.

    x_k − mean over j≠k of x_j, which is A/(A−1) · (x_k − mean over all j), A labels.
    """
    n_labels = values.shape[1]
    return (values - values.mean(axis=1, keepdims=True)) * np.float32(n_labels / (n_labels - 1))


class MeanDifference:
    """Mean differences from a stream of readings, in memory that does not grow with it.

    `partial_fit` takes readings of whole transcripts in any order; afterwards `vectors_` has shape
    [label, layer, d_model] and `residual_norm_` [layer] is the mean length of the activations read.
    """

    def __init__(self, contrast: Contrast) -> None:
        self.contrast = contrast
        self.n_groups_ = 0
        self._sum: np.ndarray | float = 0.0
        self._norm_sum: np.ndarray | float = 0.0

    def partial_fit(
        self, rows: Int[np.ndarray, " turn"], values: Float[np.ndarray, "turn layer d_model"]
    ) -> MeanDifference:
        """Add the turns in `rows` (of the turn table); raises `ValueError` where a group is cut in two."""
        inside = np.isin(self.contrast.rows, rows)
        if (inside.any(axis=1) != inside.all(axis=1)).any():
            raise ValueError("readings must hold whole transcripts")
        groups = self.contrast.rows[inside.all(axis=1)]
        if len(groups):
            order = np.argsort(rows)
            chosen = values[order[np.searchsorted(rows, groups, sorter=order)]]
            self._sum = self._sum + differences(chosen).sum(axis=0, dtype=np.float64)
            self._norm_sum = self._norm_sum + np.linalg.norm(chosen, axis=-1).mean(axis=1).sum(axis=0, dtype=np.float64)
            self.n_groups_ += len(groups)
        return self

    def fit(self, stream: Iterable[Readings], position: int = 0) -> MeanDifference:
        """Consume a whole stream, reading the given index on its position axis."""
        for readings in stream:
            self.partial_fit(readings.rows, readings.values[:, position])
        return self

    @property
    def vectors_(self) -> Float[np.ndarray, "label layer d_model"]:
        return np.asarray(self._sum / self.n_groups_, dtype=np.float32)

    @property
    def residual_norm_(self) -> Float[np.ndarray, " layer"]:
        return np.asarray(self._norm_sum / self.n_groups_, dtype=np.float32)
