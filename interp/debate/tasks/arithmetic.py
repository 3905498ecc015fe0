"""Sums of products over random integers.

Knows how such questions are made and worked out; knows nothing about who answers them.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from typing import Any

from interp.debate.grading.answers import LONGEST, number, stated, stated_or_bare
from interp.debate.tasks.task import Question
from interp.errors import UserError

_FORM = re.compile(r"-?[a-z](?:[-+*][a-z])*")
_MOST_DIGITS = 3 * LONGEST // 8 - 2  # twice as many in a product, a comma after every third, some to spare
_PAPER = ("+a", "+b*c", "+d", "-e*f")


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`a+b*c+d-e*f` over random integers with standard precedence (Latent Agents, section 3).

    The paper draws from 10 to 99; smaller ranges suit small models. `form` gives the shape of the sum:
    every letter in it, repeated or not, stands for an integer of its own in `low..high`, and the signs
    are `+`, `-` and `*`. Answers are boxed and graded as exact numbers.
    """

    low: int = 10
    high: int = 99
    form: str = "a+b*c+d-e*f"

    @classmethod
    def sized(cls, digits: int = 2, terms: int = 4, form: str | None = None) -> Arithmetic:
        """Integers of `digits` digits, and the paper's sequence of terms repeated up to `terms` of them, or a `form`.

        `sized()` is `Arithmetic()`. Raises `UserError` where either is below 1, and for more digits than
        the grader reads the products of.
        """
        if digits < 1 or terms < 1:
            raise UserError(f"{digits} digits and {terms} terms given: an arithmetic question takes at least 1 of each")
        if digits > _MOST_DIGITS:
            raise UserError(f"{digits} digits given: answers are graded up to {_MOST_DIGITS} digits of the operands")
        if form is None:
            form = "".join(_PAPER[i % len(_PAPER)] for i in range(terms)).removeprefix("+")
        return cls(10 ** (digits - 1), 10**digits - 1, form)

    @property
    def name(self) -> str:
        return "arithmetic"

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions. Raises `UserError` for a form that is no sum, or a range with too few."""
        if not _FORM.fullmatch(self.form):
            raise UserError(f"form {self.form!r} given: wanted are single letters joined by +, - and *, as in a+b*c")
        operands = len(re.findall("[a-z]", self.form))
        if self.low < 0 or n < 0 or n > max(self.high - self.low + 1, 0) ** operands:
            raise UserError(
                f"{n} questions over {self.low}..{self.high} asked for; there are (high - low + 1)^{operands} "
                "with low at least 0: widen the range or ask for fewer"
            )
        rng = random.Random(seed)
        questions: dict[str, Question] = {}
        while len(questions) < n:
            text = re.sub("[a-z]", lambda _: str(rng.randint(self.low, self.high)), self.form)
            questions[text] = Question(text, str(_value(text)))
        return list(questions.values())

    @property
    def instruction(self) -> str:
        return r"Work out its value and state the final answer as one number in \boxed{}."

    def answer(self, text: str) -> str | None:
        return stated(text)

    def grade(self, text: str | None, gold: str) -> bool:
        given, right = (None if t is None else number(t) for t in (stated_or_bare(text), stated_or_bare(gold)))
        return given is not None and given == right

    def provenance(self) -> dict[str, Any]:
        return {"task": self.name, "low": self.low, "high": self.high, "form": self.form}


def _value(text: str) -> int:
    terms = re.findall(r"[-+]?[0-9*]+", text)
    return sum((-1 if t[0] == "-" else 1) * math.prod(map(int, t.lstrip("+-").split("*"))) for t in terms)
