"""Does a model that needed its debates keep its agents? `python -m figures.stepwise RESULTS --out DIR`

Reads `probes/stepwise.json`, which `interp probe stepwise --out RESULTS/probes` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NotRequired

import plotly.graph_objects as go
from pydantic import FiniteFloat

from figures.looks import finished, panels, points
from figures.probes import VERDICT, counted, read
from figures.results import KNOWN_ENDS, fit, main, many, tally
from interp.reports.page import Drawn
from interp.reports.style import CONTROL_COLOUR, add, fade, wrapped
from interp.storage.files import entries

_COLOURS = {"stepwise": "#332288", "side-by-side": "#117733", "direct": "#882255"}
_TITLES = ("A  right answers", "B  swaps obeyed", "C  swaps obeyed, both right", "D  answers decoded")
_ANSWERS = {
    "held out": ("circle", -0.2),
    "held out, debate read": ("square-open", 0.05),
    "held out, debate written": ("diamond-open", 0.3),
}
_WAYS = {"alignment search": "circle", "permuted agents": "circle-open"}
_PLACED = {"swaps obeyed": (1, 2), "swaps obeyed of right": (2, 1), "decoded": (2, 2)}
_RIGHT = "right answers"
_UNTRAINED = "untrained"

_FACT = entries(
    name=str,
    model=str | None,
    value=KNOWN_ENDS,
    by_seed=many(FiniteFloat | None, 1),
    questions=NotRequired[str],
    target=NotRequired[str],
    kind=NotRequired[str],
)
_READ = entries(asks=str, finding=many(str, 1), verdicts=many(VERDICT), tests=many(_FACT, 1))


def _wrong(found: dict[str, Any]) -> str:
    for fact in found["tests"]:
        if fact["name"] == _RIGHT and not ("questions" in fact and fact["model"] in (*_COLOURS, _UNTRAINED)):
            return f"{_RIGHT} lack their model or questions"
        named = re.fullmatch("agent [1-9][0-9]?", fact.get("target", "")) and "kind" in fact
        if fact["name"] in _PLACED and not named:
            return f"{fact['name']}: an entry lacks its target or kind"
    names = {(fact["name"], fact["model"]) for fact in found["tests"]}
    missing = [(name, kind) for name in (_RIGHT, *_PLACED) for kind in _COLOURS if (name, kind) not in names]
    return f"no {missing[0][0]} of {missing[0][1]}" if missing else ""


_KIND = fit(_READ, _wrong)


def stepwise(found: dict[str, Any]) -> go.Figure:
    """Right answers by kind of model; swaps obeyed and answers decoded by agent, each kind a colour."""
    figure = panels(2, 2, x=("", "agent"), y=("share", "", "share", ""), titles=_TITLES, height=160, shared="")
    for place, kind in enumerate(_COLOURS):
        for what, (symbol, offset) in _ANSWERS.items():
            for fact in _facts(found, name=_RIGHT, model=kind, questions=what):
                _mark(figure, (1, 1), place + offset, fact, kind, _COLOURS[kind], symbol)
    for name, panel in _PLACED.items():
        for i, (kind, colour) in enumerate(_COLOURS.items()):
            ways = _WAYS if name != "decoded" else {"probe": "circle"}
            for j, (way, symbol) in enumerate(ways.items()):
                for fact in _facts(found, name=name, model=kind, kind=way):
                    _mark(figure, panel, _agent(fact) + 0.27 * (i - 1.3) + 0.1 * j, fact, kind, colour, symbol)
        for control in _controls(found, name):
            symbol = "x-thin" if control["model"] == _UNTRAINED else "line-ew"
            _mark(figure, panel, _agent(control) + 0.45, control, "", CONTROL_COLOUR, symbol)
        agents = sorted({_agent(fact) for fact in _facts(found, name=name)})
        figure.update_xaxes(tickvals=agents, range=[min(agents) - 0.55, max(agents) + 0.6], row=panel[0], col=panel[1])
    kinds = [wrapped(kind, 9) for kind in _COLOURS]
    figure.update_xaxes(tickvals=[0, 1, 2], ticktext=kinds, tickangle=0, range=[-0.5, 2.5], row=1, col=1)
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.04])
    return finished(figure)


def _facts(found: dict[str, Any], **wanted: Any) -> Iterator[dict[str, Any]]:
    """The facts that say so."""
    for fact in found["tests"]:
        if all(fact.get(name) == value for name, value in wanted.items()):
            yield fact


def _controls(found: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Random weights; for swaps random subspaces of all models, for answers what the question alone gives."""
    for fact in _facts(found, name=name):
        if fact["model"] in (_UNTRAINED, None) or fact["kind"] == "random subspaces":
            yield fact


def _agent(fact: dict[str, Any]) -> int:
    return int(fact["target"].removeprefix("agent "))


def _mark(
    figure: go.Figure, panel: tuple[int, int], x: float, fact: dict[str, Any], name: str, colour: str, symbol: str
) -> None:
    """A mark with its interval, and a dot beside it for each seed."""
    points(figure, panel, [x], [fact["value"]], name=name, colour=colour, symbol=symbol)
    figure.data[-1].showlegend = figure.data[-1].showlegend and bool(name)
    seeds = [value for value in fact["by_seed"] if value is not None]
    dots = {"color": fade(colour, 0.35), "size": 3}
    hover = "%{y:.3g}" + "<extra>a seed</extra>"
    add(figure, panel, f"{name} seeds", x=[x + 0.035] * len(seeds), y=seeds, mode="markers", marker=dots)
    figure.data[-1].update(showlegend=False, hovertemplate=hover)


def caption(found: dict[str, Any]) -> str:
    """What is shown, and n; the conclusion of the experiment last."""
    seeds = max(len(fact["by_seed"]) for fact in found["tests"])
    trained = ", ".join(
        f"{fact['value']['mean']:.0%} in {kind}"
        for kind in _COLOURS
        for fact in _facts(found, name=_RIGHT, model=kind, questions="trained")
        if fact["value"]["mean"] is not None
    )
    return (
        f"{found['asks']} A: share of right answers to questions that no training saw; circles: given at once, "
        "squares: after a debate that the model reads, diamonds: after one that it writes (trained questions, at "
        f"once: {trained}). B: share of swaps obeyed, at the prompt's last token, of test questions whose median "
        "changes; filled circles: subspaces from alignment search, open circles: the same search with permuted "
        "agents; grey: random subspaces of each kind of model (bars), and the search on random "
        "weights (crosses). C: the same among swaps whose two questions the model answers right. D: how well a linear "
        "probe reads each agent's answer at that token; grey: random weights (crosses) and the question alone (bars). "
        f"Bars are 95 % intervals over seeds, dots are seeds; n = {seeds} seed{'s' * (seeds != 1)}. "
        f"{found['finding'][0]} {counted(found)}"
    )


def draw(folder: Path) -> list[Drawn]:
    """The figure of a folder of results. Raises `UserError` if there is no result."""
    path = folder / "probes" / "stepwise.json"
    found = read(path, _KIND)
    said = found["asks"], tally(one["outcome"] for one in found["verdicts"])
    return [Drawn("stepwise", stepwise(found), caption(found), f"probes/{path.name}", *said)]


if __name__ == "__main__":
    main(draw, __doc__)
