"""Debates whose agents are known in full: each follows a rule of its own, and the consensus is their median."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import get_args

from interp.debate.grading.answers import number
from interp.debate.tasks.arithmetic import Split, split_of
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import CONSENSUS_TAG, Transcript
from interp.errors import UserError
from interp.options import one_of

MODULUS = 12
"""Operands and answers are 0 to 11; there are 1,728 questions."""
RULES = ((1, 1, 0), (0, 1, 2), (3, 0, 1))
"""By agent, the weights of the three operands in its answer, modulo `MODULUS`: a+b, b+2c, 3a+c."""
LIAR, LIE = 2, 5
"""The agent that lies, and what it adds to the answer of its rule."""
SILENT = 6
"""What an agent counts as answering while its subspace is projected out of a planted organism."""


@dataclass(frozen=True, slots=True)
class Median(Task):
    r"""Three operands, three agents with a rule each, one of which lies; right is the median of their answers.

    Questions belong to disjoint splits, as those of `small-arithmetic`.

    >>> task = interp.debate.make_task("median")
    >>> task.answers("3,7,2"), task.debate("3,7,2").consensus
    ((10, 4, 11), '\\boxed{10}')
    """

    name = "median"
    instruction = r"Follow your rule and state its value as one number in \boxed{}."
    split: Split = "test"
    read = staticmethod(number)

    def __post_init__(self) -> None:
        one_of("split", self.split, get_args(Split))

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions of the split. Raises `UserError` where it has fewer."""
        known = self.every(seed)
        if not 0 <= n <= len(known):
            raise UserError(f"{n} questions: the split {self.split} has {len(known)}; ask for at most that many")
        return known[:n]

    def every(self, seed: int = 0) -> list[Question]:
        """All questions of the split, in an order that depends on the seed."""
        texts = (",".join(map(str, operands)) for operands in product(range(MODULUS), repeat=len(RULES[0])))
        known = [text for text in texts if split_of(text) == self.split]
        Random(seed).shuffle(known)
        return [Question(text, str(self.consensus(self.answers(text)))) for text in known]

    def answers(self, question: str, *, honest: bool = False) -> tuple[int, ...]:
        """The agents' answers, by seat; `honest` ones without the lie. Raises `UserError` for what is no question."""
        if not re.fullmatch(r"\d+,\d+,\d+", question):
            raise UserError(f"question {question[:60]!r}: expected three operands such as 3,7,2")
        operands = [int(operand) for operand in question.split(",")]
        each = [sum(w * o for w, o in zip(weights, operands, strict=True)) for weights in RULES]
        if not honest:
            each[LIAR - 1] += LIE
        return tuple(value % MODULUS for value in each)

    @staticmethod
    def consensus(answers: tuple[int, ...]) -> int:
        """The median of an odd number of answers."""
        return sorted(answers)[len(answers) // 2]

    def swapped(self, question: str, source: str, agent: int) -> int:
        """The consensus, had the agent (from 1) answered as in the debate on `source`."""
        return self.replaced(question, self.answers(source)[agent - 1], agent)

    def replaced(self, question: str, answer: int, agent: int) -> int:
        """The consensus, had the agent (from 1) given this answer."""
        each = list(self.answers(question))
        each[agent - 1] = answer
        return self.consensus(tuple(each))

    def debate(self, question: str) -> Transcript:
        """The debate: one round with the agents' bare answers, then the consensus."""
        answers = self.answers(question)
        consensus = self.consensus(answers)
        stated = rf"\boxed{{{consensus}}}"
        return Transcript.build(question, [list(map(str, answers))], stated, gold_answer=str(consensus))

    def opening(self, question: str) -> str:
        """The question, and a direct answer up to where its number stands."""
        return f"Problem: {question}\n\n{CONSENSUS_TAG}\n\\boxed{{"
