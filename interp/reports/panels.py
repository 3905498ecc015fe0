"""How figures for a column of print are laid out: panels, one legend above them, lines with bands, points with bars.

Knows sizes and plotly; colours and fonts are `interp.reports.style`'s. Knows nothing about what is plotted.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.reports.style import CONTROL_COLOUR, INK, TEMPLATE, add_band, fade

WIDTH = 480
"""Pixels: in a column of 3.3 inches, text of 14 is then 7 points high, and that of 12 is 6."""
SMALL = 12
_LETTER = 6.6  # pixels of width at that size, on average
_LINE = 16
_AXIS = 85  # what an axis takes of the width; a legend is as wide as the rest

Values = Sequence[float | None]
Place = tuple[int, int]
"""Row and column of a panel, from 1."""


def panels(
    rows: int,
    columns: int,
    *,
    x: str | Sequence[str],
    y: Sequence[str],
    titles: Sequence[str] = (),
    height: int = 150,
    same_x: bool = True,
    same_y: bool = True,
) -> go.Figure:
    """Empty panels with the axes' titles; those of a column share their x, those of a row their y.

    `titles` stand above the columns, or with as many as there are panels above each of these. `x` is one title for
    all or one a row; `y` one a row, or one a panel where panels do not share it. More than three columns make the
    figure wider.
    """
    each = len(titles) > columns
    lines = max((len(_wrapped(title, columns)) for title in titles), default=0)
    gap = 18 + 34 * (not same_x) + (_LINE * lines + 6) * each
    area = rows * height + (rows - 1) * gap
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes=same_x,
        shared_yaxes=same_y,
        horizontal_spacing=0.16 / max(2, columns) if same_y else 0.3 / columns,
        vertical_spacing=gap / area,
    )
    figure.update_layout(template=TEMPLATE, width=WIDTH + 150 * max(0, columns - 3), font_size=SMALL + 1)
    figure.update_layout(meta={"area": area, "titles": lines}, margin={"l": 8, "r": 10, "b": 8})
    figure.update_xaxes(title_font_size=SMALL + 1, tickfont_size=SMALL, title_standoff=4)
    figure.update_yaxes(title_font_size=SMALL + 1, tickfont_size=SMALL, title_standoff=4)
    for row in range(1, rows + 1):
        for column in range(1, columns + 1 if len(y) > rows else 2):
            figure.update_yaxes(title_text=y[(row - 1) * (len(y) // rows) + column - 1], row=row, col=column)
        if row == rows or not same_x:
            figure.update_xaxes(title_text=x if isinstance(x, str) else x[row - 1], row=row)
    for i, title in enumerate(titles):
        axis = figure.get_subplot(i // columns + 1, i % columns + 1)
        middle = sum(axis.xaxis.domain) / 2
        figure.add_annotation(
            text="<br>".join(_wrapped(title, columns)),
            font={"size": SMALL + 1, "color": INK},
            x=middle,
            y=axis.yaxis.domain[1],
            xref="paper",
            yref="paper",
            xanchor="center",
            yanchor="bottom",
            yshift=3,
            showarrow=False,
        )
    return figure


def _wrapped(title: str, columns: int) -> list[str]:
    width = int((WIDTH - 50) / min(columns, 3) / (_LETTER + 0.7))
    return [escape(line, quote=False) for line in textwrap.wrap(title, width)]


def finished(figure: go.Figure) -> go.Figure:
    """The figure with its legend above the panels and a height that fits them all."""
    area, titles = figure.layout.meta["area"], _LINE * figure.layout.meta["titles"] + 8
    lines, used = 0, math.inf
    for trace in figure.data:
        if trace.showlegend:
            width = 48 + (_LETTER + 0.2) * len(trace.name)
            lines, used = (lines, used + width) if used + width < figure.layout.width - _AXIS else (lines + 1, width)
    top = titles + 20 * lines + 8
    look = {"x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top", "tracegroupgap": 0}
    figure.update_layout(legend={**look, "font": {"size": SMALL}}, margin_t=top)
    bottom = 52 if any(axis.title.text for axis in figure.select_xaxes()) else 30
    figure.update_layout(height=top + area + bottom)
    return figure


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
) -> None:
    """A line with the band of its interval, where it has one, and with marks where they have a symbol."""
    row, col = place
    if low:
        add_band(figure, x, low, high, fillcolor=fade(colour, 0.16), legendgroup=name, row=row, col=col)
    figure.add_scatter(
        name=name,
        legendgroup=name,
        showlegend=_first(figure, name),
        x=list(x),
        y=list(mean),
        mode="lines+markers" if symbol else "lines",
        line={"color": colour, "width": width, "dash": dash},
        marker={"size": 5, "symbol": symbol or None},
        hovertemplate="%{x:g}: %{y:.3g}" + f"<extra>{escape(name)}</extra>",
        row=row,
        col=col,
    )


def points(
    figure: go.Figure,
    place: Place,
    x: Sequence[float],
    values: Sequence[Mapping[str, float | None] | None],
    *,
    name: str,
    colour: str = CONTROL_COLOUR,
    symbol: str = "circle",
    across: bool = False,
) -> None:
    """A mark for each value ({"mean", "low", "high"}) with its interval as a bar; `across`: values to the right."""
    known = [(at, value) for at, value in zip(x, values, strict=True) if value and value["mean"] is not None]
    mean = [value["mean"] for _, value in known]
    ends = {end: [_distance(value["mean"], value[end]) for _, value in known] for end in ("low", "high")}
    bars = {
        "type": "data",
        "array": ends["high"],
        "arrayminus": ends["low"],
        "thickness": 1.4,
        "width": 0,
        "color": colour,
    }
    at = [position for position, _ in known]
    axes: dict[str, Any] = {"x": mean, "y": at, "error_x": bars} if across else {"x": at, "y": mean, "error_y": bars}
    figure.add_scatter(
        **axes,
        name=name,
        legendgroup=name,
        showlegend=_first(figure, name),
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 1.4, "color": colour}},
        hovertemplate=("%{x:.3g}" if across else "%{y:.3g}") + f"<extra>{escape(name)}</extra>",
        row=place[0],
        col=place[1],
    )


def _distance(mean: float | None, end: float | None) -> float:
    return 0.0 if mean is None or end is None else abs(end - mean)


def level(figure: go.Figure, place: Place, value: float) -> None:
    """A thin line right through a panel: what chance gives, or no difference."""
    line = {"color": INK, "width": 1}
    figure.add_hline(value, line=line, layer="above", row=place[0], col=place[1])  # "below" hides under grid lines


def key(figure: go.Figure, name: str, dash: str = "solid", symbol: str = "") -> None:
    """An entry of the legend, after all others, for lines that look alike but for their colour."""
    colour = INK if symbol else CONTROL_COLOUR
    curve(figure, (1, 1), [math.nan], [None], name=name, colour=colour, dash=dash, width=1.4, symbol=symbol)
    figure.data[-1].update(showlegend=True, legendrank=2000)


def layer_ticks(figure: go.Figure, layers: Collection[int], row: int | None = None) -> None:
    """Whole layers, with a little room beside the first and the last."""
    extent = max(layers) - min(layers)
    margin = 0.3 + extent / 40
    ends = [min(layers) - margin, max(layers) + margin]
    figure.update_xaxes(dtick=1 if extent <= 6 else 5 if extent <= 30 else 10, range=ends, row=row)


def fit_y(figure: go.Figure, row: int, *, floor: float, ceiling: float) -> None:
    """Let a row of panels reach from the floor to the ceiling, and further where what it shows does."""
    axes = {axis.anchor.replace("x", "y") for axis in figure.select_yaxes(row=row)}
    shown = [y for trace in figure.data if trace.yaxis in axes for y in trace.y or () if y is not None]
    low, high = min([floor, *shown]), max([ceiling, *shown])
    figure.update_yaxes(range=[low - 0.04 * (high - low), high + 0.04 * (high - low)], row=row)


def _first(figure: go.Figure, name: str) -> bool:
    return all(trace.name != name or not trace.showlegend for trace in figure.data)
