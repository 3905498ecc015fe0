"""`interp fit`: pairs of texts in, one direction with its evidence out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from interp.cli.extract_directions import OUT, WRITES, load, report
from interp.directions.settings import FitSettings
from interp.models.settings import ModelSettings
from interp.options import Restart, verb
from interp.reports.terminal import Terminal

PAIRS = "Pairs: a JSON, JSONL, CSV or Parquet file; a row has positive, negative, and maybe group and prompt."


@verb
def fit(
    *,
    model: ModelSettings,
    pairs: Annotated[Path | None, Option(help=PAIRS)] = None,
    positives: Annotated[Path | None, Option(help="Instead of --pairs: a text file of positives, one a line.")] = None,
    negatives: Annotated[Path | None, Option(help="Their negatives, in the same order.")] = None,
    settings: FitSettings,
    out: Annotated[Path, OUT, WRITES] = Path("out"),
    restart: Restart = False,
) -> None:
    """Find the direction from your own pairs of texts, with the evidence for it.

    The two texts of a pair differ in what the direction is to be of. At each layer it is the mean difference between
    positives and negatives, or what another estimator makes of the differences; separation and reliability on held-out
    pairs say how far to trust it. The same model with random weights and the text alone are measured beside it: a
    finding is what lies beyond both. Pairs of one group, or that share a text, are held out together. A killed run
    resumes where it stopped.

    Examples: `interp fit --pairs pairs.csv --label cheerful --out found`; two text files, in the same order:
    `interp fit --positives happy.txt --negatives sad.txt`
    """
    from interp.directions.pairs import fit_pairs, read_pairs
    from interp.reports.terminal import progress_bars

    source = str(pairs or f"{positives}, {negatives}")
    given = read_pairs(pairs, positives=positives, negatives=negatives)
    console = Terminal(soft_wrap=True)
    loaded = load(model, console)
    console.print(f"pairs: {len(given)} from {source}")
    with progress_bars() as progress:
        found = fit_pairs(loaded, given, out, settings, source=source, restart=restart, progress=progress)
    report(found, out, console, "pair")
