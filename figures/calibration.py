"""What the toolkit's intervals and verdicts are worth: `python -m figures.calibration RESULTS --out DIR`.

Reads `calibration.json`, which `interp calibrate --out RESULTS/calibration.jsonl` writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import plotly.graph_objects as go
from annotated_types import Ge, Le

from figures.looks import finished, panels
from figures.results import main, many, read_results
from interp.reports.page import Drawn
from interp.reports.style import INK, add, fade, wrapped
from interp.storage.files import Whole, entries

_SHARE = Annotated[float, Ge(0), Le(1)]
_CELL = entries(what=str, function=str, measure=str, value=_SHARE, error=_SHARE, data_sets=Whole, holds=bool)
_KIND = entries(cells=many(_CELL, 1))
_PANELS = {
    "coverage": (0.93, 0.97, 0.88, 1.005),
    "false positives": (0, 0.05, -0.005, 0.105),
    "power": (0.75, 0.85, 0.6, 1),
}
"""For each measure what is claimed, from and to, and the range of the axis."""
_RED, _BLUE = "#c0392b", "#0072b2"


def calibration(found: dict[str, Any]) -> go.Figure:
    """A mark for each cell of the grid, at its rate; a panel for each measure, with a row for each kind of data."""
    cells = found["cells"]
    kinds = {measure: _kinds(cells, measure) for measure in _PANELS}
    height = 20 * max(map(len, kinds.values())) + 10
    figure = panels(len(_PANELS), 1, x=tuple(_PANELS), y=("",) * len(_PANELS), height=height, shared="")
    for row, (measure, (low, high, left, right)) in enumerate(_PANELS.items(), start=1):
        for name, colour, holds in (("as claimed", _BLUE, True), ("not as claimed", _RED, False)):
            here = [cell for cell in cells if cell["measure"] == measure and cell["holds"] == holds]
            at = [kinds[measure].index(cell["what"]) for cell in here]
            value = [min(max(cell["value"], left), right) for cell in here]
            mark = {"color": fade(colour, 0.35 if holds else 0.9), "size": 6 if holds else 8, "symbol": "circle"}
            trace = {"mode": "markers", "marker": mark, "text": [_cell(cell) for cell in here]}
            if here:
                add(figure, (row, 1), name, x=value, y=at, hovertemplate="%{text}", **trace)
        figure.add_vrect(low, high, fillcolor=fade(INK, 0.1), line_width=0, layer="below", row=row, col=1)
        figure.update_xaxes(range=[left, right], row=row)
        names = [wrapped(kind, 26) for kind in kinds[measure]]
        ticks = {"tickvals": list(range(len(names))), "ticktext": names, "tickfont_size": 10}
        figure.update_yaxes(range=[len(names) - 0.4, -0.6], row=row, **ticks)
    return finished(figure)


def _kinds(cells: list[dict[str, Any]], measure: str) -> list[str]:
    return list(dict.fromkeys(cell["what"] for cell in cells if cell["measure"] == measure))


def _cell(cell: dict[str, Any]) -> str:
    where = ", ".join(f"{name} {value:g}" for name, value in cell.get("setting", {}).items())
    return f"{cell['value']:.3f} ± {cell['error']:.3f}<br>{where}<extra></extra>"


def caption(found: dict[str, Any]) -> str:
    """What is shown, and n."""
    cells = found["cells"]
    fail, fewest = sum(not cell["holds"] for cell in cells), min(c["data_sets"] for c in cells if c["data_sets"])
    return (
        f"{len(cells):,} cells of kind, size and effect; in each, the sum over all outcomes, or n = {fewest:,} data "
        "sets of known truth or more. Coverage: how often 95 % intervals hold the truth. False positives: how often "
        "anything in a family of tests is shown where nothing is true. Power: how often an effect is shown that a "
        "typical verdict says would be in 80 %. Grey: what is claimed. What is said to be conservative may lie to the "
        "right of it, and false positives may exceed 0.05 by their Monte-Carlo error. "
        f"{fail or 'No'} cell{'s' * (fail != 1)} fail{'s' * (fail == 1)}."
    )


def draw(folder: Path) -> list[Drawn]:
    """The figure of a folder of results. Raises `UserError` if there is no calibration."""
    path = folder / "calibration.json"
    found = read_results(path, _KIND, f"interp calibrate --out {path.with_suffix('.jsonl')}")
    cells = found["cells"]
    verdict = f"{sum(cell['holds'] for cell in cells):,} of {len(cells):,} cells are as claimed."
    title = "Do intervals and verdicts keep what they promise?"
    return [Drawn("calibration", calibration(found), caption(found), path.name, title, verdict)]


if __name__ == "__main__":
    main(draw, __doc__)
