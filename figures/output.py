"""Figures as files: a page with its caption, the caption alone, and pictures where a browser is at hand.

Knows plotly, files and the command line that all figures share; knows nothing about what is plotted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io

from interp.errors import UserError
from interp.files import atomic_write
from interp.theme import FONT, INK

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


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """A file of results. Raises `UserError` where there is none, naming what makes it, or where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; {made_by} writes it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no JSON"
        raise UserError(f"{path}: cannot be read ({reason}); {made_by} writes it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no JSON object; {made_by} writes it")
    return content


def needed(content: dict[str, Any], names: Sequence[str], path: Path, made_by: str) -> None:
    """Raises `UserError` where one of the entries is missing: the file is something else, or of an older version."""
    if missing := [name for name in names if name not in content]:
        raise UserError(f"{path}: has no {missing[0]!r}, so it is not what {made_by} writes; run that again")


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


def main(
    draw: Callable[[Path], Sequence[Drawn]], name: str, about: str, arguments: Sequence[str] | None = None
) -> None:
    """The command line of a figure: results in, files out; what the user can mend is one line and exit status 2."""
    parser = argparse.ArgumentParser(
        prog=f"python -m figures.{name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="a folder of results, laid out as in figures/__init__.py")
    parser.add_argument("--out", type=Path, default=Path("out/figures"))
    given = parser.parse_args(arguments)
    try:
        written = write(draw(given.results), given.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for path in written:
        print(f"wrote {path}")
    if not any(path.suffix == ".png" for path in written):
        print(NO_PICTURES)
