"""`interp train`: a preset in, checkpoints and the results table out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from interp.options import LARGEST_SEED, TRANSCRIPTS, duration, flag, verb
from interp.outputs import Made, Writes, says

PRESETS = "organism, smollm2-135m, smollm2-135m-sums, llama-3.1-8b, qwen2.5-7b, mistral-nemo-12b"
Tracker = StrEnum("Tracker", ["tensorboard", "wandb"])


def _made(out: Path, given: Mapping[str, Any]) -> Iterator[Made]:
    seeds = {out / f"seed-{seed}" for seed in given["seed"] or (0,)} | {*out.glob("seed-*")}
    begun = [out / "preset.json", out / "transcripts.jsonl"]  # given ones are copied
    asked = (f"{name}.{kind}" for name in ("direct", "consensus") for kind in ("jsonl", "json"))
    names = ("transcripts.json", *asked, "base", "results", "table.json")
    yield Made([*begun, *(out / name for name in names), *seeds], lambda: says(begun[0], '"sft"', '"grpo"'), begun)


@verb
def train(
    *,
    preset: Annotated[str, Option(help=f"Preset ({PRESETS}), or any model: the paper's settings.")],
    transcripts: Annotated[str | None, Option(help=TRANSCRIPTS, show_default="the base's own")] = None,
    change: Annotated[
        list[str] | None,
        Option("--set", metavar="NAME=VALUE", help="Change a setting, e.g. grpo.learning_rate=1e-5; repeatable."),
    ] = None,
    seed: Annotated[list[int] | None, Option(min=0, max=LARGEST_SEED, help="Random seed. Repeat for several.")] = None,
    from_scratch: Annotated[bool, flag("--from-scratch", "Train the organism's base too.")] = False,
    no_table: Annotated[bool, flag("--no-table", "Skip the results table.")] = False,
    time_budget: Annotated[
        str | None, Option(metavar="TIME", help="Stop after 90s, 8m or 1.5h, with all kept; the same command goes on.")
    ] = None,
    report_to: Annotated[list[Tracker] | None, Option(help="Tracker besides metrics.jsonl; repeatable.")] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Only show steps and memory needed.")] = False,
    out: Annotated[Path, Option(help="Folder for checkpoints, metrics and the table."), Writes(_made)] = Path("out"),
) -> None:
    """Internalize debates: stage 1 (SFT), the baseline DebateGPT, stage 2 (GRPO or stepwise), and the results table.

    The table compares Single, Vote and Debate of the base with DebateGPT, SFT and IMAD on questions that no stage has
    seen. The same command resumes a killed run, and adds further seeds to a finished one. On several GPUs:
    `accelerate launch --config_file configs/fsdp.yaml -m interp.cli train …`

    Example: `interp train --preset smollm2-135m --transcripts debates.jsonl --out out/smollm2`
    """
    ends = None if time_budget is None else time.monotonic() + duration("--time-budget", time_budget)
    from interp.debate.embedded import find_transcripts
    from interp.errors import TimeUp
    from interp.organism import Pretraining
    from interp.reports.tables import memory_table, results_table
    from interp.reports.terminal import Terminal, quiet_libraries, training_bars
    from interp.training import pipeline, settings
    from interp.training.dry_run import plan
    from interp.training.run import Run

    changes = {name: value for name, _, value in (pair.partition("=") for pair in change or ())}
    chosen = settings.preset(preset).override(changes | ({"seed": str(seed[0])} if seed else {}))
    settings.require_model(chosen)
    console = Terminal(soft_wrap=True)
    quiet_libraries()
    if dry_run:
        return console.print(memory_table(plan(chosen)))
    given = None if transcripts is None else find_transcripts(transcripts)
    try:
        with training_bars() as progress:
            run = Run(out, chosen, progress, [str(tracker) for tracker in report_to or ()], ends)
            base = Pretraining(seed=chosen.seed) if from_scratch else None
            trained = pipeline.train(run, seeds=seed or (), transcripts=given, pretraining=base, table=not no_table)
    except TimeUp as stopped:
        there = ", ".join(str(p.parent.relative_to(out)) for p in sorted(out.glob("seed-*/*/lineage.json")))
        return console.print(f"time is up: {there or 'no stage'} finished, {stopped}; the same command goes on")
    written = [checkpoint for stages in trained.checkpoints.values() for checkpoint in stages.values()]
    if trained.table is not None:
        console.print(results_table(trained.table))
        written.append(out / "table.json")
    for path in written:
        console.print(f"wrote {path}")
