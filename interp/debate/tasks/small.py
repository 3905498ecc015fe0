"""The organism's questions: sums of products over single digits, in disjoint splits."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.task import Question
from interp.errors import UserError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def split_of(question: str) -> Split:
    """The split of a question, by the hash of its text: test and validation get a tenth each."""
    tenth = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big") % 10
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
        if self.split not in SPLITS:
            raise UserError(f"split {self.split}: unknown; choose one of {', '.join(SPLITS)}")

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions of the split. Raises `UserError` as `Arithmetic` does, and if the split has fewer."""
        for doubling in count():
            try:
                drawn = Arithmetic.questions(self, 2**doubling * n, seed)
            except UserError:
                if doubling == 0:
                    raise
                raise UserError(f"{n} questions: the split {self.split} has fewer; ask for fewer") from None
            found = [question for question in drawn if split_of(question.text) == self.split]
            if len(found) >= n:
                return found[:n]
        raise AssertionError

    def provenance(self) -> dict[str, Any]:
        return {**Arithmetic.provenance(self), "task": self.name, "split": self.split}


def draw(rng: random.Random, split: Split) -> tuple[int, int, int, int, int, int]:
    """The six operands of a random question of a split."""
    while True:
        a, b, c, d, e, f = (rng.randint(1, 9) for _ in range(6))
        if split_of(f"{a}+{b}*{c}+{d}-{e}*{f}") == split:
            return a, b, c, d, e, f
