"""What the commands show in a terminal: progress bars and tables. Knows nothing about how it came about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from interp.directions import Directions
from interp.extraction import Progress as ProgressCallback


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """A callback that draws one bar for each thing being done."""
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bars:
        tasks: dict[str, int] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)  # type: ignore[arg-type]

        yield update


def best_layers_table(directions: Directions, n_layers: int = 3) -> Table:
    """The best layers with reliability and separation of every label, each beside its control."""
    facts = directions.facts
    evidence = facts["evidence"]["all"]
    table = Table(
        title=f"Best layers of {len(directions.layers)} · held-out questions, 95 % intervals "
        f"({evidence['groups']} groups, {evidence['questions']} questions)",
        title_justify="left",
    )
    for heading in (
        "layer",
        facts["by"],
        "separation",
        "shuffled",
        "random",
        "reliability",
        "shuffled",
        "length",
    ):
        table.add_column(heading, justify="left" if heading == facts["by"] else "right")
    for layer in facts["best_layers"][:n_layers]:
        at = directions.layers.index(layer)
        for i, label in enumerate(directions.labels):

            def value(name: str, i: int = i, at: int = at, interval: bool = False) -> str:
                mean, low, high = (evidence[name][part][i][at] for part in ("mean", "low", "high"))
                if mean is None:
                    return "–"
                return f"{mean:.2f} [{low:.2f}, {high:.2f}]" if interval and low is not None else f"{mean:.2f}"

            relative = facts["norm"][i][at] / facts["residual_norm"][at]
            table.add_row(
                str(layer),
                label,
                value("separation", interval=True),
                value("separation_shuffled"),
                value("separation_random"),
                value("reliability", interval=True),
                value("reliability_shuffled"),
                f"{relative:.0%}",
            )
        table.add_section()
    table.caption = (
        "separation: how often a held-out turn lies further along its own direction than another's does (chance 0.50)\n"
        "reliability: cosine between directions from two halves of the questions · length: relative to the residual"
    )
    table.caption_justify = "left"
    return table
