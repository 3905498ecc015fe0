"""Figures of a set of directions: how well they separate, agree, and lie to one another, over layers.

Knows plotly and the numbers that extraction saves beside the directions (`facts`, laid out as in
`interp.reports.findings`). Knows nothing about models, tensors or how the numbers came about. Any number may be
None (not defined) and leaves a gap.

The directions are the mean differences of Latent Agents, section 5; the controls are ours.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float

from interp.directions.extract import Projections
from interp.reports.style import CONTROL_COLOUR, DIVERGING, INK, TEMPLATE, add_band, agent_colour, agent_dash, fade
from interp.reports.words import estimate, number, percent

_MOST_POINTS = 3000  # as many as a browser redraws without a pause when the slider moves
_SYMBOLS = ("circle", "diamond-open", "x-thin-open", "square-open", "triangle-up-open")
_Values = Sequence[float | None]
_Show = Callable[[float], str]


@dataclass(frozen=True)
class _Control:
    name: str
    dash: str
    band: dict[str, Any]


_SHUFFLED = _Control("shuffled labels", "dash", {"fillcolor": fade(CONTROL_COLOUR, 0.28)})
_HATCH = {"shape": "/", "size": 6, "solidity": 0.12, "fgcolor": CONTROL_COLOUR}
_RANDOM = _Control("random directions", "dot", {"fillpattern": _HATCH, "fillcolor": fade(CONTROL_COLOUR, 0)})


_ACTIVATIONS = {
    "hook_resid_post": "residual stream",
    "hook_attn_out": "attention output",
    "hook_mlp_out": "MLP output",
}


def activation_name(facts: dict[str, Any]) -> str:
    """What was read, in words: the residual stream or what a component adds to it."""
    hook = facts["hook_point"].rsplit(".", 1)[-1]
    return _ACTIVATIONS.get(hook, hook)


def separation_figure(facts: dict[str, Any], rounds: str = "all") -> go.Figure:
    """How often a held-out turn lies further along its own label's direction, over layers (an AUC).

    `rounds` is a key of `facts["evidence"]`: "all", or a round such as "1".
    """
    evidence = facts["evidence"][rounds]
    figure = go.Figure(layout=_layout("separation of held-out turns", facts))
    _add_control(figure, facts, evidence["separation_shuffled"], _SHUFFLED, percent)
    _add_control(figure, facts, evidence["separation_random"], _RANDOM, percent)
    _add_labels(figure, facts, evidence["separation"], percent)
    _add_level(figure, 0.5)
    shown = ("separation", "separation_shuffled", "separation_random")
    figure.update_yaxes(range=_range(0.4, [evidence[key] for key in shown]), tickformat=".0%")
    return figure


def reliability_figure(facts: dict[str, Any], rounds: str = "all") -> go.Figure:
    """The cosine between one label's directions from two halves of the questions, over layers.

    `rounds` is a key of `facts["evidence"]`: "all", or a round such as "1".
    """
    evidence = facts["evidence"][rounds]
    figure = go.Figure(layout=_layout("cosine between the two halves", facts))
    _add_control(figure, facts, evidence["reliability_shuffled"], _SHUFFLED, number)
    _add_labels(figure, facts, evidence["reliability"], number)
    _add_level(figure, 0.0)
    shown = ("reliability", "reliability_shuffled")
    figure.update_yaxes(range=_range(-0.2, [evidence[key] for key in shown]))
    return figure


def norm_figure(facts: dict[str, Any]) -> go.Figure:
    """The length of each raw mean difference as a share of the activations', over layers."""
    shares = [
        [None if None in (a, b) else a / b for a, b in zip(row, facts["residual_norm"], strict=True)]
        for row in facts["norm"]
    ]
    figure = go.Figure(layout=_layout("relative length", facts, height=300))
    _add_labels(figure, facts, {"mean": shares}, percent)
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return figure


def cosine_figure(facts: dict[str, Any], rounds: str = "all") -> go.Figure:
    """The cosine between every two labels' directions, with a slider over layers.

    `rounds` is a key of `facts["evidence"]`: "all", or a round such as "1".
    """
    cosine = facts["evidence"][rounds]["cosine"]
    names = [escape(label, quote=False) for label in facts["labels"]]
    rows = [_wrap(label, 16, 30) for label in facts["labels"]]
    columns = rows
    if len(rows) > 6 or max(map(len, rows)) > 10:  # no room to stand side by side: number them
        columns = [f"({k})" for k in range(1, len(rows) + 1)]
        rows = [f"{row} {column}" for row, column in zip(rows, columns, strict=True)]
    numbers = [[["" if v is None else number(v) for v in row] for row in matrix] for matrix in cosine]
    start = start_layer(facts)
    heatmap = go.Heatmap(
        x=names,
        y=names,
        z=cosine[start],
        text=numbers[start],
        texttemplate="%{text}",
        textfont={"size": 14 if len(names) < 5 else 11},
        hovertemplate="%{y} and %{x}: %{text}<extra></extra>",
        hoverongaps=False,
        colorscale=DIVERGING,
        zmin=-1,
        zmax=1,
        xgap=2,
        ygap=2,
        showscale=False,  # every cell carries its number
    )
    steps = [[{"z": [z], "text": [text]}] for z, text in zip(cosine, numbers, strict=True)]
    figure = go.Figure(heatmap, {"template": TEMPLATE, "height": max(480, 150 + 44 * len(names))})
    bare = {"showgrid": False, "showline": False, "ticks": "", "constrain": "domain", "tickvals": names}
    figure.update_xaxes(ticktext=columns, side="top", **bare)
    figure.update_yaxes(ticktext=rows, autorange="reversed", scaleanchor="x", ticklabelstandoff=6, **bare)
    return _add_slider(figure, facts["layers"], start, "restyle", steps, pad=24)


def projection_figure(facts: dict[str, Any], projections: Projections) -> go.Figure:
    """Turns along two directions, coloured by label, shaped by round, with a slider over layers.

    The direction of the second of two labels is that of the first reversed, so with two labels the
    height only keeps rounds apart. Of more than 3,000 turns, evenly spaced questions are drawn.
    """
    shown = drawn(projections)
    rounds = sorted(set(projections.round[shown].tolist()))
    flat = len(facts["labels"]) == 2
    # Turns of one row are spread over its height, in an order that has nothing to do with their place.
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(projections.round))
    heights = np.searchsorted(rounds, projections.round) + spread
    start = start_layer(facts)
    figure = go.Figure(layout={"template": TEMPLATE, "height": 590 + 10 * len(facts["labels"])})
    cells: list[np.ndarray] = []
    for k, name in enumerate(facts["labels"]):
        colour = agent_colour(k + 1)
        for r, round in enumerate(rounds):
            cell = shown & (projections.label == k) & (projections.round == round)
            cells.append(cell)
            hover = [
                f"{escape(name, quote=False)}, round {round}<br>{_wrap(projections.question[i], 60, 120)}"
                for i in np.flatnonzero(cell).tolist()
            ]
            figure.add_scatter(
                name=f"{escape(name, quote=False)}, round {round}",
                x=projections.x[start, cell],
                y=heights[cell] if flat else projections.y[start, cell],
                mode="markers",
                marker={"color": colour, "symbol": _SYMBOLS[r % len(_SYMBOLS)], "size": 7, "opacity": 0.6},
                text=hover,
                hovertemplate="%{text}<extra></extra>",
                legendgroup=name,
                showlegend=False,
            )
    for k, name in enumerate(facts["labels"]):
        _add_key(figure, _wrap(name, 40), "circle", agent_colour(k + 1), legendgroup=name)
    for r, round in enumerate(rounds):
        _add_key(figure, f"round {round}", _SYMBOLS[r % len(_SYMBOLS)], INK)

    drawings = [_drawing(projections, layer, shown, cells, flat) for layer in range(len(projections.layers))]
    first, second = (_wrap(axis, 24) for axis in projections.axes)
    axis = {"zeroline": True, "zerolinecolor": "#c4c4c4", "constrain": "domain"}
    figure.update_xaxes(title_text=f"along the direction of {first}", **axis)
    if flat:
        names = [f"round {round}" for round in rounds]
        figure.update_yaxes(tickvals=list(range(len(rounds))), ticktext=names, showgrid=False, ticks="")
        figure.update_layout(height=220 + 130 * len(rounds))
    else:
        figure.update_yaxes(title_text=f"along the direction of {second}", scaleanchor="x", **axis)
    figure.update_layout({key.replace(".", "_"): span for key, span in drawings[start][1].items()})
    return _add_slider(figure, projections.layers, start, "update", drawings, pad=64)


def _drawing(
    projections: Projections, layer: int, shown: np.ndarray, cells: list[np.ndarray], flat: bool
) -> tuple[dict[str, Any], dict[str, Any], list[int]]:
    """What plotly changes to show a layer: coordinates, ranges, and the traces that have them."""
    coordinates = {"x": projections.x[layer]}
    if not flat:
        coordinates["y"] = projections.y[layer]
    span = _span(np.concatenate([values[shown] for values in coordinates.values()]))
    data = {axis: [_short(values[cell]) for cell in cells] for axis, values in coordinates.items()}
    return data, {f"{axis}axis.range": span for axis in coordinates}, list(range(len(cells)))


def _layout(quantity: str, facts: dict[str, Any], height: int = 400) -> dict[str, Any]:
    """Layers to the right, the quantity upwards, and a mark at the best layer where there is one."""
    layers = facts["layers"]
    extent = layers[-1] - layers[0]
    layout: dict[str, Any] = {
        "template": TEMPLATE,
        "height": height + 10 * len(facts["labels"]),  # a row of the legend holds two on a phone
        "hovermode": "x unified",
        "xaxis": {
            "title": {"text": "layer"},
            "range": [layers[0] - 0.6, layers[-1] + 0.6],
            "dtick": 1 if extent <= 12 else 5 if extent <= 60 else 10,
            "showgrid": False,
        },
        "yaxis": {"title": {"text": quantity}},
    }
    if facts["best_layers"]:
        best = facts["best_layers"][0]
        side = "left" if best <= (layers[0] + layers[-1]) / 2 else "right"
        mark = {"type": "line", "x0": best, "x1": best, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        layout["shapes"] = [{**mark, "line": {"color": "#c4c4c4", "width": 1}}]
        place = {"x": best, "xanchor": side, "y": 0, "yref": "paper", "yanchor": "bottom", "showarrow": False}
        words = {"text": f"best layer: {best}", "font": {"size": 12, "color": "#666666"}}
        layout["annotations"] = [{**place, **words}]
    return layout


def _add_labels(figure: go.Figure, facts: dict[str, Any], quantity: dict[str, Any], show: _Show) -> None:
    """One line per label with the band of its interval, where the quantity has one."""
    layers = facts["layers"]
    undefined = [[None] * len(layers) for _ in facts["labels"]]
    lows, highs = quantity.get("low", undefined), quantity.get("high", undefined)
    for k, name in enumerate(facts["labels"]):  # all bands below all lines
        fill = fade(agent_colour(k + 1), 0.16)
        add_band(figure, layers, lows[k], highs[k], fillcolor=fill, legendgroup=name)
    for k, name in enumerate(facts["labels"]):
        colour = agent_colour(k + 1)
        figure.add_scatter(
            name=_wrap(name, 40),
            legendgroup=name,
            x=layers,
            y=quantity["mean"][k],
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": agent_dash(k + 1)},
            marker={"size": 4},
            text=[estimate(*v, show) for v in zip(quantity["mean"][k], lows[k], highs[k], strict=True)],
            hovertemplate="%{text}",
        )


def _add_control(
    figure: go.Figure,
    facts: dict[str, Any],
    quantity: dict[str, Any],
    control: _Control,
    show: _Show,
) -> None:
    """One grey line, the mean over the labels, with a band as wide as the widest of their ranges."""
    layers = facts["layers"]
    mean, low, high = over_labels(quantity)
    add_band(figure, layers, low, high, legendgroup=control.name, **control.band)
    figure.add_scatter(
        name=control.name,
        legendgroup=control.name,
        legendrank=2000,  # drawn below the labels, listed after them
        x=layers,
        y=mean,
        mode="lines",
        line={"color": CONTROL_COLOUR, "width": 2, "dash": control.dash},
        text=[estimate(*values, show) for values in zip(mean, low, high, strict=True)],
        hovertemplate="%{text}",
    )


def _add_level(figure: go.Figure, level: float) -> None:
    """A thin line at what chance gives."""
    line = {"color": INK, "width": 1}
    figure.add_shape(type="line", xref="paper", x0=0, x1=1, y0=level, y1=level, line=line, layer="below")


def _add_key(figure: go.Figure, name: str, symbol: str, colour: str, **options: Any) -> None:
    """An entry of the legend that stands for several traces."""
    marker = {"symbol": symbol, "color": colour, "size": 9, "line": {"width": 1.5, "color": colour}}
    figure.add_scatter(name=name, x=[None], y=[None], mode="markers", marker=marker, **options)


def _add_slider(
    figure: go.Figure,
    layers: Sequence[int],
    start: int,
    method: str,
    steps: Sequence[Sequence[Any]],
    pad: int,
) -> go.Figure:
    """Let a slider under the plot choose the layer; `steps[l]` are plotly's arguments for layer l."""
    slider = {
        "active": start,
        "currentvalue": {"prefix": "layer ", "font": {"size": 15}, "xanchor": "left"},
        "steps": [
            {"label": str(layer), "method": method, "args": arguments}
            for layer, arguments in zip(layers, steps, strict=True)
        ],
    }
    look = {"pad": {"t": pad, "b": 4}, "ticklen": 4, "minorticklen": 2, "font": {"size": 12}}
    if len(layers) > 1:
        figure.update_layout(sliders=[{**slider, **look}])
    return figure


def drawn(projections: Projections) -> Bool[np.ndarray, " turn"]:
    """Which turns the projection figure draws: all, or those of evenly spaced questions."""
    questions = list(dict.fromkeys(projections.question))
    step = math.ceil(len(projections.question) / _MOST_POINTS)
    chosen = set(questions[::step])
    return np.array([question in chosen for question in projections.question])


def start_layer(facts: dict[str, Any]) -> int:
    """The index of the best layer, or of the middle one where none is known to be best."""
    layers: list[int] = facts["layers"]
    return layers.index(facts["best_layers"][0]) if facts["best_layers"] else len(layers) // 2


def over_labels(quantity: dict[str, Any]) -> tuple[_Values, _Values, _Values]:
    """At every layer, the mean over the labels, the lowest of their lows and the highest of their highs."""

    def reduced(part: str, reduce: Callable[[list[float]], float]) -> _Values:
        columns = ([v for v in column if v is not None] for column in zip(*quantity[part], strict=True))
        return [reduce(known) if known else None for known in columns]

    return reduced("mean", fmean), reduced("low", min), reduced("high", max)


def _range(floor: float, quantities: list[dict[str, Any]]) -> list[float]:
    """From the floor, or a little under the lowest value, to a little over 1."""
    rows = [row for quantity in quantities for row in quantity["mean"] + quantity["low"]]
    return [min([floor, *(value - 0.03 for row in rows for value in row if value is not None)]), 1.03]


def _span(values: Float[np.ndarray, " n"]) -> list[float] | None:
    """The range that holds all of the values with a margin; None where there is none to show."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    margin = 0.06 * float(known.max() - known.min())
    return [float(known.min()) - margin, float(known.max()) + margin]


def _short(values: Float[np.ndarray, " n"]) -> list[float]:
    """Values rounded to a thousandth of the largest, which no eye can tell and a file is glad of."""
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    decimals = 3 - math.floor(math.log10(largest)) if largest > 0 else 0
    return [float(v) for v in np.round(values.astype(np.float64), decimals)]


def _wrap(text: str, width: int = 18, most: int = 60) -> str:
    """Text on lines of `width`, cut after `most` letters, escaped: plotly reads text as HTML."""
    lines = textwrap.wrap(text if len(text) <= most else text[: most - 1] + "…", width)
    return "<br>".join(escape(line, quote=False) for line in lines)
