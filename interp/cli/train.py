"""`interp train`: a preset in, checkpoints and the table out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options
from interp.cli.options import one_of
from interp.debate.embedded import find_transcripts
from interp.reports.terminal import quiet_libraries


def train(
    preset: Annotated[
        str,
        typer.Option(
            help="organism, smollm2-135m, llama-3.1-8b, qwen2.5-7b, mistral-nemo-12b, or any model: then with the "
            "paper's settings."
        ),
    ],
    transcripts: Annotated[
        str | None, typer.Option(help="Debates to learn, as in extract-directions; else the base debates.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in grpo.learning_rate=1e-5; repeat for several.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            max=options.MOST_SEED,
            help="Of adapters, order and sampling. Repeat for several, trained on the same base and debates, which the "
            "first decides. Default 0.",
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Make the organism's base first, from nothing, in OUT/base.")
    ] = False,
    no_table: Annotated[
        bool, typer.Option("--no-table", help="Train only; measure nothing on questions held out.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints and metrics.jsonl, by seed, and table.json.")
    ] = Path("out"),
    report_to: Annotated[list[str] | None, typer.Option(help="tensorboard or wandb, besides metrics.jsonl.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build the whole configuration without weights; show the memory it needs.")
    ] = False,
) -> None:
    """Internalize debates: stage 1 (SFT), the baseline DebateGPT, stage 2 (GRPO), and the table of results.

    Debates are the base's own where none are given. The table measures Single, Vote and Debate of the
    base, DebateGPT, SFT and IMAD on questions that no stage has seen. A killed run goes on when run
    again; a finished one can be given further seeds. Several GPUs: `accelerate launch --config_file
    configs/fsdp.yaml -m interp.cli train …`

    Example: `interp train --preset smollm2-135m --transcripts debates.jsonl --out out/smollm2`
    """
    from rich.console import Console

    from interp.reports.tables import memory_table, results_table
    from interp.reports.terminal import training_bars
    from interp.training.presets import preset as find_preset
    from interp.training.presets import require_model

    for name in report_to or ():
        one_of("--report-to", name, ("tensorboard", "wandb"))
    changes = {name: value for name, _, value in (pair.partition("=") for pair in change or ())}
    chosen = find_preset(preset).override({**changes, **({"seed": str(seed[0])} if seed else {})})
    require_model(chosen)
    console = Console(soft_wrap=True, highlight=False)
    quiet_libraries()
    if dry_run:
        from interp.training.dry_run import plan

        console.print(memory_table(plan(chosen)))
        return
    from interp.organism.pretraining import Pretraining
    from interp.training.pipeline import train as train_all
    from interp.training.run import Run

    given = None if transcripts is None else find_transcripts(transcripts)
    with training_bars() as progress:
        trained = train_all(
            Run(out, chosen, progress, tuple(report_to or ())),
            seeds=seed or (),
            transcripts=given,
            pretraining=Pretraining(seed=chosen.seed) if from_scratch else None,
            table=not no_table,
        )
    if trained.table is not None:
        console.print(results_table(trained.table))
    for checkpoints in trained.checkpoints.values():
        for checkpoint in checkpoints.values():
            console.print(f"wrote {checkpoint}")
    if trained.table is not None:
        console.print(f"wrote {out / 'table.json'}")
