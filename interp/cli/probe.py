"""`interp probe`: an experiment by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options
from interp.cli.shared import one_of
from interp.errors import UserError
from interp.quiet import quiet_libraries


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
    limit: options.Limit = None,
    layers: options.Layers = "all",
    no_untrained: Annotated[
        bool, typer.Option("--no-untrained", help="Leave the first model with random weights out.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes for fits; else as the data are large.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for NAME.json.")] = Path("out/probes"),
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, max=options.MOST_SEED, help="Of folds and controls; repeat for several; 0."),
    ] = None,
) -> None:
    """Ask what a model knows about its agents: one experiment or all, all layers, all controls, and the finding.

    Example: `interp probe silent_agents --model organism --model organism-imad --transcripts organism`
    """
    from importlib import import_module

    from rich.console import Console

    from interp.terminal import probe_tables, progress_bars

    try:  # experiments stand on this package, which therefore knows nothing of them but where they are
        names, everything = import_module("probes").NAMES, import_module("probes.start")
    except (ImportError, AttributeError):
        raise UserError("the package probes is not installed: run this from the repository, or install it") from None
    one_of("probe", name, (*names, everything.ALL))
    quiet_libraries()
    console = Console(soft_wrap=True, highlight=False)
    with progress_bars() as progress:
        found = everything.start(
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
