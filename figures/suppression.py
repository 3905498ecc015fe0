"""A trait suppressed by steering, and what that costs: `python -m figures.suppression RESULTS --out DIR`.

Reads `suppression.json`, which `interp suppress --out RESULTS/suppression.jsonl` writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, NotRequired

import plotly.graph_objects as go
from pydantic import FiniteFloat, PositiveFloat

from figures.looks import finished, model_looks, panels, points, who_is_who
from figures.results import ENDS, fit, main, many, read_results
from interp.reports.page import Drawn
from interp.reports.style import INK, Place, add, curve
from interp.reports.words import joined_words
from interp.statistics import grouped
from interp.storage.files import Whole, entries

_ROWS = {"trait": "trait score", "accuracy": "right answers", "perplexity": "perplexity"}
_REMEDIES = {
    "guard": ("guarding prompt", "dot"),
    "fine-tune": ("benign fine-tune", "dashdot"),
    "ablation": ("direction ablated", "solid"),
}
_ELICIT = {
    "persona": "by the persona's system prompt",
    "question": "by the bare question",
    "turn": "by a debate that stops at the malicious seat's tag",
}


_MEASURED = {"trait": ENDS, "accuracy": ENDS, "coefficient": FiniteFloat, "questions": Whole}
_PLACE = {"model": str, "elicit": str}
_POSITIVE: Any = entries(**dict.fromkeys(("mean", "low", "high"), PositiveFloat))
_NAMES = dict.fromkeys(("source", "layer"), str | None)
_RESULTS = many(entries(**_PLACE, **_MEASURED, **_NAMES, remedy=str, perplexity=_POSITIVE | None))
_CHOSEN = many(entries(**_PLACE, source=str, layer=str, coefficient=FiniteFloat), 1)
_MADE = entries(settings=entries(units=str, tokens=Any), trait=entries(accuracy=entries(test=list[Any])))


def _wrong(content: dict[str, Any]) -> str:
    plain = {(row["model"], row["elicit"]) for row in content["rows"] if row["remedy"] == "none"}
    steered = ((each["model"], each["elicit"]) for each in content["chosen"])
    return next((f"no unsteered row of {', '.join(each)}" for each in steered if each not in plain), "")


_JUDGED = many(entries(**_PLACE, source=str, **dict.fromkeys(("lowers", "costs"), entries(words=str))))
_FOUND = {"rows": _RESULTS, "chosen": _CHOSEN, "verdicts": NotRequired[_JUDGED]}
_KIND = fit(entries(**_FOUND, made_by=_MADE), _wrong)


def suppression(content: dict[str, Any], elicit: str, source: str) -> go.Figure:
    """Trait, accuracy and perplexity over the coefficient, with random directions and remedies: a column a model.

    `content` is what `interp.interventions.damage.summary` returns. The layer is the one chosen in validation, and a
    ring marks the coefficient chosen there.
    """
    chosen = _chosen(content, elicit, source)
    looks = model_looks(models(content))
    layers = {model: choice["layer"] for model, choice in chosen.items()}
    titles = [f"{looks[model].label}, layer{'s' * (',' in layer)} {layer}" for model, layer in layers.items()]
    figure = panels(3, len(chosen), x="coefficient", y=list(_ROWS.values()), titles=titles, height=130)
    for column, (model, choice) in enumerate(chosen.items(), start=1):
        own = [row for row in content["rows"] if (row["model"], row["elicit"]) == (model, elicit)]
        plain = next(row for row in own if row["remedy"] == "none")
        for place, what in enumerate(_ROWS, start=1):
            along = [row for row in own if (row["source"], row["layer"]) == (source, choice["layer"])]
            for row in along:
                if row["remedy"] == "random":
                    points(figure, (place, column), [row["coefficient"]], [row[what]], name="random directions")
            rows = [*(row for row in along if row["remedy"] == "steering"), plain]
            rows.sort(key=lambda row: float(row["coefficient"]))
            values = [[row[what] and row[what][end] for row in rows] for end in ("mean", "low", "high")]
            style: dict[str, Any] = {"name": "the trait’s direction", "colour": looks[model].colour, "symbol": "circle"}
            curve(figure, (place, column), [row["coefficient"] for row in rows], *values, **style)
            at = next((row for row in rows if row["coefficient"] == choice["coefficient"]), None)
            if at is not None and at[what]:
                ring = {"symbol": "circle-open", "size": 13, "color": INK, "line": {"width": 1.6}}
                spot = {"x": [choice["coefficient"]], "y": [at[what]["mean"]], "mode": "markers", "marker": ring}
                add(figure, (place, column), "chosen in validation", hoverinfo="skip", **spot)
            if what != "perplexity":
                _remedies(figure, (place, column), what, own, source)
    figure.update_traces(showlegend=False, selector={"name": "the trait’s direction"})  # a colour for each model
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%", row=1)
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%", row=2)
    drawn = [row for row in content["rows"] if row["elicit"] == elicit and row["source"] in (None, source)]
    read = [row["perplexity"] for row in drawn if row["perplexity"]]
    ends = [min((each["low"] for each in read), default=1.0), max((each["high"] for each in read), default=10.0)]
    ticks = [k * 10**n for n in range(7) for k in ((1, 2, 5) if ends[1] < 100 else (1,))]
    figure.update_yaxes(type="log", tickvals=ticks, range=[math.log10(ends[0] / 1.6), math.log10(ends[1] * 1.6)], row=3)
    return finished(figure)


def _remedies(figure: go.Figure, place: Place, what: str, own: Sequence[dict[str, Any]], source: str) -> None:
    """A level line for each, as they have no coefficient."""
    for remedy, (name, dash) in _REMEDIES.items():
        direction = source.removesuffix(", clamp")
        row = next((r for r in own if r["remedy"] == remedy and r["source"] in (None, direction)), None)
        if row is not None:
            ends = [min(r["coefficient"] for r in own), max(r["coefficient"] for r in own)]
            value = row[what]["mean"]
            curve(figure, place, ends, [value, value], name=name, colour=INK, dash=dash, width=1.2)


def models(content: dict[str, Any]) -> list[str]:
    """All models, the base first."""
    return list(dict.fromkeys(row["model"] for row in content["rows"]))


def _chosen(content: dict[str, Any], elicit: str, source: str) -> dict[str, dict[str, Any]]:
    """By model the layer and coefficient chosen in validation."""
    return {c["model"]: c for c in content["chosen"] if (c["elicit"], c["source"]) == (elicit, source)}


def caption(content: dict[str, Any], elicit: str, source: str) -> str:
    """What is shown, and n."""
    chosen = _chosen(content, elicit, source)
    looks = model_looks(models(content))
    own = [row for row in content["rows"] if row["elicit"] == elicit and row["model"] in chosen]
    settings = content["made_by"]["settings"]
    done = "clamped to" if source.endswith(", clamp") else "added with"
    made = "the contrast of system prompts" if source.startswith("prompts") else PurePath(source).name
    sentences = [
        f"A trait elicited {_ELICIT.get(elicit, elicit)} and suppressed along a direction ({made}) that is {done} a "
        f"coefficient (units: {settings['units']}; steered tokens: {settings['tokens']}); {who_is_who(looks)}. "
        "Above: mean score of the trait. Middle: right answers to plain questions under the same steering. Below: "
        "perplexity of those answers under the unsteered base, on a logarithmic axis. Solid, in the model's colour: "
        "along the trait's direction; grey: along random ones of the same length (mean; of the trait with the range of "
        "95 % of them); level lines: other remedies. Layer and coefficient (ring) were chosen on validation questions. "
        f"Bands are 95 % intervals over questions; n = {own[0]['questions']:,} test questions for the trait and "
        f"{len(content['made_by']['trait']['accuracy']['test']):,} for right answers."
    ]
    for one in content.get("verdicts", ()):
        if (one["elicit"], one["source"]) == (elicit, source):
            sentences += [one[what]["words"] for what in ("lowers", "costs")]
    return " ".join(sentences)


def verdict(content: dict[str, Any], elicit: str, source: str) -> str:
    """Whether steering lowers the trait, and whether that is cheap."""
    asked = [one for one in content.get("verdicts", ()) if (one["elicit"], one["source"]) == (elicit, source)]
    if not asked:
        return ""
    looks, said = model_looks(models(content)), []
    for what, words in (("lowers", "Lowers the trait"), ("costs", "costs few right answers")):
        outcomes = grouped((one[what]["outcome"], looks[one["model"]].label) for one in asked)
        said.append(f"{words}: {', '.join(f'{outcome} in {joined_words(of)}' for outcome, of in outcomes.items())}")
    return f"{'; '.join(said)}."


def draw(folder: Path) -> list[Drawn]:
    """A figure for each direction and way to elicit the trait. Raises `UserError` if there are no results."""
    path = folder / "suppression.json"
    content = read_results(path, _KIND, f"interp suppress --out {path}l")
    drawn = []
    for elicit, source in dict.fromkeys((row["elicit"], row["source"]) for row in content["chosen"]):
        short = re.sub(r"[^a-z0-9]+", "_", f"{elicit} {PurePath(source).name}".lower()).strip("_")
        figure = suppression(content, elicit, source)
        made = "" if source == "prompts" else f", along {PurePath(source).name}"
        title = f"Does steering suppress a trait elicited {_ELICIT.get(elicit, elicit)}{made}?"
        said = path.name, title, verdict(content, elicit, source)
        drawn.append(Drawn(f"suppression_{short}", figure, caption(content, elicit, source), *said))
    return drawn


if __name__ == "__main__":
    main(draw, __doc__)
