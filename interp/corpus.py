"""Transcripts as tokens: which token belongs to which agent's turn.

Knows a tokenizer, nothing about models or activations. A transcript is tokenized piece by piece
(`Transcript.pieces`), so no token crosses the boundary of a turn: the token ids of a prefix that
ends with a turn are a prefix of the whole's ids for every tokenizer, those included that merge
`}.` with the newlines after it. Reading a turn from the full transcript is then the same as reading
it at the end of its prefix.
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

COLUMNS = ("transcript", "question", "agent", "round", "tag", "start", "stop")


@dataclass(frozen=True)
class Skip:
    """Something that could not be used, and why; `transcript` counts from 1."""

    transcript: int
    question: str
    round: int | None
    reason: str


@dataclass(frozen=True)
class TurnTable:
    """One row a turn: where it stands in its transcript's tokens, and whose it is.

    `transcript` and `question` index the corpus from 0 (transcripts of the same question share an
    index); `agent` and `round` count from 1. The tag ends before token `tag`; the text is the tokens
    `start` to `stop` (empty when equal).
    """

    transcript: Int[np.ndarray, " turn"]
    question: Int[np.ndarray, " turn"]
    agent: Int[np.ndarray, " turn"]
    round: Int[np.ndarray, " turn"]
    tag: Int[np.ndarray, " turn"]
    start: Int[np.ndarray, " turn"]
    stop: Int[np.ndarray, " turn"]
    persona: tuple[str, ...]
    """The persona in the seat; an empty string where it is not known."""

    def __len__(self) -> int:
        return len(self.transcript)

    def columns(self) -> dict[str, Int[np.ndarray, " turn"]]:
        """The integer columns by name."""
        return {name: getattr(self, name) for name in COLUMNS}


@dataclass(frozen=True)
class Corpus:
    """Tokenized transcripts with the table of their turns."""

    ids: tuple[tuple[int, ...], ...]
    """Token ids of each transcript: prompt and debate, with the tokenizer's opening token if it has one.
    Nothing for a transcript that was left out."""
    turns: TurnTable
    questions: tuple[str, ...]
    skipped: tuple[Skip, ...] = ()

    @property
    def usable(self) -> tuple[int, ...]:
        """Indices of the transcripts that were not left out."""
        return tuple(t for t, ids in enumerate(self.ids) if ids)

    @property
    def digest(self) -> str:
        """SHA-256 over the tokens and the places of the turns: what a model reads and where it is read."""
        digest = hashlib.sha256(json.dumps(self.ids).encode())
        for column in self.turns.columns().values():
            digest.update(column.astype(np.int64).tobytes())
        return digest.hexdigest()

    @staticmethod
    def build(
        transcripts: Sequence[Transcript],
        tokenizer: Any,
        context_length: int | None = None,
        *,
        skip_long: bool = False,
    ) -> Corpus:
        """Tokenize transcripts.

        A transcript of more than `context_length` tokens is a `UserError`, or with `skip_long` is
        left out and listed in `skipped`.
        """
        encode = Encoder(tokenizer)
        questions: dict[str, int] = {}
        all_ids: list[tuple[int, ...]] = []
        rows: list[tuple[int, ...]] = []
        personas: list[str] = []
        skipped: list[Skip] = []
        for number, transcript in enumerate(transcripts, start=1):
            ids, places = encode.transcript(transcript)
            if context_length is not None and len(ids) > context_length:
                reason = f"{len(ids):,} tokens are more than the {context_length:,} that the model reads"
                if not skip_long:
                    raise UserError(
                        f"transcript {number} ({transcript.question[:40]!r}): {reason}; "
                        f"shorten it, or leave it out with --skip-long"
                    )
                skipped.append(Skip(number, transcript.question, None, reason))
                all_ids.append(())
                continue
            question = questions.setdefault(transcript.question, len(questions))
            for turn, place in zip(transcript.turns, places, strict=True):
                rows.append((len(all_ids), question, turn.agent, turn.round, *place))
                personas.append(transcript.personas[turn.agent - 1] if transcript.personas else "")
            all_ids.append(tuple(ids))
        if not transcripts:
            raise UserError("no transcripts given")
        if not rows:
            raise UserError(f"none of the {len(transcripts)} transcripts can be used: {skipped[0].reason}")
        columns = dict(zip(COLUMNS, np.array(rows, dtype=np.int64).T, strict=True))
        table = TurnTable(**columns, persona=tuple(personas))
        return Corpus(tuple(all_ids), table, tuple(questions), tuple(skipped))


class Encoder:
    """A tokenizer that can be called on the middle of a text.

    Tokenizers of the SentencePiece kind write a space before whatever they are given, as if it were
    a new text; here a piece is encoded as the continuation that it is.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._newline = self._ids("\n")
        self._adds_space = str(tokenizer.convert_ids_to_tokens(self._newline)[0]).startswith("▁")
        with_special = tokenizer("a")["input_ids"]
        plain = self._ids("a")
        starts = [i for i in range(len(with_special)) if with_special[i : i + len(plain)] == plain]
        self._opening = list(with_special[: starts[0]]) if starts else []

    def prompt(self, text: str) -> list[int]:
        """The token ids that a text opens with, the tokenizer's opening token included where it has one."""
        return [*self._opening, *self._ids(text)]

    def transcript(self, transcript: Transcript) -> tuple[list[int], list[tuple[int, int, int]]]:
        """Token ids, and for every turn its (end of tag, start of text, end of text)."""
        ids: list[int] = []
        tags = [0] * len(transcript.turns)
        spans = [(0, 0)] * len(transcript.turns)
        for i, piece in enumerate(transcript.pieces()):
            start = len(ids)
            ids += self.prompt(piece.text) if i == 0 else self.continuation(piece.text)
            if piece.turn is not None and piece.part == "tag":
                tags[piece.turn] = len(ids)
                spans[piece.turn] = (len(ids), len(ids))  # stays empty where there is no text
            elif piece.turn is not None:
                spans[piece.turn] = (start, len(ids))
        return ids, [(tag, *span) for tag, span in zip(tags, spans, strict=True)]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def continuation(self, text: str) -> list[int]:
        """The token ids of a text that stands after another."""
        if not self._adds_space:
            return self._ids(text)
        if text.startswith(" ") and text.strip(" "):
            return self._ids(text[1:])  # the tokenizer puts the space back
        after_newline = self._ids("\n" + text)
        n = len(self._newline)
        return after_newline[n:] if after_newline[:n] == self._newline else self._ids(text)
