"""Transcripts as tokens: which token belongs to which agent's turn. Knows a tokenizer, nothing about models.

Transcripts are tokenized piece by piece, so no token crosses the boundary of a turn, and reading a turn in the full
transcript is the same as reading it at the end of its prefix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.models.tokens import Encoder

COLUMNS = ("transcript", "question", "agent", "round", "tag", "start", "stop")


@dataclass(frozen=True)
class Skip:
    """Something unusable, and why; `transcript` counts from 1."""

    transcript: int
    question: str
    round: int | None
    reason: str


@dataclass(frozen=True)
class TurnTable:
    """One row per turn: whose it is, and where it is in its transcript's tokens.

    `transcript` and `question` count from 0, `agent` and `round` from 1. The tag ends before token `tag`; the text is
    the tokens `start` to `stop` (empty when equal).
    """

    transcript: Int[np.ndarray, " turn"]
    question: Int[np.ndarray, " turn"]
    agent: Int[np.ndarray, " turn"]
    round: Int[np.ndarray, " turn"]
    tag: Int[np.ndarray, " turn"]
    start: Int[np.ndarray, " turn"]
    stop: Int[np.ndarray, " turn"]
    persona: tuple[str, ...]
    """The persona in the seat; empty where unknown."""

    def __len__(self) -> int:
        return len(self.transcript)

    def columns(self) -> dict[str, Int[np.ndarray, " turn"]]:
        return {name: getattr(self, name) for name in COLUMNS}


@dataclass(frozen=True)
class Corpus:
    """Tokenized transcripts with the table of their turns.

    >>> corpus = interp.activations.Corpus.build(transcripts[:2], model.tokenizer)
    >>> len(corpus.ids), len(corpus.turns), corpus.turns.agent[:3]
    (2, 9, array([1, 2, 3]))
    """

    ids: tuple[tuple[int, ...], ...]
    """Token ids of each transcript (prompt and debate); empty for one that was left out."""
    turns: TurnTable
    questions: tuple[str, ...]
    skipped: tuple[Skip, ...] = ()

    @property
    def usable(self) -> tuple[int, ...]:
        """Indices of the transcripts that were not left out."""
        return tuple(t for t, ids in enumerate(self.ids) if ids)

    @property
    def digest(self) -> str:
        columns = b"".join(column.astype(np.int64).tobytes() for column in self.turns.columns().values())
        return hashlib.sha256(json.dumps(self.ids).encode() + columns).hexdigest()

    @staticmethod
    def build(
        transcripts: Sequence[Transcript], tokenizer: Any, context_length: int | None = None, *, skip_long: bool = False
    ) -> Corpus:
        """Tokenize transcripts; one of more than `context_length` tokens is a `UserError`, or skipped (`skip_long`)."""
        encode = Encoder(tokenizer)
        questions: dict[str, int] = {}
        all_ids: list[tuple[int, ...]] = []
        rows: list[tuple[int, ...]] = []
        personas: list[str] = []
        skipped: list[Skip] = []
        for number, transcript in enumerate(transcripts, start=1):
            ids, places = encode.transcript(transcript)
            if context_length is not None and len(ids) > context_length:
                reason = f"{len(ids):,} tokens, more than the {context_length:,} that the model reads"
                if not skip_long:
                    which = f"transcript {number} ({transcript.question[:40]!r})"
                    raise UserError(f"{which}: {reason}; shorten it, or leave it out with --skip-long")
                skipped.append(Skip(number, transcript.question, None, reason))
                all_ids.append(())
                continue
            question = questions.setdefault(transcript.question, len(questions))
            seats = [(turn.agent, turn.round) for turn in transcript.turns]
            rows += [(len(all_ids), question, *seat, *place) for seat, place in zip(seats, places, strict=True)]
            personas += [transcript.personas[agent - 1] if transcript.personas else "" for agent, _ in seats]
            all_ids.append(tuple(ids))
        if not transcripts:
            raise UserError("no transcripts given")
        if not rows:
            raise UserError(f"none of the {len(transcripts)} transcripts can be used: {skipped[0].reason}")
        columns = dict(zip(COLUMNS, np.array(rows, dtype=np.int64).T, strict=True))
        table = TurnTable(**columns, persona=tuple(personas))
        return Corpus(tuple(all_ids), table, tuple(questions), tuple(skipped))
