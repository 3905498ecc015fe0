"""`interp probe`: an experiment by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.options import LARGEST_SEED, one_of
from probes import NAMES


def probe(
    name: Annotated[
        str, typer.Argument(help="agent_identity, silent_agents, round_and_revision, truth, trait, or all of them.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="As elsewhere; repeat for several: the base first, which the others are held against. "
            "By default the organism's base, SFT, DebateGPT and IMAD."
        ),
    ] = None,
    transcripts: Annotated[
        list[str] | None,
        typer.Option(help="Debates, as in extract-directions; repeat for several; by default the organism's own."),
    ] = None,
    task: Annotated[
        str, typer.Option(help="What was debated: its grader says which answers are the same.")
    ] = "arithmetic",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N transcripts.")] = None,
    layers: Annotated[str, typer.Option(help="`all`, or numbers and ranges such as 0,10-15.")] = "all",
    no_untrained: Annotated[
        bool, typer.Option("--no-untrained", help="Leave the first model with random weights out.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes for fits; else as the data are large.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for NAME.json.")] = Path("out/probes"),
    dtype: Annotated[str, typer.Option(help="fp32, bf16, fp16, or auto: fp32 on a CPU, else bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, or auto.")] = "auto",
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, max=LARGEST_SEED, help="Of folds and controls; repeat for several; 0."),
    ] = None,
) -> None:
    """Ask what a model knows about its agents: one experiment or all, all layers, all controls, and the finding.

    Example: `interp probe silent_agents --model organism --model organism-imad --transcripts organism`
    """
    from rich.console import Console

    from interp.reports.tables import probe_tables
    from interp.reports.terminal import progress_bars, quiet_libraries
    from probes.start import ALL, start

    one_of("probe", name, (*NAMES, ALL))
    quiet_libraries()
    console = Console(soft_wrap=True, highlight=False)
    with progress_bars() as progress:
        found = start(
            name,
            models=model or (),
            transcripts=transcripts or (),
            out=out,
            task=task,
            seeds=seed or (0,),
            limit=limit,
            layers=layers,
            untrained=not no_untrained,
            n_jobs=jobs,
            dtype=dtype,
            device=device,
            progress=progress,
        )
        for outcome, path in found:
            console.print(*probe_tables(outcome.rows), sep="\n")
            for sentence in outcome.finding:
                console.print(sentence, markup=False)
            if path.name:
                console.print(f"wrote {path}\n", markup=False)
