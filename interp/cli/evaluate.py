"""`interp evaluate`: tasks and methods in, records and a row per method out; and `interp compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.debate.tasks.settings import PANEL, TaskSettings
from interp.evaluation.settings import Answering
from interp.options import Restart, documented, verb
from interp.outputs import Made, Writes, records

Questions = Annotated[int, typer.Option(min=1, help="Number of questions.", rich_help_panel=PANEL)]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", metavar="", help="Repeat requests that failed.")]
Tasks = typer.Option(
    help=f"{documented(TaskSettings)['task']} Repeat for several.", show_default="arithmetic", rich_help_panel=PANEL
)
Folder = typer.Option(help="Folder for TASK-METHOD.jsonl, a record per question.")
Methods = typer.Option(
    metavar="<single|vote|debate|model>",
    help="The first agent's answer, a majority vote, a debate, or an internalized model's own; repeat for several.",
    show_default="single, vote, debate",
)


def _pairs(task: Sequence[str] | None, method: Sequence[str] | None) -> list[tuple[str, str]]:
    return [*product(task or ["arithmetic"], method or ["single", "vote", "debate"])]


def _made(out: Path, given: Mapping[str, Any]) -> list[Made]:
    pairs = _pairs(given["task"], given["method"])
    return [records(out / f"{name}-{each}.jsonl", '"agents"') for name, each in pairs]


@verb
def evaluate(
    *,
    task: Annotated[list[str] | None, Tasks] = None,
    asked: TaskSettings,
    questions: Questions = 100,
    answering: Answering,
    method: Annotated[list[str] | None, Methods] = None,
    runs: Annotated[int, typer.Option(min=1, help="Repetitions, each with its own seed for the answers.")] = 1,
    retry_failed: RetryFailed = False,
    out: Annotated[Path, Folder, Writes(_made)] = Path("results"),
    restart: Restart = False,
) -> None:
    """Measure accuracy and tokens: one row per task and method.

    Answers are kept for `interp compare` as they come in. A killed run resumes where it stopped, and one with more
    questions or runs adds to what is there.

    Example: `interp evaluate --model scripted --questions 1000 --out results`
    """
    wanted = [(replace(asked, task=name), each, out / f"{name}-{each}.jsonl") for name, each in _pairs(task, method)]
    answer(wanted, answering, questions, runs=runs, restart=restart, retry_failed=retry_failed)


def answer(
    wanted: Sequence[tuple[TaskSettings, str, Path]], answering: Answering, questions: int, **settings: Any
) -> None:
    """Run the evaluations that `interp.evaluation.plan` makes of these settings, and print a row for each."""
    from interp.evaluation.seats import load_model, plan
    from interp.reports.tables import failures, rows_table
    from interp.reports.terminal import Terminal, progress_bars, quiet_libraries

    console = Terminal(soft_wrap=True)

    @cache
    def load(name: str) -> Any:
        quiet_libraries()
        model = load_model(answering, name)
        console.print(f"model: {name} ({model.source}), {model.provenance['dtype']} on {model.provenance['device']}")
        return model

    rows = []
    evaluations = plan(wanted, answering, questions, load=load, **settings)
    try:
        with progress_bars() as progress:
            for evaluation in evaluations:
                rows.append(evaluation(progress=progress))
    finally:
        if rows:
            console.print(rows_table(rows))
        for line in [f"{row.task}, {row.method}: {line}" for row in rows for line in failures(row)]:
            console.print(line)
        for _, _, out in wanted[: len(rows)]:
            console.print(f"wrote {out}")


@verb
def compare(
    *,
    first: Annotated[Path, typer.Argument(help="Records of an evaluation: TASK-METHOD.jsonl or debates.")],
    second: Annotated[Path, typer.Argument(help="Records of another evaluation over the same questions.")],
) -> None:
    """Test whether one method is right more often than another on the questions that both answered.

    Example: `interp compare results/arithmetic-debate.jsonl results/arithmetic-single.jsonl`
    """
    from interp.evaluation.accuracy import compare
    from interp.reports.tables import comparison_table
    from interp.reports.terminal import Terminal

    names, table = f"first: {first}\nsecond: {second}", comparison_table(compare(first, second))
    Terminal(soft_wrap=True).print(names, table, sep="\n")
