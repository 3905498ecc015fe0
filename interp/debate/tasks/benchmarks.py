"""The benchmarks of the paper: GSM8K, MATH, MMLU-Pro and BBH, in their published layouts."""

from __future__ import annotations

import random
import re
from abc import abstractmethod
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from interp.debate.grading.answers import amount, boxed, is_remark, letter, same_amount, same_mathematics, verdict
from interp.debate.tasks.records import Layout, Rows, read_rows
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import question_key
from interp.errors import UserError

_ALSO = ("answer", "gold", "gold_answer", "final_answer", "correct_answer", "target")
"""Fields in which a row may give its answer once more."""


@dataclass(frozen=True)
class _Published(Task):
    """Questions drawn from the rows of a data set: the published one, or the `source` given."""

    layout: ClassVar[Layout]
    source: str | Path | None = None
    split: str = "test"

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions. Raises `UserError` for data that is missing, has fewer or contradicts itself."""
        asked: dict[str, Question] = {}
        for row in self._rows.rows:
            question = self._question(row)
            also = [row[name] for name in _ALSO if name not in self.layout.example and row.get(name) is not None]
            first = asked.setdefault(question_key(question.text), question)
            golds = [first.gold_answer, question.gold_answer, *map(str, also)]
            for gold in golds[1:]:
                if gold != golds[0] and not self.grade(gold, golds[0]):
                    what = f"two answers to one question, {golds[0][:40]!r} and {gold[:40]!r} ({question.text[:60]!r})"
                    raise UserError(f"{self._rows.origin}: {what}; take out the wrong one")
            if self.read(golds[0]) is None:
                what = f"{golds[0][:40]!r} is no answer to {question.text[:60]!r}"
                raise UserError(f"{self._rows.origin}: {what}; mend it")
        distinct = list(asked.values())
        if not 0 <= n <= len(distinct):
            origin = f"{self.name} ({self._rows.origin}, {self.split})"
            raise UserError(f"{n} questions: {origin} has {len(distinct)}; ask for at most that many")
        random.Random(seed).shuffle(distinct)
        return distinct[:n]

    def provenance(self) -> dict[str, Any]:
        own = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items() if key != "source"}
        return {"task": self.name, "data": self._rows.origin, "split": self.split, "sha256": self._rows.sha256} | own

    @cached_property
    def _rows(self) -> Rows:
        return self._read(self.layout.part)

    def _read(self, part: str | None) -> Rows:
        return read_rows(replace(self.layout, part=part), self.source or self.layout.hub_id, self.split)

    @abstractmethod
    def _question(self, row: dict[str, Any]) -> Question: ...


@dataclass(frozen=True)
class GSM8K(_Published):
    """Grade-school word problems; the gold answer follows `####`. Graded as exact amounts, without units."""

    name = "gsm8k"
    layout = Layout("openai/gsm8k", {"question": "…", "answer": "… #### 18"}, "main")
    instruction = r"Reason step by step and state the final answer as one number in \boxed{}, without its unit."

    read = staticmethod(amount)
    same = staticmethod(same_amount)

    def _question(self, row: dict[str, Any]) -> Question:
        working, *golds = str(row["answer"]).split("####")
        if not golds:
            raise UserError(f"{self._rows.origin}: an answer without #### ({working[:40]!r}); not GSM8K")
        if not all(self.grade(gold, golds[-1]) for gold in golds[:-1]):
            raise UserError(f"{self._rows.origin}: two answers after #### in {working[:40]!r}; take out the wrong one")
        return Question(str(row["question"]).strip(), golds[-1].strip())


@dataclass(frozen=True)
class Math(_Published):
    """The MATH data set, by default algebra at levels 1 to 3 as in the paper; the gold answer is the solution's box."""

    name = "math"
    layout = Layout(
        "EleutherAI/hendrycks_math", {"problem": "…", "level": "Level 3", "type": "Algebra", "solution": r"… \boxed{…}"}
    )
    instruction = r"Reason step by step and state the final answer in \boxed{}."
    subject: str = "Algebra"
    levels: tuple[int, ...] = (1, 2, 3)

    same = staticmethod(same_mathematics)

    def read(self, text: str) -> str | None:
        return None if is_remark(text) else text

    @cached_property
    def _rows(self) -> Rows:
        found = self._read(self.subject.lower().replace(" & ", "_and_").replace(" ", "_"))
        levels = [f"Level {level}" for level in self.levels]
        rows = [row for row in found.rows if row["type"] == self.subject and row["level"] in levels]
        if not rows:
            raise UserError(f"{found.origin}: no row of type {self.subject} at {', '.join(levels)}")
        return found._replace(rows=rows)

    def _question(self, row: dict[str, Any]) -> Question:
        solution = str(row["solution"])
        bare = re.search(r"\\boxed\s+([^\s$]+)", solution)  # a few solutions leave the braces out
        if (gold := boxed(solution) or (bare and bare[1])) is None:
            raise UserError(f"{self._rows.origin}: a solution without a boxed answer ({solution[:40]!r})")
        return Question(str(row["problem"]).strip(), gold)


@dataclass(frozen=True)
class MMLUPro(_Published):
    """Multiple choice with up to ten options, which are part of the question; the gold answer is a letter."""

    name = "mmlu-pro"
    layout = Layout("TIGER-Lab/MMLU-Pro", {"question": "…", "options": ["…", "…"], "answer": "B"})
    instruction = r"Reason step by step and state the letter of the right option in \boxed{}."

    def read(self, text: str) -> str | None:
        return named if (named := letter(text)) and named <= "J" else None

    def _question(self, row: dict[str, Any]) -> Question:
        options, gold = row["options"], str(row["answer"])
        letters = ascii_uppercase[: len(options)] if isinstance(options, list) else ""
        if gold not in letters or not gold or len(options) > 10:
            raise UserError(f"{self._rows.origin}: the answer {gold!r} is none of its options; not MMLU-Pro")
        index, texts = letters.index(gold), [str(option).strip() for option in options]
        if (twice := texts.count(texts[index]) > 1) or row.get("answer_index", index) != index:
            named = "the right option stands twice" if twice else "answer_index is another option"
            raise UserError(f"{self._rows.origin}: {named} ({str(row['question'])[:60]!r}, {gold}); mend the row")
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
    """Subsets of BIG-Bench Hard; targets are an option (`(A)`), `valid` or `invalid`, and `Yes` or `No`."""

    layout = Layout("SaylorTwift/bbh", {"input": "…", "target": "(A)"})
    instruction = (
        r"Reason step by step and state the final answer in \boxed{}: the letter of an option, "
        "or valid or invalid, or Yes or No, whichever the question asks for."
    )
    subsets: tuple[str, ...] = BBH_SUBSETS

    @property
    def name(self) -> str:
        return f"bbh-{self.subsets[0]}" if len(self.subsets) == 1 else "bbh"

    def read(self, text: str) -> tuple[str | None, str | None] | None:
        found = verdict(text), letter(text)
        return found if any(found) else None

    def same(self, given: Any, gold: Any) -> bool:
        return any(x is not None and x == y for x, y in zip(given, gold, strict=True))

    @cached_property
    def _rows(self) -> Rows:
        if self.source and Path(self.source).is_file() and len(self.subsets) > 1:
            what = f"one file given for {len(self.subsets)} subsets of BBH"
            raise UserError(f"{self.source}: {what}; give a folder of NAME.json, or ask for one, as in bbh-web_of_lies")
        rows, origins, hashes = zip(*(self._read(subset) for subset in self.subsets), strict=True)
        if len(set(hashes)) < len(hashes):
            raise UserError(f"{origins[0]}: its files do not say which subset they are; name them NAME.json")
        return Rows([*chain(*rows)], origins[0], "-".join(hashes))

    def _question(self, row: dict[str, Any]) -> Question:
        text, gold = str(row["input"]).strip(), str(row["target"]).strip()
        lines = [line.strip() for line in text.partition("Options:")[2].splitlines()]
        options = [line[:3] if line.startswith("(") else line[2:] for line in lines if line[:1] in ("(", "-")]
        if options and options.count(gold) != 1:
            raise UserError(f"{self._rows.origin}: {gold!r} is not one of the options of {text[:60]!r}; mend the row")
        return Question(text, gold)
