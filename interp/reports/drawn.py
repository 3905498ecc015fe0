"""Figures as pages and pictures: one HTML file for each, and PNG and SVG where Kaleido has a browser."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.graph_objects as go
import plotly.io

from interp.reports.style import FONT, INK
from interp.storage.files import atomic_write

PICTURES = ("svg", "png")
NO_PICTURES = "no pictures: they take kaleido (pip install kaleido) and Chrome or Chromium"
CONFIG = {"displayModeBar": False}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: {font}; color: {ink}; max-width: {width}px; margin: 24px auto; padding: 0 16px; }}
figure {{ margin: 0; }}
figcaption {{ font-size: 14px; line-height: 1.5; }}
</style></head><body><figure>{plot}<figcaption>{caption}</figcaption></figure></body></html>
"""


@dataclass(frozen=True)
class Drawn:
    """A figure that is ready to be shown."""

    name: str
    """Of its files."""
    figure: go.Figure
    caption: str
    """What is shown, and n."""
    source: str
    """The files of results that were read."""


def write(drawn: Sequence[Drawn], folder: Path) -> list[Path]:
    """Write for each figure `NAME.html`, which needs nothing else, `NAME.txt` with the caption, and pictures.

    Returns the paths. A picture has three times as many pixels as the figure. Without a browser, or without
    kaleido, there is none.
    """
    written = []
    for one in drawn:
        page = _PAGE.format(
            title=escape(one.name.replace("_", " ")),
            font=FONT,
            ink=INK,
            width=one.figure.layout.width,
            plot=one.figure.to_html(full_html=False, include_plotlyjs=True, config=CONFIG),
            caption=escape(one.caption),
        )
        for suffix, text in ((".html", page), (".txt", one.caption + "\n")):
            written.append(folder / f"{one.name}{suffix}")
            with atomic_write(written[-1]) as temporary:
                temporary.write_text(text, encoding="utf-8")
    for name, content in _pictures(drawn).items():
        written.append(folder / name)
        with atomic_write(written[-1]) as temporary:
            temporary.write_bytes(content)
    return written


def _pictures(drawn: Sequence[Drawn]) -> dict[str, bytes]:
    """By file name; all of them by one browser, or none."""
    with tempfile.TemporaryDirectory() as folder:
        figures = [one.figure for one in drawn for _ in PICTURES]
        paths = [Path(folder) / f"{one.name}.{suffix}" for one in drawn for suffix in PICTURES]
        size = {side: [figure.layout[side] for figure in figures] for side in ("width", "height")}
        try:
            plotly.io.write_images(figures, paths, scale=[1, 3] * len(drawn), **size)
        except (ImportError, RuntimeError, ValueError):  # no kaleido, or no browser
            return {}
        return {path.name: path.read_bytes() for path in paths}
