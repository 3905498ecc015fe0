"""What the commands show in a terminal: progress bars and tables. Knows nothing about how it came about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from interp.progress import Progress as ProgressCallback

if TYPE_CHECKING:
    from interp.directions import Directions
    from interp.evaluation.accuracy import Row
    from interp.evaluation.comparison import Comparison
    from interp.evaluation.statistics import PairedTest
    from interp.evaluation.steerability import Advantage, Gain, Steerability
    from interp.evaluation.suppression import Choice, Damage, Key, Suppression
    from interp.side_by_side import Pair
    from interp.training.dryrun import Plan  # it brings TRL along
    from interp.training.results import Table as Results


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """A callback that draws one bar for each thing being done."""
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bars:
        tasks: dict[str, int] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        yield update


@contextmanager
def training_bars() -> Iterator[Callable[[str, int, int, dict[str, float]], None]]:
    """A callback that draws one bar for each stage, with its reward, length and limit, or its loss, beside it."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, facts="")
            shown = ("reward", "correctness", "length", "limit") if "reward" in metrics else ("loss",)
            facts = " ".join(f"{name} {metrics[name]:.3g}" for name in shown if name in metrics)
            bars.update(tasks[stage], completed=done, total=total, facts=facts)

        yield update


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


def pair_table(pair: Pair, what: str) -> Table:
    """A prompt with its two answers beside one another; `what` says how the second was steered."""
    table = Table(
        title=Text(pair.prompt),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 2, 0, 0),
        expand=True,
    )
    for heading in (f"unsteered ({pair.unsteered_tokens} tokens)", f"{what} ({pair.steered_tokens} tokens)"):
        table.add_column(heading, ratio=1, overflow="fold")
    ended = Text(pair.steered)
    if not pair.finite:
        ended.append("\n[ends here: the numbers are out of range; take a smaller coefficient]", style="red")
    table.add_row(Text(pair.unsteered), ended)
    return table


def steerability_table(found: Sequence[Steerability], compared: Sequence[Advantage]) -> Table:
    """Normalised areas, each agent's own direction beside the controls; what is the same everywhere has no column."""
    names = ("model", "directions", "context", "layer", "measure")
    varied = [name for name in names if len({getattr(row, name) for row in found}) > 1]
    same = [f"{name} {getattr(found[0], name)}" for name in names if found and name not in varied]
    table = Table(
        title="Steerability: normalised area under the curve of each agent's own words",
        title_justify="left",
        caption=Text(
            "own: along the agent's direction (95 % interval over questions); at: its highest point\n"
            "others, random: along the other agents' directions, random ones; n: questions\n"
            "*: more than no steering and than each of these, by paired 95 % intervals\n"
            "a text that ends where the numbers are out of range counts 0\n" + "; ".join(same)
        ),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in (*varied, "agent", "own", "at", "others", "random", "n"):
        named = heading in ("model", "directions", "context", "agent", "measure")
        table.add_column(heading, justify="left" if named else "right", overflow="fold")
    rows = (row for row in found if row.kind == "own")
    for own, one in zip(rows, compared, strict=True):
        beside = {
            row.kind: _rounded(row.area.mean, 3)
            for row in found
            if row.label == own.label and all(getattr(row, name) == getattr(own, name) for name in names)
        }
        table.add_row(
            *(str(getattr(own, name)) for name in varied),
            own.label,
            _interval(own.area.mean, own.area.low, own.area.high, digits=3) + "*" * one.shown,
            f"{own.peak:g}",
            *(beside.get(kind, "–") for kind in ("others", "random")),
            str(own.questions),
        )
    return table


def gains_table(found: Sequence[Gain]) -> Table:
    """How much more steerable each agent is in the other models than in the first."""
    names = ("model", "context", "layer", "measure")
    varied = [name for name in names if len({getattr(row, name) for row in found}) > 1]
    same = ", ".join(f"{name} {getattr(found[0], name)}" for name in names if name not in varied)
    table = Table(
        title=f"Area against that of {found[0].base}, each model along directions of its own",
        title_justify="left",
        caption=Text(f"95 % interval over questions; n: questions\n{same}"),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in (*varied, "agent", "gain", "n"):
        table.add_column(heading, justify="right" if heading in ("gain", "n") else "left", overflow="fold")
    for row in found:
        shares = f"{row.gain.mean:+.1%} [{row.gain.low:+.1%}, {row.gain.high:+.1%}]"
        table.add_row(*(str(getattr(row, name)) for name in varied), row.label, shares, str(row.questions))
    return table


_DAMAGE_CAPTION = """\
trait: mean score (95 % interval); right: right answers in the same texts
accuracy: of questions put plainly; rep.: repetition in those answers
ppl: their perplexity under the unsteered base, geometric mean
chosen: on validation questions (* none kept to the damage limit there)"""


def suppression_tables(
    rows: Sequence[Damage], chosen: Mapping[Key, Choice], smallest: Mapping[tuple[str, str, str, str], Suppression]
) -> list[Table]:
    """What was done against a trait, on test questions: one table a model and way of calling the trait up."""
    cases = list(dict.fromkeys((row.model, row.asked) for row in rows))
    tables = [_damage_table(case, rows, chosen, smallest) for case in cases]
    tables[-1].caption = _DAMAGE_CAPTION
    return tables


def _damage_table(
    case: tuple[str, str],
    rows: Sequence[Damage],
    chosen: Mapping[Key, Choice],
    smallest: Mapping[tuple[str, str, str, str], Suppression],
) -> Table:
    from interp.evaluation.suppression import SUPPRESSED

    model, asked = case
    own = [row for row in rows if (row.model, row.asked) == case]
    table = Table(
        title=Text(f"{model}, the trait called up by {asked}; n = {own[0].questions}"),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,  # so that it fits 80 columns
    )
    for heading in ("", "layer", "coef.", "trait", "right", "accuracy", "ppl", "rep."):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))

    def show(what: str, row: Damage) -> None:
        table.add_row(
            what,
            row.layer or "",
            f"{row.coefficient:g}" if row.coefficient else "",
            _interval(row.trait.mean, row.trait.low, row.trait.high),
            "–" if row.right is None else _rounded(row.right.mean),
            _interval(row.accuracy.mean, row.accuracy.low, row.accuracy.high),
            "–" if row.perplexity is None else f"{row.perplexity.mean:.3g}",
            _rounded(row.repetition.mean),
        )

    for row in own:
        if row.remedy in ("none", "guard", "fine-tune"):
            show({"none": "unsteered"}.get(row.remedy, row.remedy), row)
    for source in [source for of, source, how in chosen if (of, how) == case]:
        table.add_row(Text(source, style="italic"))
        choice, gone = chosen[model, source, asked], smallest[model, source, asked, "steering"].coefficient
        curve = [row for row in own if row.source == source]
        by = {(row.remedy, row.layer, row.coefficient): row for row in curve}
        show("chosen" if choice.within else "chosen*", by["steering", choice.layer, choice.coefficient])
        if gone is None:
            steered = [row for row in curve if (row.remedy, row.layer) == ("steering", choice.layer)]
            show("lowest trait", min(steered, key=lambda row: row.trait.mean))
        elif gone:
            show(f"trait < {SUPPRESSED:.0%}", by["steering", choice.layer, gone])
        if ("random", choice.layer, choice.coefficient) in by:
            show("random", by["random", choice.layer, choice.coefficient])
        if ("ablation", None, 0.0) in by:
            show("taken out", by["ablation", None, 0.0])
    return table


def suppression_lines(smallest: Mapping[tuple[str, str, str, str], Suppression]) -> list[str]:
    """The one number of each model, and its control's, as a line."""
    from interp.evaluation.suppression import SUPPRESSED

    lines = []
    for (model, source, asked, remedy), found in smallest.items():
        way = source if remedy == "steering" else f"{remedy}, as long as {source}"
        lost = _interval(found.lost.mean, found.lost.low, found.lost.high, digits=3)
        where = f"trait {found.trait:.1%} at coefficient {found.coefficient or 0:g},"
        if found.coefficient == 0:
            where = f"trait {found.trait:.1%} as it is, nothing to suppress;"
        elif found.coefficient is None:
            where = f"trait < {SUPPRESSED:.0%} nowhere; at its lowest, {found.trait:.1%},"
        lines.append(
            f"{model}, {asked}, {way}: {where} accuracy kept {found.accuracy:.1%} of {found.unsteered_accuracy:.1%}, "
            f"lost {lost}"
        )
    return lines


def count_lines(counts: Mapping[str, Any]) -> list[str]:
    """What `sweep` and `suppress` left out, or found wrong with texts or directions; nothing where all is well."""
    lines = []
    if n := counts.get("questions_that_directions_were_fitted_on"):
        lines.append(f"transcripts left out, as directions were fitted on their questions: {n:,}")
    for what, name in (
        ("that end where the numbers are out of range", "out_of_range"),
        ("that the judge gave no number for, left out", "without_a_score"),
    ):
        if n := counts.get(name):
            lines.append(f"texts {what}: {n:,} of {counts['records']:,}")
    for name in counts["directions_without_question_hashes"]:
        lines.append(f"{name}: does not say which questions it was fitted on; see that they are others")
    return lines


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


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.2f}" if b else "–"


def _interval(mean: float | None, low: float | None, high: float | None, digits: int = 2) -> str:
    return f"{_rounded(mean, digits)} [{_rounded(low, digits)}, {_rounded(high, digits)}]"


def _rounded(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
