"""`interp probe`: an experiment by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options
from interp.cli.shared import one_of, quiet_libraries
from interp.errors import UserError


def probe(
    name: Annotated[str, typer.Argument(help="agent_identity, silent_agents, round_and_revision, truth or trait.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="As elsewhere; repeat for several: the base first, which the others are held against."),
    ] = None,
    transcripts: Annotated[
        list[str] | None, typer.Option(help="Debates, as in extract-directions; repeat for several.")
    ] = None,
    limit: options.Limit = None,
    layers: options.Layers = "all",
    no_untrained: Annotated[
        bool, typer.Option("--no-untrained", help="Leave the first model with random weights out.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes for fits; else as the data are large.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for NAME.json.")] = Path("out/probes"),
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Of folds and controls; repeat for several; 0.")] = None,
) -> None:
    """Ask what a model knows about its agents: one experiment, all layers, all controls, and its finding.

    Example: `interp probe silent_agents --model organism --model organism-imad --transcripts debates.jsonl`
    """
    from importlib import import_module

    from rich.console import Console

    from interp.terminal import progress_bars

    try:  # experiments stand on this package, which therefore knows nothing of them but where they are
        names = import_module("probes").NAMES
    except (ImportError, AttributeError):
        raise UserError("the package probes is not installed: run this from the repository, or install it") from None
    one_of("probe", name, names)
    quiet_libraries()
    console = Console(soft_wrap=True, highlight=False)
    with progress_bars() as progress:
        outcome, path = import_module("probes.experiment").start(
            import_module(f"probes.{name}").run,
            models=model or ["smollm2-135m"],
            transcripts=transcripts or ["scripted-rotated"],
            out=out,
            seeds=seed or (0,),
            limit=limit,
            layers=layers,
            untrained=not no_untrained,
            n_jobs=jobs,
            dtype=dtype,
            device=device,
            progress=progress,
        )
    for sentence in outcome.finding:
        console.print(sentence, markup=False)
    console.print(f"wrote {path}", markup=False)
