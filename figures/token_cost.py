"""What an answer costs and how often it is right: `python -m figures.token_cost RESULTS --out DIR`.

Reads `table.json`, which `interp train` writes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import plotly.graph_objects as go
from annotated_types import Gt, Lt

from figures.looks import SMALL, finished, model_looks, panels, points
from figures.results import ENDS, Amount, main, many, read_results
from interp.reports.page import Drawn
from interp.reports.style import INK, fade
from interp.reports.words import percent
from interp.storage.files import Whole, entries

_TITLES = {
    "single": "Single",
    "vote": "Vote",
    "debate": "Debate",
    "debategpt": "DebateGPT",
    "sft": "SFT",
    "imad": "IMAD (internalized)",
}
_COST = {"accuracy": ENDS, "input_tokens": Amount, "output_tokens": Annotated[float, Gt(0), Lt(2**53)]}
_SEED: Any = entries(**_COST)
_ROW = entries(method=Literal[*_TITLES], task=str, questions=Whole, by_seed=dict[str, _SEED], **_COST)
_KIND = entries(rows=many(_ROW, 1))
_SYMBOLS = {"single": "circle", "vote": "square", "debate": "diamond"}
_LOOKS = model_looks(["base", "debategpt", "sft", "imad"])
_PLOT = (400, 250)  # pixels of the panel, near enough to place words
_HIGHEST = 1.06
_LETTER, _ASIDE = 7.0, 9  # pixels: the width of a letter, and from a point to its word
_ANCHORS = {1: "left", 0: "center", -1: "right"}
_PLACES = ((1, 0), (-1, 0), (1, 16), (1, -16), (-1, 16), (-1, -16), (0, -32), (0, 32), (0, -48), (0, 48))


def token_cost(table: dict[str, Any]) -> go.Figure:
    """Accuracy over tokens per question, input and output, on a logarithmic axis: a point for each method.

    If a trained method has several seeds, each of them is a faint point.
    """
    rows = [row for row in table["rows"] if row["method"] in _TITLES]
    seeds = {row["method"]: list(row["by_seed"].values()) if len(row["by_seed"]) > 1 else [] for row in rows}
    figure = panels(1, 1, x="tokens per question, in and out", y=("right answers",), height=_PLOT[1])
    for row in rows:
        name, colour = _TITLES[row["method"]], _LOOKS.get(row["method"], _LOOKS["base"]).colour
        hover = ": %{x:.0f} tokens, %{y:.1%}<extra></extra>"
        x, y = [_tokens(one) for one in seeds[row["method"]]], [one["accuracy"]["mean"] for one in seeds[row["method"]]]
        faint = {"mode": "markers", "marker": {"color": fade(colour, 0.35), "size": 7}, "showlegend": False}
        figure.add_scatter(x=x, y=y, name=f"{name}, one seed", hovertemplate=f"{name}, one seed{hover}", **faint)
        symbol = _SYMBOLS.get(row["method"], "circle")
        points(figure, (1, 1), [_tokens(row)], [row["accuracy"]], name=name, colour=colour, symbol=symbol)
        figure.data[-1].update(showlegend=False, hovertemplate=name + hover)
    every = [*rows, *(one for each in seeds.values() for one in each)]
    tokens = [_tokens(row) for row in every]
    low, high = math.log10(min(tokens)) - 0.15, math.log10(max(tokens)) + 0.15
    across = [(math.log10(each) - low) / (high - low) * _PLOT[0] for each in tokens]
    up = [row["accuracy"]["mean"] / _HIGHEST * _PLOT[1] for row in every]
    words = [_TITLES[row["method"]] for row in rows]
    for row, word, (side, dy) in zip(rows, words, placed(words, across, up), strict=True):
        place = {"x": math.log10(_tokens(row)), "y": row["accuracy"]["mean"], "xshift": _ASIDE * side, "yshift": dy}
        font = {"size": SMALL + 1, "color": INK}
        figure.add_annotation(text=word, showarrow=False, font=font, xanchor=_ANCHORS[side], **place)
    ticks = [k * 10**n for n in range(6) for k in ((1, 2, 5) if high - low > 1 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8))]
    figure.update_xaxes(type="log", range=[low, high], tickvals=ticks, tickformat=",")
    figure.update_yaxes(range=[0, _HIGHEST], tickformat=".0%")
    return finished(figure)


def placed(words: Sequence[str], across: Sequence[float], up: Sequence[float]) -> list[tuple[int, int]]:
    """Where each word goes: right of its point (1), left of it (-1) or centred (0), and how many pixels higher.

    Points without a word come last. A word goes to the first place where it covers no point, bar or word.
    """
    bars = [22] * len(words) + [5] * (len(up) - len(words))
    taken = [(x - 6, y - bar, x + 6, y + bar) for x, y, bar in zip(across, up, bars, strict=True)]
    found = []
    for word, x, y in zip(words, across, up, strict=False):
        long = _LETTER * len(word)
        boxes = {}
        for side, dy in _PLACES:
            left = x + _ASIDE * side - long * (1 - side) / 2
            boxes[side, dy] = (left, y + dy - 8, left + long, y + dy + 8)
        best = min(_PLACES, key=lambda place: _cost(boxes[place], taken))
        taken.append(boxes[best])
        found.append(best)
    return found


def _cost(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> int:
    left, bottom, right, top = box
    outside = left < 0 or right > _PLOT[0] or bottom < 0 or top > _PLOT[1]
    return sum(left < x1 and x0 < right and bottom < y1 and y0 < top for x0, y0, x1, y1 in taken) + 2 * outside


def _tokens(row: dict[str, Any]) -> float:
    return float(row["input_tokens"] + row["output_tokens"])


def caption(table: dict[str, Any]) -> str:
    """What is shown, and n."""
    row = {row["method"]: row for row in table["rows"]}
    first = table["rows"][0]
    text = (
        f"What an answer costs ({first['task']}): share of right answers over tokens per question, all calls of a "
        f"method together, on a logarithmic axis; n = {first['questions']:,} questions that no stage has seen. Bars "
        "are 95 % intervals over questions. Single, Vote and Debate use the base model; DebateGPT, SFT and IMAD are "
        "trained on its debates and asked once."
    )
    if "imad" in row and "debate" in row:
        share = _tokens(row["imad"]) / _tokens(row["debate"])
        text += f" IMAD uses {percent(share)} of the tokens of Debate."
    seeds = max((len(each["by_seed"]) for each in table["rows"]), default=0)
    pooled = f" Faint points are the {seeds} seeds of training, which the others pool: their bars are over seeds, too."
    return text + pooled * (seeds > 1)


def verdict(table: dict[str, Any]) -> str:
    """What a right answer costs, inside and outside."""
    row = {row["method"]: row for row in table["rows"]}
    each = [
        f"{_TITLES[name].partition(' ')[0]} is right in {percent(row[name]['accuracy']['mean'])} with "
        f"{_tokens(row[name]):,.0f} tokens a question"
        for name in ("imad", "debate", "single")
        if name in row
    ]
    return f"{'; '.join(each[:2])}." if each else ""


def draw(folder: Path) -> list[Drawn]:
    """The figure of a folder of results. Raises `UserError` if there is no table."""
    path = folder / "table.json"
    table = read_results(path, _KIND, "interp train")
    title = "What does an answer cost, and how often is it right?"
    return [Drawn("token_cost", token_cost(table), caption(table), path.name, title, verdict(table))]


if __name__ == "__main__":
    main(draw, __doc__)
