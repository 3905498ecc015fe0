"""Are the agents still inside a model that answers directly? `python -m figures.silent_agents RESULTS --out DIR`

Reads `probes/silent_agents.json`, which `interp probe silent_agents --out RESULTS/probes` writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from figures.looks import finished, model_looks, panels, points, who_is_who
from figures.probes import KIND, counted, models, read
from figures.results import fit, main, tally
from interp.reports.page import Drawn
from interp.reports.style import CONTROL_COLOUR, curve, fit_y, level, wrapped

_TITLES = ("A  at the question’s end", "B  before its answer", "C  beyond fictitious", "D  steered toward agent")
_POSITIONS = {"question": (1, 1), "answer": (1, 2)}
_QUESTION_ALONE = {"question": "operands, boosted", "answer": "operands and what it wrote, boosted"}
_KINDS = {"own": "solid", "other agents": "dash", "random": "dot"}

_DECODED = ("'s answer", " errs")
_STEERED = "steered toward agent k"
_GAIN = "gain − fictitious gain"


def _wrong(found: dict[str, Any]) -> str:
    if not models(found):
        return "no row is of a model"
    targets, scored = _targets(found), ("chosen layer", *_QUESTION_ALONE.values())
    for row in found["rows"]:
        if row["kind"] in scored and row["target"] in targets and "auc" not in row["scores"]:
            return f"a row of {row['target']} has no AUC"
    needed = {"coefficient": int | float, "questions": int, "kind": str, "target": str}
    for test in found["tests"]:
        right = all(isinstance(test.get(name), kind) for name, kind in needed.items())
        if test["name"] == _GAIN and not all(isinstance(test.get(name), str) for name in ("target", "position", "how")):
            return f"a test of {_GAIN} lacks its target, position or permutation"
        if test["name"] == _STEERED and not (right and re.fullmatch("agent [1-9][0-9]{0,2}", test["target"])):
            return f"a test of {_STEERED} lacks one of {', '.join(needed)}"
    return ""


_KIND = fit(KIND, _wrong)
Value = Mapping[str, float | None]


def silent_agents(found: dict[str, Any]) -> go.Figure:
    """Decoding above (AUC at the chosen layer); below, its gain beyond fictitious agents, and steering."""
    names = models(found)
    looks = model_looks(names)
    targets = _targets(found)
    short = [re.sub(r"^agents? | errs$|'s answer$", "", target) for target in targets]
    y = ("AUC", "AUC", "AUC, difference", "share of answers")
    figure = panels(2, 2, x="agent", y=y, titles=_TITLES, height=150, shared="")
    places = list(range(len(targets)))
    for position, place in _POSITIONS.items():
        for name, offset in zip(names, _spread(len(names)), strict=True):
            scores = [_score(found, name, target, position, "chosen layer") for target in targets]
            at = [x + offset for x in places]
            points(figure, place, at, scores, name=looks[name].label, colour=looks[name].colour)
        alone = [_score(found, None, target, None, _QUESTION_ALONE["question"]) for target in targets]
        if position == "answer":
            wrote = [_score(found, names[-1], target, position, _QUESTION_ALONE[position]) for target in targets]
            alone = [more or less for more, less in zip(wrote, alone, strict=True)]
        at = [x + 0.32 for x in places]
        points(figure, place, at, alone, name="the question alone", symbol="diamond-open")
        level(figure, place, 0.5)
    agents = [target for target in targets if target.startswith("agent ")]
    gains = [test for test in found["tests"] if test["name"] == _GAIN]
    kinds = list(dict.fromkeys(test["how"] for test in gains))
    for position, symbol, side in (("question", "circle", -0.2), ("answer", "square-open", 0.2)):
        for how, offset in zip(kinds, _spread(len(kinds), 0.3), strict=True):
            here = {
                test["target"]: test["value"] for test in gains if (test["position"], test["how"]) == (position, how)
            }
            colour = CONTROL_COLOUR if how.startswith("operands") else looks[names[-1]].colour
            at = [x + side + offset for x in range(len(agents))]
            values = [here.get(target) for target in agents]
            points(figure, (2, 1), at, values, name=f"{how}, C", colour=colour, symbol=symbol)
            figure.data[-1].showlegend = False
    level(figure, (2, 1), 0.0)
    _steered(figure, found, names[-1], looks[names[-1]].colour)
    level(figure, (2, 2), 0.0)
    for row, n in ((1, len(short)), (2, len(agents))):
        ticks = {
            "tickvals": list(range(n)),
            "ticktext": [wrapped(name) for name in short[:n]],
            "range": [-0.5, n - 0.4],
        }
        figure.update_xaxes(**ticks, tickangle=0, showgrid=False, row=row)
    fit_y(figure, 1, floor=0.5, ceiling=1.0)
    figure.update_yaxes(tickformat=".0%", row=2, col=2)
    return finished(figure)


def _steered(figure: go.Figure, found: dict[str, Any], model: str, colour: str) -> None:
    """At each agent's place, the change at each coefficient from left to right."""
    tests = [t for t in found["tests"] if t["name"] == _STEERED and t["model"] == model]
    coefficients = sorted({t["coefficient"] for t in tests})
    for kind, dash in _KINDS.items():
        own = kind == "own"
        for agent in sorted({t["target"] for t in tests}):
            known = {t["coefficient"]: t["value"] for t in tests if (t["kind"], t["target"]) == (kind, agent)}
            at = [int(agent.removeprefix("agent ")) - 1 + s for s in _spread(len(coefficients))]
            values = [known.get(c) for c in coefficients]
            mean = [v and v["mean"] for v in values]
            style: dict[str, Any] = {"colour": colour if own else CONTROL_COLOUR, "dash": dash, "width": 1.6}
            name = "own direction" if own else f"{'other agents’' if kind == 'other agents' else 'random'} directions"
            curve(figure, (2, 2), at, mean, name=name, **style)
            if own:
                points(figure, (2, 2), at, values, name=name, colour=colour)


def _targets(found: dict[str, Any]) -> list[str]:
    """The agents' answers, or else their errors, in order, then their agreement, if decoded."""
    known = dict.fromkeys(row["target"] for row in found["rows"])
    answers, errs = ([t for t in known if t.startswith("agent ") and t.endswith(end)] for end in _DECODED)
    agents = answers or errs
    return sorted(agents) + [target for target in known if target == "agents agree"]


def _spread(n: int, width: float = 0.36) -> list[float]:
    """Offsets of n marks around a place."""
    return [width * (i / (n - 1) - 0.5) for i in range(n)] if n > 1 else [0.0] * n


def _score(found: dict[str, Any], model: str | None, target: str, position: str | None, kind: str) -> Value | None:
    rows = [row for row in found["rows"] if (row["target"], row["kind"]) == (target, kind)]
    rows = [row for row in rows if model is None or row["model"] == model]
    return next((row["scores"]["auc"] for row in rows if position is None or row["position"] == position), None)


def caption(found: dict[str, Any]) -> str:
    """What is shown, and n; the verdict of the experiment last."""
    names = models(found)
    looks = model_looks(names)
    n = max(row["questions"] for row in found["rows"])
    steered = [t for t in found["tests"] if t["name"] == _STEERED and t["model"] == names[-1]]
    coefficients = sorted({t["coefficient"] for t in steered})
    asked = sorted({t["questions"] for t in steered})
    moved = ", ".join(f"{c:g}" for c in coefficients)
    answers = any(target.endswith(_DECODED[0]) for target in _targets(found))
    what, of_agents = (
        ("what each agent answers", "answers are") if answers else ("whether each agent errs", "errors are")
    )
    wanted, along, unit = "agent k's", "k's decoded direction", "of the residual stream's length"
    if any("unit" in test for test in steered):
        wanted, along, unit = "what k's other answer makes them", "k's direction from one answer to another", "of it"
    how_many = f"{asked[0]:,} to {asked[-1]:,}" if len(asked) > 1 else ", ".join(map(str, asked))
    return (
        f"{found['asks']} A model reads only the bare question; probes decode {what} in an "
        f"explicit debate on it, and whether all agree ({who_is_who(looks)}). A: at the question's last token. B: "
        "before the number in the box that the model writes. Marks are AUCs of linear probes at a layer chosen on "
        "training questions; diamonds are gradient boosting on the question alone (in B also on what the model wrote); "
        f"the line is chance. C: how much better an agent's {of_agents} decoded than in the base, minus the same for "
        "each of several fictitious agents (filled: as in A, open: as in B; grey: operands turned round). "
        f"D: {looks[names[-1]].label}, change in the share of answers that are {wanted} when the model is steered "
        f"along {along} by {moved} {unit} (left to right), along the other agents' directions and along random ones; "
        f"n = {how_many} "
        f"questions. Bars are 95 % intervals over questions; n = {n:,} questions in A to C. {found['finding'][0]} "
        f"{counted(found)}"
    )


def draw(folder: Path) -> list[Drawn]:
    """The figure of a folder of results. Raises `UserError` if there is no result."""
    path = folder / "probes" / "silent_agents.json"
    found = read(path, _KIND)
    verdict = found["finding"][0].partition(". ")[0].removesuffix(".")
    said = found["asks"], f"{verdict}. {tally(one['outcome'] for one in found['verdicts'])}"
    return [Drawn("silent_agents", silent_agents(found), caption(found), f"probes/{path.name}", *said)]


if __name__ == "__main__":
    main(draw, __doc__)
