"""All verbs in the order in which help lists them, and how mistakes end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from interp import __version__
from interp.cli.debate import debate
from interp.cli.evaluate import compare, evaluate
from interp.cli.export import export_directions, export_model, import_directions
from interp.cli.extract_directions import extract_directions
from interp.cli.fit import fit
from interp.cli.plant import plant
from interp.cli.serve import serve
from interp.cli.steer import interchange, steer
from interp.cli.suppress import suppress
from interp.cli.sweep import sweep
from interp.cli.tokens import tokens
from interp.cli.train import train
from interp.options import run

VERBS: Mapping[str, Sequence[Callable[..., Any]]] = {
    "Debates": (debate,),
    "Training": (train, plant, export_model),
    "Directions": (extract_directions, fit, tokens, import_directions, export_directions),
    "Steering": (steer, serve, interchange, sweep, suppress),
    "Results": (evaluate, compare),
    "Experiments": tuple(registered.load() for registered in sorted(entry_points(group="interp.verbs"), reverse=True)),
}
"""By their heading in `interp --help`; probes and figures register theirs as entry points."""


class _Flags:
    """Help without a type beside `--help` itself, as beside every other switch."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"interp {__version__}")
        raise typer.Exit


app = typer.Typer(cls=type("Group", (_Flags, TyperGroup), {}), add_completion=False, rich_markup_mode="markdown")
Version = typer.Option("--version", metavar="", is_eager=True, callback=_version, help="Show the version and exit.")


@app.callback()
def front(version: Annotated[bool, Version] = False) -> None:
    """Find, measure, add and subtract the agents inside a model that a debate was distilled into."""


for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(cls=type("Command", (_Flags, TyperCommand), {}), rich_help_panel=panel)(verb)


def main() -> None:
    """Run the command line; errors that a user can fix are one line and exit status 2."""
    run(app, "interp", sys.argv[1:] or ["--help"])
