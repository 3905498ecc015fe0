"""How far steering amplifies each agent: `python -m figures.steerability RESULTS --out DIR`.

Reads `steerability.json`, which `interp sweep --out RESULTS/steerability.jsonl` writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, NotRequired

import plotly.graph_objects as go
from annotated_types import Len
from pydantic import FiniteFloat

from figures.looks import finished, model_looks, panels, who_is_who
from figures.results import ENDS, KNOWN_ENDS, fit, main, many, read_results, tally
from interp.errors import UserError
from interp.reports.page import Drawn
from interp.reports.style import CONTROL_COLOUR, agent_colour, curve, fade, key, layer_ticks
from interp.storage.files import Whole, entries

_MEASURES = {"rougeL": "ROUGE-L", "classifier": "probability"}
_MEASURED = {
    "rougeL": "ROUGE-L against the agent's own turn",
    "classifier": "probability that the text is the agent's, by a classifier fitted on other debates",
}
_AFTER = {"turn": "continued from the agent's tag in a transcript", "question": "continued from the bare question"}
_CONTROLS = {"others": ("other agents’ directions", "dash"), "random": ("random directions", "dot")}

_PAIR = Annotated[list[FiniteFloat], Len(2, 2)]
_CURVE = {"area": ENDS, "questions": Whole, "curve": many(_PAIR, 1), "intervals": many(_PAIR), "other_model": bool}
_PLACE = {"context": Literal[*_AFTER], "layer": Whole, "measure": Literal[*_MEASURES], "model": str, "label": str}
_MADE = entries(settings=entries(units=str, tokens=Any))
_GAINS = many(entries(**_PLACE, gain=KNOWN_ENDS))


def _wrong(row: dict[str, Any]) -> str:
    return "curve and intervals differ in length" * (len(row["curve"]) != len(row["intervals"]))


_CURVES = many(fit(entries(**_PLACE, **_CURVE, kind=str, directions=str), _wrong), 1)
_JUDGED = many(entries(**_PLACE, directions=str, verdict=entries(outcome=str)))
_FOUND = {"curves": _CURVES, "gains": _GAINS, "verdicts": NotRequired[_JUDGED]}
_KIND = entries(**_FOUND, made_by=_MADE, directions_without_question_hashes=list[str])

Curves = Sequence[dict[str, Any]]
"""Curves of one context and measure, as `interp.interventions.curves.summary` has them."""


def steerability(curves: Curves) -> go.Figure:
    """Above, scores over the coefficient at one layer; below, the area under such curves at every layer.

    A column for each agent, a colour for each model; own directions solid with their intervals, controls broken; in
    grey the range of 95 % of random directions.
    """
    at, agents = best_layer(curves), sorted({row["label"] for row in curves})
    looks = model_looks(list(dict.fromkeys(row["model"] for row in curves)))
    score = _MEASURES[curves[0]["measure"]]
    x, y = ("coefficient", "layer"), (f"{score}, layer {at}", "area")
    figure = panels(2, len(agents), x=x, y=y, titles=agents, height=140, shared="y")
    for column, agent in enumerate(agents, start=1):
        figure.layout.annotations[column - 1].font.color = agent_colour(column)
        for model, look in looks.items():
            for kind in ("random", "others", "own"):
                own = kind == "own"
                control, dash = _CONTROLS.get(kind, ("", "solid"))
                known = [row for row in curves if (row["model"], row["label"], row["kind"]) == (model, agent, kind)]
                style: dict[str, Any] = {"colour": look.colour, "dash": dash, "width": 2.2 if own else 1.3}
                style["name"] = look.label if own else f"{look.label}, {control}"
                style["fill"] = {"fillcolor": fade(CONTROL_COLOUR, 0.12)} if kind == "random" else None
                for row in known:
                    if row["layer"] == at:
                        ends = [[], []] if kind == "others" else [[e[i] for e in row["intervals"]] for i in (0, 1)]
                        coefficients, scores = zip(*row["curve"], strict=True)
                        curve(figure, (1, column), coefficients, scores, *ends, **style)
                known.sort(key=lambda row: int(row["layer"]))
                areas = [[row["area"][end] for row in known] for end in ("mean", "low", "high")]
                layers = [row["layer"] for row in known]
                band = areas[: 1 if kind == "others" else 3]
                curve(figure, (2, column), layers, *band, **style, symbol="circle" if own else "")
    for trace in figure.data:  # controls are in the legend once, not once for each model
        trace.showlegend = trace.showlegend and trace.name in {look.label for look in looks.values()}
    for kind, (name, dash) in _CONTROLS.items():
        if any(row["kind"] == kind for row in curves):
            key(figure, name, dash=dash)
    figure.update_yaxes(rangemode="tozero")
    layer_ticks(figure, {row["layer"] for row in curves}, row=2)
    return finished(figure)


def best_layer(curves: Curves) -> int:
    """The layer where scores along the agents' own directions rise highest, mean over models and agents."""
    highest: dict[int, list[float]] = {}
    for row in curves:
        if row["kind"] == "own":
            highest.setdefault(row["layer"], []).append(max(score for _, score in row["curve"]))
    return max(highest, key=lambda layer: fmean(highest[layer]))


def caption(curves: Curves, content: dict[str, Any]) -> str:
    """What is shown, and n; `content` is the whole file."""
    settings, hidden = content["made_by"]["settings"], content["directions_without_question_hashes"]
    first, at = curves[0], best_layer(curves)
    looks = model_looks(list(dict.fromkeys(row["model"] for row in curves)))
    n = sorted({row["questions"] for row in curves})
    count = f"{n[0]:,}" if len(n) == 1 else f"{n[0]:,} to {n[-1]:,}"
    wanted = {"context": first["context"], "measure": first["measure"], "layer": at, "label": "mean"}
    gains = [gain for gain in content["gains"] if gain["model"] in looks and None not in gain["gain"].values()]
    gained = [
        f" In the model {looks[g['model']].label} the area at layer {at} differs from the base's by "
        f"{_share(g['gain']['mean'])} ({_share(g['gain']['low'])} to {_share(g['gain']['high'])}), mean over agents."
        for g in gains
        if all(g[name] == value for name, value in wanted.items())
    ]
    return (
        f"Steerability of each agent ({who_is_who(looks)}): {_MEASURED[first['measure']]}, in texts "
        f"{_AFTER[first['context']]} while multiples of a direction are added (units: {settings['units']}; steered "
        f"tokens: {settings['tokens']}). Above: over the coefficient, at the layer where scores rise highest on "
        "average. Below: the normalised area under the curve from coefficient 0 up, at each layer. Solid: along the "
        "agent's own direction, from each model itself; broken, in the same colours: along the other agents' and along "
        "random directions of the same length (mean). Bands are 95 % intervals over questions, grey ones the range of "
        f"95 % of the random directions; n = {count} questions"
        + ("." if hidden else " that no direction was fitted on.")
        + "".join(gained)
        + _verdicts(curves, content)
    )


def _verdicts(curves: Curves, content: dict[str, Any]) -> str:
    """How many of the agents' own directions are shown to turn them up."""
    count = Counter(judged := _judged(curves, content))
    if not judged:
        return ""
    return (
        " Turned up by its own direction, more than by random ones, no steering and each other agent's: of "
        f"{len(judged)} cases (agents, layers and models) {count['shown']} are shown, {count['not shown']} not, and "
        f"{count['cannot tell']} cannot be told."
    )


def _judged(curves: Curves, content: dict[str, Any]) -> list[str]:
    """The outcomes of the verdicts on these curves."""
    names = ("model", "directions", "context", "measure")
    panel = {tuple(row[name] for name in names) for row in curves}
    judged = [one for one in content.get("verdicts", ()) if tuple(one[name] for name in names) in panel]
    return [one["verdict"]["outcome"] for one in judged]


def _share(value: float) -> str:
    return f"{100 * value:+.1f}\u00a0%".replace("-", "−")


def own_curves(content: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """By context and measure the curves of each model along its own directions, or the first set of them."""
    first: dict[str, str] = {}
    kept: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in content["curves"]:
        if not row["other_model"] and first.setdefault(row["model"], row["directions"]) == row["directions"]:
            kept.setdefault((row["context"], row["measure"]), []).append(row)
    return list(kept.values())


def draw(folder: Path) -> list[Drawn]:
    """A figure for each context and measure. Raises `UserError` if there is no sweep along own directions."""
    path = folder / "steerability.json"
    content = read_results(path, _KIND, f"interp sweep --out {path}l")
    groups = [rows for rows in own_curves(content) if any(row["kind"] == "own" for row in rows)]
    if not groups:
        raise UserError(f"{path}: no curve along a model's own directions; run interp sweep without --other-model")
    drawn = []
    for curves in groups:
        measure = "" if curves[0]["measure"] == "rougeL" else f"_{curves[0]['measure']}"
        name = f"steerability_{curves[0]['context']}{measure}"
        by = " (by a classifier)" if measure else ""
        title = f"Is an agent turned up by its own direction? Texts {_AFTER[curves[0]['context']]}{by}"
        judged = _judged(curves, content)
        said = title, tally(judged) if judged else ""
        drawn.append(Drawn(name, steerability(curves), caption(curves, content), path.name, *said))
    return drawn


if __name__ == "__main__":
    main(draw, __doc__)
