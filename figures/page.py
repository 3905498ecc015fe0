"""Every figure that a folder has results for, on one page that needs nothing else: `interp figures RESULTS --out DIR`.

Knows which figures there are and how a page is put together; knows nothing about what is plotted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from pathlib import Path

from plotly.offline import get_plotlyjs

from figures import NAMES
from interp.errors import UserError
from interp.reports.drawn import CONFIG, Drawn, write
from interp.reports.style import FONT, INK
from interp.storage.files import atomic_write

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font-family: {font}; color: {ink}; max-width: 1040px; margin: 32px auto; padding: 0 16px; }}
main {{ display: flex; flex-wrap: wrap; gap: 40px; align-items: flex-start; }}
figure {{ margin: 0; overflow-x: auto; }}
figcaption, li, p {{ font-size: 14px; line-height: 1.5; }}
figcaption small {{ color: #666666; }}
code {{ font-size: 13px; }}
</style><script>{plotlyjs}</script></head><body>
<h1>{title}</h1>
<main>
{figures}
</main>
{left_out}
</body></html>
"""
_FIGURE = """<figure id="{name}" style="width: {width}px">{plot}
<figcaption><b>{heading}.</b> {caption} <small>From <code>{source}</code>.</small></figcaption></figure>"""


def collect(folder: Path) -> tuple[list[Drawn], dict[str, str]]:
    """All figures that the folder has results for, and by name of the others why they are left out.

    Raises `UserError` where the folder is none, or has no results at all.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder; give one with results, such as the --out of interp train")
    drawn: list[Drawn] = []
    left_out = {}
    for name in NAMES:
        try:
            drawn += import_module(f"figures.{name}").draw(folder)
        except UserError as error:
            left_out[name] = str(error)
    if not drawn:
        raise UserError(
            f"{folder}: has no results that a figure could be made of; give the --out of interp train or "
            "interp extract-directions, or a folder of results (see interp figures --help)"
        )
    return drawn, left_out


def page(drawn: Sequence[Drawn], left_out: Mapping[str, str], title: str) -> str:
    """One HTML page with plotly in it once, the captions, and what was left out."""
    shown = [
        _FIGURE.format(
            name=escape(one.name),
            heading=escape(one.name.replace("_", " ").capitalize()),
            width=one.figure.layout.width,
            plot=one.figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG),
            caption=escape(one.caption),
            source=escape(one.source),
        )
        for one in drawn
    ]
    missing = [f"<li><b>{name.replace('_', ' ')}</b>: {escape(why)}</li>" for name, why in left_out.items()]
    return _PAGE.format(
        title=escape(title),
        font=FONT,
        ink=INK,
        plotlyjs=get_plotlyjs(),
        figures="\n".join(shown),
        left_out=f"<h2>Left out</h2><ul>{''.join(missing)}</ul>" if missing else "",
    )


def make(folder: Path, out: Path, *, pictures: bool = True) -> tuple[list[Path], dict[str, str]]:
    """Write `figures.html` and, with `pictures`, each figure alone; returns the paths and what was left out.

    Raises `UserError` as `collect` does.
    """
    drawn, left_out = collect(folder)
    written = [out / "figures.html"]
    with atomic_write(written[0]) as temporary:
        title = f"Figures of {folder.resolve().name}"
        temporary.write_text(page(drawn, left_out, title), encoding="utf-8")
    return written + (write(drawn, out) if pictures else []), left_out
