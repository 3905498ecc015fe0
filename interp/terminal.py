"""What the commands show in a terminal: progress bars and tables. Knows nothing about how it came about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
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
    """The best layers with separation and reliability of every label, each beside its control."""
    facts = directions.facts
    evidence = facts["evidence"]["all"]
    table = Table(
        title=f"Best of {len(directions.layers)} layers, on held-out questions "
        f"({evidence['groups']} groups of {evidence['questions']} questions)",
        title_justify="left",
        caption="separation: how often a turn lies further along its own direction than another\n"
        "  one does (95 % interval), then with shuffled labels, then on random directions\n"
        "reliability: cosine between two halves' directions, then with shuffled labels\n"
        "length: of the raw direction, relative to the activations read\n"
        "chosen: the layer, too, was chosen on other questions",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,  # so that it fits 80 columns
    )
    headings = ("layer", facts["by"], "separation", "shuffled", "random", "reliability", "shuffled", "length")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == facts["by"] else "right", no_wrap=True)
    chosen = evidence["chosen_layer"]
    if chosen["layers"]:
        for i, label in enumerate(directions.labels):
            table.add_row("chosen", label, _interval(*(chosen[part][i] for part in ("mean", "low", "high"))))
        table.add_section()
    for layer in facts["best_layers"][:n_layers]:
        at = directions.layers.index(layer)
        for i, label in enumerate(directions.labels):
            separation = [evidence["separation"][part][i][at] for part in ("mean", "low", "high")]
            controls = ("separation_shuffled", "separation_random", "reliability", "reliability_shuffled")
            means = {name: _two_digits(evidence[name]["mean"][i][at]) for name in controls}
            table.add_row(
                str(layer),
                label,
                _interval(*separation),
                means["separation_shuffled"],
                means["separation_random"],
                means["reliability"],
                means["reliability_shuffled"],
                f"{facts['norm'][i][at] / facts['residual_norm'][at]:.0%}",
            )
        table.add_section()
    return table


def _interval(mean: float | None, low: float | None, high: float | None) -> str:
    return f"{_two_digits(mean)} [{_two_digits(low)}, {_two_digits(high)}]"


def _two_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
