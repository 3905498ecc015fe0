"""Transcripts of debates: parse, render, read, write.

The only file that knows the tags. Knows nothing about models, tokens or who wrote the turns.

A transcript is kept as its *sections* (a tag and the raw text that follows it), so that rendering
gives back the parsed string to the letter; turns are a view of the sections. The format is that of
the published debates (Latent Agents, section 3): `Problem: …`, then for every round a round tag and
one tagged turn per agent, then the consensus and the end tag.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from interp.errors import UserError
from interp.storage.files import atomic_write

CONSENSUS_TAG = "<|Consensus|>"
END_TAG = "<|endofdebate|>"

_TAG = re.compile(
    r"<\|(?:Round (?P<round>[1-9][0-9]*) - (?:Initial Solutions|Revision)"
    r"|Agent (?P<agent>[1-9][0-9]*) (?:Solution|Revision)"
    r"|Consensus|endofdebate)\|>"
)
# What follows a tag: an optional colon and white space, the text, trailing white space. Blanks
# directly before the text stay with it, because tokenizers of words write them as one token (" To").
_BODY = re.compile(r"(?P<lead>:?\s*?)(?P<text> *\S.*\S|\ *\S)?(?P<trail>\s*)", re.DOTALL)
_UNFINISHED = re.compile(r"<\|[^|]*\|?\Z")  # a tag of which not all is written yet


def round_tag(round: int) -> str:
    """The tag that opens a round, numbered from 1."""
    return f"<|Round {round} - {'Initial Solutions' if round == 1 else 'Revision'}|>"


def agent_tag(agent: int, round: int) -> str:
    """The tag that opens an agent's turn; agents and rounds are numbered from 1."""
    return f"<|Agent {agent} {'Solution' if round == 1 else 'Revision'}|>"


def without_tags(text: str) -> str:
    """The text with every tag taken out, so that it can be a turn of a transcript."""
    while _TAG.search(text):  # taking one out may bring the halves of another together
        text = _TAG.sub("", text)
    return text


def before_tags(text: str) -> str:
    """The text up to its first tag: what is left of the turn that it goes on with."""
    tag = _TAG.search(text)
    return text if tag is None else text[: tag.start()]


def speaking(text: str) -> tuple[int, int] | None:
    """The (agent, round) in whose turn a debate that is being written stands; None where nobody has begun to speak.

    Whether white space ends a turn, nobody knows before the next tag: it counts as the turn's.
    """
    tags = list(_TAG.finditer(text))
    if not tags or not tags[-1]["agent"]:
        return None
    said = text[tags[-1].end() :]
    if not said.removeprefix(":").strip() or _UNFINISHED.search(said):
        return None
    return int(tags[-1]["agent"]), next((int(tag["round"]) for tag in reversed(tags) if tag["round"]), 1)


def all_tags(n_agents: int, n_rounds: int) -> list[str]:
    """Every tag of a debate of this size, in order of first appearance (ten for 3 × 2)."""
    tags = [
        t for r in range(1, n_rounds + 1) for t in (round_tag(r), *(agent_tag(a, r) for a in range(1, n_agents + 1)))
    ]
    return [*dict.fromkeys(tags), CONSENSUS_TAG, END_TAG]


@dataclass(frozen=True, slots=True)
class Turn:
    """One agent's text in one round; both numbered from 1."""

    agent: int
    round: int
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered transcript that no token may cross.

    `turn` is the index into `Transcript.turns` of the turn that the piece belongs to, if any; `part`
    says whether the piece is that turn's tag or its text.
    """

    text: str
    turn: int | None = None
    part: Literal["tag", "text"] | None = None


@dataclass(frozen=True)
class Transcript:
    """A whole debate over one question.

    `sections` are (tag, raw text after it) pairs in order; `personas[k - 1]` names the persona in
    seat k where that is known. Make one with `parse` or `Transcript.build`.
    """

    question: str
    sections: tuple[tuple[str, str], ...]
    gold_answer: str | None = None
    personas: tuple[str, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Further keys of the record it was read from, kept when it is written again."""

    @staticmethod
    def build(
        question: str,
        rounds: Sequence[Sequence[str]],
        consensus: str | None,
        *,
        gold_answer: str | None = None,
        personas: Sequence[str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Transcript:
        """Render turns into a transcript.

        `rounds[r][k]` is the text of agent k+1 in round r+1; `consensus` is the closing sentence,
        or None for an undecided debate, which then has no consensus section. Raises `UserError` when
        a text holds a tag, which would make it parse as something else.
        """
        for text in (*(text for texts in rounds for text in texts), consensus or ""):
            if tag := _TAG.search(text):
                raise UserError(f"the text of a turn holds the tag {tag[0]}: take tags out with without_tags")
        sections: list[tuple[str, str]] = []
        for r, texts in enumerate(rounds, start=1):
            sections.append((round_tag(r), "\n\n"))
            sections += [(agent_tag(k, r), f": {text.strip()}\n\n") for k, text in enumerate(texts, start=1)]
        if consensus is not None:
            sections.append((CONSENSUS_TAG, f"\n{consensus}\n\n"))
        sections.append((END_TAG, ""))
        return Transcript(question, tuple(sections), gold_answer, tuple(personas) if personas else None, extra or {})

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The turns in order of appearance."""
        return tuple(turn for _, _, turn in self._walk() if turn is not None)

    @cached_property
    def consensus(self) -> str | None:
        """The sentence that closes the debate, or None when it ended undecided."""
        return next((body.strip() for tag, body in self.sections if tag == CONSENSUS_TAG), None)

    @property
    def agents(self) -> tuple[int, ...]:
        """The agents that speak, in ascending order."""
        return tuple(sorted({turn.agent for turn in self.turns}))

    @property
    def n_rounds(self) -> int:
        return max((turn.round for turn in self.turns), default=0)

    @property
    def prompt(self) -> str:
        """What comes before the debate when a model reads or continues it."""
        return f"Problem: {self.question}\n\n"

    def render(self) -> str:
        """The debate as one tagged string: exactly what `parse` was given."""
        return "".join(tag + body for tag, body in self.sections)

    def pieces(self) -> Iterator[Piece]:
        """The prompt and the debate cut at every boundary that a reader of activations needs.

        The concatenated texts are `prompt + render()`. A turn gives a piece for its tag and one for
        its text; tokenizing the pieces one by one makes the token ids of any prefix that ends with
        a piece a prefix of the whole's ids, whatever the tokenizer merges.
        """
        yield Piece(self.prompt)
        turn_index = -1
        for tag, body, turn in self._walk():
            if turn is not None:
                turn_index += 1
            index = None if turn is None else turn_index
            if tag:
                yield Piece(tag, index, "tag" if turn else None)
            match = _BODY.fullmatch(body)
            assert match is not None  # every string matches
            if match["lead"]:
                yield Piece(match["lead"])
            if match["text"]:
                yield Piece(match["text"], index, "text" if turn else None)
            if match["trail"]:
                yield Piece(match["trail"])

    def record(self) -> dict[str, Any]:
        """The transcript under the published keys, plus the personas where known."""
        record: dict[str, Any] = {"question": self.question, "debate_trace": self.render()}
        if self.gold_answer is not None:
            record["gold_answer"] = self.gold_answer
        if self.personas is not None:
            record["personas"] = list(self.personas)
        return {**record, **self.extra}

    def _walk(self) -> Iterator[tuple[str, str, Turn | None]]:
        """Sections with the turn that each one is, if it is one."""
        current_round = 1
        for tag, body in self.sections:
            match = _TAG.fullmatch(tag)
            if match and match["round"]:
                current_round = int(match["round"])
            if match and match["agent"]:
                text = body.removeprefix(":").strip()
                yield tag, body, Turn(int(match["agent"]), current_round, text)
            else:
                yield tag, body, None


def parse(
    debate_trace: str,
    question: str,
    *,
    gold_answer: str | None = None,
    personas: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Transcript:
    """Parse a tagged debate; `parse(s, q).render() == s` for every string that parses.

    Raises `UserError` when there is no turn at all, when an agent speaks twice in a round, or when
    more agents speak than `personas` names.
    """
    tags = list(_TAG.finditer(debate_trace))
    starts = [0, *(m.end() for m in tags)]
    ends = [*(m.start() for m in tags), len(debate_trace)]
    sections = tuple(
        (tag, debate_trace[start:end])
        for tag, start, end in zip(["", *(m[0] for m in tags)], starts, ends, strict=True)
        if tag or end > start  # the part before the first tag, only where there is one
    )
    transcript = Transcript(question, sections, gold_answer, tuple(personas) if personas else None, extra or {})
    seats = [(turn.round, turn.agent) for turn in transcript.turns]
    if not seats:
        raise UserError(f"no turn found: expected tags such as {agent_tag(1, 1)}, got {debate_trace[:60]!r}")
    for seat in seats:
        if seats.count(seat) > 1:
            raise UserError(f"agent {seat[1]} speaks twice in round {seat[0]}: check the round tags")
    if personas and max(agent for _, agent in seats) > len(personas):
        raise UserError(f"agent {max(transcript.agents)} speaks but only {len(personas)} personas are named")
    return transcript


def read_transcripts(path: str | Path) -> list[Transcript]:
    """Read transcripts from a JSON list or from JSONL, one record a line.

    A record has `question` and `debate_trace`, may have `gold_answer` and `personas`, and keeps any
    further keys in `Transcript.extra`. Raises `UserError` with the line (JSONL) or the item (JSON)
    that cannot be read; an empty file is one too.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such transcripts file; give a JSON or JSONL file of debates") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    if not text.strip():
        raise UserError(f"{path}: the file is empty; expected debates as a JSON list or as JSONL")
    if text.lstrip().startswith("["):
        items = [(f"item {i}", item) for i, item in enumerate(_load_json(text, path), start=1)]
        if not items:
            raise UserError(f"{path}: the list is empty; expected at least one debate")
    else:
        items = [
            (f"line {i}", _load_json(line, path, i)) for i, line in enumerate(text.split("\n"), start=1) if line.strip()
        ]
    return [_from_record(item, f"{path}, {where}") for where, item in items]


def write_transcripts(path: str | Path, transcripts: Iterable[Transcript]) -> None:
    """Write transcripts as JSONL; a kill leaves the old file or the new one."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for transcript in transcripts:
            file.write(json.dumps(transcript.record(), ensure_ascii=False) + "\n")


def fingerprint(transcripts: Iterable[Transcript]) -> str:
    """SHA-256 over everything that reaches a model or a label, in order."""
    digest = hashlib.sha256()
    for t in transcripts:
        digest.update(json.dumps([t.question, t.render(), t.personas], ensure_ascii=False).encode())
    return digest.hexdigest()


def _load_json(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = line if line is not None else error.lineno
        raise UserError(
            f"{path}, line {where}: not valid JSON ({error.msg} at column {error.colno}); expected a JSON list "
            f"of debates, or JSONL with one debate a line"
        ) from None
    except (RecursionError, ValueError) as error:  # nested without end, or a number of thousands of digits
        raise UserError(f"{path}, line {line or 1}: cannot be read ({error})") from None


def _from_record(item: Any, where: str) -> Transcript:
    if not isinstance(item, dict):
        raise UserError(f"{where}: expected an object with question and debate_trace, got {type(item).__name__}")
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: half of a surrogate pair, which is no text: write the file as UTF-8") from None
    for key in ("question", "debate_trace"):
        if not isinstance(item.get(key), str):
            raise UserError(f"{where}: the key {key!r} is missing or not a string")
    personas = item.get("personas")
    if personas is not None and not (isinstance(personas, list) and all(isinstance(p, str) for p in personas)):
        raise UserError(f"{where}: personas must be a list of names, one for each seat")
    gold = item.get("gold_answer")
    known = {"question", "debate_trace", "gold_answer", "personas"}
    try:
        return parse(
            item["debate_trace"],
            item["question"],
            gold_answer=None if gold is None else str(gold),
            personas=personas,
            extra={key: value for key, value in item.items() if key not in known},
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
