"""Two evaluations over the same questions, compared question by question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.debate.agents import Usage
from interp.errors import UserError
from interp.evaluation.accuracy import EvaluationRow, Graded, summarize
from interp.statistics import PairedTest, paired_test
from interp.storage.journal import read_lines


@dataclass(frozen=True)
class Comparison:
    """Two methods on the questions that both answered, and how their accuracies differ."""

    first: EvaluationRow
    second: EvaluationRow
    test: PairedTest
    left_out: int
    """Questions that only one of them answered."""


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two files of `interp evaluate` or `interp debate` by a paired test over questions.

    Raises `UserError` for other files, and for different tasks, questions or gold answers.

    >>> settings, task = interp.evaluation.Answering(model="scripted"), interp.debate.tasks.settings.TaskSettings()
    >>> wanted = [(task, method, tmp_path / f"{method}.jsonl") for method in ("single", "vote")]
    >>> for run in interp.evaluation.plan(wanted, settings, n_questions=50):
    ...     row = run()
    >>> test = interp.evaluation.compare(tmp_path / "vote.jsonl", tmp_path / "single.jsonl").test
    >>> test.better, test.worse, test.tied
    (6, 0, 44)
    """
    (records_a, made_a), (records_b, made_b) = (_read(path) for path in (first, second))
    if made_a["task"] != made_b["task"]:
        raise UserError(
            f"{first}: about {json.dumps(made_a['task'])}, and {second} about {json.dumps(made_b['task'])}; "
            "give two evaluations of one task"
        )
    gold_a, gold_b = ({r["question"]: r["gold_answer"] for r in records} for records in (records_a, records_b))
    shared = [question for question in gold_a if question in gold_b]
    if not shared:
        raise UserError(f"{first}: no question in common with {second}; evaluate both with the same seed")
    if differing := [question for question in shared if gold_a[question] != gold_b[question]]:
        raise UserError(f"{first}: different gold answers from {second} to {differing[0][:60]!r}; use one data set")
    common = set(shared)
    records_a, records_b = ([r for r in records if r["question"] in common] for records in (records_a, records_b))
    return Comparison(
        summarize(records_a, made_a["method"], made_a["task"]["task"]),
        summarize(records_b, made_b["method"], made_b["task"]["task"]),
        paired(records_a, records_b),
        len(gold_a.keys() ^ gold_b.keys()),
    )


def paired(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> PairedTest:
    """The paired test of two evaluations' records over the same questions, in any order."""
    graded_a, graded_b = Graded.of(first), Graded.of(second)
    column = {question: i for i, question in enumerate(graded_b.questions)}
    return paired_test(graded_a.correct, graded_b.correct[:, [column[question] for question in graded_a.questions]])


def _read(path: str | Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The records of an evaluation, and what made them."""
    path = Path(path)
    wanted = "give a .jsonl file that interp evaluate wrote"
    if path.suffix != ".jsonl":
        raise UserError(f"{path}: not a file of records; {wanted}")
    try:
        records = read_lines(path)
        made_by = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["made_by"]
        about = {type(made_by["task"]["task"]), type(made_by["method"])}
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; {wanted}") from None
    except (OSError, ValueError, KeyError, TypeError):
        about = None
    if about != {str} or not records or not all(map(_is_graded, records)):
        raise UserError(f"{path}: not an evaluation; {wanted}")
    return records, made_by


def _is_graded(record: Mapping[str, Any]) -> bool:
    """Whether this is a record of an evaluation."""
    kinds = {"question": str, "gold_answer": str, "run": int, "correct": bool, "usage": dict}
    right = "answer" in record and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
    return right and record["usage"].keys() <= Usage.__dataclass_fields__.keys()
