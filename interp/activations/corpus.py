"""Transcripts as tokens: which token belongs to which agent's turn. Knows a tokenizer, nothing about models.

The ids are the tokenizer's own for the whole text. A turn ends with the token that holds its last character, so reading
it in the full transcript is the same as reading it at the end of the same ids up to there.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from interp.debate.transcript import Transcript, question_key
from interp.errors import UserError
from interp.models.tokens import Encoder, Tokenized

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

    `transcript` and `question` count from 0, `agent` and `round` from 1. The tag, with its colon, ends before token
    `tag`; the text is the tokens `start` to `stop` (empty when equal).
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
class Tokenization:
    """How transcripts became tokens, and what is not as one would expect."""

    tokenized: Tokenized = "text"
    """As the tokenizer takes the whole text, or piece by piece, as the checkpoint was trained."""
    tokens: int = 0
    foreign: int = 0
    """Tokens that the tokenizer's own ids do not have."""
    merged: int = 0
    """Turns whose last token also holds the beginning of what follows."""
    changed: int = 0
    """Transcripts that the ids do not spell."""
    change: str = ""
    """The first change."""

    @property
    def lines(self) -> list[str]:
        """What a user should know."""
        why = ", because the checkpoint was trained on transcripts cut into pieces" if self.foreign else ""
        found = [f"tokens: {self.tokens:,}, of which {self.foreign:,} differ from the tokenizer's own{why}"]
        if self.merged:
            found.append(f"turns that end in a token with the beginning of what follows: {self.merged:,}")
        if self.changed:
            found.append(f"transcripts that the tokenizer changes: {self.changed:,} ({self.change}); it reads them so")
        return found


@dataclass(frozen=True)
class Corpus:
    """Tokenized transcripts with the table of their turns.

    >>> corpus = interp.activations.Corpus.build(transcripts[:2], model.tokenizer)
    >>> len(corpus.ids), len(corpus.turns), corpus.turns.agent[:3]
    (2, 9, array([1, 2, 3]))
    """

    ids: Sequence[Sequence[int]]
    """Token ids of each transcript (prompt and debate); empty for one that was left out. `build` gives arrays of four
    bytes an id: Python's own integers would take nine times as much."""
    turns: TurnTable
    questions: tuple[str, ...]
    """Each as it was first worded; `question_key` decides which texts are one question."""
    skipped: tuple[Skip, ...] = ()
    tokenization: Tokenization = Tokenization()

    @property
    def usable(self) -> tuple[int, ...]:
        """Indices of the transcripts that were not left out."""
        return tuple(t for t, ids in enumerate(self.ids) if ids)

    @property
    def digest(self) -> str:
        digest = hashlib.sha256()
        for ids in self.ids:
            digest.update(json.dumps([*ids]).encode())
        for column in self.turns.columns().values():
            digest.update(column.astype(np.int64).tobytes())
        return digest.hexdigest()

    @staticmethod
    def build(
        transcripts: Sequence[Transcript], tokenizer: Any, context_length: int | None = None, *, skip_long: bool = False
    ) -> Corpus:
        """Tokenize transcripts; one of more than `context_length` tokens is a `UserError`, or skipped (`skip_long`)."""
        encode, counts, change = Encoder(tokenizer), Counter[str](), ""
        questions: dict[str, tuple[int, str]] = {}
        all_ids, rows, personas, skipped = list[Sequence[int]](), list[tuple[int, ...]](), list[str](), list[Skip]()
        for number, transcript in enumerate(transcripts, start=1):
            encoded = encode.transcript(transcript)
            ids = encoded.ids
            if not transcript.turns:
                skipped.append(Skip(number, transcript.question, None, "a direct answer, without turns"))
                all_ids.append(())
                continue
            if context_length is not None and len(ids) > context_length:
                reason = f"{len(ids):,} tokens, more than the {context_length:,} that the model reads"
                if not skip_long:
                    which = f"transcript {number} ({transcript.question[:40]!r})"
                    raise UserError(f"{which}: {reason}; shorten it, or leave it out with --skip-long")
                skipped.append(Skip(number, transcript.question, None, reason))
                all_ids.append(())
                continue
            question, _ = questions.setdefault(question_key(transcript.question), (len(questions), transcript.question))
            seats = [(turn.agent, turn.round) for turn in transcript.turns]
            rows += [(len(all_ids), question, *seat, *place) for seat, place in zip(seats, encoded.places, strict=True)]
            personas += [transcript.personas[agent - 1] if transcript.personas else "" for agent, _ in seats]
            all_ids.append(array("i", ids))
            counts.update(tokens=len(ids), foreign=encoded.foreign, merged=encoded.merged, changed=encoded.change != "")
            change = change or encoded.change
        if not transcripts:
            raise UserError("no transcripts given")
        if not rows:
            raise UserError(f"none of the {len(transcripts)} transcripts can be used: {skipped[0].reason}")
        columns = dict(zip(COLUMNS, np.array(rows, dtype=np.int64).T, strict=True))
        table = TurnTable(**columns, persona=tuple(personas))
        tokenization = Tokenization(encode.tokenized, **counts, change=change)
        return Corpus(all_ids, table, tuple(text for _, text in questions.values()), tuple(skipped), tokenization)
