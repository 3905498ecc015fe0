"""For notebooks: other libraries kept quiet, figures with captions, sentences as paragraphs."""

from __future__ import annotations

import gzip
import hashlib
import os
import warnings
from base64 import b64encode
from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from interp.reports.terminal import quiet_libraries

if TYPE_CHECKING:
    from interp.reports.page import Drawn


def prepare() -> None:
    """Quieten other libraries, and store a picture with each figure, so that it shows without a kernel.

    Pictures need kaleido and Chrome or Chromium. With a network, nbconvert's HTML draws the figures in their place. The
    environment variable PLOTLY_RENDERER overrides the choice.

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
        plotly.io.renderers["converted"] = _converted()
        plotly.io.renderers.default = "plotly_mimetype+png+converted"
    except (ImportError, RuntimeError, ValueError):  # no kaleido, or no browser
        plotly.io.renderers.default = "plotly_mimetype"


def _converted() -> Any:
    """A renderer of outputs that nbconvert's HTML draws figures from; plotly.js, too large for each, is loaded."""
    from IPython.display import display
    from plotly.io.base_renderers import ExternalRenderer
    from plotly.io.json import to_json_plotly
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    script = (resources.files("interp.reports") / "notebook.js").read_text("utf-8").strip()
    integrity = "sha256-" + b64encode(hashlib.sha256(get_plotlyjs().encode()).digest()).decode()

    class Converted(ExternalRenderer):  # type: ignore[misc]
        def render(self, fig: Any) -> None:
            packed = b64encode(gzip.compress(to_json_plotly(fig).encode(), mtime=0)).decode()
            call = f'document.currentScript, "{get_plotlyjs_version()}", "{integrity}", "{packed}"'
            display({"text/html": f"<script>{script}({call});</script>", "text/plain": ""}, raw=True)

    return Converted()


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
