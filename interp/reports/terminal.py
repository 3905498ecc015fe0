"""The terminal: tables, progress bars, and other libraries kept quiet. Knows nothing about what they show."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from interp.errors import Progress as ProgressCallback


def table(
    title: str,
    caption: str,
    headings: Sequence[str],
    *,
    left: Collection[str] = ("",),
    gap: int = 0,
    whole: bool = False,
    **look: Any,
) -> Table:
    """An empty table: names (the headings in `left`) at the left, numbers at the right.

    `gap` is the extra space between columns; 0 fits most into 80 columns. With `whole`, numbers never break
    across lines. `look` goes to `rich.table.Table`.
    """
    made = Table(
        title=Text(title, style="italic"),
        title_justify="left",
        caption=Text(caption, style="dim italic") if caption else None,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, gap, 0, 0),
        **look,
    )
    share = 1 if look.get("expand") else None
    for heading in headings:
        named = heading in left
        justify: Literal["left", "right"] = "left" if named else "right"
        made.add_column(heading, justify=justify, no_wrap=whole and not named, overflow="fold", ratio=share)
    return made


def quiet_libraries() -> None:
    """Turn off other libraries' loading bars and warnings, which would hide a command's own lines."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")


@contextmanager
def _bars(name: int, bar: int) -> Iterator[Callable[..., None]]:
    first = TextColumn(f"{{task.description:<{name}}}"), BarColumn(bar_width=bar), MofNCompleteColumn()
    with Progress(*first, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[facts]}")) as bars:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int, metrics: Mapping[str, float] = MappingProxyType({})) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, facts="")
            shown = ("reward", "correctness", "length", "limit") if "reward" in metrics else ("loss",)
            facts = " ".join(f"{name} {metrics[name]:.3g}" for name in shown if name in metrics)
            bars.update(tasks[what], completed=done, total=total, facts=facts)

        yield update


def progress_bars() -> AbstractContextManager[ProgressCallback]:
    """A callback that draws one bar for each task.

    >>> from interp.reports import progress_bars
    >>> with progress_bars() as progress:  # doctest: +SKIP
    ...     interp.extract_directions(model, transcripts, progress=progress)
    """
    return _bars(name=22, bar=40)


def training_bars() -> AbstractContextManager[Callable[[str, int, int, dict[str, float]], None]]:
    """A callback that draws one bar for each stage, followed by its reward, length and limit, or by its loss."""
    return _bars(name=10, bar=20)
