"""The report of an extraction as one HTML page.

Knows the order of its parts; the figures and sentences are made elsewhere.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.directions.extract import Projections
from interp.reports.directions import (
    activation_name,
    cosine_figure,
    drawn,
    norm_figure,
    projection_figure,
    reliability_figure,
    separation_figure,
    start_layer,
)
from interp.reports.findings import _read_at, _Show, findings
from interp.reports.style import agent_colour
from interp.reports.words import between, number, percent
from interp.storage.files import atomic_write

_MOST_SKIPPED = 20


def write_report(path: Path, facts: dict[str, Any], projections: Projections) -> None:
    """Write the page as one HTML file that needs nothing else: no network, no other file.

    `facts` is the summary that extraction saves beside the directions. With A labels and L layers:
    `by`, `labels`, `layers`, `position`, `hook_point`, the counts `transcripts`, `questions` and
    `turns`, `skipped` (one record per group left out), `norm` [A][L], `residual_norm` [L],
    `best_layers` and `provenance`; `evidence` maps "all", and with rounds told apart "1", "2", …, to
    `groups`, `questions`, `cosine` [L][A][A] and to `reliability` and `separation` with their controls
    (`…_shuffled`, `separation_random`), each `mean`, `low` and `high` [A][L], and to `chosen_layer`, the
    separation [A] when the layer is chosen on other questions, with the `layers` that were chosen.

    A kill leaves the old page or the new one; a file that cannot be written is a `UserError`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("interp.reports", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rounds = list(facts["evidence"])
    figures = {
        "separation": {key: _plot(separation_figure(facts, key)) for key in rounds},
        "reliability": {key: _plot(reliability_figure(facts, key)) for key in rounds},
        "cosine": {key: _plot(cosine_figure(facts, key)) for key in rounds},
        "projection": {"all": _plot(projection_figure(facts, projections))},
        "norm": {"all": _plot(norm_figure(facts))},
    }
    page = environment.get_template("report.html.jinja").render(
        facts=facts,
        points=findings(facts),
        read_at=_read_at(facts),
        activation=activation_name(facts),
        best=facts["layers"][start_layer(facts)],
        rounds={key: "all rounds" if key == "all" else f"round {key}" for key in rounds},
        figures=Markup(json.dumps(figures).replace("<", "\\u003c")),  # a question may say </script>
        plotlyjs=Markup(get_plotlyjs()),
        reasons=Counter(item["reason"] for item in facts["skipped"]).most_common(),
        most_skipped=_MOST_SKIPPED,
        axes=projections.axes,
        drawn=int(drawn(projections).sum()),
        projected=len(projections.label),
        projected_questions=len(set(projections.question)),
        table=_table(facts),
        made=_made(facts),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _plot(figure: go.Figure) -> Any:
    return json.loads(figure.to_json())


def _table(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per label and best layer."""
    evidence = facts["evidence"]["all"]

    def cell(key: str, k: int, layer: int, show: _Show) -> tuple[str, str]:
        mean, low, high = (evidence[key][part][k][layer] for part in ("mean", "low", "high"))
        ends = "" if low is None or high is None else between(low, high, show)
        return ("–" if mean is None else show(mean)), ends

    rows = []
    for number_of_layer in facts["best_layers"]:
        layer = facts["layers"].index(number_of_layer)
        for k, label in enumerate(facts["labels"]):
            separations = [cell(f"separation{s}", k, layer, percent) for s in ("", "_shuffled", "_random")]
            reliabilities = [cell(f"reliability{s}", k, layer, number) for s in ("", "_shuffled")]
            rows.append(
                {
                    "layer": number_of_layer,
                    "label": label,
                    "colour": agent_colour(k + 1),
                    "cells": separations + reliabilities,
                }
            )
    return rows


def _made(facts: dict[str, Any]) -> list[tuple[str, str]]:
    provenance = facts["provenance"]
    model, transcripts = provenance["model"], provenance["transcripts"]
    rows = [
        ("model", model["name"]),
        ("revision", model["revision"]),
        ("hash of the model", model["hash"]),
        ("adapters, in order", " → ".join(str(adapter) for adapter in model["adapters"])),
        ("computed", f"in {model['dtype']} on {model['device']}"),
        ("transcripts", transcripts["source"]),
        ("SHA-256 of the transcripts", transcripts["sha256"]),
        ("read at", f"{facts['hook_point']}, {_read_at(facts)}"),
        ("seed", provenance["settings"]["seed"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())),
        ("created", provenance["created"]),
    ]
    return [(name, "none" if value in (None, "") else str(value)) for name, value in rows]
