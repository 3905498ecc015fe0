"""How often a method is right, and at what cost: a record per question, and one row for all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial, reduce
from itertools import groupby
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.debate.agents import Agent, Usage
from interp.debate.memory import Memory
from interp.debate.tasks.task import Task
from interp.errors import Progress, UserError
from interp.evaluation.methods import Answered, Method
from interp.statistics import Interval, accuracy
from interp.storage.journal import Journal


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One method on one task. Tokens and calls are means per question.

    >>> records = [{"question": "1+1", "run": 0, "correct": True, "answer": "2", "usage": {"calls": 3}}]
    >>> interp.evaluation.summarize(records, "vote", "arithmetic").calls
    3.0
    """

    method: str
    task: str
    questions: int
    runs: int
    accuracy: Interval
    input_tokens: float
    output_tokens: float
    calls: float
    undecided: int
    """Questions on which the method came to no answer."""
    rounds: Mapping[str, int]
    """Debates by number of rounds; empty for other methods."""
    usage: Usage
    """Summed over all calls."""

    @property
    def tokens(self) -> float:
        """Input and output tokens per question."""
        return self.input_tokens + self.output_tokens

    def record(self) -> dict[str, Any]:
        """All fields as JSON takes them."""
        return asdict(self) | {"usage": self.usage.record()}


@dataclass(frozen=True)
class Graded:
    """Which questions were answered correctly in which run."""

    questions: tuple[str, ...]
    correct: Float[np.ndarray, "run question"]

    @staticmethod
    def of(records: Sequence[Mapping[str, Any]]) -> Graded:
        """Raises `UserError` if a question is missing from a run."""
        column = {question: i for i, question in enumerate(dict.fromkeys(r["question"] for r in records))}
        row = {run: i for i, run in enumerate(sorted({r["run"] for r in records}))}
        correct = np.full((len(row), len(column)), np.nan)
        for record in records:
            correct[row[record["run"]], column[record["question"]]] = record["correct"]
        if missing := int(np.isnan(correct).sum()):
            raise UserError(
                f"{missing} of the answers to {len(column)} questions in {len(row)} runs are missing: "
                "run the same evaluation again to complete it"
            )
        return Graded(tuple(column), correct)


def evaluate(
    out: str | Path,
    name: str,
    method: Method,
    agents: Callable[[int], Sequence[Agent]],
    *,
    task: Task,
    n_questions: int,
    runs: int = 1,
    seed: int = 0,
    restart: bool = False,
    retry_failed: bool = False,
    progress: Progress = lambda *_: None,
) -> EvaluationRow:
    """Answer `n_questions` of the task in each of `runs` and grade the answers.

    `agents(run)` gives the agents of a run, counted from 0. `out` is a JSONL file with a record per question and run:
    question, gold answer, what was written, answer, whether it is `correct`, and usage; the records of debates are
    transcripts as well. A JSON file beside it holds the row and what made it. After a kill the same call resumes, and
    repeats only the requests in flight; with more questions or runs it adds to what is there; with `retry_failed` it
    repeats what an agent could not answer. Raises `UserError` if `out` holds another evaluation.

    >>> from interp.debate.scripted.agent import ScriptedAgent
    >>> from interp.debate.tasks.arithmetic import Arithmetic
    >>> agent = ScriptedAgent(interp.evaluation.find_persona("self-critique"), error_rate=0, seed=0)
    >>> method, task = interp.evaluation.Vote(), Arithmetic()
    >>> out = tmp_path / "single.jsonl"
    >>> interp.evaluation.evaluate(out, "single", method, lambda run: [agent], task=task, n_questions=5).accuracy.mean
    1.0
    """
    questions = task.questions(n_questions, seed)
    if not questions or runs < 1:
        raise UserError(f"{n_questions} questions, {runs} runs: give at least 1 of each")
    casts = [agents(run) for run in range(runs)]
    made_by = {
        "method": name,
        **method.facts,
        "task": task.provenance(),
        "seed": seed,
        "agents": [agent.facts for agent in casts[0]],
    }
    journal = Journal(out, made_by, restart=restart)
    kept: dict[tuple[int, str], dict[str, Any]] = {}
    for record in journal.records:
        if not (retry_failed and record["usage"]["unanswered"]):
            kept.setdefault((record["run"], record["question"]), record)
    if beyond := kept.keys() - {(run, question.text) for run in range(runs) for question in questions}:
        raise UserError(
            f"{out}: holds {len(beyond)} answers beyond {len(questions)} questions and {runs} runs; "
            "ask for at least as many as before, or give another --out"
        )
    if len(kept) < len(journal.records):
        journal.rewrite(list(kept.values()))
    memory = Memory(journal.pending, retry=retry_failed)
    for run, cast in enumerate(casts):
        label = f"{task.name}, {name}" + (f", run {run + 1}" if runs > 1 else "")
        turns = partial(progress, "texts, of those left")
        left = [i for i, question in enumerate(questions) if (run, question.text) not in kept]
        n_done = len(questions) - len(left)
        progress(label, n_done, len(questions))
        for start, stop in _stretches(left):
            asked = questions[start:stop]
            for outcome in method(asked, memory.agents(cast, run), task=task, start=start, turns=turns):
                record = _record(outcome, run, task)
                journal.append(record)
                kept[run, outcome.question.text] = record
                n_done += 1
                progress(label, n_done, len(questions))
    row = summarize(list(kept.values()), name, task.name)
    journal.finish(row.record())
    return row


def is_finished(out: str | Path) -> bool:
    """Whether the evaluation in `out` is complete."""
    path = Path(out).with_suffix(".json")
    return path.is_file() and "accuracy" in json.loads(path.read_text(encoding="utf-8"))


def summarize(records: Sequence[Mapping[str, Any]], method: str, task: str) -> EvaluationRow:
    """The row of these records. Raises `UserError` if runs are not over the same questions.

    >>> records = [{"question": "1+1", "run": 0, "correct": False, "answer": None, "usage": {"calls": 3}}]
    >>> interp.evaluation.summarize(records, "vote", "arithmetic").undecided
    1
    """
    correct = Graded.of(records).correct
    usage = reduce(add, (Usage(**record["usage"]) for record in records), Usage())
    rounds = Counter(str(record["rounds"]) for record in records if "rounds" in record)
    return EvaluationRow(
        method,
        task,
        correct.shape[1],
        correct.shape[0],
        accuracy(correct),
        usage.input_tokens / len(records),
        usage.output_tokens / len(records),
        usage.calls / len(records),
        sum(record["answer"] is None for record in records),
        dict(sorted(rounds.items())),
        usage,
    )


def _record(outcome: Answered, run: int, task: Task) -> dict[str, Any]:
    gold = outcome.question.gold_answer
    return {
        "question": outcome.question.text,
        "gold_answer": gold,
        **outcome.written,
        "run": run,
        "answer": outcome.answer,
        "correct": outcome.answer is not None and task.grade(outcome.answer, gold),
        "usage": outcome.usage.record(),
    }


def _stretches(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as ranges without gaps (start, stop)."""
    for _, group in groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0]):
        stretch = [index for _, index in group]
        yield stretch[0], stretch[-1] + 1
