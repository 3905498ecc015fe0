"""Agents' directions over layers, base beside internalized: `python -m figures.agent_directions RESULTS --out DIR`.

Reads `directions/NAME/directions.json`, which `interp extract-directions` writes, of every model; if there is none,
RESULTS may be the --out of a single `interp extract-directions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import combinations
from pathlib import Path
from typing import Any, NotRequired

import plotly.graph_objects as go

from figures.looks import finished, model_looks, panels, who_is_who
from figures.results import fit, main, read_results
from interp.directions.facts import FACTS, Layers, Names, require_fitting
from interp.errors import UserError
from interp.reports.directions import draw_evidence
from interp.reports.findings import beyond_controls
from interp.reports.page import Drawn
from interp.reports.style import agent_colour, layer_ticks, level
from interp.reports.words import joined_words
from interp.storage.files import entries

_MADE_BY = "interp extract-directions"
_PROVENANCE = entries(model=entries(name=str, hash=str | None, adapters=list[Any]))


def _wrong(facts: dict[str, Any]) -> str:
    require_fitting(facts, facts["labels"], facts["layers"])
    lacking = {"separation", "reliability", "cosine"} - facts["evidence"].get("all", {}).keys()
    return f"evidence.all has no {min(lacking)}" if lacking else ""


_NEEDED = ("by", "questions", "turns", "evidence")
_FACTS = {name: kind if name in _NEEDED else NotRequired[kind] for name, kind in FACTS.items()}
_KIND = fit(entries(**_FACTS | {"labels": Names, "layers": Layers, "provenance": _PROVENANCE}), _wrong)


def agent_directions(found: Mapping[str, dict[str, Any]]) -> go.Figure:
    """Separation, reliability and the cosines between agents, below one another; models side by side, base first.

    `found` has by model the facts of `directions.json`. Lines and bands are those of the report.
    """
    looks = model_looks(list(found))
    titles = [look.label for look in looks.values()]
    quantities = ("separation", "reliability", "cosine")
    figure = panels(3, len(found), x="layer", y=quantities, titles=titles, height=125)
    for column, facts in enumerate(found.values(), start=1):
        for row, quantity in enumerate(quantities[:2], start=1):
            draw_evidence(figure, (row, column), facts, quantity)
        cosine = facts["evidence"]["all"]["cosine"]
        for a, b in combinations(range(len(facts["labels"])), 2):
            look = {"line": {"color": agent_colour(a + 1)}, "marker": {"color": agent_colour(b + 1), "size": 7}}
            look |= {"mode": "lines+markers", "showlegend": False}
            pair = f"{facts['labels'][a]} and {facts['labels'][b]}"
            hover = f"{escape(pair)}: %{{y:.2f}}<extra></extra>"
            y = [matrix[a][b] for matrix in cosine]
            figure.add_scatter(x=facts["layers"], y=y, hovertemplate=hover, row=3, col=column, **look)
        level(figure, (3, column), 0.0)
    layer_ticks(figure, {layer for facts in found.values() for layer in facts["layers"]})
    figure.update_yaxes(range=[-1.05, 1.05], row=3)
    return finished(figure)


def caption(found: Mapping[str, dict[str, Any]]) -> str:
    """What is shown, and n."""
    looks = model_looks(list(found))
    n = [f"{f['questions']:,} questions ({f['turns']:,} turns) in {looks[name].label}" for name, f in found.items()]
    by = next(iter(found.values()))["by"]
    return (
        f"Directions of each {by} over layers ({who_is_who(looks)}). Separation: how often, on held-out questions, a "
        f"turn lies further along its own {by}'s direction than another {by}'s turn on the same question and round. "
        "Reliability: the cosine between the directions from two halves of the questions. Bands are 95 % intervals "
        f"over questions; grey: shuffled labels and random directions. Cosine: between two {by}s' directions, the line "
        f"in the colour of one and the marks in the colour of the other. n = {'; '.join(n)}."
    )


def verdict(found: Mapping[str, dict[str, Any]]) -> str:
    """What is known beyond the controls, in each model."""
    looks, said = model_looks(list(found)), dict[str, list[str]]()
    for name, facts in found.items():
        if "controls" not in (evidence := facts["evidence"]["all"]) or "beyond_controls" in evidence:
            said.setdefault(beyond_controls(facts)[0], []).append(looks[name].label)
    return " ".join(f"{words.removesuffix('.')} ({joined_words(of)})." for words, of in said.items())


def read(folder: Path) -> list[dict[str, dict[str, Any]]]:
    """By name the facts of each model, the base first: a group for each base and set of labels.

    Raises `UserError` if there are none.
    """
    paths = sorted(folder.glob(_files(folder)))
    if not paths:
        raise UserError(
            f"{folder}: no directions.json and no directions/NAME/directions.json; {_MADE_BY} --out {folder} writes "
            f"it, or --out {folder}/directions/NAME for each of several models"
        )
    found = []
    for path in paths:
        facts = read_results(path, _KIND, _MADE_BY)
        model = facts["provenance"]["model"]
        name = model["name"] if path.parent == folder else path.parent.name
        found.append((len(model["adapters"]), (model["hash"], *facts["labels"]), name, facts))
    groups: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for _, like, name, facts in sorted(found, key=lambda one: one[0]):
        groups.setdefault(like, {})[name] = facts
    return list(groups.values())


def _files(folder: Path) -> str:
    """Where the directions of a folder are, with a star for each name."""
    several = "directions/*/directions.json"
    return several if any(folder.glob(several)) else "directions.json"


def draw(folder: Path) -> list[Drawn]:
    """A figure for each base and set of labels. Raises `UserError` if there are no directions."""
    drawn: list[Drawn] = []
    for found in read(folder):
        name = "agent_directions" if not drawn else f"agent_directions_{next(iter(found))}"
        source = ", ".join(_files(folder).replace("*", each) for each in found)
        of = "" if not drawn else f" ({next(iter(found))})"
        title = f"At which layers do directions tell agents apart?{of}"
        drawn.append(Drawn(name, agent_directions(found), caption(found), source, title, verdict(found)))
    return drawn


if __name__ == "__main__":
    main(draw, __doc__)
