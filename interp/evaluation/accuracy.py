"""How often a method is right, and at what cost: a record per question, a row for all, and two rows compared."""

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
from interp.debate.memory import REMEMBERED, Memory
from interp.debate.tasks.task import Task
from interp.debate.transcript import question_key
from interp.errors import Progress, UserError
from interp.evaluation.methods import Answered, Method
from interp.processes import gather, place, shared
from interp.statistics import Interval, PairedTest, grouped, mean_interval, paired_test, seeds_interval
from interp.storage.files import Whole, checked, entries, read_json, reading
from interp.storage.journal import Journal
from interp.storage.text import read_records, suffix

Records = Sequence[Mapping[str, Any]]
GRADED = entries(question=str, gold_answer=str, run=Whole, answer=str | None, correct=bool, usage=Usage)
"""What the record of a question says, besides what was written."""
_MADE = entries(made_by=entries(method=str, task=entries(task=str)))


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One method on one task. Tokens and calls are means per question."""

    method: str
    task: str
    questions: int
    runs: int
    accuracy: Interval
    input_tokens: float
    output_tokens: float
    calls: float
    undecided: int  # questions on which the method came to no answer
    rounds: Mapping[str, int]  # debates by number of rounds; empty for other methods
    usage: Usage  # summed over all calls

    @property
    def tokens(self) -> float:
        return self.input_tokens + self.output_tokens

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"usage": self.usage.record()}


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
    """Answer `n_questions` of the task in each of `runs` and grade the answers; `agents(run)` are those of a run.

    `out` is a JSONL file with a record per question and run (of a debate, its transcript); a JSON file beside it holds
    the row and what made it. The same call resumes after a kill; more questions or runs add to what is there;
    `retry_failed` repeats what an agent could not answer. Raises `UserError` if `out` holds another evaluation, and
    if no agent answered anything; then the files are as they were before.

    >>> agent = interp.debate.ScriptedAgent(interp.debate.PERSONAS["self-critique"], error_rate=0, seed=0)
    >>> method, task = interp.evaluation.Vote(), interp.debate.make_task("arithmetic")
    >>> out = tmp_path / "single.jsonl"
    >>> interp.evaluation.evaluate(out, "single", method, lambda run: [agent], task=task, n_questions=5).accuracy.mean
    1.0
    """
    questions = task.questions(n_questions, seed)
    if not questions or runs < 1:
        raise UserError(f"{n_questions} questions, {runs} runs: give at least 1 of each")
    casts = [agents(run) for run in range(runs)]
    made_by = {"method": name, **method.facts, "task": task.provenance(), "seed": seed}
    agents_facts = {"agents": [agent.facts for agent in casts[0]]}
    journal = Journal(out, made_by | agents_facts, GRADED, REMEMBERED, restart=restart)
    before, kept = journal.records, dict[tuple[int, str], Mapping[str, Any]]()
    for record in journal.records:
        if not (retry_failed and record["usage"]["unanswered"]):
            kept.setdefault((record["run"], record["question"]), record)
    if beyond := kept.keys() - {(run, question.text) for run in range(runs) for question in questions}:
        holds = f"{out}: holds {len(beyond)} answers beyond {len(questions)} questions and {runs} runs"
        raise UserError(f"{holds}; ask for at least as many as before, or give another --out")
    if len(kept) < len(journal.records):
        journal.rewrite(list(kept.values()))
    memory = Memory(journal.pending, retry=retry_failed)
    turns = partial(progress, "texts, of those left")
    try:
        for run, cast in enumerate(casts):
            label = f"{task.name}, {name}" + (f", run {run + 1}" if runs > 1 else "")
            left = [(run, question.text) not in kept for question in questions]
            n_done = left.count(False)
            progress(label, n_done, len(questions))
            for stretch in [list(g) for is_left, g in groupby(range(len(questions)), left.__getitem__) if is_left]:

                def answers(some: Sequence[int], who: Sequence[Agent] = memory.agents(cast, run)) -> Iterator[Answered]:
                    return method([questions[i] for i in some], who, task=task, start=some[0], turns=turns)

                size = method.chunk if place()[1] > 1 else len(stretch)
                for question, answer, usage, written in shared(stretch, answers, size):
                    correct = answer is not None and task.grade(answer, question.gold_answer)
                    record = {"question": question.text, "gold_answer": question.gold_answer, **written, "run": run}
                    record |= {"answer": answer, "correct": correct, "usage": usage.record()}
                    journal.append(record)
                    kept[run, question.text] = record
                    n_done += 1
                    progress(label, n_done, len(questions))
        asked = gather((bool(memory.known), memory.all_failed))
        if any(known for known, _ in asked) and all(failed for _, failed in asked):
            why = "; ".join(Usage.of(memory.known.values()).losses())
            raise UserError(f"{out}: no call got an answer: {why}; nothing was kept", status=1)
    except UserError:
        if memory.all_failed:
            journal.undo(before)
        raise
    row = summarize(list(kept.values()), name, task.name)
    journal.finish(row.record())
    return row


def is_finished(out: str | Path) -> bool:
    """Whether the evaluation in `out` is complete."""
    path = Path(out).with_suffix(".json")
    return path.is_file() and "accuracy" in read_json(path, dict[str, Any], "results", "interp evaluate")


def summarize(records: Records, method: str, task: str, *, seeds: bool = False) -> EvaluationRow:
    """The row of these records. Raises `UserError` if runs are not over the same questions.

    The interval is about what was run, on other questions; if runs are of `seeds` of training, about other seeds, too.
    """
    correct = np.stack(list(_graded(records).values()), axis=1)
    usage = reduce(add, (Usage(**record["usage"]) for record in records), Usage())
    rounds = Counter(str(record["rounds"]) for record in records if "rounds" in record)
    read, written, calls = (n / len(records) for n in (usage.input_tokens, usage.output_tokens, usage.calls))
    undecided = sum(record["answer"] is None for record in records)
    (n_runs, n), by_rounds = correct.shape, dict(sorted(rounds.items()))
    accuracy = seeds_interval(correct) if seeds else mean_interval(correct.mean(axis=0))
    return EvaluationRow(method, task, n, n_runs, accuracy, read, written, calls, undecided, by_rounds, usage)


def _graded(records: Records) -> dict[str, Float[np.ndarray, " run"]]:
    """By the question's key, whether it was answered correctly in each run; of several wordings the first counts."""
    runs = sorted({record["run"] for record in records})
    found: dict[str, dict[int, bool]] = {}
    for record in records:
        found.setdefault(question_key(record["question"]), {}).setdefault(record["run"], record["correct"])
    if missing := sum(len(runs) - len(by_run) for by_run in found.values()):
        what = f"{missing} of the answers to {len(found)} questions in {len(runs)} runs are missing"
        raise UserError(f"{what}: run the same evaluation again to complete it")
    return {question: np.array([by_run[run] for run in runs], dtype=float) for question, by_run in found.items()}


@dataclass(frozen=True)
class Comparison:
    """Two methods on the questions that both answered, and how their accuracies differ."""

    first: EvaluationRow
    second: EvaluationRow
    test: PairedTest
    left_out: int  # questions that only one of them answered


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two files of `interp evaluate` or `interp debate`; `UserError` if they are not about the same questions.

    >>> answering, task = interp.evaluation.Answering(model="scripted"), interp.debate.tasks.settings.TaskSettings()
    >>> wanted = [(task, method, tmp_path / f"{method}.jsonl") for method in ("single", "vote")]
    >>> rows = [run() for run in interp.evaluation.plan(wanted, answering, n_questions=50)]
    >>> test = interp.evaluation.compare(tmp_path / "vote.jsonl", tmp_path / "single.jsonl").test
    >>> test.better, test.worse, test.tied
    (6, 0, 44)
    """
    (records_a, made_a), (records_b, made_b) = _read(first), _read(second)
    task_a, task_b = made_a["task"], made_b["task"]
    if task_a != task_b:
        about = f"about {json.dumps(task_a)}, and {second} about {json.dumps(task_b)}"
        raise UserError(f"{first}: {about}; give two evaluations of one task")
    gold_a, gold_b = ({question_key(r["question"]): r["gold_answer"] for r in each} for each in (records_a, records_b))
    shared = dict.fromkeys(question for question in gold_a if question in gold_b)
    if not shared:
        raise UserError(f"{first}: no question in common with {second}; evaluate both with the same seed")
    if differing := [question for question in shared if gold_a[question] != gold_b[question]]:
        raise UserError(f"{first}: different gold answers from {second} to {differing[0][:60]!r}; use one data set")
    records_a, records_b = ([r for r in own if question_key(r["question"]) in shared] for own in (records_a, records_b))
    row_a = summarize(records_a, made_a["method"], task_a["task"])
    row_b = summarize(records_b, made_b["method"], task_b["task"])
    return Comparison(row_a, row_b, paired(records_a, records_b), len(gold_a.keys() ^ gold_b.keys()))


def paired(first: Records, second: Records) -> PairedTest:
    """The paired test of two evaluations' records over the same questions, in any order."""
    a, b = _graded(first), _graded(second)
    return paired_test(np.stack(list(a.values()), axis=1), np.stack([b[question] for question in a], axis=1))


def _read(path: str | Path) -> tuple[Records, dict[str, Any]]:
    """The records of an evaluation, and what made them."""
    path, by = Path(path), "interp evaluate"
    if suffix(path) != ".jsonl":
        raise UserError(f"{path}: not a file of records; give a .jsonl file that {by} wrote")
    records: list[dict[str, Any]] = []
    for where, record in read_records(path):
        with reading(f"{path}, {where}", "a record of an evaluation", by):
            checked(GRADED, json.dumps(record))
        records.append(record)
    with reading(path, "an evaluation", by):
        if not records:
            raise ValueError("it is empty")
        golds = grouped((question_key(record["question"]), record["gold_answer"]) for record in records)
        if several := next((question for question, gold in golds.items() if len(set(gold)) > 1), None):
            raise ValueError(f"{several[:60]!r} has several gold answers")
        times = Counter((record["question"], record["run"]) for record in records)
        [((question, run), most)] = times.most_common(1)
        if most > 1:
            raise ValueError(f"{question[:60]!r} is answered {most} times in run {run}")
    facts = path.with_name(f"{path.name.partition('.jsonl')[0]}.json")
    return records, read_json(facts, _MADE, "what made an evaluation", by)["made_by"]
