"""Figures of a set of directions over layers: separation, reliability, cosines, projections and lengths.

They are drawn from `facts`, the numbers that extraction saves beside the directions; None (not defined) leaves a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float
from plotly.subplots import make_subplots

from interp.reports import style
from interp.reports.findings import Facts, over_labels, start_layer
from interp.reports.style import Place, agent_colour, curve, fit_y, key, layer_ticks, wrapped
from interp.reports.words import Show, number, percent

if TYPE_CHECKING:
    from interp.directions.extract import Projections

_MOST_POINTS = 3000  # a browser redraws this many without a pause when the slider moves
_MOST_COORDINATES = 90_000  # over all layers, for a page of at most 2 MB
_SYMBOLS = ("circle", "diamond-open", "x-thin-open", "square-open", "triangle-up-open")
_PATTERN = {"shape": "/", "size": 6, "solidity": 0.12, "fgcolor": style.CONTROL_COLOUR}
_HATCH = {"fillpattern": _PATTERN, "fillcolor": style.fade(style.CONTROL_COLOUR, 0)}
_SHADE = {"fillcolor": style.fade(style.CONTROL_COLOUR, 0.28)}
_CONTROLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "untrained": ("an untrained model", "longdash", {"colour": "#cc6677"}),
    "text": ("the text alone", "dashdot", {"colour": "#998a5c"}),
    "shuffled": ("shuffled labels", "dash", {"fill": _SHADE}),
    "random": ("random directions", "dot", {"fill": _HATCH}),
}


def separation_figure(facts: Facts, rounds: str = "all") -> go.Figure:
    """How often a held-out turn lies further along its own label's direction, over layers (an AUC).

    `rounds`, here and below, is a key of `facts["evidence"]`: "all", or a round such as "1".

    >>> [trace.name for trace in interp.reports.separation_figure(found.facts).data if trace.name][:4]
    ['an untrained model', 'the text alone', 'shuffled labels', 'random directions']
    """
    return draw_evidence(_over_layers(facts, "separation of held-out turns"), (1, 1), facts, "separation", rounds)


def reliability_figure(facts: Facts, rounds: str = "all") -> go.Figure:
    """The cosine between one label's directions from two halves of the questions, over layers."""
    return draw_evidence(_over_layers(facts, "cosine between the two halves"), (1, 1), facts, "reliability", rounds)


def norm_figure(facts: Facts) -> go.Figure:
    """The length of each raw mean difference as a share of the activations' length, over layers."""
    whole = facts["residual_norm"]
    shares = [[None if None in ab else ab[0] / ab[1] for ab in zip(row, whole, strict=True)] for row in facts["norm"]]
    figure = _over_layers(facts, "relative length", height=300)
    undefined = [[None] * len(whole)] * len(shares)
    _draw_labels(figure, (1, 1), facts, {"mean": shares, "low": undefined, "high": undefined}, percent)
    return figure.update_yaxes(rangemode="tozero", tickformat=".0%")


def measured(facts: Facts, rounds: str = "all") -> dict[str, Any]:
    """The evidence, with the text's separation as if the text had layers."""
    evidence, n = facts["evidence"][rounds], len(facts["layers"])
    text = evidence.get("controls", {}).get("text")
    held = {part: [[value] * n for value in values] for part, values in text.items()} if text else None
    return {**evidence, "separation_text": held}


def draw_evidence(figure: go.Figure, place: Place, facts: Facts, quantity: str, rounds: str = "all") -> go.Figure:
    """Draw "separation" or "reliability" into a panel: a line for each label, others for controls, and chance."""
    separation, evidence = quantity == "separation", measured(facts, rounds)
    show = percent if separation else number
    for control, (name, dash, special) in _CONTROLS.items():
        if values := evidence.get(f"{quantity}_{control}"):
            look: dict[str, Any] = {"name": name, "colour": style.CONTROL_COLOUR, "dash": dash, **special}
            curve(figure, place, facts["layers"], *over_labels(values), show=show, **look)
            figure.data[-1].legendrank = 2000  # after the labels
    _draw_labels(figure, place, facts, evidence[quantity], show)
    style.level(figure, place, 0.5 if separation else 0.0)
    figure.data = sorted(figure.data, key=lambda trace: trace.fill != "toself")  # all bands below all lines
    fit_y(figure, place[0], floor=0.4 if separation else -0.2, ceiling=1.0)
    return figure.update_yaxes(tickformat=".0%" if separation else None, row=place[0])


def _draw_labels(figure: go.Figure, place: Place, facts: Facts, quantity: dict[str, Any], show: Show) -> None:
    for k, name in enumerate(facts["labels"]):
        parts = [quantity[part][k] for part in ("mean", "low", "high")]
        dash = ("solid", "dash", "dot")[k // 8 % 3]  # there are eight colours
        look: dict[str, Any] = {"colour": agent_colour(k + 1), "dash": dash, "symbol": "circle"}
        curve(figure, place, facts["layers"], *parts, name=wrapped(name, 40, 60), show=show, **look)


def _over_layers(facts: Facts, quantity: str, height: int = 400) -> go.Figure:
    """An empty plot as wide as its page, with a mark at the best layer."""
    layers, figure = facts["layers"], make_subplots(1, 1)
    # a row of the legend holds two labels on a phone
    figure.update_layout(template=style.TEMPLATE, height=height + 10 * len(facts["labels"]), hovermode="x unified")
    figure.update_xaxes(title_text="layer", showgrid=False)
    figure.update_yaxes(title_text=quantity, nticks=10)
    layer_ticks(figure, layers, room=2)
    for best in facts["best_layers"][:1]:
        mark = {"type": "line", "x0": best, "x1": best, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        figure.add_shape(**mark, line={"color": style.MARK_COLOUR, "width": 1})
        side = "left" if best <= (layers[0] + layers[-1]) / 2 else "right"
        place = {"x": best, "xanchor": side, "y": 0, "yref": "paper", "yanchor": "bottom", "showarrow": False}
        figure.add_annotation(text=f"best layer: {best}", font={"size": 12, "color": "#666666"}, **place)
    return figure


def cosine_figure(facts: Facts, rounds: str = "all") -> go.Figure:
    """The cosine between every two labels' directions, with a slider over layers."""
    cosine = facts["evidence"][rounds]["cosine"]
    names = [escape(label, quote=False) for label in facts["labels"]]
    rows = columns = [wrapped(label, 16, 30) for label in facts["labels"]]
    if len(rows) > 6 or max(map(len, rows)) > 10:  # too wide to stand side by side: number them
        columns = [f"({k})" for k in range(1, len(rows) + 1)]
        rows = [f"{row} {column}" for row, column in zip(rows, columns, strict=True)]
    numbers = [[["" if v is None else number(v) for v in row] for row in matrix] for matrix in cosine]
    start = start_layer(facts)
    look = {"colorscale": style.DIVERGING, "zmin": -1, "zmax": 1, "xgap": 2, "ygap": 2, "hoverongaps": False}
    look |= {"texttemplate": "%{text}", "hovertemplate": "%{y} and %{x}: %{text}<extra></extra>"}
    look |= {"textfont": {"size": 14 if len(names) < 5 else 11}, "showscale": False}  # every cell carries its number
    heatmap = go.Heatmap(x=names, y=names, z=cosine[start], text=numbers[start], **look)
    figure = go.Figure(heatmap, {"template": style.TEMPLATE, "height": max(480, 150 + 44 * len(names))})
    bare = {"showgrid": False, "showline": False, "ticks": "", "constrain": "domain", "tickvals": names}
    figure.update_xaxes(ticktext=columns, side="top", **bare)
    figure.update_yaxes(ticktext=rows, autorange="reversed", scaleanchor="x", ticklabelstandoff=6, **bare)
    steps = [[{"z": [z], "text": [text]}] for z, text in zip(cosine, numbers, strict=True)]
    return _add_slider(figure, facts["layers"], start, "restyle", steps, pad=24)


def projection_figure(facts: Facts, projections: Projections) -> go.Figure:
    """Turns along two directions, coloured by label, shaped by round, with a slider over layers.

    With two labels the second direction is the first reversed, so the height only keeps rounds apart. Of more than
    3,000 turns, those of evenly spaced questions are drawn.

    >>> extraction = interp.extract_directions(model, transcripts[:10])
    >>> figure = interp.reports.projection_figure(extraction.directions.facts, extraction.projections)
    >>> len(figure.layout.sliders[0].steps)
    4
    """
    shown, start, pairs = drawn_turns(projections), start_layer(facts), facts["by"] == "pair"
    labels: Sequence[str] = projections.labels if pairs else facts["labels"]
    rounds = sorted(set(projections.round[shown].tolist()))
    flat = len(labels) == 2
    # Turns of one row are spread over its height, in random order.
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(projections.round))
    heights = np.searchsorted(rounds, projections.round) + spread
    figure = go.Figure(layout={"template": style.TEMPLATE, "height": 590 + 10 * len(labels)})
    symbols = {round: _SYMBOLS[r % len(_SYMBOLS)] for r, round in enumerate(rounds)}
    cells: list[np.ndarray] = []
    for (k, name), (round, symbol) in product(enumerate(labels), symbols.items()):
        cell = shown & (projections.label == k) & (projections.round == round)
        cells.append(cell)
        title = escape(name, quote=False) + ("" if pairs else f", round {round}")
        text = [f"{title}<br>{wrapped(projections.question[i], 60, 120)}" for i in np.flatnonzero(cell).tolist()]
        mark = {"color": agent_colour(k + 1), "symbol": symbol, "size": 7, "opacity": 0.6}
        look = {"mode": "markers", "marker": mark, "hovertemplate": "%{text}<extra></extra>", "showlegend": False}
        y = heights[cell] if flat else projections.y[start, cell]
        figure.add_scatter(name=title, x=projections.x[start, cell], y=y, text=text, legendgroup=name, **look)
    for k, name in enumerate(labels):
        key(figure, wrapped(name, 40, 60), symbol="circle", colour=agent_colour(k + 1), legendgroup=name)
    for round, symbol in () if pairs else symbols.items():
        key(figure, f"round {round}", symbol=symbol, colour=style.INK)

    axes = facts["labels"] * 2 if pairs else labels
    across, up = (f"along the direction of {wrapped(axis, 24, 60)}" for axis in axes[:2])
    axis = {"zeroline": True, "zerolinecolor": style.MARK_COLOUR, "constrain": "domain"}
    figure.update_xaxes(title_text=across, **axis)
    if flat:
        names = ["" if pairs else f"round {round}" for round in rounds]
        figure.update_yaxes(tickvals=list(range(len(rounds))), ticktext=names, showgrid=False, ticks="")
        figure.update_layout(height=220 + 130 * len(rounds))
    else:
        figure.update_yaxes(title_text=up, scaleanchor="x", **axis)
    coordinates = {"x": projections.x} if flat else {"x": projections.x, "y": projections.y}
    layers = range(len(projections.layers))
    drawings = [_drawing({axis: of[i] for axis, of in coordinates.items()}, shown, cells) for i in layers]
    figure.update_layout({name.replace(".", "_"): span for name, span in drawings[start][1].items()})
    return _add_slider(figure, projections.layers, start, "update", drawings, pad=64)


def _drawing(coordinates: dict[str, np.ndarray], shown: np.ndarray, cells: list[np.ndarray]) -> list[Any]:
    """What plotly changes to show a layer: coordinates, ranges, and the traces that have them."""
    known = np.concatenate([values[shown] for values in coordinates.values()])
    known = known[np.isfinite(known)]
    span = None
    if known.size:
        low, high = float(known.min()), float(known.max())
        span = [low - 0.06 * (high - low), high + 0.06 * (high - low)]
    data = {axis: [_short(values[cell]) for cell in cells] for axis, values in coordinates.items()}
    return [data, {f"{axis}axis.range": span for axis in coordinates}, list(range(len(cells)))]


def _add_slider(
    figure: go.Figure, layers: Sequence[int], start: int, method: str, arguments: Sequence[list[Any]], pad: int
) -> go.Figure:
    """A slider under the plot if there are several layers; `arguments` of plotly's method for each layer."""
    steps = [{"label": str(layer), "method": method, "args": a} for layer, a in zip(layers, arguments, strict=True)]
    now = {"prefix": "layer ", "font": {"size": 15}, "xanchor": "left"}
    look = {"currentvalue": now, "ticklen": 4, "minorticklen": 2, "font": {"size": 12}, "pad": {"t": pad, "b": 4}}
    return figure.update_layout(sliders=[{"active": start, "steps": steps, **look}] if len(layers) > 1 else [])


def drawn_turns(projections: Projections) -> Bool[np.ndarray, " turn"]:
    """Which turns the projection figure draws: all, or those of evenly spaced questions."""
    most = min(_MOST_POINTS, _MOST_COORDINATES // len(projections.layers))
    step = math.ceil(len(projections.question) / most)
    chosen = set(list(dict.fromkeys(projections.question))[::step])
    return np.array([question in chosen for question in projections.question])


def _short(values: Float[np.ndarray, " n"]) -> list[float]:
    """Values rounded to a thousandth of the largest: invisible, and the file is smaller."""
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    decimals = 3 - math.floor(math.log10(largest)) if largest > 0 else 0
    return [float(v) for v in np.round(values.astype(np.float64), decimals)]
