"""What the commands show in a terminal: progress bars and tables. Knows nothing about how it came about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:  # it brings TRL along
    from interp.training.dryrun import Plan


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


@contextmanager
def training_bars() -> Iterator[Callable[[str, int, int, dict[str, float]], None]]:
    """A callback that draws one bar for each stage, with its reward, length and limit, or its loss, beside it."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, facts="")
            shown = ("reward", "correctness", "length", "limit") if "reward" in metrics else ("loss",)
            facts = " ".join(f"{name} {metrics[name]:.3g}" for name in shown if name in metrics)
            bars.update(tasks[stage], completed=done, total=total, facts=facts)

        yield update


def memory_table(plan: Plan) -> Table:
    """What each stage of a planned run needs on one device."""
    millions = {stage: f"{n / 1e6:,.1f} M" for stage, n in plan.adapters.items()}
    table = Table(
        title=f"{plan.preset.name}: {plan.parameters:,} weights; memory in GiB on one GPU that holds all of it",
        title_justify="left",
        caption="adapter: with gradient and optimizer; sampling: the KV cache, and a merged copy where one is kept",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    headings = ("stage", "steps", "LoRA", "weights", "adapter", "activations", "sampling", "total")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "stage" else "right", no_wrap=True)
    for need in plan.memory:
        parts = (need.weights, need.adapter, need.activations, need.cache + need.copy, need.total)
        gib = [f"{part / 2**30:.1f}" for part in parts]
        table.add_row(need.stage, f"{plan.steps[need.stage]:,}", millions[need.stage], *gib)
    return table


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
