"""Transcripts of debates: parse, render, read, write. The only module that knows the tags.

As published (Latent Agents, section 3): in every round its tag and a tagged turn per agent, then consensus and end tag.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal
from unicodedata import category, normalize

from interp.debate.grading.answers import number
from interp.errors import UserError
from interp.storage.files import atomic_write
from interp.storage.text import read_records

CONSENSUS_TAG = "<|Consensus|>"
END_TAG = "<|endofdebate|>"

_TAG = re.compile(
    r"<\|(?:Round (?P<round>[1-9][0-9]{0,3}) - (?:Initial Solutions|Revision)"
    r"|Agent (?P<agent>[1-9][0-9]{0,3}) (?:Solution|Revision)"
    r"|Consensus|endofdebate)\|>"
)
_OPEN, _BAR, _CLOSE = r"(?:<|&lt;)\s*+\\?", "[|｜¦]", r"\\?[|｜¦]\s*+(?:>|&gt;)"
_SEAT = r"(?:agent|round)[ _#-]{0,3}[0-9]++"
_WHOLE = rf"{_SEAT}[^\w\n|]{{1,3}}(?:initial|solution|revis)[\w ]{{0,40}}+"
_WORD = r"\b(?:agent|solution|revision|consensus|debate)s?\b|end.?of.?debate|[a-z]{2,20}+\ [0-9]++\ [a-z]"
_INSIDE = rf"(?=\S)[^<>|｜¦\n]{{0,40}}?(?:{_SEAT}|{_WORD})[^<>|｜¦\n]{{0,40}}"
_ALMOST = re.compile(
    rf"""{_OPEN}(?:{_BAR}{{1,2}}\s*+)?{_WHOLE}(?:{_CLOSE}|{_BAR}|>)?  # < | Agent 2 Solution|>, <|Agent 2 Revised
    |{_WHOLE}{_CLOSE}  # |Agent 2 Solution|>
    |{_OPEN}{_BAR}{{1,2}}{_INSIDE}(?:{_CLOSE}|{_BAR}|>)  # <|Agent2|>, <|end of debate>
    |{_OPEN}{_INSIDE}{_CLOSE}  # <Consensus|>
    """,
    re.IGNORECASE | re.VERBOSE,
)
_ANY_TAG = re.compile(f"{_TAG.pattern}|(?x:{_ALMOST.pattern})", re.IGNORECASE)
_LONGEST_TAG = 200
_NOT_BETWEEN_WORDS = re.compile(r"(?<!\w) | (?!\w)")


@lru_cache(maxsize=1 << 16)
def question_key(text: str) -> str:
    """What question a text is, whatever its case, white space and Unicode form: texts with one key are one question.

    In NFKC and case folded, without invisible format characters, and with a blank only between two words.

    >>> interp.debate.question_key(" What is\\n２ + 3? "), interp.debate.question_key("what is 2+3?")
    ('what is 2+3?', 'what is 2+3?')
    """
    folded = normalize("NFKC", normalize("NFKC", text).casefold())
    shown = "".join(c for c in folded if category(c) != "Cf")
    return normalize("NFKC", _NOT_BETWEEN_WORDS.sub("", " ".join(shown.split())))


def round_tag(round: int) -> str:
    """The tag that opens a round, numbered from 1."""
    return f"<|Round {round} - {'Initial Solutions' if round == 1 else 'Revision'}|>"


def agent_tag(agent: int, round: int) -> str:
    """The tag that opens an agent's turn; agents and rounds are numbered from 1."""
    return f"<|Agent {agent} {'Solution' if round == 1 else 'Revision'}|>"


def almost_tag(text: str) -> re.Match[str] | None:
    """The first misspelt tag in the text, or None.

    It is `<|…|>`, also with blanks, another kind of bar, or a bar or bracket missing, around the words of a tag: an
    agent or round and its number, solution, revision, consensus, end of debate, or any word, number and word. Blanks
    inside the bars need a whole tag's words. So other special tokens (`<|im_end|>`) and code (`a <| b |> c`) are text.
    """
    edges = (0, *(edge for tag in _TAG.finditer(text) for edge in tag.span()), len(text))
    found = (_ALMOST.search(text, *between) for between in zip(edges[::2], edges[1::2], strict=True))
    return next(filter(None, found), None)


def without_tags(text: str) -> str:
    """The text with every tag removed, misspelt ones too, so that it can be a turn of a transcript."""
    start = 0
    while tag := _ANY_TAG.search(text, start):
        text = text[: tag.start()] + text[tag.end() :]
        start = max(0, tag.start() - _LONGEST_TAG)  # removing one may join the halves of another
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
    """A stretch of a rendered transcript: a prompt, a tag, a text, or what is between them."""

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

        Raises `UserError` if a text holds a tag, or one that is misspelt.
        """
        for text in (*(text for texts in rounds for text in texts), consensus or ""):
            if tag := _TAG.search(text) or almost_tag(text):
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
        return tuple(turn for *_, turn in self._walk() if turn is not None)

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
        """`prompt + render()`, cut at every boundary that a reader of activations needs."""
        yield Piece(self.prompt)
        numbers = count()
        for tag, body, _, turn in self._walk():
            lead, text, trail = _cut(body)
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

    def _walk(self) -> Iterator[tuple[str, str, int, Turn | None]]:
        """Sections, each with its round, and its turn if it is one."""
        round = 1
        for tag, body in self.sections:
            match = _TAG.fullmatch(tag)
            agent, opened = (match["agent"], match["round"]) if match else (None, None)
            round = int(opened or round)
            yield tag, body, round, Turn(int(agent), round, body.removeprefix(":").strip()) if agent else None


def parse(debate_trace: str, question: str, *, personas: Sequence[str] | None = None, **known: Any) -> Transcript:
    """Parse a tagged debate; `parse(s, q).render() == s` for every string that parses. `known`: `gold_answer`, `extra`.

    What is nothing but a consensus is a direct answer. Raises `UserError` if a tag is misspelt (`almost_tag`) or does
    not fit its round, there is neither a turn nor a consensus, an agent speaks twice in a round, or more agents speak
    than `personas` has.
    """
    if wrong := almost_tag(debate_trace):
        line = debate_trace.count("\n", 0, wrong.start()) + 1
        how = f"write it as {agent_tag(1, 1)}, {round_tag(2)}, {CONSENSUS_TAG} or {END_TAG} is written, or take it out"
        raise UserError(f"{wrong[0][:60]!r} in line {line} of the debate: almost a tag; {how}")
    cuts = (0, *(edge for tag in _TAG.finditer(debate_trace) for edge in tag.span()), len(debate_trace))
    parts = ["", *(debate_trace[start:end] for start, end in pairwise(cuts))]  # tag, text, tag, text …
    sections = tuple((tag, text) for tag, text in zip(parts[::2], parts[1::2], strict=True) if tag or text)
    transcript = Transcript(question, sections, personas=tuple(personas) if personas else None, **known)
    if not (transcript.turns or transcript.consensus):
        raise UserError(f"debate {debate_trace[:60]!r}: has no turn; expected tags such as {agent_tag(1, 1)}")
    last, seen = 0, set[object]()
    for tag, _, round, turn in transcript._walk():
        if (key := (turn.agent, round) if turn else tag) in seen:
            what = f"agent {turn.agent}: speaks twice in round {round}" if turn else f"{tag}: stands twice"
            raise UserError(f"{what}; check the round tags")
        right = agent_tag(turn.agent, round) if turn else round_tag(round) if tag.startswith("<|Round") else tag
        if tag != right or round < last:
            raise UserError(f"{tag}: stands in round {max(round, last)}; check the round tags")
        last = round
        seen.add(key)
    if personas and max(transcript.agents, default=0) > len(personas):
        raise UserError(f"personas {', '.join(personas)}: too few; agent {max(transcript.agents)} speaks too")
    return transcript


def read_transcripts(path: str | Path) -> list[Transcript]:
    """Read transcripts from a JSON list or JSONL, compressed or not.

    A record has `question` and `debate_trace`, and may have `gold_answer`, `personas` and further keys.

    >>> interp.debate.write_transcripts(tmp_path / "debates.jsonl", transcripts[:2])
    >>> len(interp.debate.read_transcripts(tmp_path / "debates.jsonl"))
    2
    """
    items = read_records(path)
    if not items:
        raise UserError(f"{path}: the file is empty; give debates as a JSON list or JSONL")
    read = [_from_record(item, f"{path}, {place}") for place, item in items]
    golds: dict[str, tuple[str, str]] = {}
    for (place, _), transcript in zip(items, read, strict=True):
        if (gold := transcript.gold_answer) is not None:
            first, before = golds.setdefault(question_key(transcript.question), (place, gold))
            if before.strip() != gold.strip() and (number(before) is None or number(before) != number(gold)):
                what = f"gold_answer of a question {before[:40]!r} in {first}, {gold[:40]!r} in {place}"
                raise UserError(f"{path}: {what}")
    return read


def write_transcripts(path: str | Path, transcripts: Iterable[Transcript]) -> None:
    """Write transcripts as JSONL; a kill leaves the old file or the new one.

    >>> interp.debate.write_transcripts(tmp_path / "first-ten.jsonl", transcripts[:10])
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(transcript.record(), ensure_ascii=False) + "\n" for transcript in transcripts)


def fingerprint(transcripts: Iterable[Transcript]) -> str:
    """SHA-256 over everything that reaches a model or a label, in order."""
    digest = hashlib.sha256()
    for t in transcripts:
        digest.update(json.dumps([t.question, t.render(), t.personas], ensure_ascii=False).encode())
    return digest.hexdigest()


def _cut(body: str) -> tuple[str, str, str]:
    """A colon and white space; the text and the blanks before it (tokens such as " To"); the white space behind it."""
    colon, rest = body[: body.startswith(":")], body.removeprefix(":")
    if not (text := rest.strip()):
        return colon, "", rest
    start = rest.index(text)
    blanks = start - len(rest[:start].rstrip(" "))
    return colon + rest[: start - blanks], rest[start - blanks : start] + text, rest[start + len(text) :]


def _from_record(item: Any, where: str) -> Transcript:
    if not isinstance(item, dict):
        raise UserError(f"{where}: not a JSON object; give one with question and debate_trace")
    for key in ("question", "debate_trace"):
        if not isinstance(item.get(key), str):
            raise UserError(f"{where}: {key} is missing or not a string")
    extra, keys = dict(item), ("question", "debate_trace", "gold_answer", "personas")
    question, trace, gold, personas = (extra.pop(key, None) for key in keys)
    if isinstance(gold, list | dict | bool):
        raise UserError(f"{where}: gold_answer is neither text nor a number; give the one right answer")
    if personas is not None and not (isinstance(personas, list) and all(isinstance(p, str) for p in personas)):
        raise UserError(f"{where}: personas is not a list of names; give one for each seat")
    try:
        read = parse(trace, question, gold_answer=None if gold is None else str(gold), personas=personas, extra=extra)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if extra.get("undecided") and read.consensus is not None:
        raise UserError(f"{where}: undecided, and yet with a consensus; take out one of the two")
    return read
