"""The page that `interp extract-directions` writes: what was done, what was found, against what.

Knows how to put the numbers that describe a set of directions (`facts`) into words and figures. Knows
nothing about models, tensors or how the numbers came about: what it is not given, it does not show.
Any number may be None (not defined), and then the sentences say so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.direction_figures import (
    Projections,
    activation_name,
    cosine_figure,
    drawn,
    norm_figure,
    over_labels,
    projection_figure,
    reliability_figure,
    separation_figure,
    start_layer,
)
from interp.files import atomic_write
from interp.theme import agent_colour, estimate, interval, number, percent

__all__ = [
    "Projections",
    "cosine_figure",
    "findings",
    "norm_figure",
    "projection_figure",
    "reliability_figure",
    "separation_figure",
    "write_report",
]

_MOST_SKIPPED = 20
_Show = Callable[[float], str]
_READ_AT = {
    "last": "at the last token of every turn",
    "mean": "averaged over the tokens of every turn",
}


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
        loader=jinja2.PackageLoader("interp"),
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


def findings(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What was done, whether the directions separate, whether they are stable: each a verdict and what it rests on."""
    return [_done(facts), _separation(facts), _reliability(facts)]


def _plot(figure: go.Figure) -> Any:
    return json.loads(figure.to_json())


def _read_at(facts: dict[str, Any]) -> str:
    return _READ_AT.get(facts["position"], f"at the position “{facts['position']}” of every turn")


def _done(facts: dict[str, Any]) -> tuple[str, str]:
    by, layers = facts["by"], len(facts["layers"])
    return (
        "What was done.",
        f"{facts['provenance']['model']['name']} read {_count(facts['transcripts'], 'debate')} about "
        f"{_count(facts['questions'], 'question')}, {_count(facts['turns'], 'turn')} in all; "
        f"for each {by}, at {f'each of {layers} layers' if layers > 1 else 'one layer'}, its direction is "
        f"the mean difference between the model’s {activation_name(facts)} in its own turns and in the other "
        f"{by}s’ turns on the same question in the same round, read {_read_at(facts)}.",
    )


def _separation(facts: dict[str, Any]) -> tuple[str, str]:
    by = facts["by"]
    chosen = facts["evidence"]["all"]["chosen_layer"]
    outcomes = _outcomes(facts, "separation", 0.5, percent, chosen if chosen["layers"] else None)
    clauses = []
    if found := outcomes["found"]:
        clauses.append(
            f"a turn on a held-out question lies further along its own {by}’s direction than another "
            f"{by}’s turn with a probability of {_join(found)}"
        )
    if null := outcomes["null"]:
        clauses.append(f"separation is no better than by chance or with shuffled labels: {_join(null)}")
    if matched := outcomes["matched"]:
        clauses.append(f"some random directions separate as well as these: {_join(matched)}")
    if below := outcomes["below"]:
        clauses.append(f"separation is below chance, so the direction does not carry over: {_join(below)}")
    if unknown := outcomes["unknown"]:
        clauses.append(f"separation could not be measured with an interval for {_join(unknown)}")
    shuffled = _control(facts, "separation_shuffled", percent)
    random = _control(facts, "separation_random", percent)
    controls = [
        "chance is 50\u00a0%",
        *([f"shuffled labels give {shuffled}"] if shuffled else []),
        *([f"random directions give {random}"] if random else []),
    ]
    where = _where(facts)
    if chosen["layers"] and len(facts["layers"]) > 1:
        which = " or ".join(str(n) for n in chosen["layers"])
        where = f"With the layer chosen on other questions ({which})"
    text = f"{where}, {'; '.join(clauses)}; {', '.join(controls)}; 95\u00a0% intervals in brackets."
    lead = _lead(
        outcomes,
        f"The {by}s separate.",
        f"Some {by}s separate.",
        "No separation was found.",
    )
    return lead, text


def _reliability(facts: dict[str, Any]) -> tuple[str, str]:
    by = facts["by"]
    outcomes = _outcomes(facts, "reliability", 0.0, number)
    clauses = []
    if found := outcomes["found"]:
        clauses.append(
            f"the directions that two halves of the questions give have a cosine of {_join(found)}, "
            f"where 1 is the same direction and 0 an unrelated one"
        )
    if null := outcomes["null"] + outcomes["below"]:
        clauses.append(
            f"two halves of the questions agree no better than by chance or with shuffled labels, with a "
            f"cosine of {_join(null)}"
        )
    if unknown := outcomes["unknown"]:
        clauses.append(f"agreement could not be measured with an interval for {_join(unknown)}")
    if shuffled := _control(facts, "reliability_shuffled", number):
        clauses.append(f"shuffled labels give {shuffled}")
    lead = _lead(
        outcomes,
        "The directions are stable.",
        f"The directions of some {by}s are stable.",
        "No stable direction was found.",
    )
    return lead, f"{_where(facts)}, {'; '.join(clauses)}."


def _outcomes(
    facts: dict[str, Any], key: str, chance: float, show: _Show, chosen: dict[str, Any] | None = None
) -> dict[str, list[str]]:
    """What the best layer says of each label, in words, sorted by what may be claimed.

    "found" only where the whole interval lies above chance and the mean above what shuffled labels and
    random directions give; "matched" where only the random directions come up to it. `chosen` has the
    estimates of the layer chosen on other questions, to be used in place of the best layer's.
    """
    layer = start_layer(facts)
    evidence = facts["evidence"]["all"]
    outcomes: dict[str, list[str]] = {"found": [], "null": [], "below": [], "unknown": [], "matched": []}
    for k, label in enumerate(facts["labels"]):
        parts = ("mean", "low", "high")
        mean, low, high = (chosen[p][k] if chosen else evidence[key][p][k][layer] for p in parts)
        shuffled = evidence[f"{key}_shuffled"]["high"][k][layer]
        if mean is None or low is None or high is None:
            outcomes["unknown"].append(label)
            continue
        words = f"{show(mean)} for {label} ({interval(low, high, show)})"
        if high < chance:
            outcomes["below"].append(words)
        elif low <= chance or (shuffled is not None and mean <= shuffled):
            outcomes["null"].append(words)
        else:
            random = evidence[f"{key}_random"]["high"][k][layer] if f"{key}_random" in evidence else None
            outcomes["matched" if random is not None and mean <= random else "found"].append(words)
    return outcomes


def _lead(outcomes: dict[str, list[str]], every: str, some: str, none: str) -> str:
    missed = outcomes["null"] + outcomes["below"] + outcomes["matched"]
    if outcomes["found"]:
        return some if missed or outcomes["unknown"] else every
    return none if missed else "This could not be measured."


def _control(facts: dict[str, Any], key: str, show: _Show) -> str:
    """A control at the best layer over all labels: its mean, and the widest of its ranges."""
    layer = start_layer(facts)
    mean, low, high = (values[layer] for values in over_labels(facts["evidence"]["all"][key]))
    return "" if mean is None else estimate(mean, low, high, show)


def _where(facts: dict[str, Any]) -> str:
    layers = facts["layers"]
    best = f", the best of {len(layers)}" if facts["best_layers"] and len(layers) > 1 else ""
    return f"At layer {layers[start_layer(facts)]}{best}"


def _table(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per label and best layer."""
    evidence = facts["evidence"]["all"]

    def cell(key: str, k: int, layer: int, show: _Show) -> tuple[str, str]:
        mean, low, high = (evidence[key][part][k][layer] for part in ("mean", "low", "high"))
        between = "" if low is None or high is None else interval(low, high, show)
        return ("–" if mean is None else show(mean)), between

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
        ("seed", provenance["seed"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())),
        ("created", provenance["created"]),
    ]
    return [(name, "none" if value in (None, "") else str(value)) for name, value in rows]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
