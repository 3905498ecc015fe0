"""`interp figures`: a folder of results in, a page of figures out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def figures(
    results: Annotated[
        Path | None,
        typer.Argument(
            help="A folder of results, such as the --out of train or extract-directions; else the organism's."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for figures.html, and for each figure alone.")] = Path(
        "out/figures"
    ),
    page_only: Annotated[bool, typer.Option("--page-only", help="Write figures.html and nothing else.")] = False,
) -> None:
    """Draw everything that a folder has results for, on one page that needs nothing else.

    Read are table.json, preset.json and seed-K/metrics.jsonl (of train), ablations/ablations.json,
    directions/NAME/directions.json (of extract-directions; of a single one directions.json), steerability.json (beside
    the --out of sweep), suppression.json (of suppress) and probes/NAME.json, as far as they are there. What is left out
    is named. SVG and PNG take kaleido and Chrome or Chromium.

    Example: `interp figures out/smollm2 --out out/figures`
    """
    from figures.page import make
    from interp.models.catalog import SHIPPED_RESULTS
    from interp.reports.drawn import NO_PICTURES

    written, left_out = make(results or SHIPPED_RESULTS, out, pictures=not page_only)
    for name, why in left_out.items():
        typer.echo(f"left out: {name}: {why}")
    for path in written:
        typer.echo(f"wrote {path}")
    if not page_only and not any(path.suffix == ".png" for path in written):
        typer.echo(NO_PICTURES)
