"""Sums of products over random integers, and the organism's: over single digits, in disjoint splits."""

from __future__ import annotations

import hashlib
import math
import random
import re
from dataclasses import dataclass
from typing import Literal, get_args

from interp.debate.grading.answers import LONGEST, number
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import question_key
from interp.errors import UserError
from interp.options import one_of

_MOST_DIGITS = 3 * LONGEST // 8 - 2  # a product has twice as many, with commas, and some to spare
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Arithmetic(Task):
    """`a+b*c+d-e*f` over random integers with standard precedence (Latent Agents, section 3).

    In `form` every letter stands for an integer of its own in `low..high`; the signs are `+`, `-` and `*`.
    """

    name = "arithmetic"
    instruction = r"Work out its value and state the final answer as one number in \boxed{}."
    low: int = 10
    high: int = 99
    form: str = "a+b*c+d-e*f"
    read = staticmethod(number)

    @classmethod
    def sized(cls, digits: int = 2, terms: int = 4, form: str | None = None) -> Arithmetic:
        """Integers of `digits` digits; the paper's form, shortened or repeated to `terms` terms, or another `form`."""
        if digits < 1 or terms < 1:
            raise UserError(f"digits {digits}, terms {terms}: too small; an arithmetic question has at least 1 of each")
        if digits > _MOST_DIGITS:
            raise UserError(f"digits {digits}: too many; answers are graded up to {_MOST_DIGITS} digits per operand")
        paper = "".join(("+a", "+b*c", "+d", "-e*f")[i % 4] for i in range(terms)).removeprefix("+")
        return cls(10 ** (digits - 1), 10**digits - 1, paper if form is None else form)

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions. Raises `UserError` for a form that is not a sum, or a range with too few."""
        if not re.fullmatch(r"-?[a-z](?:[-+*][a-z])*", self.form):
            raise UserError(f"form {self.form!r}: expected single letters joined by +, - and *, such as a+b*c")
        operands = len(re.findall("[a-z]", self.form))
        if self.low < 0 or not 0 <= n <= max(self.high - self.low + 1, 0) ** operands:
            most = f"there are (high - low + 1)^{operands}, with low at least 0"
            raise UserError(f"{n} questions over {self.low}..{self.high}: {most}; widen the range or ask for fewer")
        rng = random.Random(seed)
        questions: dict[str, Question] = {}
        while len(questions) < n:
            text = re.sub("[a-z]", lambda _: str(rng.randint(self.low, self.high)), self.form)
            terms = [(term[0] == "-", term.strip("+-").split("*")) for term in re.findall(r"[-+]?[0-9*]+", text)]
            value = sum((-1) ** negative * math.prod(map(int, factors)) for negative, factors in terms)
            questions[text] = Question(text, str(value))
        return list(questions.values())


def split_of(question: str) -> Split:
    """The split of a question, by the hash of its key: test and validation get a tenth each."""
    tenth = int.from_bytes(hashlib.sha256(question_key(question).encode()).digest()[:8], "big") % 10
    return "test" if tenth == 0 else "validation" if tenth == 1 else "train"


@dataclass(frozen=True)
class SmallArithmetic(Arithmetic):
    """`a+b*c+d-e*f` over 1..9: those of its 531,441 questions that belong to one split.

    The organism's lessons come from "train" alone, so it has never seen a question of "test".
    """

    name = "small-arithmetic"
    low: int = 1
    high: int = 9
    split: Split = "test"

    def __post_init__(self) -> None:
        one_of("split", self.split, get_args(Split))

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions of the split."""
        drawn = Arithmetic.questions(self, n, seed)
        while len(found := [question for question in drawn if split_of(question.text) == self.split]) < n:
            if 2 * len(drawn) > (self.high - self.low + 1) ** 6:
                raise UserError(f"{n} questions: the split {self.split} has fewer; ask for fewer")
            drawn = Arithmetic.questions(self, 2 * len(drawn), seed)
        return found[:n]


def draw(rng: random.Random, split: Split) -> tuple[int, int, int, int, int, int]:
    """The six operands of a random question of a split."""
    while True:
        a, b, c, d, e, f = (rng.randint(1, 9) for _ in range(6))
        if split_of(f"{a}+{b}*{c}+{d}-{e}*{f}") == split:
            return a, b, c, d, e, f
