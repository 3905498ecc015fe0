"""A figure of what a model writes as it is steered along an agent's direction, with a slider over the coefficient."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.debate.transcript import before_tags
from interp.errors import UserError
from interp.evaluation.texts import ROUGE
from interp.reports.style import CONTROL_COLOUR, INK, TEMPLATE, agent_colour
from interp.statistics import grouped

Records = Sequence[Mapping[str, Any]]

_LINE = 18  # pixels of a line of text
_LETTERS = 34  # on a line of a column


def steered_texts(
    records: Records, after: str, along: str, *, model: str | None = None, layer: int | None = None, start: float = 0.0
) -> go.Figure:
    """Texts that continue after the tag of agent `after`, steered along the direction of agent `along`.

    Below them the mean ROUGE-L against each agent's own first turn; dotted, against that of `along` when steered along
    random directions. Model and layer are the records' first by default. Raises `UserError` if there are no such texts.

    >>> interp.reports.steered_texts([], "agent 1", "agent 2")
    Traceback (most recent call last):
    interp.errors.UserError: no texts after the tag of agent 1 along the direction of agent 2: give records of a sweep
    """
    there = [r for r in records if r["context"] == "turn" and r["before"] == after and model in (None, r["model"])]
    steered = next((r for r in there if r["direction"] == along and layer in (None, r["layer"])), None)
    if steered is None:
        raise UserError(f"no texts after the tag of {after} along the direction of {along}: give records of a sweep")
    here = [r for r in there if r["model"] == steered["model"] and r["layer"] in (None, steered["layer"])]
    own = grouped((r["coefficient"], r) for r in here if r["direction"] in (None, along))
    random = grouped((r["coefficient"], r) for r in here if (r["direction"] or "random ").startswith("random "))
    coefficients = sorted(own)
    if start not in own:
        raise UserError(f"start {start:g}: choose one of {', '.join(f'{c:g}' for c in coefficients)}")
    questions = list(dict.fromkeys(r["question"] for r in own[0.0]))[:3]
    written = ({r["question"]: before_tags(r["text"]).removeprefix(":").strip() for r in own[c]} for c in coefficients)
    columns = [[_wrapped(texts[question]) for question in questions] for texts in written]
    height = _LINE * (2 + max(text.count("<br>") + 1 for texts in columns for text in texts)) + 2
    figure = make_subplots(
        rows=2, cols=1, specs=[[{"type": "table"}], [{}]], row_heights=[height, 260], vertical_spacing=0.1
    )
    look = {"align": "left", "font": {"family": "monospace", "size": 13, "color": INK}}
    header = {"values": [f"<b>{_wrapped(question)}</b>" for question in questions], "fill_color": "#eeeeee", **look}
    for c, texts in zip(coefficients, columns, strict=True):
        cells = {"values": [[text] for text in texts], "fill_color": "#ffffff", **look}
        figure.add_trace(go.Table(header=header, cells=cells, visible=c == start), row=1, col=1)
    labels = own[0.0][0]["rouge"]
    dotted = {"color": CONTROL_COLOUR, "width": 2, "dash": "dot"}
    looks = [{"color": agent_colour(k), "width": 2.5} for k in range(1, len(labels) + 1)]
    named = [escape(label, quote=False) for label in labels]
    lines = [(f"{name}’s words", own, label, look) for name, label, look in zip(named, labels, looks, strict=True)]
    random_name = f"{escape(along, quote=False)}’s words, along random directions"
    for name, by, label, line in [*lines, (random_name, random, along, dotted)]:
        scores = [fmean(r["rouge"][label][ROUGE.index("rougeL")] for r in by[c]) for c in coefficients]
        figure.add_scatter(name=name, x=coefficients, y=scores, mode="lines", line=line, row=2, col=1)
    steps = []
    for i, c in enumerate(coefficients):
        shown = [*(j == i for j in range(len(coefficients))), *[True] * (len(labels) + 1)]
        moved = {"shapes[0].x0": c, "shapes[0].x1": c}
        steps.append({"label": f"{c:g}", "method": "update", "args": [{"visible": shown}, moved]})
    mark = {"type": "line", "x0": start, "x1": start, "y0": 0, "y1": 1, "yref": "y domain", "line_width": 1}
    slider = {"steps": steps, "currentvalue": {"prefix": "coefficient "}, "pad": {"t": 48}}
    figure.update_layout(
        {"template": TEMPLATE, "width": 960, "height": height + 500, "margin": dict.fromkeys("lrtb", 16)},
        shapes=[mark],  # where the slider stands
        sliders=[{"active": coefficients.index(start), **slider}],
        legend={"y": figure.layout.yaxis.domain[1] + 0.01},
    )
    figure.update_xaxes(title_text="coefficient")
    return figure.update_yaxes(title_text="ROUGE-L", rangemode="tozero")


def _wrapped(text: str) -> str:
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, _LETTERS) or [""]]
    return "<br>".join(escape(line, quote=False) for line in lines)
