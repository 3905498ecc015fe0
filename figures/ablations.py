"""What each part of stage 2 is worth: `python -m figures.ablations RESULTS --out DIR`.

Reads `ablations/ablations.json`, which `python -m benchmarks.ablations RUN --out RESULTS/ablations` writes, or
`ablations.json` alone, and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from figures.results import main, needed, read_json
from interp.reports.drawn import Drawn
from interp.reports.panels import finished, panels, points
from interp.reports.style import INK, model_looks
from interp.reports.words import joined_words

_MADE_BY = "python -m benchmarks.ablations"
_FULL = model_looks(["base", "imad"])["imad"].colour


def ablations(found: dict[str, Any]) -> go.Figure:
    """Accuracy and tokens written of the full procedure and of each with one thing changed, one below the other."""
    rows = found["rows"]
    figure = panels(1, 2, x="", y=("",), titles=("right answers", "tokens written"), height=26 * len(rows) + 10)
    for i, result in enumerate(rows):
        row, colour = result["row"], _FULL if i == 0 else INK
        points(figure, (1, 1), [i], [row["accuracy"]], name=result["name"], colour=colour, across=True)
        tokens = {"mean": row["output_tokens"], "low": None, "high": None}
        points(figure, (1, 2), [i], [tokens], name=result["name"], colour=colour, across=True)
    for trace in figure.data:
        trace.showlegend = False
    names = [result["name"] for result in rows]
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=names, range=[len(rows) - 0.4, -0.6])
    figure.update_xaxes(range=[0, 1.04], tickformat=".0%", col=1)
    figure.update_xaxes(rangemode="tozero", col=2)
    return finished(figure)


def caption(found: dict[str, Any]) -> str:
    """What the figure shows, and of how much."""
    row = found["rows"][0]["row"]
    changed = [f"{name}: {each['what']}" for name, each in found["variants"].items()]
    return (
        f"Stage 2 again from the same start, with one thing changed at a time: accuracy and tokens written a question "
        f"({row['task']}), n = {row['questions']:,} questions that no stage has seen; bars are 95 % intervals over "
        f"questions. {joined_words(changed) if changed else 'No variant has been run'}."
    )


def draw(folder: Path) -> list[Drawn]:
    """The figure of a folder of results. Raises `UserError` where there are no ablations."""
    path = folder / "ablations" / "ablations.json"
    if not path.exists() and (folder / path.name).exists():  # as it is shipped, without the checkpoints
        path = folder / path.name
    found = read_json(path, f"{_MADE_BY} RUN --out {path.parent}")
    needed(found, ("rows", "variants"), path, _MADE_BY)
    return [Drawn("ablations", ablations(found), caption(found), str(path.relative_to(folder)))]


if __name__ == "__main__":
    main(draw, "ablations", str(__doc__))
