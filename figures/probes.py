"""What can be read from a model, layer by layer: `python -m figures.probes RESULTS --out DIR`.

Reads `probes/NAME.json`, which `interp probe NAME --out RESULTS/probes` writes; `silent_agents` has a figure of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from figures.results import main, needed, read_json
from interp.errors import UserError
from interp.reports.drawn import Drawn
from interp.reports.panels import curve, finished, fit_y, key, layer_ticks, level, panels
from interp.reports.style import CONTROL_COLOUR, model_looks, who_is_who
from interp.reports.words import joined_words

_MADE_BY = "interp probe"
_TEXT = {"bag of words": "dot", "length and position": "dashdot"}
_NEW = {
    "probe, new seat": ("new seat or persona", "circle-open"),
    "probe, new persona": ("new seat or persona", "circle-open"),
    "probe, new round": ("new round", "square-open"),
}
_ENDS = ("mean", "low", "high")


def probes(found: dict[str, Any]) -> go.Figure:
    """Accuracy above and selectivity below over layers, a target a column, a model a colour, beside the controls.

    Several seeds are averaged, and so are the shuffled labels of all models.
    """
    looks = model_looks(models(found))
    targets = list(dict.fromkeys(row["target"] for row in found["rows"] if not row["target"].startswith("fictitious")))
    figure = panels(2, len(targets), x="layer", y=("accuracy", "selectivity"), titles=targets, height=140)
    for column, target in enumerate(targets, start=1):
        rows = [row for row in found["rows"] if row["target"] == target and "accuracy" in row["scores"]]
        for model, look in looks.items():
            own = [row for row in rows if row["model"] == model]
            read = [row for row in own if row["kind"] == "probe"]
            _curve(figure, (1, column), _over_layers(read), name=look.label, colour=look.colour, symbol="circle")
            selective = _over_layers([row for row in read if row["selectivity"]], "selectivity")
            _curve(figure, (2, column), selective, name=look.label, colour=look.colour, symbol="circle")
            for kind, (name, symbol) in _NEW.items():
                moved = _over_layers([row for row in own if row["kind"] == kind])
                name = f"{look.label}, {name}"
                _curve(figure, (1, column), moved, name=name, colour=look.colour, symbol=symbol, width=1.4)
        grey: dict[str, Any] = {"colour": CONTROL_COLOUR, "width": 1.6}
        shuffled = _over_layers([row for row in rows if row["kind"] == "shuffled"])
        _curve(figure, (1, column), shuffled, name="shuffled labels", dash="dash", **grey)
        for kind, dash in _TEXT.items():
            scores = [row["scores"]["accuracy"]["mean"] for row in rows if row["kind"] == kind]
            if scores:
                curve(figure, (1, column), [-1, 1000], [fmean(scores)] * 2, name=kind, dash=dash, **grey)
        level(figure, (2, column), 0.0)
    for trace in figure.data:
        trace.showlegend = trace.showlegend and ", new " not in trace.name
    for name, symbol in dict.fromkeys(_NEW[row["kind"]] for row in found["rows"] if row["kind"] in _NEW):
        key(figure, name, symbol=symbol)
    layer_ticks(figure, {row["layer"] for row in found["rows"] if row["layer"] is not None})
    figure.update_yaxes(tickformat=".0%", range=[0, 1.04], row=1)
    fit_y(figure, 2, floor=0.0, ceiling=0.5)
    return finished(figure)


def _over_layers(rows: Sequence[dict[str, Any]], what: str = "") -> dict[int, list[float]]:
    """By layer the means, over rows, of accuracy (or of what else) and of its interval's ends."""
    by: dict[int, list[dict[str, float]]] = {}
    for row in rows:
        by.setdefault(row["layer"], []).append(row[what] if what else row["scores"]["accuracy"])
    return {layer: [fmean(value[end] for value in by[layer]) for end in _ENDS] for layer in sorted(by)}


def _curve(figure: go.Figure, place: tuple[int, int], by_layer: dict[int, list[float]], **style: Any) -> None:
    if by_layer:
        curve(figure, place, list(by_layer), *map(list, zip(*by_layer.values(), strict=True)), **style)


def models(found: dict[str, Any]) -> list[str]:
    """All models, the base first."""
    return list(dict.fromkeys(row["model"] for row in found["rows"] if row["model"]))


def caption(found: dict[str, Any]) -> str:
    """What the figure shows, and of how much; the experiment's own findings last."""
    looks = model_looks(models(found))
    counts = {row["target"]: (row["examples"], row["questions"]) for row in found["rows"]}
    n = [
        f"{examples:,} turns on {questions:,} questions ({target})" for target, (examples, questions) in counts.items()
    ]
    kinds = {row["kind"] for row in found["rows"]}
    moved = " Open marks: on a seat, persona or round that the probe never saw." * bool(kinds & set(_NEW))
    return (
        f"{found['asks']} Linear probes over layers ({who_is_who(looks)}). Above: accuracy on held-out questions, with "
        "the same on shuffled labels, and what the text's words, or its length and position, give away without a model."
        f"{moved} Below: selectivity, the accuracy beyond that on a control task with random labels. Bands are 95 % "
        f"intervals over questions; n = {joined_words(n)}."
    )


def read(path: Path) -> dict[str, Any]:
    """What an experiment left. Raises `UserError` where it is not there, or something else."""
    found = read_json(path, f"{_MADE_BY} {path.stem} --out {path.parent}")
    needed(found, ("experiment", "asks", "finding", "rows", "tests"), path, _MADE_BY)
    return found


def draw(folder: Path) -> list[Drawn]:
    """A figure an experiment. Raises `UserError` where there is none."""
    paths = sorted(path for path in folder.glob("probes/*.json") if path.stem != "silent_agents")
    if not paths:
        raise UserError(f"{folder / 'probes'}: holds no result; {_MADE_BY} NAME --out {folder / 'probes'} writes it")
    drawn = []
    for path in paths:
        found = read(path)
        drawn.append(Drawn(f"probes_{path.stem}", probes(found), caption(found), f"probes/{path.name}"))
    return drawn


if __name__ == "__main__":
    main(draw, "probes", str(__doc__))
