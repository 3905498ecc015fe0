"""What `debate` and `evaluate` have in common: the same two dozen options, the same evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from interp.cli.options import json_object
from interp.reports.terminal import quiet_libraries


def evaluate_all(wanted: Sequence[tuple[str, str, Path]], runs: int, options: Mapping[str, Any]) -> None:
    """Evaluate each (task, method, file). `options` are the arguments of `debate` or `evaluate`, by name."""
    from rich.console import Console

    from interp.debate.agents import Sampling
    from interp.evaluation.accuracy import Row
    from interp.evaluation.seats import Answering, planned
    from interp.reports.tables import failures, rows_table
    from interp.reports.terminal import progress_bars

    o = SimpleNamespace(**options)
    console = Console(soft_wrap=True, highlight=False)

    @cache
    def load(name: str) -> Any:
        from interp.models.model import load_model

        quiet_libraries()
        adapters = o.adapter or () if name == o.model else ()
        loaded = load_model(name, adapters=adapters, revision=o.revision, dtype=o.dtype, device=o.device)
        facts = loaded.provenance
        console.print(f"model: {name} ({loaded.source}), {facts['dtype']} on {facts['device']}")
        return loaded

    answering = Answering(
        load,
        o.model,
        tuple(o.agent or ()),
        tuple(o.adapter or ()),
        o.server,
        {
            "key_variable": o.key_variable,
            "concurrency": o.concurrency,
            "timeout": o.timeout,
            "retries": o.retries,
            "options": json_object("--body", o.body),
        },
        o.batch_size,
        o.error_rate,
        Sampling(o.max_new_tokens, o.temperature, o.top_p, o.seed),
        o.rounds,
        o.rotate,
    )
    evaluations = planned(
        wanted,
        answering,
        o.questions,
        task_options={"source": o.source, "split": o.split, "digits": o.digits, "terms": o.terms, "form": o.form},
        runs=runs,
        seed=o.seed,
        restart=o.restart,
        retry_failed=o.retry_failed,
    )
    rows: list[Row] = []
    try:
        with progress_bars() as progress:
            for evaluation in evaluations:
                rows.append(evaluation(progress=progress))
    finally:
        if rows:
            console.print(rows_table(rows))
    for row in rows:
        for line in failures(row):
            console.print(f"{row.task}, {row.method}: {line}", markup=False)
    for _, _, out in wanted:
        console.print(f"wrote {out}", markup=False)
