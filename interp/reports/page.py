"""Pages of figures: the report of an extraction, one figure with its caption, or all figures together.

Knows the templates and which files they become. No page needs a network. A report needs no other
file; pages of figures share the plotly library that lies beside them.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.reports import directions as draw
from interp.reports.findings import activation_name, main_findings, read_at, start_layer
from interp.reports.style import agent_colour
from interp.reports.words import between, number, percent
from interp.storage.files import atomic_write, scratch

if TYPE_CHECKING:
    from interp.directions.extract import Extraction

LIBRARY = "plotly.min.js"
"""The file that all pages of figures in a folder share."""
NO_PICTURES = "no pictures: they need kaleido (pip install kaleido) and Chrome or Chromium"
STYLE, _SCRIPT = ((resources.files("interp.reports") / name).read_text("utf-8") for name in ("page.css", "page.js"))
"""The stylesheet of every page, and the script of pages with figures."""
_TEMPLATES = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_TEMPLATES.loader = jinja2.PackageLoader("interp.reports", "")
_CALLED = (percent, number, between, agent_colour, main_findings, activation_name, read_at, start_layer)
_TEMPLATES.globals |= {"css": Markup(STYLE), **{function.__name__: function for function in _CALLED}}


class Drawn(NamedTuple):
    """A figure and what stands around it."""

    name: str
    """The stem of its files."""
    figure: go.Figure
    caption: str
    """What is shown, and n."""
    source: str
    """The files that it was drawn from."""
    title: str
    """What it asks or shows, in words."""
    verdict: str = ""
    """What was found, in one line."""
    section: str = ""


def write_report(found: Extraction, out: str | Path) -> Path:
    """Write `report.html` into the folder `out`: what was done and found, figures, the best layers, provenance.

    Raises `UserError` if the file cannot be written; an old report is replaced only by a whole new one.

    >>> interp.reports.write_report(interp.extract_directions(model, transcripts[:10]), tmp_path).name
    'report.html'
    """
    facts, projections = dict(found.directions.facts), found.projections
    pairs = facts["by"] == "pair"
    rounds = {key: "all rounds" if key == "all" else f"round {key}" for key in facts["evidence"]}
    figures = {
        "separation": {key: draw.separation_figure(facts, key) for key in rounds},
        "reliability": {key: draw.reliability_figure(facts, key) for key in rounds},
        "cosine": {key: draw.cosine_figure(facts, key) for key in rounds if not pairs},
        "projection": {"all": draw.projection_figure(facts, projections)},
        "norm": {"all": draw.norm_figure(facts)},
    }
    reasons = Counter(item["reason"] for item in facts["skipped"]).most_common()
    content: dict[str, Any] = {"facts": facts, "measured": draw.measured(facts), "rounds": rounds}
    content |= {"pairs": pairs, "projections": projections, "reasons": reasons}
    content |= {"drawn": int(draw.drawn_turns(projections).sum()), "plotlyjs": Markup(get_plotlyjs())}
    return write_whole(Path(out) / "report.html", _render("report.html.jinja", figures, **content))


def write_figures(drawn: Sequence[Drawn], out: Path) -> list[Path]:
    """Write each figure as `NAME.html`, its caption as `NAME.txt`, and pictures of it; returns the paths.

    A PNG has three times as many pixels as the figure. There are no pictures without kaleido and a browser.
    """
    written = []
    for one in drawn:
        written.append(write_page([one], {}, one.title, out / f"{one.name}.html"))
        written.append(write_whole(out / f"{one.name}.txt", f"{one.caption}\n"))
    return written + [write_whole(out / name, content) for name, content in _pictures(drawn).items()]


def write_page(drawn: Sequence[Drawn], left_out: Mapping[str, str], title: str, path: Path) -> Path:
    """Write all figures with their captions on one page, and why others were left out; plotly goes beside it."""
    write_library(path.parent)
    return write_whole(path, render("figures.html.jinja", drawn, title=title, left_out=left_out))


def write_library(folder: Path) -> None:
    """Put the plotly library beside the pages of a folder, once."""
    path, library = folder / LIBRARY, get_plotlyjs().encode()
    if not path.exists() or path.read_bytes() != library:
        write_whole(path, library)


def render(template: str, drawn: Sequence[Drawn], **content: Any) -> str:
    """A page with these figures, which needs the plotly library beside it."""
    return _render(template, {one.name: {"all": one.figure} for one in drawn}, drawn=drawn, plotlyjs="", **content)


def _render(template: str, figures: Mapping[str, Mapping[str, go.Figure]], *, plotlyjs: str, **content: Any) -> str:
    """The page; `figures` has by name the versions of each figure, first the one named "all"."""
    plots = {name: {key: json.loads(one.to_json()) for key, one in each.items()} for name, each in figures.items()}
    data = Markup(json.dumps(plots).replace("<", "\\u003c"))  # a question may say </script>
    common = {"figures": data, "plotlyjs": plotlyjs, "library": LIBRARY}
    return filled(template, _SCRIPT, plotlyjs or None, **common, **content)


def filled(template: str, script: str, plotly: str | None = "", **content: Any) -> str:
    """A page on which no script may run but this one, and plotly on the page or, if None, beside it."""
    digests = [b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (script, plotly) if each]
    allowed = Markup(" ".join([*(f"'sha256-{digest}'" for digest in digests), *["'self'"] * (plotly is None)]))
    return _TEMPLATES.get_template(template).render(script=Markup(script), allowed=allowed, **content)


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file that is never there in part."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _pictures(drawn: Sequence[Drawn]) -> dict[str, bytes]:
    """Pictures by file name: all of them, made by one browser, or none."""
    with scratch() as folder:
        figures = [one.figure for one in drawn for _ in ("svg", "png")]
        paths = [folder / f"{one.name}.{suffix}" for one in drawn for suffix in ("svg", "png")]
        size = {side: [figure.layout[side] for figure in figures] for side in ("width", "height")}
        try:
            plotly.io.write_images(figures, paths, scale=[1, 3] * len(drawn), **size)
        except (ImportError, RuntimeError, ValueError):  # no kaleido, or no browser
            return {}
        return {path.name: path.read_bytes() for path in paths}
