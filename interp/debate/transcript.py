"""Transcripts of debates: parse, render, read, write. The only module that knows the tags.

As published (Latent Agents, section 3): in every round its tag and a tagged turn per agent, then consensus and end tag.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal

from interp.debate.json_text import load, load_lines, read_text
from interp.errors import UserError
from interp.storage.files import atomic_write

CONSENSUS_TAG = "<|Consensus|>"
END_TAG = "<|endofdebate|>"

_TAG = re.compile(
    r"<\|(?:Round (?P<round>[1-9][0-9]*) - (?:Initial Solutions|Revision)"
    r"|Agent (?P<agent>[1-9][0-9]*) (?:Solution|Revision)"
    r"|Consensus|endofdebate)\|>"
)
# After a tag: a colon and white space, the text with the blanks before it (tokens such as " To"), white space.
_BODY = re.compile(r"(:?\s*?)( *\S.*\S|\ *\S)?(\s*)\Z", re.DOTALL)


def round_tag(round: int) -> str:
    """The tag that opens a round, numbered from 1."""
    return f"<|Round {round} - {'Initial Solutions' if round == 1 else 'Revision'}|>"


def agent_tag(agent: int, round: int) -> str:
    """The tag that opens an agent's turn; agents and rounds are numbered from 1."""
    return f"<|Agent {agent} {'Solution' if round == 1 else 'Revision'}|>"


def without_tags(text: str) -> str:
    """The text with every tag removed, so that it can be a turn of a transcript."""
    while _TAG.search(text):  # removing one may join the halves of another
        text = _TAG.sub("", text)
    return text


def before_tags(text: str) -> str:
    """The text up to its first tag: the rest of the turn that it continues."""
    return text[: tag.start()] if (tag := _TAG.search(text)) else text


def speaking(text: str) -> tuple[int, int] | None:
    """The (agent, round) whose turn, with the white space after it, an unfinished debate is in; None if nobody's."""
    tags = list(_TAG.finditer(text))
    turn = text[tags[-1].end() :] if tags and tags[-1]["agent"] else ""
    if not turn.removeprefix(":").strip() or re.search(r"<\|[^|]*\|?\Z", turn):  # a tag that is not complete yet
        return None
    return int(tags[-1]["agent"]), next((int(tag["round"]) for tag in reversed(tags) if tag["round"]), 1)


def all_tags(n_agents: int, n_rounds: int) -> list[str]:
    """Every tag of a debate of this size, in order of first appearance (ten for 3 × 2)."""
    rounds = range(1, n_rounds + 1)
    tags = [t for r in rounds for t in (round_tag(r), *(agent_tag(a, r) for a in range(1, n_agents + 1)))]
    return [*dict.fromkeys(tags), CONSENSUS_TAG, END_TAG]


@dataclass(frozen=True, slots=True)
class Turn:
    """One agent's text in one round; both numbered from 1.

    >>> transcripts[0].turns[1].agent, transcripts[0].turns[1].round
    (2, 1)
    """

    agent: int
    round: int
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered transcript whose edges no token may cross."""

    text: str
    turn: int | None = None
    """Index into `Transcript.turns`, if it is a turn's tag or text; `part` says which."""
    part: Literal["tag", "text"] | None = None


@dataclass(frozen=True)
class Transcript:
    """A whole debate over one question. Make one with `parse` or `Transcript.build`.

    >>> debate = interp.debate.Transcript.build("1+2", [["It is 3.", "3, I think."]], "All agree on 3.")
    >>> [(turn.agent, turn.text) for turn in debate.turns], debate.consensus
    ([(1, 'It is 3.'), (2, '3, I think.')], 'All agree on 3.')
    """

    question: str
    sections: tuple[tuple[str, str], ...]
    """Pairs of a tag and the raw text after it, in order, so that rendering returns the parsed string exactly."""
    gold_answer: str | None = None
    personas: tuple[str, ...] | None = None
    """The persona of each seat, if known."""
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Further keys of its record; they are written back."""

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
        """Render turns: `rounds[r][k]` is the text of agent k+1 in round r+1; an undecided debate has no `consensus`.

        Raises `UserError` if a text holds a tag.
        """
        for text in (*(text for texts in rounds for text in texts), consensus or ""):
            if tag := _TAG.search(text):
                raise UserError(f"turn with the tag {tag[0]}: cannot be rendered; remove tags with without_tags")
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
        return tuple(turn for _, _, turn in self._walk() if turn is not None)

    @cached_property
    def consensus(self) -> str | None:
        """The sentence that closes the debate, or None if it is undecided."""
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
        """What precedes the debate when a model reads or continues it."""
        return f"Problem: {self.question}\n\n"

    def render(self) -> str:
        """The debate as one tagged string, exactly as parsed."""
        return "".join(tag + body for tag, body in self.sections)

    def pieces(self) -> Iterator[Piece]:
        """`prompt + render()`, cut at every boundary that a reader of activations needs.

        Tokenize piece by piece: then the ids of any prefix that ends with a piece are a prefix of all ids.
        """
        yield Piece(self.prompt)
        numbers = count()
        for tag, body, turn in self._walk():
            lead, text, trail = _BODY.findall(body)[0]  # every string matches
            if turn is None:
                found = [Piece(part) for part in (tag, lead, text, trail)]
            else:
                index = next(numbers)
                found = [Piece(tag, index, "tag"), Piece(lead), Piece(text, index, "text"), Piece(trail)]
            yield from (piece for piece in found if piece.text)

    def record(self) -> dict[str, Any]:
        """The transcript under the published keys, plus the personas if known."""
        known = {"gold_answer": self.gold_answer, "personas": None if self.personas is None else list(self.personas)}
        kept = {key: value for key, value in known.items() if value is not None}
        return {"question": self.question, "debate_trace": self.render(), **kept, **self.extra}

    def _walk(self) -> Iterator[tuple[str, str, Turn | None]]:
        """Sections, each with its turn if it is one."""
        current_round = 1
        for tag, body in self.sections:
            match = _TAG.fullmatch(tag)
            agent, opened = (match["agent"], match["round"]) if match else (None, None)
            current_round = int(opened or current_round)
            yield tag, body, Turn(int(agent), current_round, body.removeprefix(":").strip()) if agent else None


def parse(debate_trace: str, question: str, *, personas: Sequence[str] | None = None, **known: Any) -> Transcript:
    """Parse a tagged debate; `parse(s, q).render() == s` for every string that parses. `known`: `gold_answer`, `extra`.

    Raises `UserError` if there is no turn, an agent speaks twice in a round, or more agents speak than `personas` has.
    """
    cuts = (0, *(edge for tag in _TAG.finditer(debate_trace) for edge in tag.span()), len(debate_trace))
    parts = ["", *(debate_trace[start:end] for start, end in pairwise(cuts))]  # tag, text, tag, text …
    sections = tuple((tag, text) for tag, text in zip(parts[::2], parts[1::2], strict=True) if tag or text)
    transcript = Transcript(question, sections, personas=tuple(personas) if personas else None, **known)
    if not transcript.turns:
        raise UserError(f"debate {debate_trace[:60]!r}: has no turn; expected tags such as {agent_tag(1, 1)}")
    for (agent, round), times in Counter((turn.agent, turn.round) for turn in transcript.turns).items():
        if times > 1:
            raise UserError(f"agent {agent}: speaks twice in round {round}; check the round tags")
    if personas and max(transcript.agents) > len(personas):
        raise UserError(f"personas {', '.join(personas)}: too few; agent {max(transcript.agents)} speaks too")
    return transcript


def read_transcripts(path: str | Path) -> list[Transcript]:
    """Read transcripts from a JSON list or JSONL.

    A record has `question` and `debate_trace`, and may have `gold_answer`, `personas` and further keys.

    >>> interp.debate.write_transcripts(tmp_path / "debates.jsonl", transcripts[:2])
    >>> len(interp.debate.read_transcripts(tmp_path / "debates.jsonl"))
    2
    """
    path = Path(path)
    text = read_text(path)
    whole = text.lstrip().startswith("[")
    items = list(enumerate(load(text, path), start=1)) if whole else load_lines(text, path)
    if not items:
        raise UserError(f"{path}: the file is empty; give debates as a JSON list or JSONL")
    return [_from_record(item, f"{path}, {'item' if whole else 'line'} {i}") for i, item in items]


def write_transcripts(path: str | Path, transcripts: Iterable[Transcript]) -> None:
    """Write transcripts as JSONL; a kill leaves the old file or the new one.

    >>> interp.debate.write_transcripts(tmp_path / "first-ten.jsonl", transcripts[:10])
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(transcript.record(), ensure_ascii=False) + "\n" for transcript in transcripts)


def fingerprint(transcripts: Iterable[Transcript]) -> str:
    """SHA-256 over everything that reaches a model or a label, in order."""
    seen = (json.dumps([t.question, t.render(), t.personas], ensure_ascii=False) for t in transcripts)
    return hashlib.sha256("".join(seen).encode()).hexdigest()


def _from_record(item: Any, where: str) -> Transcript:
    if not isinstance(item, dict):
        raise UserError(f"{where}: not a JSON object; give one with question and debate_trace")
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: half of a surrogate pair, which is not text; write the file as UTF-8") from None
    for key in ("question", "debate_trace"):
        if not isinstance(item.get(key), str):
            raise UserError(f"{where}: {key} is missing or not a string")
    extra, keys = dict(item), ("question", "debate_trace", "gold_answer", "personas")
    question, trace, gold, personas = (extra.pop(key, None) for key in keys)
    if personas is not None and not (isinstance(personas, list) and all(isinstance(p, str) for p in personas)):
        raise UserError(f"{where}: personas is not a list of names; give one for each seat")
    try:
        return parse(trace, question, gold_answer=None if gold is None else str(gold), personas=personas, extra=extra)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
