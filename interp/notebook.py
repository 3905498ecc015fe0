"""What a notebook asks for in its first line: no chatter, and pictures that are seen without running it.

Knows plotly's renderers; knows nothing about what is plotted.
"""

from __future__ import annotations

import warnings

import plotly.graph_objects as go
import plotly.io

from interp.cli import _quiet_libraries as quiet_libraries


def prepare() -> None:
    """Quieten other libraries, and keep beside each figure a picture of it, for where nothing is run.

    The picture takes kaleido and Chrome or Chromium; without them figures are kept for a live notebook alone.
    """
    quiet_libraries()
    plotly.io.renderers.default = "plotly_mimetype+png" if _drawn() else "plotly_mimetype"


def _drawn() -> bool:
    """Whether a figure can be made a picture here; if so, the browser for it stays open."""
    try:
        import kaleido

        go.Figure().to_image("png")
    except (ImportError, RuntimeError, ValueError):  # no kaleido, or no browser
        return False
    kaleido.start_sync_server(silence_warnings=True)
    warnings.filterwarnings("ignore", message="The kopts argument is ignored")
    return True
