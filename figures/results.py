"""A folder of results in, the files of one figure out: what all figures share.

Knows files and the command line; knows nothing about what is plotted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from figures.verb import WRITES
from interp.errors import UserError
from interp.options import run, verb
from interp.reports.page import NO_PICTURES, Drawn, write_figures
from interp.reports.terminal import Terminal


def read_results(path: Path, names: Sequence[str], made_by: str) -> dict[str, Any]:
    """A file of results with all entries in `names`. Raises `UserError`, naming the command that writes the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {made_by} writes it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise UserError(f"{path}: cannot be read ({reason}); {made_by} writes it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object; {made_by} writes it")
    if missing := [name for name in names if name not in content]:
        raise UserError(f"{path}: has no {missing[0]!r}, so another version or command wrote it; run {made_by} again")
    return content


def main(draw: Callable[[Path], Sequence[Drawn]], about: str | None, arguments: Sequence[str] | None = None) -> None:
    """The command line of a figure: `python -m figures.NAME RESULTS --out DIR`."""

    @verb
    def figure(
        *,
        results: Annotated[Path, typer.Argument(help="Folder of results, laid out as figures/__init__.py says.")],
        out: Annotated[Path, typer.Option(help="Folder for the files."), WRITES] = Path("out/figures"),
    ) -> None:
        written = write_figures(draw(results), out)
        console = Terminal(soft_wrap=True)
        console.print(*(f"wrote {path}" for path in written), sep="\n")
        if not any(path.suffix == ".png" for path in written):
            console.print(NO_PICTURES)

    app = typer.Typer(add_completion=False, help=about)
    app.command(help=about)(figure)
    name = f"python -m figures.{Path(sys.argv[0]).stem}"
    run(app, name, sys.argv[1:] if arguments is None else arguments)
