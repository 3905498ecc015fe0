"""The results table of a run: what the base does and what was made of it, on questions that no stage has seen.

Knows which questions those are and who is asked them how; answering, grading, intervals and tests are
those of `interp.evaluation`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from interp.debate.agents import Agent
from interp.debate.personas import PLAIN
from interp.debate.tasks import make_task
from interp.debate.tasks.task import Question, Task
from interp.evaluation.accuracy import EvaluationRow, evaluate, summarize
from interp.evaluation.comparison import paired
from interp.evaluation.methods import Debates, Method, Vote
from interp.generation.agents import InternalizedAgent, LocalAgent
from interp.models.lineage import read_lineage
from interp.statistics import PairedTest
from interp.storage.files import write_json
from interp.storage.journal import read_lines
from interp.storage.provenance import package_versions
from interp.training.debating import CHUNK, _agent, _sampling, debaters, loaded
from interp.training.loop import Run
from interp.training.settings import Preset

TABLE_FILE = "table.json"
RESULTS_FOLDER = "results"

BASE_METHODS = ("single", "vote", "debate")
TRAINED = ("debategpt", "sft", "imad")
TITLES = {
    "single": "Single",
    "vote": "Vote",
    "debate": "Debate",
    "debategpt": "DebateGPT",
    "sft": "SFT",
    "imad": "IMAD",
}
"""What the paper calls the methods, in the order of its table."""

TESTS = (("debate", "single"), ("imad", "single"), ("imad", "debategpt"), ("imad", "debate"))
"""Which accuracies are tested against each other."""


@dataclass(frozen=True)
class Table:
    """Methods side by side. With several seeds a trained method's row has one run a seed."""

    rows: tuple[EvaluationRow, ...]
    by_seed: Mapping[str, Mapping[int, EvaluationRow]]
    """The rows of each seed alone, by method; the base's methods have none."""
    tests: Mapping[tuple[str, str], PairedTest]

    def row(self, method: str) -> EvaluationRow:
        return next(row for row in self.rows if row.method == method)

    def of_debate(self, row: EvaluationRow) -> tuple[float, float]:
        """What the row takes as shares of explicit debate: of all its tokens, and of its output tokens alone."""
        debate = self.row("debate")
        return row.tokens / debate.tokens, row.output_tokens / debate.output_tokens

    def record(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        rows = []
        for row in self.rows:
            tokens, output = self.of_debate(row)
            seeds = {str(seed): one.record() for seed, one in self.by_seed.get(row.method, {}).items()}
            rows.append({**row.record(), "of_debate_tokens": tokens, "of_debate_output": output, "by_seed": seeds})
        tests = [{"first": a, "second": b, **asdict(test)} for (a, b), test in self.tests.items()]
        return {"rows": rows, "tests": tests}


@dataclass(frozen=True)
class Unseen:
    """A task without the questions that a stage has seen."""

    task: Task
    seen: frozenset[str]

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def instruction(self) -> str:
        return self.task.instruction

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` of the task's questions, in its order. Raises `UserError` where the task has fewer."""
        drawn = n
        while True:
            found = [question for question in self.task.questions(drawn, seed) if question.text not in self.seen]
            if len(found) >= n:
                return found[:n]
            drawn += n - len(found)

    def answer(self, text: str) -> str | None:
        return self.task.answer(text)

    def grade(self, text: str | None, gold: str) -> bool:
        return self.task.grade(text, gold)

    def provenance(self) -> dict[str, Any]:
        return {**self.task.provenance(), "without_seen": len(self.seen)}


def held_out(preset: Preset, task: Task | None, seen: Collection[str]) -> Task:
    """What the table asks: the preset's task, of its split "test" where it has splits; or `task`, where given.

    Where the questions drawn have been seen by a stage, others take their place. Raises `UserError` for a
    task that has too few.
    """
    if task is None:
        split = {"split": "test"} if "split" in preset.task_options else {}
        task = make_task(preset.task, **preset.task_options | split)
    asked = task.questions(preset.table_questions, table_seed(preset))
    if any(question.text in seen for question in asked):
        task = Unseen(task, frozenset(seen))
        task.questions(preset.table_questions, table_seed(preset))
    return task


def table_seed(preset: Preset) -> int:
    """The seed of the table's questions; debates have the preset's own and stage 2 the next one."""
    return preset.seed + 2


def ask_base(run: Run, task: Task) -> dict[str, list[dict[str, Any]]]:
    """The base by itself, by vote and by explicit debate: their records, by method."""
    preset = run.preset
    records = {}
    with loaded(preset.model) as model:
        together = debaters(preset, model)
        alone: list[Agent] = [_agent(LocalAgent, preset, model, PLAIN)]
        ways: dict[str, tuple[Method, list[Agent]]] = {
            "single": (Vote(CHUNK), alone),
            "vote": (Vote(CHUNK), together),
            "debate": (Debates(preset.rounds, chunk=CHUNK), together),
        }
        for name, (method, agents) in ways.items():
            records[name] = _ask(run, name, method, agents, task, table_seed(preset))
    return records


def ask_checkpoint(run: Run, name: str, checkpoint: Path, task: Task, seed: int) -> list[dict[str, Any]]:
    """The records of a checkpoint that goes on from the bare question, as it was trained to; `seed` is the questions'.

    It may write as much as a whole debate takes, so that one that rambles is seen to.
    """
    with loaded(str(checkpoint)) as model:
        agent = _agent(InternalizedAgent, run.preset, model, PLAIN, run.preset.grpo.descent.first_limit)
        return _ask(run, name, Vote(CHUNK), [agent], task, seed)


def make_table(run: Run, by_seed: Mapping[int, tuple[Run, Mapping[str, Path]]], task: Task) -> Table:
    """Ask everybody whatever was not asked before a kill, and write `table.json`.

    `by_seed` has, for each seed, the run in its folder and its checkpoints by method. Records lie under
    `results` in the folder of the run, or of the seed.
    """
    asked = table_seed(run.preset)
    records = ask_base(run, task)
    rows = [summarize(records[method], method, task.name) for method in BASE_METHODS]
    alone: dict[str, dict[int, EvaluationRow]] = {}
    for method in TRAINED:
        found = {
            seed: ask_checkpoint(one, method, checkpoints[method], task, asked)
            for seed, (one, checkpoints) in by_seed.items()
        }
        records[method] = pooled(list(found.values()))
        rows.append(summarize(records[method], method, task.name))
        alone[method] = {seed: summarize(each, method, task.name) for seed, each in found.items()}
    tests = {(a, b): paired(records[a], records[b]) for a, b in TESTS}
    table = Table(tuple(rows), alone, tests)
    checkpoints = {str(seed): stage_hashes(paths) for seed, (_, paths) in by_seed.items()}
    write_results(run.out / TABLE_FILE, table.record(), run.preset, task, {"checkpoints": checkpoints})
    return table


def pooled(records: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Records of several seeds as the runs of one method."""
    return [record | {"run": run} for run, each in enumerate(records) for record in each]


def stage_hashes(checkpoints: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """The hashes of each checkpoint's stages, by stage."""
    lineages = {name: read_lineage(str(path)) for name, path in checkpoints.items()}
    return {name: {stage.name: stage.hash for stage in found.stages} for name, found in lineages.items() if found}


def write_results(path: Path, results: dict[str, Any], preset: Preset, task: Task, made_by: dict[str, Any]) -> None:
    """Keep results with what made them, the place of the base apart."""
    settings = preset.record() | {"model": Path(preset.model).name if Path(preset.model).is_dir() else preset.model}
    asked = {"questions": preset.table_questions, "seed": table_seed(preset), **task.provenance()}
    facts = {
        **results,
        "made_by": {"preset": settings, "task": asked, "sampling": asdict(_sampling(preset)), **made_by},
        "versions": package_versions(),
        "written": datetime.now(UTC).isoformat("T", "seconds"),
    }
    write_json(path, facts)


def _ask(run: Run, name: str, method: Method, agents: Sequence[Agent], task: Task, seed: int) -> list[dict[str, Any]]:
    out = run.out / RESULTS_FOLDER / f"{name}.jsonl"
    n = run.preset.table_questions
    evaluate(out, name, method, lambda _: agents, task=task, n_questions=n, seed=seed, progress=run.tell)
    return read_lines(out)
