"""`interp debate`: questions in, transcripts out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options
from interp.cli.answering import evaluate_all


def debate(
    task: Annotated[str, typer.Option(help="What is debated.", rich_help_panel=options.ASKED)] = "arithmetic",
    questions: options.Questions = 20,
    out: Annotated[Path, typer.Option(help="JSONL file of debates; what made them goes beside it.")] = Path(
        "debates.jsonl"
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
    """Let agents debate questions, and keep the debates as transcripts.

    Each debate is appended to the file as it finishes; a killed run goes on when run again, and asks
    nothing again that was answered. Without --agent, three personas debate: chain-of-thought,
    self-critique and program-of-thought, or a malicious one between two guardians for the tasks *evil*
    and *hallucination*.

    Examples: `interp debate --questions 20 --out debates.jsonl`;
    `interp debate --questions 20 --seed 1 --out held-out.jsonl`;
    `interp debate --agent plain --agent plain --agent plain --server http://127.0.0.1:8000/v1 --model NAME`
    """
    evaluate_all([(task, "debate", out)], 1, locals())
