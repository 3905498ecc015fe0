"""What each part of stage 2 contributes: `python -m figures.ablations RESULTS --out DIR`.

Reads `ablations/ablations.json`, which `python -m benchmarks.ablations RUN --out RESULTS/ablations` writes, or
`ablations.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from figures.looks import finished, model_looks, panels, points
from figures.results import ENDS, Amount, main, many, read_results
from interp.reports.page import Drawn
from interp.reports.style import INK
from interp.reports.words import joined_words, percent
from interp.storage.files import Whole, entries

_ROW = entries(task=str, questions=Whole, accuracy=ENDS, output_tokens=Amount)
_WHAT: Any = entries(what=str)
_KIND = entries(rows=many(entries(name=str, row=_ROW), 1), variants=dict[str, _WHAT])
_FULL = model_looks(["base", "imad"])["imad"].colour


def ablations(found: dict[str, Any]) -> go.Figure:
    """Accuracy and tokens written, by the full procedure and by each variant with one thing changed."""
    rows = [one | {"name": one["name"].replace("<", "‹")} for one in found["rows"]]  # plotly reads names as HTML
    figure = panels(1, 2, x="", y=("",), titles=("right answers", "tokens written"), height=26 * len(rows) + 10)
    for i, result in enumerate(rows):
        row, colour = result["row"], _FULL if i == 0 else INK
        tokens = {"mean": row["output_tokens"], "low": None, "high": None}
        for column, value in enumerate((row["accuracy"], tokens), start=1):
            points(figure, (1, column), [i], [value], name=result["name"], colour=colour, across=True)
    figure.update_traces(showlegend=False)
    names = [result["name"] for result in rows]
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=names, range=[len(rows) - 0.4, -0.6])
    figure.update_xaxes(range=[0, 1.04], tickformat=".0%", col=1)
    figure.update_xaxes(rangemode="tozero", col=2)
    return finished(figure)


def caption(found: dict[str, Any]) -> str:
    """What is shown, and n."""
    row = found["rows"][0]["row"]
    changed = [f"{name}: {each['what']}" for name, each in found["variants"].items()]
    return (
        f"Stage 2 repeated from the same start with one thing changed at a time: accuracy and tokens written per "
        f"question ({row['task']}), n = {row['questions']:,} questions that no stage has seen. Bars are 95 % intervals "
        f"over questions. {joined_words(changed) if changed else 'No variant has been run'}."
    )


def verdict(found: dict[str, Any]) -> str:
    """The full procedure beside the variant that is right least often."""
    full, *others = found["rows"]
    each = [full, min(others, key=lambda one: one["row"]["accuracy"]["mean"])] if others else [full]
    said = [f"{one['name']} {percent(one['row']['accuracy']['mean'])}" for one in each]
    return f"Right answers: {said[0]}" + (f"; fewest of {len(others)} variants: {said[1]}." if others else ".")


def draw(folder: Path) -> list[Drawn]:
    """The figure of a folder of results. Raises `UserError` if there are no ablations."""
    path = folder / "ablations" / "ablations.json"
    if not path.exists() and (folder / path.name).exists():  # as shipped, without the checkpoints
        path = folder / path.name
    found = read_results(path, _KIND, f"python -m benchmarks.ablations RUN --out {path.parent}")
    title, source = "What does each part of the procedure add?", str(path.relative_to(folder))
    return [Drawn("ablations", ablations(found), caption(found), source, title, verdict(found))]


if __name__ == "__main__":
    main(draw, __doc__)
