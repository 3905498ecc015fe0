"""Answers as models write them, each with the verdict that a person gives who knows the gold answer.

The verdicts are in `verdicts/`, one table for each family of tasks; they are a person's, not read off the graders.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.debate.grading.equivalence import equivalent
from interp.debate.tasks import make_task
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


PHRASED = Path(__file__).parent / "verdicts" / "phrased.jsonl"


def test_answers_as_models_phrase_them_get_the_verdict_of_a_person() -> None:
    """Whole texts; two in five are wrong answers of the kind that a lax grader accepts."""
    rows = [json.loads(line) for line in PHRASED.read_text(encoding="utf-8").splitlines()]
    assert len({(row["task"], row["gold"], row["text"]) for row in rows}) == len(rows) >= 800
    assert sum(row["verdict"] == "wrong" for row in rows) > len(rows) / 3
    missed = []
    for row in rows:
        task, right = make_task(row["task"]), row["verdict"] == "right"
        answer = task.answer(row["text"])
        if task.grade(row["text"], row["gold"]) != right or (answer and task.grade(answer, row["gold"]) != right):
            missed.append(f"{row} (answer: {answer!r})")
    assert not missed, "\n".join(missed)


GOLDS = {"mmlu-pro": "B", "bbh": "(A)", "evil": "do not", "hallucination": "unknown"}
UNITS = (
    *(
        "\n",
        "\\",
        " ",
        "{",
        "}",
        "0",
        ",",
        "(",
        "*",
        "**a",
        "$",
        "A",
        "<",
        "|",
        ".",
        "-",
        "#",
        "=",
        '"',
        "\u00a0",
        "1 ",
    ),
    *("1,", "\\frac{", "\\text{", "\\boxed{", "\\boxed", "\\\\ ", "answer is ", "answer\n", "answer is not ", "#### "),
    *("answer is $$", "<think>", "</think>", "option A is ", "twenty-", "a ", "1 and ", "wait ", " and not", "half "),
)


@pytest.mark.parametrize("unit", UNITS)
def test_a_hundred_kilobytes_of_anything_are_graded_in_a_second(unit: str) -> None:
    body = unit * (100_000 // len(unit))
    for text in (body, rf"\boxed{{{body}}}", rf"\boxed{{5}} wait, the answer is {body}5"):
        for name in ("arithmetic", "gsm8k", "math", "mmlu-pro", "bbh", "evil", "hallucination"):
            task, took = make_task(name), list[float]()
            while not took or (min(took) >= 1 and len(took) < 3):  # a busy core may be slow once
                started = time.process_time()
                assert task.grade(text, GOLDS.get(name, "5")) in (True, False)
                took.append(time.process_time() - started)
            assert min(took) < 1, (name, text[:40])
