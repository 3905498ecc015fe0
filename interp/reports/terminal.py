"""The terminal: tables, progress bars, and other libraries kept quiet. Knows nothing about what they show."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from interp.errors import plain
from interp.processes import first
from interp.reports.words import Names


class Terminal(Console):
    """Prints text as it is: no markup, no emoji codes, and nothing that would act on the terminal.

    Of several processes only the first prints.
    """

    def __init__(self, *, soft_wrap: bool = False, **where: Any) -> None:
        how: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False, "quiet": not first()}
        super().__init__(soft_wrap=soft_wrap, **how, **where)

    def render(self, *what: Any, **how: Any) -> Iterable[Segment]:
        for text, style, control in super().render(*what, **how):
            yield Segment(text if control else plain(text), style, control)

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(plain(text), **how)  # before a column is as wide as its text


def table(
    title: str, caption: str, headings: Names, left: Names = ("",), gap: int = 0, whole: bool = False, **look: Any
) -> Table:
    """An empty table: names (the headings in `left`) at the left, numbers at the right.

    `gap` is the extra space between columns; 0 fits most into 80. With `whole`, numbers never break across lines.
    """
    look |= {"title_justify": "left", "caption_justify": "left", "box": SIMPLE_HEAD, "padding": (0, gap, 0, 0)}
    made = Table(title=title, caption=caption or None, **look)
    ratio = 1 if look.get("expand") else None
    for heading in headings:
        justify: Any = "left" if heading in left else "right"
        no_wrap = whole and heading not in left
        made.add_column(heading, justify=justify, no_wrap=no_wrap, overflow="fold", ratio=ratio)
    return made


def quiet_libraries() -> None:
    """Turn off other libraries' loading bars and warnings, which would hide a command's own lines."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")


@contextmanager
def progress_bars(name: int = 22, bar: int = 40) -> Iterator[Callable[..., None]]:
    """A callback that draws one bar for each task, followed by its metrics; `name` and `bar` are widths in letters.

    >>> with interp.reports.progress_bars() as progress:  # doctest: +SKIP
    ...     interp.extract_directions(model, transcripts, progress=progress)
    """
    first = TextColumn(f"{{task.description:<{name}}}", markup=False), BarColumn(bar_width=bar), MofNCompleteColumn()
    last = TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[facts]}")
    with Progress(*first, *last, console=Terminal()) as bars:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int, metrics: Mapping[str, float] = MappingProxyType({})) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, facts="")
            shown = ("reward", "correctness", "length", "limit") if "reward" in metrics else ("loss",)
            facts = " ".join(f"{name} {metrics[name]:.3g}" for name in shown if name in metrics)
            bars.update(tasks[what], completed=done, total=total, facts=facts)

        yield update


training_bars = partial(progress_bars, name=10, bar=20)
