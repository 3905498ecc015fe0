"""`interp figures`: a folder of results in, a page of figures out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from figures import NAMES
from interp.options import verb
from interp.outputs import Made, Writes, says


def _made(out: Path, _: Any) -> Iterator[Made]:
    """The page, plotly, and files with names of figures: the command's own if they lie beside such a page."""
    yield Made([out / "figures.html"], lambda: _is_page(out / "figures.html"))
    yield library(out)
    for path in out.glob("*.*"):
        if path.stem.startswith(NAMES) and path.suffix in (".html", ".txt", ".svg", ".png"):
            yield Made([path], partial(_is_page, path.with_suffix(".html")))


def library(folder: Path) -> Made:
    """The plotly library beside pages of figures; a later version of it may take its place."""
    path = folder / "plotly.min.js"  # `LIBRARY` in interp/reports/page.py, which is slow to import
    return Made([path], lambda: says(path, "* plotly.js v"))


def _is_page(path: Path) -> bool:
    return says(path, 'id="figures"')


WRITES = Writes(_made)


@verb
def figures(
    *,
    results: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of results, such as the --out of train or extract-directions. Without it, the organism's.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for figures.html and each figure."), WRITES] = Path("out/figures"),
    page_only: Annotated[bool, typer.Option("--page-only", metavar="", help="Write figures.html only.")] = False,
) -> None:
    """Draw every figure that a folder has results for, on one page.

    Reads what train, extract-directions, sweep, suppress and probe wrote, and lists the figures it leaves out. SVG and
    PNG need kaleido and Chrome or Chromium.

    Example: `interp figures out/smollm2 --out out/figures`
    """
    from figures.page import make
    from interp.models.catalog import SHIPPED_RESULTS
    from interp.reports.page import NO_PICTURES
    from interp.reports.terminal import Terminal

    written, left_out = make(results or SHIPPED_RESULTS, out, pictures=not page_only)
    console = Terminal(soft_wrap=True)
    for name, why in left_out.items():
        console.print(f"left out: {name}: {why}")
    for path in written:
        console.print(f"wrote {path}")
    if not page_only and not any(path.suffix == ".png" for path in written):
        console.print(NO_PICTURES)
