"""What can be read from a model, layer by layer: `python -m figures.probes RESULTS --out DIR`.

Reads `probes/NAME.json`, which `interp probe NAME --out RESULTS/probes` writes; some experiments have their own figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NotRequired

import plotly.graph_objects as go

from figures.looks import finished, model_looks, panels, who_is_who
from figures.results import ENDS, KNOWN_ENDS, fit, main, many, read_results, tally
from interp.errors import UserError
from interp.reports import style
from interp.reports.page import Drawn
from interp.reports.style import curve, fit_y, key, layer_ticks, level
from interp.reports.words import joined_words
from interp.storage.files import Whole, entries

_TEXT = {"bag of words": "dot", "length and position": "dashdot"}
_NEW = {
    "probe, new seat": ("new seat or persona", "circle-open"),
    "probe, new persona": ("new seat or persona", "circle-open"),
    "probe, new round": ("new round", "square-open"),
}
_ENDS = ("mean", "low", "high")
_ENDS_OR_NONE: Any = ENDS | None
_ROW: dict[str, Any] = {"model": str | None, "layer": Whole | None, "selectivity": NotRequired[_ENDS_OR_NONE]}
VERDICT = entries(asked=str, outcome=Literal["shown", "not shown", "cannot tell"], words=str)
_ROW |= dict.fromkeys(("target", "kind"), str) | dict.fromkeys(("examples", "questions"), Whole)
_ROW |= {"position": str | None, "scores": dict[str, ENDS]}


def _wrong(found: dict[str, Any]) -> str:
    if not models(found) or all(row["layer"] is None for row in found["rows"]):
        return "no row is of a model and a layer"
    read = ("probe", "shuffled", *_NEW)
    none = [row["kind"] for row in found["rows"] if row["layer"] is None and row["kind"] in read]
    return f"a row of kind {none[0]} has no layer" if none else ""


_LISTS = {"rows": many(entries(**_ROW)), "tests": many(entries(name=str, model=str | None, value=KNOWN_ENDS))}
KIND = entries(experiment=str, asks=str, finding=many(str, 1), verdicts=many(VERDICT), **_LISTS)
_KIND = fit(KIND, _wrong)


def probes(found: dict[str, Any]) -> go.Figure:
    """Accuracy above and selectivity below, over layers, with controls: a column for each target, a colour a model.

    The shuffled labels of all models are averaged, without an interval.
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
            selective = _over_layers([row for row in read if row.get("selectivity")], "selectivity")
            _curve(figure, (2, column), selective, name=look.label, colour=look.colour, symbol="circle")
            for kind, (name, symbol) in _NEW.items():
                moved = _over_layers([row for row in own if row["kind"] == kind])
                name = f"{look.label}, {name}"
                _curve(figure, (1, column), moved, name=name, colour=look.colour, symbol=symbol, width=1.4)
        grey: dict[str, Any] = {"colour": style.CONTROL_COLOUR, "width": 1.6}
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
        key(figure, name, dash="solid", symbol=symbol)
    layer_ticks(figure, {row["layer"] for row in found["rows"] if row["layer"] is not None})
    figure.update_yaxes(tickformat=".0%", range=[0, 1.04], row=1)
    fit_y(figure, 2, floor=0.0, ceiling=0.5)
    return finished(figure)


def _over_layers(rows: Sequence[dict[str, Any]], what: str = "") -> dict[int, list[float]]:
    """By layer accuracy (or `what`) with its interval, or the mean of several rows alone."""
    by: dict[int, list[dict[str, float]]] = {}
    for row in rows:
        by.setdefault(row["layer"], []).append(row[what] if what else row["scores"]["accuracy"])
    ends = _ENDS if all(len(values) == 1 for values in by.values()) else ("mean",)
    return {layer: [fmean(value[end] for value in by[layer]) for end in ends] for layer in sorted(by)}


def _curve(figure: go.Figure, place: tuple[int, int], by_layer: dict[int, list[float]], **look: Any) -> None:
    if by_layer:
        curve(figure, place, list(by_layer), *map(list, zip(*by_layer.values(), strict=True)), **look)


def models(found: dict[str, Any]) -> list[str]:
    """All models, the base first."""
    return list(dict.fromkeys(row["model"] for row in found["rows"] if row["model"]))


def caption(found: dict[str, Any]) -> str:
    """What is shown, and n."""
    looks = model_looks(models(found))
    last = {row["target"]: row for row in found["rows"]}
    n = [f"{row['examples']:,} turns on {row['questions']:,} questions ({target})" for target, row in last.items()]
    kinds = {row["kind"] for row in found["rows"]}
    moved = " Open marks: on a seat, persona or round that the probe was not fitted on." * bool(kinds & set(_NEW))
    return (
        f"{found['asks']} Linear probes over layers ({who_is_who(looks)}). Above: accuracy on held-out questions, with "
        "shuffled labels, and from the text's words or its length and position without a model."
        f"{moved} Below: selectivity, the accuracy above that on a control task with random labels. Bands are 95 % "
        f"intervals over questions, of means over these seeds; n = {joined_words(n)}. {counted(found)}"
    )


def counted(found: dict[str, Any]) -> str:
    """How many verdicts of an experiment there are of each kind, and those that are shown."""
    outcomes = Counter(verdict["outcome"] for verdict in found["verdicts"])
    numbers = "; ".join(f"{what}: {outcomes[what]}" for what in ("shown", "not shown", "cannot tell"))
    shown = (verdict["words"] for verdict in found["verdicts"] if verdict["outcome"] == "shown")
    return " ".join([f"Verdicts: {numbers}.", *shown])


def read(path: Path, kind: Any) -> dict[str, Any]:
    """The result of an experiment. Raises `UserError` if there is none."""
    return read_results(path, kind, f"interp probe {path.stem} --out {path.parent}")


def draw(folder: Path) -> list[Drawn]:
    """A figure for each experiment. Raises `UserError` if there are none."""
    others = ("silent_agents", "interchange", "recovery", "stepwise")
    paths = sorted(path for path in folder.glob("probes/*.json") if path.stem not in others)
    if not paths:
        raise UserError(f"{folder / 'probes'}: no results; interp probe NAME --out {folder / 'probes'} writes them")
    drawn = []
    for path in paths:
        found = read(path, _KIND)
        said = found["asks"], tally(verdict["outcome"] for verdict in found["verdicts"])
        drawn.append(Drawn(f"probes_{path.stem}", probes(found), caption(found), f"probes/{path.name}", *said))
    return drawn


if __name__ == "__main__":
    main(draw, __doc__)
