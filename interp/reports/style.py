"""The look of every figure: colours, panels, lines with bands, points with bars. Knows nothing about what is drawn."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from interp.reports.words import Names, Show, estimate

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "#222222"
CONTROL_COLOUR = "#8a8a8a"
MARK_COLOUR = "#c4c4c4"
# Teal for −1, white for 0, brown for +1: no agent's colours.
DIVERGING = ((0.0, "#01665e"), (0.25, "#a3d6ce"), (0.5, "#ffffff"), (0.75, "#e8d1a4"), (1.0, "#8c510a"))
WIDTH = 480
"""Pixels: in a column of 3.3 inches, text of 14 is then 7 points high, and that of 12 is 6."""
SMALL = 12

# Safe for the colour-blind: the colours of Okabe and Ito (2008), the faint yellow last.
_AGENTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#f0e442")
_LETTER = 6.6  # mean width in pixels of a letter of size SMALL
_LINE = 16  # height in pixels of a line of titles
_AXIS = 85  # pixels of the width that an axis takes; a legend is as wide as the rest

Values = Sequence[float | None]
Marks = Sequence[Mapping[str, Any] | None]
Place = tuple[int, int]
"""Row and column of a panel, from 1."""


def agent_colour(agent: int) -> str:
    """The colour of an agent, numbered from 1; the ninth has the colour of the first."""
    return _AGENTS[(agent - 1) % len(_AGENTS)]


def fade(colour: str, opacity: float) -> str:
    """A `#rrggbb` colour at an opacity between 0 and 1, as plotly and CSS write it."""
    return "rgba({},{},{},{})".format(*hex_to_rgb(colour), opacity)


def wrapped(text: str, width: int = 18, most: int | None = None) -> str:
    """Text on lines of `width`, cut after `most` letters and escaped, because plotly reads text as HTML."""
    lines = textwrap.wrap(text if most is None or len(text) <= most else text[: most - 1] + "…", width)
    return "<br>".join(escape(line, quote=False) for line in lines)


_AXES = {"showgrid": True, "gridcolor": "#ececec", "zeroline": False, "showline": True, "linecolor": CONTROL_COLOUR}
_AXES |= {"ticks": "outside", "tickcolor": CONTROL_COLOUR, "ticklen": 4, "title": {"standoff": 8}, "automargin": True}
_BACK = {"paper_bgcolor": "#ffffff", "plot_bgcolor": "#ffffff", "margin": {"l": 12, "r": 16, "t": 12, "b": 12}}
_LEGEND = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"size": 13}}
_HOVER = {"bgcolor": "#ffffff", "bordercolor": CONTROL_COLOUR, "font": {"color": INK, "size": 13}}
_TEXT = {"font": {"family": FONT, "size": 14, "color": INK}, "legend": _LEGEND, "hoverlabel": _HOVER}
TEMPLATE = go.layout.Template(layout={**_BACK, **_TEXT, "colorway": _AGENTS, "xaxis": _AXES, "yaxis": _AXES})
"""For `fig.update_layout(template=TEMPLATE)`: white ground, system fonts, legend above the plot."""


def panels(
    rows: int, columns: int, *, x: Names, y: Names, titles: Names = (), height: int = 150, shared: str = "xy"
) -> go.Figure:
    """Empty panels with axis titles; those of a column share x and those of a row share y, unless `shared` lacks it.

    `x` is one title, or one for each row; `y` one for each row, or for each panel if panels do not share it. `titles`
    stand above the columns, or above each panel if there are as many as panels. More than three columns make the
    figure wider.
    """
    width = int((WIDTH - 50) / min(columns, 3) / (_LETTER + 0.7))
    lines = [wrapped(title, width) for title in titles]
    most = max((text.count("<br>") + 1 for text in lines), default=0)
    gap = 18 + 34 * ("x" not in shared) + (_LINE * most + 6) * (len(titles) > columns)
    area = rows * height + (rows - 1) * gap
    spacing = {"horizontal_spacing": 0.16 / max(2, columns) if "y" in shared else 0.3 / columns}
    spacing |= {"vertical_spacing": gap / area}
    figure = make_subplots(rows, columns, "x" in shared, "y" in shared, subplot_titles=lines, **spacing)
    figure.update_annotations(font={"size": SMALL + 1, "color": INK}, yshift=3)
    figure.update_layout(template=TEMPLATE, width=WIDTH + 150 * max(0, columns - 3), font_size=SMALL + 1)
    figure.update_layout(meta={"area": area, "titles": most}, margin={"l": 8, "r": 10, "b": 8})
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(title_font_size=SMALL + 1, tickfont_size=SMALL, title_standoff=4)
    each = len(y) // rows
    for i, title in enumerate(y):
        figure.update_yaxes(title_text=title, row=i // each + 1, col=i % each + 1)
    for row in [rows] if "x" in shared else range(1, rows + 1):
        figure.update_xaxes(title_text=x if isinstance(x, str) else x[row - 1], row=row)
    return figure


def finished(figure: go.Figure) -> go.Figure:
    """Panels with their legend above them and a height that fits both."""
    lines, used = 0, math.inf
    for trace in figure.data:
        if trace.showlegend:
            width = 48 + (_LETTER + 0.2) * len(trace.name)
            lines, used = (lines, used + width) if used + width < figure.layout.width - _AXIS else (lines + 1, width)
    top = _LINE * figure.layout.meta["titles"] + 20 * lines + 16
    bottom = 52 if any(axis.title.text for axis in figure.select_xaxes()) else 30
    legend = {"x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top", "tracegroupgap": 0}
    figure.update_layout(legend=legend, legend_font_size=SMALL, margin_t=top)
    return figure.update_layout(height=top + figure.layout.meta["area"] + bottom)


def curve(
    figure: go.Figure,
    place: Place,
    x: Sequence[float],
    mean: Values,
    low: Values = (),
    high: Values = (),
    *,
    name: str,
    colour: str,
    dash: str = "solid",
    width: float = 2,
    symbol: str = "",
    fill: Mapping[str, Any] | None = None,
    show: Show | None = None,
) -> None:
    """A line, with marks if it has a symbol, over a band from low to high, which `fill` gives another look.

    With `show`, a pointer sees the value with its interval.
    """
    if low:
        across, up = _outline(x, low, high)
        band = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "hoverinfo": "skip", "showlegend": False}
        band |= fill or {"fillcolor": fade(colour, 0.16)}
        add(figure, place, "", x=across, y=up, legendgroup=name, **band)
    look = {"line": {"color": colour, "width": width, "dash": dash}, "marker": {"size": 5, "symbol": symbol or None}}
    hover, mode = "%{x:g}: %{y:.3g}" + f"<extra>{escape(name)}</extra>", "lines+markers" if symbol else "lines"
    add(figure, place, name, x=list(x), y=list(mean), mode=mode, hovertemplate=hover, **look)
    if show:
        text = [estimate(*value, show) for value in zip(mean, low, high, strict=True)]
        figure.data[-1].update(text=text, hovertemplate="%{text}")


def _outline(x: Sequence[float], low: Values, high: Values) -> tuple[Values, Values]:
    """A polygon around each run of x whose interval is defined; a lone x gets a thin polygon."""
    across: list[float | None] = []
    up: list[float | None] = []
    for known, run in groupby(zip(x, low, high, strict=True), key=lambda one: None not in one):
        at, under, over = (list(part) for part in zip(*run, strict=True))
        if len(at) == 1:
            at, under, over = [at[0] - 0.15, at[0] + 0.15], under * 2, over * 2
        if known:
            across += [*at, *at[::-1], at[0], None]
            up += [*under, *over[::-1], under[0], None]
    return across, up


def points(
    figure: go.Figure, place: Place, x: Sequence[float], values: Marks, *, name: str, across: bool = False, **look: str
) -> None:
    """A mark for each value ({"mean", "low", "high"}) with its interval as a bar; `across`: values along x.

    `look` is a colour (grey), and a symbol (a circle).
    """
    mark = _mark(**look)
    known = [(at, value) for at, value in zip(x, values, strict=True) if value and value["mean"] is not None]
    at, mean = [at for at, _ in known], [value["mean"] for _, value in known]
    low, high = ([0.0 if v[end] is None else abs(v[end] - v["mean"]) for _, v in known] for end in ("low", "high"))
    bars = {"type": "data", "array": high, "arrayminus": low, "thickness": 1.4, "width": 0, "color": mark["color"]}
    axes: dict[str, Any] = {"x": mean, "y": at, "error_x": bars} if across else {"x": at, "y": mean, "error_y": bars}
    hover = ("%{x:.3g}" if across else "%{y:.3g}") + f"<extra>{escape(name)}</extra>"
    add(figure, place, name, mode="markers", marker=mark, hovertemplate=hover, **axes)


def add(figure: go.Figure, place: Place, name: str, **trace: Any) -> None:
    """A trace in a panel; of several with one name, the first stands for all in the legend."""
    first = all(one.name != name or not one.showlegend for one in figure.data)
    figure.add_scatter(row=place[0], col=place[1], **{"name": name, "legendgroup": name, "showlegend": first, **trace})


def _mark(symbol: str = "circle", colour: str = CONTROL_COLOUR) -> dict[str, Any]:
    return {"color": colour, "symbol": symbol or None, "size": 8, "line": {"width": 1.4, "color": colour}}


def level(figure: go.Figure, place: Place, value: float) -> None:
    """A thin line across a panel: chance, or no difference."""
    line = {"color": INK, "width": 1}
    figure.add_hline(value, line=line, layer="above", row=place[0], col=place[1])  # "below" hides under grid lines


def key(figure: go.Figure, name: str, *, dash: str = "", symbol: str = "", **look: Any) -> None:
    """A legend entry that stands for several traces, after all other entries; `look` goes to the trace."""
    colour = look.pop("colour", INK if symbol else CONTROL_COLOUR)
    mode = "+".join(["lines"] * bool(dash) + ["markers"] * bool(symbol))
    line = {"color": colour, "width": 1.4, "dash": dash or None}
    look = {"legendgroup": name, "legendrank": 2000, "showlegend": True, "mode": mode, "line": line, **look}
    figure.add_scatter(name=name, x=[None], y=[None], marker=_mark(symbol, colour), **look)


def layer_ticks(figure: go.Figure, layers: Collection[int], row: int | None = None, room: int = 1) -> None:
    """Ticks at whole layers, and a margin beside the first and the last; `room` for that many times as many ticks."""
    extent = max(layers) - min(layers)
    margin = 0.3 + extent / 40
    dtick = 1 if extent <= 6 * room else 5 if extent <= 30 * room else 10
    figure.update_xaxes(dtick=dtick, range=[min(layers) - margin, max(layers) + margin], row=row)


def fit_y(figure: go.Figure, row: int, *, floor: float, ceiling: float) -> None:
    """Let a row of panels reach from the floor to the ceiling, or further if the data do."""
    axes = {axis.anchor.replace("x", "y") for axis in figure.select_yaxes(row=row)}
    shown = [y for trace in figure.data if trace.yaxis in axes for y in trace.y or () if y is not None]
    low, high = min([floor, *shown]), max([ceiling, *shown])
    figure.update_yaxes(range=[low - 0.04 * (high - low), high + 0.04 * (high - low)], row=row)
