"""The tables that `interp probe` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table

from interp.reports.terminal import table
from interp.reports.words import bracketed, rounded

_CONTROLS = {
    "mean": ("mass-mean",),
    "shuf.": ("shuffled",),
    "rand.": ("random projection",),
    "words": ("bag of words",),
    "len.": ("length and position",),
    "known": ("operands, boosted", "operands and what it wrote, boosted"),
}
_CAPTION = """\
decoded*: AUC (of numbers R²) on held-out questions, mean over seeds, at layers chosen on other questions (95 % \
interval); at: the layer chosen most often; at that layer, mass-mean, shuffled labels and a random projection; \
without a model: the text's words, its length and position, the question's operands (and what was written); sel.: \
accuracy above that on a control task"""


def probe_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table for each target that has controls, with a row for each model: what is decoded, and its controls."""
    targets = list(dict.fromkeys((row["target"], row["position"]) for row in rows if row["kind"] == "shuffled"))
    tables = []
    for target, position in targets:
        here = [row for row in rows if (row["target"], row["position"]) == (target, position)]
        kinds, measure = {row["kind"] for row in here}, "auc" if here[0]["classes"] else "r2"
        shown = {name: of for name, of in _CONTROLS.items() if kinds & set(of)}
        caption = _CAPTION if (target, position) == targets[-1] else ""
        made = table(f"{target} ({position})", caption, ("", "at", "decoded*", *shown, "sel."), gap=1, whole=True)
        tables.append(made)
        for model in dict.fromkeys(row["model"] for row in here if row["kind"] == "chosen layer"):
            own = [row for row in here if row["model"] in (model, None)]
            chosen = [row for row in own if row["kind"] == "chosen layer"]
            layer = Counter(layer for row in chosen for layer in row["layers"]).most_common(1)[0][0]
            mean, low, high = (
                fmean(row["scores"][measure][part] for row in chosen) for part in ("mean", "low", "high")
            )
            there = [row for row in own if row["layer"] in (layer, None)]
            controls = [[row["scores"][measure] for row in there if row["kind"] in of] for of in shown.values()]
            controls.append([row["selectivity"] for row in there if row["kind"] == "probe" and row["selectivity"]])
            means = (rounded(fmean(value["mean"] for value in values) if values else None) for values in controls)
            made.add_row(Path(model).name, str(layer), bracketed(mean, low, high), *means)
    return tables
