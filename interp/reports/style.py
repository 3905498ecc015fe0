"""The look of every figure: colours, and lines with bands. Knows nothing about what is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from interp.reports.words import Show, estimate

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "#222222"
CONTROL_COLOUR = "#8a8a8a"
MARK_COLOUR = "#c4c4c4"
# Teal for −1, white for 0, brown for +1: no agent's colours.
DIVERGING = ((0.0, "#01665e"), (0.25, "#a3d6ce"), (0.5, "#ffffff"), (0.75, "#e8d1a4"), (1.0, "#8c510a"))

# Safe for the colour-blind: the colours of Okabe and Ito (2008), the faint yellow last.
_AGENTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#f0e442")

Values = Sequence[float | None]
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


def add(figure: go.Figure, place: Place, name: str, **trace: Any) -> None:
    """A trace in a panel; of several with one name, the first stands for all in the legend."""
    first = all(one.name != name or not one.showlegend for one in figure.data)
    figure.add_scatter(row=place[0], col=place[1], **{"name": name, "legendgroup": name, "showlegend": first, **trace})


def mark(symbol: str = "circle", colour: str = CONTROL_COLOUR) -> dict[str, Any]:
    """How plotly draws a mark."""
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
    figure.add_scatter(name=name, x=[None], y=[None], marker=mark(symbol, colour), **look)


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
