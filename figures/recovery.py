"""What the instrument can see where the truth is known: `python -m figures.recovery RESULTS --out DIR`

Reads `probes/recovery.json`, which `interp probe recovery --out RESULTS/probes` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NotRequired

import plotly.graph_objects as go
from pydantic import FiniteFloat

from figures.looks import ModelLook, finished, model_looks, panels, points
from figures.probes import counted, read
from figures.results import ENDS, KNOWN_ENDS, fit, main, many, tally
from interp.reports.page import Drawn
from interp.reports.style import CONTROL_COLOUR, agent_colour, key, wrapped
from interp.reports.words import joined_words
from interp.storage.files import Whole, entries

_USES = ("read", "interchange", "add", "ablate", "suppress")
_OUTCOMES = Literal["shown", "not shown", "cannot tell"]
_MARKS = {"shown": "circle", "not shown": "circle-open", "cannot tell": "diamond-open"}
_UNTRAINED = "untrained"
_TWIN = "#117733"
_LIE = ("the lie wins", "the honest answer", "lost where the lie decides nothing")
_OVER, _OF_RUN = "recovery", "recovery in one run"
_FATES: Any = entries(**dict.fromkeys(_LIE, KNOWN_ENDS))
_OF_LIE = entries(by=dict[str, _FATES], chosen=str | None)
_ROW = {"name": str, "model": str, "way": str, "use": str, "questions": Whole, "value": ENDS, "outcome": _OUTCOMES}
_ROW |= {"random": FiniteFloat, "angles": NotRequired[Any], "of the lie": NotRequired[_OF_LIE]}
_LISTS = {"tests": many(entries(**_ROW), 1), "finding": many(str, 1)}
_LISTS["verdicts"] = many(entries(asked=str, outcome=_OUTCOMES, words=str))


def _wrong(found: dict[str, Any]) -> str:
    rows = over(found)
    if not any(row["use"] == "interchange" for row in rows):
        return "no row is of interchange"
    angles = [row["angles"] for row in rows if "angles" in row]
    right = all(isinstance(each, list) and all(isinstance(a, int | float) for a in each) for each in angles)
    return "" if right else "angles are no numbers"


_KIND = fit(entries(experiment=Literal["recovery"], asks=str, **_LISTS), _wrong)


def over(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows over all runs."""
    return [row for row in found["tests"] if row["name"] == _OVER]


def recovery(found: dict[str, Any]) -> go.Figure:
    """A panel for each use with a line for each way and a mark for each model."""
    rows, looks = over(found), _looks(found)
    ways = _ways(rows)
    figure = panels(len(_USES), 1, x="share of questions", y=[""] * len(_USES), titles=_USES, height=22 * len(ways))
    for panel, use in enumerate(_USES, start=1):
        of_use = [row for row in rows if row["use"] == use]
        for model, offset in zip(looks, _spread(len(looks)), strict=True):
            for outcome, symbol in _MARKS.items():
                here = [row for row in of_use if (row["model"], row["outcome"]) == (model, outcome)]
                at = [ways.index(row["way"]) + offset for row in here]
                look = {"symbol": symbol, "colour": looks[model].colour}
                values = [row["value"] for row in here]
                points(figure, (panel, 1), at, values, name=looks[model].label, across=True, **look)
                random = [{"mean": row["random"], "low": None, "high": None} for row in here]
                look = {"symbol": "line-ns-open"}
                points(figure, (panel, 1), at, random, name="random subspaces", across=True, **look)
    figure.update_traces(showlegend=False)
    for of_model in looks.values():
        key(figure, of_model.label, symbol="circle", colour=of_model.colour)
    key(figure, "random subspaces", symbol="line-ns-open", colour=CONTROL_COLOUR)
    _by_way(figure, ways)
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%")
    return finished(figure)


def angles(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Principal angles between what each way found and what is planted."""
    ways = _ways(rows)
    figure = panels(1, 1, x="angle to what is planted", y=[""], height=26 * len(ways))
    for row in rows:
        marks = [{"mean": angle, "low": None, "high": None} for angle in row["angles"]]
        at = [ways.index(row["way"])] * len(marks)
        look = {"symbol": "line-ns-open", "colour": agent_colour(1)}
        points(figure, (1, 1), at, marks, name="principal angles", across=True, **look)
    _by_way(figure, ways)
    figure.update_xaxes(range=[-2, 92], dtick=30, ticksuffix="°")
    return finished(figure)


def lie(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """What becomes of the liar's lie: untouched, silenced in each way, and moved along the direction chosen."""
    ways = _ways(rows)
    figure = panels(len(_LIE), 1, x="share of questions", y=[""] * len(_LIE), titles=_LIE, height=26 * (len(ways) + 2))
    names = ["untouched", "ideally silenced", *ways]
    of = {row["way"]: row["of the lie"] for row in rows}
    whole = next(iter(of.values()))["by"]
    for panel, what in enumerate(_LIE, start=1):
        plain = [whole["before"][what], whole["ideal"][what]]
        points(figure, (panel, 1), [0, 1], plain, name="without subspaces", across=True)
        silenced = [of[way]["by"]["silenced"][what] for way in ways]
        at = [names.index(way) - 0.15 for way in ways]
        points(figure, (panel, 1), at, silenced, name="projected out", colour=agent_colour(2), across=True)
        moved = [of[way]["by"][of[way]["chosen"]][what] if of[way]["chosen"] else None for way in ways]
        at = [names.index(way) + 0.15 for way in ways]
        look = {"symbol": "diamond-open", "colour": agent_colour(1)}
        points(figure, (panel, 1), at, moved, name="moved along its first direction", across=True, **look)
    _by_way(figure, names)
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%")
    return finished(figure)


def _by_way(figure: go.Figure, ways: Sequence[str]) -> None:
    ticks = {"tickvals": list(range(len(ways))), "ticktext": [wrapped(way, 30) for way in ways]}
    figure.update_yaxes(**ticks, range=[len(ways) - 0.5, -0.5], showgrid=False)


def _spread(n: int, width: float = 0.5) -> list[float]:
    return [width * (i / (n - 1) - 0.5) for i in range(n)] if n > 1 else [0.0] * n


def _looks(found: dict[str, Any]) -> dict[str, ModelLook]:
    """The models' looks; none is a base, and the first twin's colour is far from that of random weights."""
    names = list(dict.fromkeys(row["model"] for row in over(found)))
    looks = model_looks(["", *names])
    twins = {name: looks[name]._replace(colour=_TWIN) for name in names[1:2] if name != _UNTRAINED}
    return {name: looks[name] for name in names} | twins


def _ways(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["way"] for row in rows))


def caption(found: dict[str, Any]) -> str:
    """What is shown in the first figure, and n."""
    rows = over(found)
    runs, n = len({row.get("run") for row in found["tests"]} - {None}), sorted({row["questions"] for row in rows})
    seeds = f", {runs} models of each kind; what is shown is so in each" * (runs > 1)
    return (
        f"{found['asks']} Ways of finding the subspace that holds an agent's answer (lines) and uses of what is found "
        f"(panels), in {joined_words(list(_looks(found)))}. Marks are the share of held-out questions where the use "
        "does what it should, the mean over agents, at the rank chosen on other questions. Read: a linear reader, "
        "fitted on 200 questions, tells the agent's answer. Interchange: swapped between questions, the answer is what "
        "the debate would have said. Add: the difference between two answers makes it that of the other. Ablate: "
        "projected out, the agent counts as giving its default. Suppress: so does the one that lies. Bars are 95 % "
        "intervals over questions (and models, if several); grey lines are random subspaces of the same rank. Filled: "
        "shown beyond these and the way's own controls; open circles: not shown, though it would have been; diamonds: "
        "cannot tell. "
        f"n = {n[0]:,} to {n[-1]:,} questions{seeds}. {found['finding'][0]} {counted(found).partition('.')[0]}."
    )


def draw(folder: Path) -> list[Drawn]:
    """The figures of a folder of results. Raises `UserError` if there is no result."""
    path = folder / "probes" / "recovery.json"
    found, source = read(path, _KIND), f"probes/{path.name}"
    title = "What finds agents that are known to be inside, and what can be done with what is found?"
    said = title, tally(row["outcome"] for row in over(found))
    drawn = [Drawn("recovery", recovery(found), caption(found), source, *said)]
    first = next(iter(_looks(found)))
    if near := [row for row in over(found) if row["model"] == first and row.get("angles")]:
        text = (
            f"Principal angles between the subspaces that each way found in {first} and the planted ones, at the "
            "smallest rank whose swaps come within 0.05 of the best; all agents. Directions beyond those that are used "
            f"are arbitrary. n = {near[0]['questions']:,} questions on which swaps are judged."
        )
        nearest = min(near, key=lambda row: fmean(row["angles"]))
        verdict = f"Nearest: {nearest['way']}, {fmean(nearest['angles']):.0f}° on average."
        title = "How near to the planted subspaces is what was found?"
        drawn.append(Drawn("recovery_angles", angles(near), text, source, title, verdict))
    runs = [row for row in found["tests"] if row["name"] == _OF_RUN and row.get("of the lie")]
    if lies := [row for row in runs if row["model"] == runs[0]["model"]]:
        text = (
            f"One agent of {first} lies. Above: how often its lie is still the answer where it decides; middle: how "
            "often the answer is that of honest agents there; below: right answers lost where the lie decides nothing. "
            "Its subspace is projected out, or, as in the paper, a multiple of the first direction is added: the "
            "coefficient with the fewest lies on validation questions that costs at most 5 points there, if there is "
            "one. Ideally: what the debate would say if the agent gave its default. Bars are 95 % intervals; "
            f"n = {lies[0]['questions']:,} questions where the default changes the consensus."
        )
        title = "Can the agent that lies be silenced?"
        drawn.append(Drawn("recovery_lie", lie(lies), text, source, title, tally(row["outcome"] for row in lies)))
    return drawn


if __name__ == "__main__":
    main(draw, __doc__)
