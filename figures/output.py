"""A figure as files: a page with its caption, the caption alone, and a picture where a browser is at hand.

Knows plotly and files; knows nothing about what is plotted.
"""

from __future__ import annotations

import tempfile
from html import escape
from pathlib import Path

import plotly.graph_objects as go

from interp.files import atomic_write
from interp.theme import FONT, INK

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: {font}; color: {ink}; max-width: {width}px; margin: 24px auto; padding: 0 16px; }}
figure {{ margin: 0; }}
figcaption {{ font-size: 15px; line-height: 1.5; max-width: 75ch; }}
</style></head><body><figure>{plot}<figcaption>{caption}</figcaption></figure></body></html>
"""


def write_figure(figure: go.Figure, caption: str, folder: Path, name: str) -> list[Path]:
    """Write `NAME.html`, which needs nothing else, `NAME.txt` with the caption, and `NAME.png`; returns their paths.

    The figure has a width and a height in pixels; the picture has twice as many. Without a browser, or
    without kaleido, there is no picture.
    """
    width = figure.layout.width
    page = _PAGE.format(
        title=escape(name.replace("_", " ")),
        font=FONT,
        ink=INK,
        width=width,
        plot=figure.to_html(full_html=False, include_plotlyjs=True),
        caption=escape(caption),
    )
    written = []
    for suffix, text in ((".html", page), (".txt", caption + "\n")):
        written.append(folder / f"{name}{suffix}")
        with atomic_write(written[-1]) as temporary:
            temporary.write_text(text, encoding="utf-8")
    picture = _picture(figure)
    if picture is not None:
        written.append(folder / f"{name}.png")
        with atomic_write(written[-1]) as temporary:
            temporary.write_bytes(picture)
    return written


def _picture(figure: go.Figure) -> bytes | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        try:
            figure.write_image(path, scale=2)
        except (ImportError, RuntimeError, ValueError):  # no kaleido, or no browser
            return None
        return path.read_bytes()
