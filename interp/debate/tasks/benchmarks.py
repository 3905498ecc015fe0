"""The benchmarks of the paper: GSM8K, MATH, MMLU-Pro and BBH, read in their published layouts.

Knows the fields, the gold answers and what counts as the same answer; knows nothing about file formats or
about who answers. Nothing is read before the first question is asked for.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from interp.debate.grading.answers import (
    LONGEST,
    amount,
    boxed,
    letter,
    same_amount,
    stated,
    stated_or_bare,
    unwrap,
    without_macros,
)
from interp.debate.grading.mathematics import same_mathematics
from interp.debate.tasks.records import Layout, Rows, read_rows
from interp.debate.tasks.task import Question
from interp.errors import UserError


def draw(questions: Sequence[Question], n: int, seed: int, origin: str) -> list[Question]:
    """`n` of the questions in an order that the seed decides. Raises `UserError` where there are fewer."""
    distinct = list({question.text: question for question in questions}.values())
    if not 0 <= n <= len(distinct):
        raise UserError(f"{n} questions asked for; {origin} has {len(distinct)}: ask for at most that many")
    random.Random(seed).shuffle(distinct)
    return distinct[:n]


class _Published(ABC):
    """What the benchmarks share: questions drawn from rows, answers that are stated in a box."""

    layout: ClassVar[Layout]
    instruction: ClassVar[str]
    source: str | Path
    split: str

    @property
    @abstractmethod
    def name(self) -> str: ...

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions. Raises `UserError` for data that is missing or has fewer."""
        return draw(self._all_questions, n, seed, f"{self.name} ({self._rows.origin}, {self.split})")

    def answer(self, text: str) -> str | None:
        return stated(text)

    def provenance(self) -> dict[str, Any]:
        rows = self._rows
        return {"task": self.name, "data": rows.origin, "split": self.split, "sha256": rows.sha256}

    @cached_property
    def _rows(self) -> Rows:
        return read_rows(self.layout, self.source, self.split)

    @cached_property
    def _all_questions(self) -> list[Question]:
        return [self._question(row) for row in self._rows.rows]

    @abstractmethod
    def _question(self, row: dict[str, Any]) -> Question: ...


@dataclass(frozen=True)
class GSM8K(_Published):
    """Grade-school word problems; the gold answer follows `####`. Graded as exact amounts, units aside."""

    source: str | Path = "openai/gsm8k"
    split: str = "test"
    layout = Layout("openai/gsm8k", ("question", "answer"), '{"question": "…", "answer": "… #### 18"}')
    instruction = r"Reason step by step and state the final answer as one number in \boxed{}, without its unit."

    @property
    def name(self) -> str:
        return "gsm8k"

    def grade(self, text: str | None, gold: str) -> bool:
        given, right = (None if t is None else amount(t) for t in map(stated_or_bare, (text, gold)))
        return given is not None and right is not None and same_amount(given, right)

    @cached_property
    def _rows(self) -> Rows:
        return read_rows(self.layout, self.source, self.split, "main")

    def _question(self, row: dict[str, Any]) -> Question:
        _, mark, gold = str(row["answer"]).rpartition("####")
        if not mark:
            raise UserError(
                f"{self._rows.origin}: an answer without #### ({str(row['answer'])[:40]!r}); it is not GSM8K"
            )
        return Question(str(row["question"]).strip(), gold.strip())


@dataclass(frozen=True)
class Math(_Published):
    """The MATH data set, of which the paper takes algebra at levels 1 to 3; the gold answer is the solution's box."""

    source: str | Path = "EleutherAI/hendrycks_math"
    split: str = "test"
    subject: str = "Algebra"
    levels: tuple[int, ...] = (1, 2, 3)
    layout = Layout(
        "EleutherAI/hendrycks_math",
        ("problem", "level", "type", "solution"),
        r'{"problem": "…", "level": "Level 3", "type": "Algebra", "solution": "… \\boxed{…}"}',
    )
    instruction = r"Reason step by step and state the final answer in \boxed{}."

    @property
    def name(self) -> str:
        return "math"

    def grade(self, text: str | None, gold: str) -> bool:
        given, right = stated_or_bare(text), stated_or_bare(gold)
        return given is not None and right is not None and same_mathematics(given, right)

    def provenance(self) -> dict[str, Any]:
        return {**super().provenance(), "subject": self.subject, "levels": list(self.levels)}

    @cached_property
    def _rows(self) -> Rows:
        part = self.subject.lower().replace(" & ", "_and_").replace(" ", "_")
        found = read_rows(self.layout, self.source, self.split, part)
        levels = {f"Level {level}" for level in self.levels}
        rows = [row for row in found.rows if row["type"] == self.subject and row["level"] in levels]
        if not rows:
            raise UserError(f"{found.origin}: no row of type {self.subject} at {', '.join(sorted(levels))} among them")
        return Rows(rows, found.origin, found.sha256)

    def _question(self, row: dict[str, Any]) -> Question:
        solution = str(row["solution"])
        bare = re.search(r"\\boxed\s+([^\s$]+)", solution)  # a few solutions leave the braces out
        gold = boxed(solution) or (bare[1] if bare else None)
        if gold is None:
            raise UserError(f"{self._rows.origin}: a solution without a boxed answer ({solution[:40]!r})")
        return Question(str(row["problem"]).strip(), gold)


@dataclass(frozen=True)
class MMLUPro(_Published):
    """Multiple choice with up to ten options, which are part of the question; the gold answer is a letter."""

    source: str | Path = "TIGER-Lab/MMLU-Pro"
    split: str = "test"
    layout = Layout(
        "TIGER-Lab/MMLU-Pro",
        ("question", "options", "answer"),
        '{"question": "…", "options": ["…", "…"], "answer": "B", "answer_index": 1, "category": "…"}',
    )
    instruction = r"Reason step by step and state the letter of the right option in \boxed{}."

    @property
    def name(self) -> str:
        return "mmlu-pro"

    def grade(self, text: str | None, gold: str) -> bool:
        given, right = _option(text), _option(gold)
        return given is not None and given == right

    def _question(self, row: dict[str, Any]) -> Question:
        options, gold = row["options"], str(row["answer"])
        letters = ascii_uppercase[: len(options)] if isinstance(options, list) else ""
        if gold not in letters or not gold or len(options) > 10:
            raise UserError(f"{self._rows.origin}: the answer {gold!r} is none of its options; it is not MMLU-Pro")
        lines = [f"{label}. {option}" for label, option in zip(letters, options, strict=True)]
        return Question("\n".join([str(row["question"]).strip(), *lines]), gold)


BBH_SUBSETS = (
    "formal_fallacies",
    "logical_deduction_five_objects",
    "tracking_shuffled_objects_five_objects",
    "causal_judgement",
    "web_of_lies",
)
"""The paper's five of BIG-Bench Hard."""


@dataclass(frozen=True)
class BBH(_Published):
    """Subsets of BIG-Bench Hard, all five of the paper's unless told; the gold answer is the target.

    Targets are an option (`(A)`), `valid` or `invalid`, and `Yes` or `No`.
    """

    source: str | Path = "SaylorTwift/bbh"
    split: str = "test"
    subsets: tuple[str, ...] = BBH_SUBSETS
    layout = Layout("SaylorTwift/bbh", ("input", "target"), '{"examples": [{"input": "…", "target": "(A)"}]}')
    instruction = (
        r"Reason step by step and state the final answer in \boxed{}: the letter of an option, "
        "or valid or invalid, or Yes or No, whichever the question asks for."
    )

    @property
    def name(self) -> str:
        return f"bbh-{self.subsets[0]}" if len(self.subsets) == 1 else "bbh"

    def grade(self, text: str | None, gold: str) -> bool:
        given, right = stated_or_bare(text), stated_or_bare(gold)
        if given is None or right is None:
            return False
        return any((x := read(given)) is not None and x == read(right) for read in (_verdict, letter))

    def provenance(self) -> dict[str, Any]:
        return {**super().provenance(), "subsets": list(self.subsets)}

    @cached_property
    def _rows(self) -> Rows:
        if Path(self.source).is_file() and len(self.subsets) > 1:
            raise UserError(
                f"{self.source}: one file given for {len(self.subsets)} subsets of BBH; "
                "give the folder with NAME.json for each, or ask for one, as in bbh-web_of_lies"
            )
        parts = [read_rows(self.layout, self.source, self.split, subset) for subset in self.subsets]
        if len({part.sha256 for part in parts}) < len(parts):
            raise UserError(f"{self.source}: its files do not say which subset they are; name them NAME.json")
        rows = [row for part in parts for row in part.rows]
        return Rows(rows, parts[0].origin, "-".join(part.sha256 for part in parts))

    def _question(self, row: dict[str, Any]) -> Question:
        return Question(str(row["input"]).strip(), str(row["target"]).strip())


def _option(text: str | None) -> str | None:
    answer = stated_or_bare(text)
    named = None if answer is None else letter(answer)
    return named if named is not None and named in ascii_uppercase[:10] else None


_VALIDITY = re.compile(
    r"(?:(?:the|this) argument is |it is )?(?P<not>not )?(?:deductively |logically )?(?P<in>in)?valid"
    r"(?: argument)?(?: \((?!.*valid).*)?"
)
_YES_OR_NO = re.compile(r"(?P<word>yes|no)(?:\s*[.,;:!(–—-](?!.*\b(?:yes|no)\b).*)?", re.DOTALL)


def _verdict(text: str) -> str | None:
    """`valid`, `invalid`, `yes` or `no`; None for anything else and for both."""
    words = unwrap(without_macros(unwrap(text))).rstrip(".! ").lower()
    if match := _VALIDITY.fullmatch(words):
        return "invalid" if bool(match["not"]) != bool(match["in"]) else "valid"
    match = _YES_OR_NO.fullmatch(words) if len(words) <= LONGEST else None
    return None if match is None else match["word"]
