"""Other libraries kept quiet. Knows what they print; knows nothing about what is said instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from interp.errors import Progress as ProgressCallback


def quiet_libraries() -> None:
    """Loading bars and warnings of other libraries would hide a command's own lines."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")


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
            bars.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

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
