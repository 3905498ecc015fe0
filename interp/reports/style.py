"""The look that every figure shares: one colour per agent and one per model, greys for controls, nothing decorative.

Knows colours, fonts, plotly layout and bands. Does not know what is plotted. The agents' colours are those of
Okabe and Ito (2008), the models' those of Tol's "muted" scheme (2021): people with any of the common colour
blindnesses can tell each set apart. Yellow comes last because it is faint on white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePath
from typing import Any

import plotly.graph_objects as go

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "#222222"
CONTROL_COLOUR = "#8a8a8a"

_AGENTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#f0e442")
_DASHES = ("solid", "dash", "dot")


def agent_colour(agent: int) -> str:
    """The colour of an agent, numbered from 1, in every figure; the ninth shares that of the first."""
    return _AGENTS[(agent - 1) % len(_AGENTS)]


def agent_dash(agent: int) -> str:
    """The dash of an agent's line: solid for the first eight, so that no two of 24 look the same."""
    return _DASHES[(agent - 1) // len(_AGENTS) % len(_DASHES)]


@dataclass(frozen=True)
class ModelLook:
    """How a model is called and drawn in every figure."""

    label: str
    colour: str


_ROLES = {
    "debategpt": ModelLook("DebateGPT", "#44aa99"),
    "sft": ModelLook("SFT", "#aa4499"),
    "imad": ModelLook("internalized", "#332288"),
    "untrained": ModelLook("untrained", "#cc6677"),
}
BASE = ModelLook("base", "#b98a00")
_FURTHER = ("#332288", "#882255", "#117733", "#88ccee", "#999933")


def model_looks(names: Sequence[str]) -> dict[str, ModelLook]:
    """The look of each model, the base first.

    What training leaves is known by its name (`…-imad`, `seed-0/sft`), and so is `untrained`; others but the first,
    and a second one of a kind, keep the last two parts of their names and get a colour that is still free.
    """
    looks: dict[str, ModelLook] = {}
    for i, name in enumerate(names):
        short = _short(name)
        known = next((look for role, look in _ROLES.items() if short.endswith(role)), None)
        taken = {look.colour for look in looks.values()}
        if known is not None and known.colour not in taken:
            looks[name] = known
        elif i == 0:
            looks[name] = BASE
        else:
            free = [colour for colour in _FURTHER if colour not in taken]
            looks[name] = ModelLook(short, (free or _FURTHER)[0])
    return looks


def _short(name: str) -> str:
    return "/".join(PurePath(name).parts[-2:])


def who_is_who(looks: Mapping[str, ModelLook]) -> str:
    """What the labels stand for, in words for a caption: base is organism, internalized is organism-imad."""
    named = [(look.label, _short(name)) for name, look in looks.items()]
    return ", ".join(f"{label} is {name}" for label, name in named if label != name)


def fade(colour: str, opacity: float) -> str:
    """A `#rrggbb` colour at an opacity between 0 and 1, as plotly and CSS write it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


_AXIS = {
    "showgrid": True,
    "gridcolor": "#ececec",
    "zeroline": False,
    "showline": True,
    "linecolor": "#8a8a8a",
    "ticks": "outside",
    "tickcolor": "#8a8a8a",
    "ticklen": 4,
    "title": {"standoff": 8},
    "automargin": True,
}


def add_band(
    figure: go.Figure,
    x: Sequence[float],
    low: Sequence[float | None],
    high: Sequence[float | None],
    **style: Any,
) -> None:
    """A polygon around each run of values of x whose interval is defined; a lone one gets a thin polygon.

    `style` goes to the trace, with `row` and `col` where there are several plots.
    """
    outline: list[float | None] = []
    y: list[float | None] = []
    bounded = [None not in pair for pair in zip(low, high, strict=True)]
    for known, run in groupby(range(len(x)), bounded.__getitem__):
        if known:
            indices = list(run)
            across = [float(x[i]) for i in indices]
            under, over = [low[i] for i in indices], [high[i] for i in indices]
            if len(indices) == 1:
                across, under, over = [across[0] - 0.15, across[0] + 0.15], under * 2, over * 2
            outline += [*across, *across[::-1], across[0], None]
            y += [*under, *over[::-1], under[0], None]
    figure.add_scatter(
        x=outline, y=y, mode="lines", line={"width": 0}, fill="toself", hoverinfo="skip", showlegend=False, **style
    )


# Teal for −1, white for unrelated, brown for +1: safe for the colour-blind, and no agent's colours.
DIVERGING = ((0.0, "#01665e"), (0.25, "#a3d6ce"), (0.5, "#ffffff"), (0.75, "#e8d1a4"), (1.0, "#8c510a"))

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 14, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "colorway": _AGENTS,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 12, "r": 16, "t": 12, "b": 12},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 13},
        },
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": "#8a8a8a", "font": {"color": INK, "size": 13}},
    }
)
"""For `fig.update_layout(template=TEMPLATE)`: white ground, system fonts, legend above the plot."""
