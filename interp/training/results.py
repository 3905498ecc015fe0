"""A run's models asked: the base, and the results table of what was made of it, on questions that no stage has seen."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

from interp.debate.agents import Agent, Sampling
from interp.debate.personas import KNOWN, PLAIN, Persona
from interp.debate.tasks import make_task
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import question_key
from interp.errors import Progress, UserError
from interp.evaluation.accuracy import EvaluationRow, evaluate, paired, summarize
from interp.evaluation.methods import Debates, Method, Vote
from interp.generation.agents import InternalizedAgent, LocalAgent
from interp.models.lineage import read_lineage
from interp.models.model import Model, load_model
from interp.statistics import PairedTest
from interp.storage.files import write_json
from interp.storage.journal import read_lines
from interp.storage.provenance import package_versions
from interp.training.grpo import few_threads
from interp.training.run import Run
from interp.training.settings import Preset

CHUNK = 256
"""Questions asked together: enough that the second round of their debates still fills batches."""

Loader = Callable[[], Model]
Agents = Callable[[], Sequence[Agent]]
Records = list[dict[str, Any]]
TRAINED = {"debategpt": "DebateGPT", "sft": "SFT", "imad": "IMAD"}
TITLES = {"single": "Single", "vote": "Vote", "debate": "Debate"} | TRAINED
"""The paper's names of the methods, in the order of its table."""
TESTS = (("debate", "single"), ("imad", "single"), ("imad", "debategpt"), ("imad", "debate"))
"""Pairs of methods whose accuracies are compared."""


@dataclass(frozen=True)
class Table:
    """The methods side by side. With several seeds a trained method's row has one run per seed.

    Its interval is then about the procedure, on other questions and with other seeds; tests are about these seeds.
    """

    rows: tuple[EvaluationRow, ...]
    by_seed: Mapping[str, Mapping[int, EvaluationRow]]
    """The rows of each seed alone, for trained methods."""
    tests: Mapping[tuple[str, str], PairedTest]

    def row(self, method: str) -> EvaluationRow:
        return next(row for row in self.rows if row.method == method)

    def of_debate(self, row: EvaluationRow) -> tuple[float, float]:
        """The row's tokens as shares of explicit debate's: all tokens, and output tokens alone."""
        debate = self.row("debate")
        return row.tokens / debate.tokens, row.output_tokens / debate.output_tokens

    def record(self) -> dict[str, Any]:
        rows = []
        for row in self.rows:
            shares = zip(("of_debate_tokens", "of_debate_output"), self.of_debate(row), strict=True)
            seeds = {str(seed): one.record() for seed, one in self.by_seed.get(row.method, {}).items()}
            rows.append({**row.record(), **dict(shares), "by_seed": seeds})
        tests = [{"first": a, "second": b, **asdict(test)} for (a, b), test in self.tests.items()]
        return {"rows": rows, "tests": tests}


@dataclass(frozen=True)
class Unseen:
    """A task without the questions that a stage has seen."""

    task: Task
    seen: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` of the task's questions, in its order. Raises `UserError` if the task has fewer."""
        drawn, keys = n, set(map(question_key, self.seen))
        while len(found := [q for q in self.task.questions(drawn, seed) if question_key(q.text) not in keys]) < n:
            drawn += n - len(found)
        return found[:n]

    def provenance(self) -> dict[str, Any]:
        return {**self.task.provenance(), "without_seen": len(self.seen)}


def ask(out: Path, name: str, method: Method, agents: Agents, task: Task, n: int, seed: int, tell: Progress) -> Records:
    """Records of a method's answers to `n` questions; none is repeated after a kill."""
    evaluate(out, name, method, lambda _: agents(), task=task, n_questions=n, seed=seed, progress=tell)
    return read_lines(out)


def debaters(preset: Preset, model: Model) -> list[Agent]:
    """The agents of the preset's debates, all played by one model. Raises `UserError` for an unknown persona."""
    names = preset.personas
    if unknown := [name for name in names if name not in KNOWN]:
        raise UserError(f"persona {unknown[0]}: unknown; choose among {', '.join(KNOWN)}")
    return [agent(preset, model, KNOWN[names[k % len(names)]]) for k in range(preset.agents)]


def agent(
    preset: Preset, model: Model, persona: Persona = PLAIN, kind: type[LocalAgent] = LocalAgent, longest: int = 0
) -> Agent:
    """A persona played by a model, which samples as the preset says, or up to `longest` tokens."""
    sampling = Sampling(longest or preset.answer_tokens, seed=preset.seed)
    return kind(persona, model, sampling, preset.grpo.generation_batch_size)


@contextmanager
def when_needed(name: str) -> Iterator[Loader]:
    """A function that loads the model once, when first called, with the folder left out of its provenance."""
    with ExitStack() as stack:

        @cache
        def load() -> Model:
            gc.collect()  # the previous one is held by reference cycles
            model = load_model(name)
            model.provenance["name"] = Path(name).name if Path(name).is_dir() else name
            stack.enter_context(few_threads(sum(weight.numel() for weight in model.hf.parameters())))
            return model

        yield load


def held_out(preset: Preset, task: Task | None, seen: Collection[str]) -> Task:
    """The table's task without questions seen; by default the preset's, of its split "test" if it has splits.

    Raises `UserError` for a task with too few other questions.
    """
    split = {"split": "test"} if "split" in preset.task_options else {}
    task = task or make_task(preset.task, **preset.task_options | split)
    asked = preset.table_questions, table_seed(preset)
    unseen = cast(Task, Unseen(task, frozenset(map(question_key, seen))))
    return task if unseen.questions(*asked) == task.questions(*asked) else unseen


def table_seed(preset: Preset) -> int:
    """The seed of the table's questions; debates have the preset's own and stage 2 the next one."""
    return preset.seed + 2


def _ask(run: Run, name: str, method: Method, agents: Sequence[Agent], task: Task, seed: int) -> Records:
    out = run.out / "results" / f"{name}.jsonl"
    return ask(out, name, method, lambda: agents, task, run.preset.table_questions, seed, run.tell_journalled)


def ask_checkpoint(run: Run, name: str, checkpoint: Path, task: Task, seed: int) -> Records:
    """Records of a checkpoint that continues the bare question, up to a whole debate; `seed` is the questions'."""
    with when_needed(str(checkpoint)) as load:
        own = agent(run.preset, load(), kind=InternalizedAgent, longest=run.preset.grpo.descent.first_limit)
        return _ask(run, name, Vote(CHUNK), [own], task, seed)


def make_table(run: Run, by_seed: Mapping[int, tuple[Run, Mapping[str, Path]]], task: Task) -> Table:
    """Ask every method, without repeating answers from before a kill, and write `table.json`.

    `by_seed` has, for each seed, the run in its folder and its checkpoints by method.
    """
    preset, seed = run.preset, table_seed(run.preset)
    with when_needed(preset.model) as base:
        together = debaters(preset, base())
        records = {
            "single": _ask(run, "single", Vote(CHUNK), [agent(preset, base())], task, seed),
            "vote": _ask(run, "vote", Vote(CHUNK), together, task, seed),
            "debate": _ask(run, "debate", Debates(preset.rounds, chunk=CHUNK), together, task, seed),
        }
    alone: dict[str, dict[int, EvaluationRow]] = {}
    for method in TRAINED:
        found = {i: ask_checkpoint(one, method, own[method], task, seed) for i, (one, own) in by_seed.items()}
        records[method] = [record | {"run": i} for i, each in enumerate(found.values()) for record in each]
        alone[method] = {i: summarize(each, method, task.name) for i, each in found.items()}
    rows = tuple(summarize(records[m], m, task.name, seeds=m in TRAINED) for m in TITLES)
    table = Table(rows, alone, {(a, b): paired(records[a], records[b]) for a, b in TESTS})
    checkpoints = {str(i): stage_hashes(own) for i, (_, own) in by_seed.items()}
    write_results(run.out / "table.json", table.record(), preset, task, {"checkpoints": checkpoints})
    return table


def stage_hashes(checkpoints: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """The hashes of each checkpoint's stages, by stage."""
    lineages = {name: read_lineage(str(path)) for name, path in checkpoints.items()}
    return {name: {stage.name: stage.hash for stage in found.stages} for name, found in lineages.items() if found}


def write_results(path: Path, results: dict[str, Any], preset: Preset, task: Task, made_by: dict[str, Any]) -> None:
    """Write results with what made them, without the folder of the base."""
    settings = preset.record() | {"model": Path(preset.model).name if Path(preset.model).is_dir() else preset.model}
    asked = {"questions": preset.table_questions, "seed": table_seed(preset), **task.provenance()}
    sampling = asdict(Sampling(preset.answer_tokens, seed=preset.seed))
    facts = {"preset": settings, "task": asked, "sampling": sampling, **made_by}
    written = datetime.now(UTC).isoformat("T", "seconds")
    write_json(path, {**results, "made_by": facts, "versions": package_versions(), "written": written})
