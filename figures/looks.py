"""The look of figures: what a model is called and which colour it has; panels, and points with bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any, NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.reports.style import INK, TEMPLATE, Place, add, mark, wrapped
from interp.reports.words import Names

WIDTH = 480
"""Pixels: in a column of 3.3 inches, text of 14 is then 7 points high, and that of 12 is 6."""
SMALL = 12
_LETTER = 6.6  # mean width in pixels of a letter of size SMALL
_LINE = 16  # height in pixels of a line of titles
_AXIS = 85  # pixels of the width that an axis takes; a legend is as wide as the rest
Marks = Sequence[Mapping[str, Any] | None]


class ModelLook(NamedTuple):
    """A model's label and colour in every figure. Safe for the colour-blind, and no agent's: Tol's "muted" (2021)."""

    label: str
    colour: str


_ROLES = {
    "debategpt": ModelLook("DebateGPT", "#44aa99"),
    "sft": ModelLook("SFT", "#aa4499"),
    "imad": ModelLook("internalized", "#332288"),
    "untrained": ModelLook("untrained", "#cc6677"),
}
_BASE = ModelLook("base", "#b98a00")
_OTHERS = ("#332288", "#882255", "#117733", "#88ccee", "#999933")


def model_looks(names: Sequence[str]) -> dict[str, ModelLook]:
    """The look of each model, the base first.

    Trained models are recognised by name (`…-imad`, `seed-0/sft`), and so is `untrained`. Others after the first,
    and a second one of a kind, keep the last two parts of their names and get an unused colour.
    """
    looks: dict[str, ModelLook] = {}
    for i, name in enumerate(names):
        short, taken = _short(name), {look.colour for look in looks.values()}
        fitting = [look for role, look in _ROLES.items() if short.endswith(role) and look.colour not in taken]
        unused = [ModelLook(short, colour) for colour in _OTHERS if colour not in taken]
        looks[name] = [*fitting, *([_BASE] if i == 0 else unused), ModelLook(short, _OTHERS[0])][0]
    return looks


def _short(name: str) -> str:
    return "/".join(PurePath(name).parts[-2:]).replace("<", "‹")  # plotly reads names as HTML


def who_is_who(looks: Mapping[str, ModelLook]) -> str:
    """What the labels stand for, for a caption: base is organism, internalized is organism-imad."""
    return ", ".join(f"{look.label} is {_short(name)}" for name, look in looks.items() if look.label != _short(name))


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


def points(
    figure: go.Figure, place: Place, x: Sequence[float], values: Marks, *, name: str, across: bool = False, **look: str
) -> None:
    """A mark for each value ({"mean", "low", "high"}) with its interval as a bar; `across`: values along x.

    `look` is a colour (grey), and a symbol (a circle).
    """
    drawn = mark(**look)
    known = [(at, value) for at, value in zip(x, values, strict=True) if value and value["mean"] is not None]
    at, mean = [at for at, _ in known], [value["mean"] for _, value in known]
    low, high = ([0.0 if v[end] is None else abs(v[end] - v["mean"]) for _, v in known] for end in ("low", "high"))
    bars = {"type": "data", "array": high, "arrayminus": low, "thickness": 1.4, "width": 0, "color": drawn["color"]}
    axes: dict[str, Any] = {"x": mean, "y": at, "error_x": bars} if across else {"x": at, "y": mean, "error_y": bars}
    hover = ("%{x:.3g}" if across else "%{y:.3g}") + f"<extra>{escape(name)}</extra>"
    add(figure, place, name, mode="markers", marker=drawn, hovertemplate=hover, **axes)
