"""What a notebook asks for in its first line: no chatter, and pictures that are seen without running it.

Knows plotly's renderers and how results look in a cell; knows nothing about what is plotted.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any, Protocol

import plotly.graph_objects as go
import plotly.io

from interp.reports.terminal import quiet_libraries


class Captioned(Protocol):
    """A figure with the text that stands below it, as the modules of `figures` draw them."""

    @property
    def figure(self) -> go.Figure: ...

    @property
    def caption(self) -> str: ...


def prepare() -> None:
    """Quieten other libraries, and keep beside each figure a picture of it, for where nothing is run.

    The picture takes kaleido and Chrome or Chromium; without them figures are kept for a live notebook alone. The
    variable PLOTLY_RENDERER, where it is set, decides instead.
    """
    warnings.filterwarnings("ignore", message="IProgress not found")  # bars would be widgets
    quiet_libraries()
    plotly.io.renderers["png"].scale = 1.5
    if "PLOTLY_RENDERER" not in os.environ:
        plotly.io.renderers.default = "plotly_mimetype+png" if _drawn() else "plotly_mimetype"


def show(figures: Iterable[Captioned]) -> None:
    """Each figure, and below it its caption."""
    from IPython.display import Markdown, display

    for each in figures:
        each.figure.show()
        display(Markdown(f"*{each.caption}*"))


def said(sentences: Iterable[str | tuple[str, str]]) -> Any:
    """Sentences as a cell shows them, a paragraph each; of pairs the first is the verdict."""
    from IPython.display import Markdown

    return Markdown("\n\n".join(s if isinstance(s, str) else f"**{s[0]}** {s[1]}" for s in sentences))


def _drawn() -> bool:
    """Whether a figure can be made a picture here."""
    try:
        go.Figure().to_image("png")
    except (ImportError, RuntimeError, ValueError):  # no kaleido, or no browser
        return False
    return True
