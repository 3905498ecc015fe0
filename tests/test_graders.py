"""Answers as models write them, each with the verdict that a person gives who knows the gold answer.

The verdicts are in `verdicts/`, one table for each family of tasks; they are a person's, not read off the graders.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.debate.grading.equivalence import equivalent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.benchmarks import BBH, GSM8K, Math, MMLUPro
from interp.debate.tasks.task import Task

Row = tuple[str, str, bool]


def table(name: str) -> list[Row]:
    lines = (Path(__file__).parent / "verdicts" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    cells = [(line + "\t").split("\t")[:3] for line in lines[1:]]  # an empty text leaves no cell in some editors
    assert {verdict for verdict, *_ in cells} == {"right", "wrong"}
    return [(gold, text, verdict == "right") for verdict, gold, text in cells]


TASKS: list[Task] = [Arithmetic(), GSM8K(), Math(), MMLUPro(), BBH()]
TABLES = [(task, table(task.name)) for task in TASKS]
ROWS = [pytest.param(task, row, id=f"{task.name}-{row[0]}-{row[1]}") for task, rows in TABLES for row in rows]


@pytest.mark.parametrize(("task", "row"), ROWS)
def test_the_grader_gives_the_verdict_of_a_person(task: Task, row: Row) -> None:
    gold, text, verdict = row
    assert task.grade(text, gold) == verdict


@pytest.mark.parametrize(("task", "rows"), TABLES)
def test_a_table_is_long_and_has_both_verdicts(task: Task, rows: list[Row]) -> None:
    assert len({(gold, text) for gold, text, _ in rows}) == len(rows) >= 60
    assert min(sum(v for *_, v in rows), sum(not v for *_, v in rows)) >= 15


@pytest.mark.parametrize(("task", "row"), ROWS)
def test_grading_an_answer_is_grading_its_text(task: Task, row: Row) -> None:
    gold, text, verdict = row
    answer = task.answer(text)
    if answer is not None:
        assert task.grade(answer, gold) == verdict
    elif verdict:
        assert "box" not in text  # a bare answer, not a text that states one


@pytest.mark.parametrize(("task", "rows"), TABLES)
def test_no_text_is_never_right(task: Task, rows: list[Row]) -> None:
    assert not any(task.grade(None, gold) for gold, *_ in rows)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=150), st.sampled_from([task for task, _ in TABLES if task.name != "math"]))
def test_any_text_gets_a_verdict(text: str, task: Task) -> None:
    for written in (text, rf"\boxed{{{text}}}", f"the answer is {text}"):
        answer = task.answer(written)
        for gold in ("7", "(B)", "B", "valid", "no"):
            assert answer is None or task.grade(written, gold) == task.grade(answer, gold)


HOSTILE = (
    "9^{9^{9^{9^{9}}}}",
    r"\sqrt{" * 20 + "2" + "}" * 20,
    "(((((((((((((((((((((((((1",
    "{" * 60,
    r"\frac{\frac{\frac{",
    "x^{x^{x^{x^{x^{x}}}}}=x",
    r"\int_0^1 e^{e^{x^x}} dx",
    "100000!",
    "\x00\n\r\u2028",
    "lambda: 0",
    "__import__('os').system('true')",
)


def test_hostile_answers_take_no_longer_than_the_limit_and_never_hang() -> None:
    equivalent("x", "x+0")  # the helper is awake
    for text in HOSTILE:
        started = time.monotonic()
        assert not equivalent(text, "x+1", seconds=1.0)
        assert time.monotonic() - started < 10
    assert equivalent("x+1", "1+x")


def test_equivalence_works_in_threads() -> None:
    verdicts: dict[int, bool] = {}

    def grade(i: int) -> None:
        verdicts[i] = Math().grade(rf"\boxed{{{i}+x}}", f"x+{i}") and not Math().grade(rf"\boxed{{x-{i}}}", f"x+{i}")

    threads = [threading.Thread(target=grade, args=(i,)) for i in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert verdicts == dict.fromkeys(range(1, 9), True)
