"""`interp evaluate`: tasks and methods in, records and a row for each out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options
from interp.cli.answering import evaluate_all


def evaluate(
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="single: one answer of the first agent; vote: most votes; debate; model: an internalized model's "
            "own answer, from the bare question. Repeat for several; default single, vote and debate."
        ),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="What is asked; repeat for several.", rich_help_panel=options.ASKED)
    ] = None,
    questions: options.Questions = 100,
    runs: Annotated[int, typer.Option(min=1, help="How often, with other seeds of the answers.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for TASK-METHOD.jsonl, a record for each question.")] = Path(
        "results"
    ),
    model: options.PlayedBy = "smollm2-135m",
    agent: options.Agent = None,
    adapter: options.Adapter = None,
    server: options.Server = None,
    key_variable: options.Key = "OPENAI_API_KEY",
    concurrency: options.Concurrency = 8,
    timeout: options.Timeout = 120.0,
    retries: options.Retries = 5,
    body: options.Body = "{}",
    error_rate: options.ErrorRate = 0.26,
    batch_size: options.Batch = 16,
    max_new_tokens: options.MaxTokens = 512,
    temperature: options.Temperature = 0.7,
    top_p: options.TopP = 0.9,
    source: options.Source = None,
    split: options.Split = None,
    digits: options.Digits = None,
    terms: options.Terms = None,
    form: options.Form = None,
    rounds: options.Rounds = 2,
    rotate: options.Rotate = False,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    revision: options.Revision = None,
    seed: options.Seed = 0,
    retry_failed: options.RetryFailed = False,
    restart: options.Restart = False,
) -> None:
    """Measure accuracy and tokens, one row for each task and method.

    Records of each question and run are kept, as they come in, for `interp compare`. A killed run goes
    on when run again; one with more questions or runs adds to what is there.

    Example: `interp evaluate --model scripted --questions 1000 --out results`
    """
    wanted = [(t, m) for t in task or ["arithmetic"] for m in method or ["single", "vote", "debate"]]
    evaluate_all([(t, m, out / f"{t}-{m}.jsonl") for t, m in wanted], runs, locals())


def compare(
    first: Annotated[Path, typer.Argument(help="Records of an evaluation: a TASK-METHOD.jsonl or debates.")],
    second: Annotated[Path, typer.Argument(help="Those of another over the same questions.")],
) -> None:
    """Test whether one method is right more often than another, on the questions that both answered.

    Example: `interp compare results/arithmetic-debate.jsonl results/arithmetic-single.jsonl`
    """
    from rich.console import Console

    from interp.evaluation.comparison import compare
    from interp.reports.tables import comparison_table

    found = compare(first, second)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"first: {first}\nsecond: {second}", markup=False)
    console.print(comparison_table(found))
