"""For notebooks: other libraries kept quiet, figures with captions, sentences as paragraphs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from interp.reports.terminal import quiet_libraries

if TYPE_CHECKING:
    from interp.reports.page import Drawn


def prepare() -> None:
    """Quieten other libraries, and store a picture with each figure, so that it shows without a kernel.

    Pictures need kaleido and Chrome or Chromium. The environment variable PLOTLY_RENDERER overrides the choice.

    >>> interp.reports.prepare()  # doctest: +SKIP
    """
    import plotly.graph_objects as go
    import plotly.io

    warnings.filterwarnings("ignore", message="IProgress not found")  # bars would be widgets
    quiet_libraries()
    plotly.io.renderers["png"].scale = 1.5
    if "PLOTLY_RENDERER" in os.environ:
        return
    try:
        go.Figure().to_image("png")
        plotly.io.renderers.default = "plotly_mimetype+png"
    except (ImportError, RuntimeError, ValueError):  # no kaleido, or no browser
        plotly.io.renderers.default = "plotly_mimetype"


def show(figures: Iterable[Drawn]) -> None:
    """Show each figure with its caption below it.

    >>> from figures import token_cost
    >>> interp.reports.show(token_cost.draw(interp.models.catalog.SHIPPED_RESULTS))  # doctest: +SKIP
    """
    from IPython.display import Markdown, display

    for each in figures:
        each.figure.show()
        display(Markdown(f"*{escape(each.caption, quote=False)}*"))


def in_words(sentences: Iterable[str | tuple[str, str]]) -> Any:
    """Sentences as a cell shows them, one paragraph each; the first of a pair, the verdict, in bold.

    >>> interp.reports.in_words([("Found.", "Here."), "And this."]).data
    '**Found.** Here.\\n\\nAnd this.'
    """
    from IPython.display import Markdown

    texts = (s if isinstance(s, str) else f"**{s[0]}** {s[1]}" for s in sentences)
    return Markdown(escape("\n\n".join(texts), quote=False))
