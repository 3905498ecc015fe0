"""What is debated: questions, gold answers, grading.

Knows nothing about agents, rounds or models. A task is a name, a source of questions and a way to
tell whether two answers are the same; whatever else a benchmark needs stays inside its own class.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from interp.errors import UserError


@dataclass(frozen=True, slots=True)
class Question:
    """What the agents are asked, and the answer that counts as right."""

    text: str
    gold_answer: str


class Task(Protocol):
    """A source of questions that can grade answers to them."""

    @property
    def name(self) -> str:
        """The name under which results are reported."""
        ...

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions; the same seed gives the same ones, and more of them go on the list."""
        ...

    def answer(self, text: str) -> str | None:
        """The final answer in an agent's text, or None where it states none."""
        ...

    def grade(self, text: str | None, gold: str) -> bool:
        """Whether an agent's text, or the answer taken from one, is the same answer as `gold`.

        Two answers that cannot be understood are never the same.
        """
        ...


_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"(\\+(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)


def boxed(text: str) -> str | None:
    r"""The content of the last balanced `\boxed{…}`, or None; of nested boxes, the innermost."""
    opened: list[int | None] = []  # where the content of each open brace begins, None if it is no box
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[1] or brace[0] == "{":
            opened.append(brace.end() if brace[1] else None)
        elif brace[0] == "}" and opened:
            start = opened.pop()
            if start is not None and (last is None or start > last[0]):
                last = (start, brace.start())
    return None if last is None else text[last[0] : last[1]].strip()


# Longer than this is a sentence or a model that repeats itself, not an answer; it also keeps
# arithmetic on hostile digits cheap.
_LONGEST = 100
_WRAPPERS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\\?\$(.*?)(?:\\?\$)?",  # $…$ as mathematics, $1110 as money
        r"\\\((.*)\\\)",
        r"\\\[(.*)\\\]",
        r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|boxed|fbox)\s*\{(.*)\}",
        r"\{(.*)\}",
        r"\((.*)\)",
        r"\*\*(.*)\*\*",
        r"(.*[^.])\.",
        r"(?:.*[^!<>=:]|.*:)?==?\s*([^=]+)",  # x = 1110
    )
)
_MINUS = re.compile("[\u2212\u2010\u2011\u2013]")
_GROUP = re.compile("\\{,\\}|,\\\\!|\\\\[,;]|[_\u00a0\u2009\u202f]")
_POWER = re.compile(r"\s*(?:\\times|\\cdot|×|\*)\s*10\s*(?:\^|\*\*)\s*(?:\{\s*([+-]?[0-9]+)\s*\}|([+-]?[0-9]+))")
_DECIMAL = re.compile(
    r"([+-]?)\s*((?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,3}))?"
)
_FRACTION = re.compile(r"([+-]?)\s*(?:\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}|([^/]+)/([^/]+))")


def number(text: str) -> Fraction | None:
    r"""The number that an answer states, exactly, or None where it states none.

    Reads thousands (`1,110`, `1{,}110`), decimals, `1.11e3`, `1.11 \times 10^{3}`, fractions, the
    unicode minus, and looks through `$…$`, `\(…\)`, `\text{…}`, `x = …` and a closing full stop.
    A comma that does not separate groups of three digits makes it no number.
    """
    if len(text) > _LONGEST:
        return None
    text = _GROUP.sub(",", _MINUS.sub("-", text).strip())
    inner = True
    while inner:
        inner = False
        for wrapper in _WRAPPERS:
            if match := wrapper.fullmatch(text):
                text, inner = match[1].strip(), True
    text = _POWER.sub(lambda power: f"e{power[1] or power[2]}", text)
    if match := _DECIMAL.fullmatch(text):
        return _decimal(match)
    if match := _FRACTION.fullmatch(text):
        above, below = (_DECIMAL.fullmatch(part.strip()) for part in (match[2] or match[4], match[3] or match[5]))
        if above and below and _decimal(below) != 0:
            return (-1 if match[1] == "-" else 1) * _decimal(above) / _decimal(below)
    return None


def _decimal(match: re.Match[str]) -> Fraction:
    digits = match[2].replace(",", "").rstrip(".")
    value = Fraction(f"0{digits}" if digits.startswith(".") else digits) * Fraction(10) ** int(match[3] or 0)
    return -value if match[1] == "-" else value


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`a+b*c+d-e*f` over random integers with standard precedence (Latent Agents, section 3).

    The paper draws from 10 to 99; smaller ranges suit small models. Answers are boxed and graded as
    exact numbers.
    """

    low: int = 10
    high: int = 99

    @property
    def name(self) -> str:
        return "arithmetic"

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions. Raises `UserError` when the range does not hold that many."""
        if self.low < 0 or n < 0 or n > max(self.high - self.low + 1, 0) ** 6:
            raise UserError(
                f"{n} questions over {self.low}..{self.high} asked for; there are (high - low + 1)^6 with "
                "low at least 0: widen the range or ask for fewer"
            )
        rng = random.Random(seed)
        questions: dict[str, Question] = {}
        while len(questions) < n:
            a, b, c, d, e, f = (rng.randint(self.low, self.high) for _ in range(6))
            text = f"{a}+{b}*{c}+{d}-{e}*{f}"
            questions[text] = Question(text, str(a + b * c + d - e * f))
        return list(questions.values())

    def answer(self, text: str) -> str | None:
        return boxed(text)

    def grade(self, text: str | None, gold: str) -> bool:
        given = None if text is None else _graded(text)
        return given is not None and given == _graded(gold)


def _graded(text: str) -> Fraction | None:
    """The number in a text's last box, or the number that the text itself is where it has no box."""
    answer = boxed(text) if _BOX.search(text) else text
    return None if answer is None else number(answer)
