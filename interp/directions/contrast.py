"""Which turns are compared with which, and the mean differences between them. Knows nothing about models or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float, Int

from interp.activations.corpus import Skip, TurnTable
from interp.directions.settings import By
from interp.errors import UserError
from interp.options import one_of


@dataclass(frozen=True)
class Contrast:
    """Which turns are compared: one group per transcript and round, with every label once.

    >>> corpus = interp.activations.Corpus.build(transcripts[:3], model.tokenizer)
    >>> interp.directions.Contrast.build(corpus.turns, corpus.questions).labels
    ('agent 1', 'agent 2', 'agent 3')
    """

    labels: tuple[str, ...]
    rows: Int[np.ndarray, "group label"]
    """Rows of the turn table."""
    question: Int[np.ndarray, " group"]
    round: Int[np.ndarray, " group"]
    skipped: tuple[Skip, ...] = ()
    named: str = ""
    """For pairs: the label of the one direction, from the second side of each to the first."""

    @staticmethod
    def build(turns: TurnTable, questions: Sequence[str], by: By = "agent", text_needed: bool = True) -> Contrast:
        """Skips a group in which a label is missing, occurs twice or (with `text_needed`) has no text.

        Raises `UserError` when no group is left or personas are unknown.
        """
        one_of("by", by, get_args(By))
        if by == "persona" and not all(turns.persona):
            raise UserError("the transcripts do not say which persona has which seat; add personas, or use --by agent")
        names = [f"agent {a}" for a in turns.agent] if by == "agent" else list(turns.persona)
        order = np.argsort(turns.agent, kind="stable") if by == "agent" else np.lexsort((turns.agent, turns.transcript))
        labels = tuple(dict.fromkeys(names[i] for i in order))
        if len(labels) < 2:
            raise UserError(f"the transcripts have only {labels[0]}; a contrast needs at least two")
        groups: dict[tuple[int, int], dict[str, list[int]]] = {}
        for row, key in enumerate(zip(turns.transcript.tolist(), turns.round.tolist(), strict=True)):
            groups.setdefault(key, {label: [] for label in labels})[names[row]].append(row)
        used: list[list[int]] = []
        skipped: list[Skip] = []

        def fault(rows: Sequence[int]) -> str:
            if len(rows) != 1:
                return f"speaks {len(rows)} times" if rows else "is missing"
            return "says nothing" if text_needed and turns.start[rows[0]] == turns.stop[rows[0]] else ""

        for (transcript, round_), by_label in sorted(groups.items()):
            reasons = [f"{label} {why}" for label, rows in by_label.items() if (why := fault(rows))]
            members = [row for rows in by_label.values() for row in rows]
            if reasons:
                question = questions[turns.question[members[0]]]
                skipped.append(Skip(transcript + 1, question, round_, ", ".join(reasons)))
            else:
                used.append(members)
        if not used:
            first = f"the first (transcript {skipped[0].transcript}, round {skipped[0].round})"
            skips = f"all {len(skipped)} were skipped, {first} because {skipped[0].reason}"
            raise UserError(f"no group with all of {', '.join(labels)}: {skips}")
        table = np.array(used)
        return Contrast(labels, table, turns.question[table[:, 0]], turns.round[table[:, 0]], tuple(skipped))


def differences(values: Float[np.ndarray, "group label *rest"]) -> Float[np.ndarray, "group label *rest"]:
    """Each label's activation minus the mean of the others' in its group: x_k − mean over j≠k of x_j."""
    n_labels = values.shape[1]
    return (values - values.mean(axis=1, keepdims=True)) * np.float32(n_labels / (n_labels - 1))
