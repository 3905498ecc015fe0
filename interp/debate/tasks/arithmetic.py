"""Sums of products over random integers."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from typing import Any

from interp.debate.grading.answers import LONGEST, number
from interp.debate.tasks.task import BoxedTask, Question
from interp.errors import UserError

_FORM = re.compile(r"-?[a-z](?:[-+*][a-z])*")
_MOST_DIGITS = 3 * LONGEST // 8 - 2  # a product has twice as many, with commas, and some to spare
_PAPER = ("+a", "+b*c", "+d", "-e*f")


@dataclass(frozen=True, slots=True)
class Arithmetic(BoxedTask):
    """`a+b*c+d-e*f` over random integers with standard precedence (Latent Agents, section 3).

    The paper draws from 10 to 99; use smaller ranges for small models. In `form` every letter stands for an integer
    of its own in `low..high`; the signs are `+`, `-` and `*`.
    """

    name = "arithmetic"
    instruction = r"Work out its value and state the final answer as one number in \boxed{}."
    low: int = 10
    high: int = 99
    form: str = "a+b*c+d-e*f"

    @classmethod
    def sized(cls, digits: int = 2, terms: int = 4, form: str | None = None) -> Arithmetic:
        """Integers of `digits` digits; the paper's form, shortened or repeated to `terms` terms, or another `form`.

        Raises `UserError` for sizes below 1, and for more digits than the grader can read.
        """
        if digits < 1 or terms < 1:
            raise UserError(f"digits {digits}, terms {terms}: too small; an arithmetic question has at least 1 of each")
        if digits > _MOST_DIGITS:
            raise UserError(f"digits {digits}: too many; answers are graded up to {_MOST_DIGITS} digits per operand")
        if form is None:
            form = "".join(_PAPER[i % len(_PAPER)] for i in range(terms)).removeprefix("+")
        return cls(10 ** (digits - 1), 10**digits - 1, form)

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions. Raises `UserError` for a form that is not a sum, or a range with too few."""
        if not _FORM.fullmatch(self.form):
            raise UserError(f"form {self.form!r}: expected single letters joined by +, - and *, such as a+b*c")
        operands = len(re.findall("[a-z]", self.form))
        if self.low < 0 or n < 0 or n > max(self.high - self.low + 1, 0) ** operands:
            raise UserError(
                f"{n} questions over {self.low}..{self.high}: there are (high - low + 1)^{operands}, "
                "with low at least 0; widen the range or ask for fewer"
            )
        rng = random.Random(seed)
        questions: dict[str, Question] = {}
        while len(questions) < n:
            text = re.sub("[a-z]", lambda _: str(rng.randint(self.low, self.high)), self.form)
            questions[text] = Question(text, str(_value(text)))
        return list(questions.values())

    def read(self, answer: str) -> Any:
        return number(answer)

    def provenance(self) -> dict[str, Any]:
        return {"task": self.name, "low": self.low, "high": self.high, "form": self.form}


def _value(text: str) -> int:
    terms = re.findall(r"[-+]?[0-9*]+", text)
    return sum((-1 if t[0] == "-" else 1) * math.prod(map(int, t.lstrip("+-").split("*"))) for t in terms)
