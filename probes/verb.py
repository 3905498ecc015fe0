"""`interp probe NAME`, and `python -m probes.NAME` for the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from interp.errors import UserError
from interp.options import one_of, verb
from interp.probing.settings import ProbeSettings
from probes import ALL, NAMES


@verb
def probe(
    name: Annotated[str, typer.Argument(help=f"Experiment: {', '.join(NAMES)}, or {ALL}.")],
    settings: ProbeSettings,
    out: Annotated[Path, typer.Option(help="Folder for NAME.json and the probes.")] = Path("out/probes"),
) -> None:
    """Ask what a model knows about its agents, with probes at all layers and with all controls.

    Example: `interp probe silent_agents --model organism --model organism-imad --transcripts organism`
    """
    from interp.reports.tables import probe_tables
    from interp.reports.terminal import Terminal, progress_bars, quiet_libraries
    from probes.start import start

    one_of("probe", name, (*NAMES, ALL))
    quiet_libraries()
    console = Terminal(soft_wrap=True)
    with progress_bars() as progress:
        for outcome, path in start(name, settings, out, progress=progress):
            console.print(*probe_tables(outcome.rows), sep="\n")
            for sentence in outcome.finding:
                console.print(sentence)
            if path.name:
                console.print(f"wrote {path}\n")


def main(name: str) -> None:
    """The command line of one experiment."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(probe)
    try:
        app([name, *sys.argv[1:]], prog_name=f"python -m probes.{name}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
