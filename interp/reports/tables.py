"""What the commands show in a terminal: progress bars and tables. Knows nothing about how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from interp.reports.words import _interval, _mean, _ratio, _rounded

if TYPE_CHECKING:
    from interp.directions.directions import Directions
    from interp.evaluation.accuracy import Row
    from interp.evaluation.comparison import Comparison
    from interp.statistics import PairedTest
    from interp.training.dry_run import Plan
    from interp.training.results import Table as Results


def memory_table(plan: Plan) -> Table:
    """What each stage of a planned run needs on one device."""
    millions = {stage: f"{n / 1e6:,.1f} M" for stage, n in plan.adapters.items()}
    table = Table(
        title=f"{plan.preset.name}: {plan.parameters:,} weights; memory in GiB on one GPU that holds all of it",
        title_justify="left",
        caption="adapter: with gradient and optimizer; sampling: the KV cache, and a merged copy where one is kept",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    headings = ("stage", "steps", "LoRA", "weights", "adapter", "activations", "sampling", "total")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "stage" else "right", no_wrap=True)
    for need in plan.memory:
        parts = (need.weights, need.adapter, need.activations, need.cache + need.copy, need.total)
        gib = [f"{part / 2**30:.1f}" for part in parts]
        table.add_row(need.stage, f"{plan.steps[need.stage]:,}", millions[need.stage], *gib)
    return table


def best_layers_table(directions: Directions, n_layers: int = 3) -> Table:
    """The best layers with separation and reliability of every label, each beside its control."""
    facts = directions.facts
    evidence = facts["evidence"]["all"]
    table = Table(
        title=f"Best of {len(directions.layers)} layers, on held-out questions "
        f"({evidence['groups']} groups of {evidence['questions']} questions)",
        title_justify="left",
        caption="separation: how often a turn lies further along its own direction than another\n"
        "  one does (95 % interval), then with shuffled labels, then on random directions\n"
        "reliability: cosine between two halves' directions, then with shuffled labels\n"
        "length: of the raw direction, relative to the activations read\n"
        "chosen: the layer, too, was chosen on other questions",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,  # so that it fits 80 columns
    )
    headings = ("layer", facts["by"], "separation", "shuffled", "random", "reliability", "shuffled", "length")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == facts["by"] else "right", no_wrap=True)
    chosen = evidence["chosen_layer"]
    if chosen["layers"]:
        for i, label in enumerate(directions.labels):
            table.add_row("chosen", label, _interval(*(chosen[part][i] for part in ("mean", "low", "high"))))
        table.add_section()
    for layer in facts["best_layers"][:n_layers]:
        at = directions.layers.index(layer)
        for i, label in enumerate(directions.labels):
            separation = [evidence["separation"][part][i][at] for part in ("mean", "low", "high")]
            controls = ("separation_shuffled", "separation_random", "reliability", "reliability_shuffled")
            means = {name: _rounded(evidence[name]["mean"][i][at]) for name in controls}
            table.add_row(
                str(layer),
                label,
                _interval(*separation),
                means["separation_shuffled"],
                means["separation_random"],
                means["reliability"],
                means["reliability_shuffled"],
                f"{facts['norm'][i][at] / facts['residual_norm'][at]:.0%}",
            )
        table.add_section()
    return table


def rows_table(rows: Sequence[Row]) -> Table:
    """Evaluations side by side; each one's tokens also as a multiple of those of the first on its task."""
    table = Table(
        title="Accuracy and what it takes, for each question",
        title_justify="left",
        caption="accuracy: with its 95 % interval over questions and runs\n"
        "in, out: tokens summed over all calls; ×: both, as a multiple of the task's first row\n"
        "none: questions on which the method came to no answer, counted as wrong; n: questions",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,  # so that it fits 80 columns
    )
    for heading in ("task", "method", "accuracy", "in", "out", "×", "calls", "none", "n"):
        named = heading in ("task", "method")
        table.add_column(heading, justify="left" if named else "right", overflow="fold")
    first: dict[str, float] = {}
    for row in rows:
        base = first.setdefault(row.task, row.tokens)
        table.add_row(
            row.task,
            row.method,
            _interval(row.accuracy.mean, row.accuracy.low, row.accuracy.high, digits=3),
            f"{row.input_tokens:,.0f}",
            f"{row.output_tokens:,.0f}",
            _ratio(row.tokens, base),
            f"{row.calls:.2f}",
            str(row.undecided),
            f"{row.questions:,}" + (f" × {row.runs}" if row.runs > 1 else ""),
        )
    return table


def results_table(found: Results) -> Table:
    """The methods of a training run side by side, and the tests between them."""
    from interp.training.results import TITLES

    first = found.rows[0]
    seeds = list(next(iter(found.by_seed.values())))
    several = f"; mean of seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    table = Table(
        title=f"{first.task}: {first.questions:,} questions that no stage has seen{several}",
        title_justify="left",
        caption="\n".join(
            [
                "accuracy: with its 95 % interval over questions, seeds pooled; in, out: tokens a question, all calls",
                "÷ Debate: tokens as a share of Debate's, in and out together; out ÷: those written alone",
                "none: questions without an answer, counted as wrong; cut: texts cut off at the limit on their length",
                *(f"{TITLES[a]} − {TITLES[b]}: {difference(test)}" for (a, b), test in found.tests.items()),
            ]
        ),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    headings = ("method", "accuracy", "in", "out", "÷ Debate", "out ÷", "none", "cut")
    for heading in (*headings, "by seed") if several else headings:
        table.add_column(heading, justify="left" if heading == "method" else "right", overflow="fold")
    for row in found.rows:
        tokens, output = found.of_debate(row)
        by_seed = " ".join(f"{one.accuracy.mean:.2f}" for one in found.by_seed.get(row.method, {}).values())
        table.add_row(
            TITLES[row.method],
            _interval(row.accuracy.mean, row.accuracy.low, row.accuracy.high, digits=3),
            f"{row.input_tokens:,.0f}",
            f"{row.output_tokens:,.0f}",
            f"{tokens:.1%}",
            f"{output:.1%}",
            f"{row.undecided:,}",
            f"{row.usage.cut:,}",
            *([by_seed] if several else []),
        )
    return table


def difference(test: PairedTest) -> str:
    """A difference in accuracy with its interval and the p-value of the exact sign-flip test."""
    p = f"p = {test.p:.2g}" if test.p > 0 else "p < 1e-300"
    interval = _interval(test.difference.mean, test.difference.low, test.difference.high, digits=3)
    return f"{interval} (95 % interval), {p}"


def failures(row: Row) -> list[str]:
    """What went wrong on the way, one line for each kind; nothing where nothing did."""
    usage = row.usage
    made_good = "" if usage.unanswered else ", all made good by another attempt"
    said = [f"failed attempts: {n:,} × {name}{made_good}" for name, n in usage.failures.items()]
    for name, n in usage.unanswered.items():
        detail = f" (the first: {usage.details[name]})" if name in usage.details else ""
        said.append(f"calls left without an answer: {n:,} of {usage.calls:,}, {name}{detail}")
    if usage.unanswered:
        said.append("to ask these again, run the same with --retry-failed")
    if usage.cut:
        said.append(f"answers cut off at the limit on their length: {usage.cut:,} of {usage.calls:,}")
    if usage.estimated:
        said.append(f"calls whose tokens the server did not count, estimated: {usage.estimated:,} of {usage.calls:,}")
    return said


def comparison_table(found: Comparison) -> Table:
    """Two evaluations and the test between them."""
    test = found.test
    left_out = f"; {found.left_out:,} that only one of them answered left out" if found.left_out else ""
    table = rows_table([found.first, found.second])
    table.title = f"On the {found.first.questions:,} questions that both answered{left_out}"
    table.caption = (
        f"difference in accuracy: {difference(test)} (exact sign-flip test)\n"
        f"questions on which the first did better {test.better:,}, worse {test.worse:,}, equally well {test.tied:,}\n"
        f"tokens of the second ÷ those of the first: {_ratio(found.second.tokens, found.first.tokens)}"
    )
    return table


_PROBE_CONTROLS = {
    "mean": ("mass-mean",),
    "shuf.": ("shuffled",),
    "rand.": ("random projection",),
    "words": ("bag of words",),
    "len.": ("length and position",),
    "known": ("operands, boosted", "operands and what it wrote, boosted"),
}
_PROBE_CAPTION = (
    "AUC (of numbers R²) on held-out questions, means over seeds; decoded*: at layers chosen on other questions (95 % "
    "interval); at: the one most often chosen, and there: mass-mean, shuffled labels, random projection; without a "
    "model: the text's words, its length and place, the question's operands (and what was written); sel.: accuracy "
    "beyond that on a control task"
)


def probe_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Of each target that has controls a table with a row a model: what is decoded, beside each control."""
    tables = []
    controlled = [row for row in rows if row["kind"] == "shuffled"]
    for target, position in dict.fromkeys((row["target"], row["position"]) for row in controlled):
        here = [row for row in rows if (row["target"], row["position"]) == (target, position)]
        tables.append(_probe_table(f"{target} ({position})", here))
    for table in tables[-1:]:
        table.caption = _PROBE_CAPTION
    return tables


def _probe_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    kinds = {row["kind"] for row in rows}
    shown = {name: of for name, of in _PROBE_CONTROLS.items() if kinds & set(of)}
    measure = "auc" if rows[0]["classes"] else "r2"
    table = Table(
        title=Text(title),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("", "at", "decoded*", *shown, "sel."):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading), overflow="fold")
    for model in dict.fromkeys(row["model"] for row in rows if row["kind"] == "chosen layer"):
        of = [row for row in rows if row["model"] in (model, None)]
        chosen = [row for row in of if row["kind"] == "chosen layer"]
        layers = [layer for row in chosen for layer in row["layers"]]
        layer = max(dict.fromkeys(layers), key=layers.count)
        there = [row for row in of if row["layer"] in (layer, None)]
        own, low, high = (_mean([row["scores"][measure][end] for row in chosen]) for end in ("mean", "low", "high"))
        beside = [[row["scores"][measure]["mean"] for row in there if row["kind"] in names] for names in shown.values()]
        beside.append([row["selectivity"]["mean"] for row in there if row["kind"] == "probe" and row["selectivity"]])
        controls = (_rounded(_mean(values)) for values in beside)
        table.add_row(Text(Path(model).name), str(layer), _interval(own, low, high), *controls)
    return table
