"""Tables that `extract-directions`, `debate`, `evaluate` and `train` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from interp.reports.terminal import table
from interp.reports.words import bracketed, ratio, read_words, rounded

if TYPE_CHECKING:
    from interp.directions.directions import Directions
    from interp.evaluation.accuracy import Comparison, EvaluationRow
    from interp.statistics import PairedTest
    from interp.training.dry_run import Plan
    from interp.training.results import Table as Results

_PARTS = ("mean", "low", "high")
_SAY = read_words("tables")


def memory_table(plan: Plan) -> Table:
    """The GPU memory that each stage of a planned run needs.

    >>> interp.reports.memory_table(interp.training.plan(interp.training.preset("smollm2-135m"))).row_count
    2
    """
    title = f"{plan.preset.name}: {plan.parameters:,} weights; memory in GiB on one GPU that holds everything"
    headings = ("stage", "steps", "LoRA", "weights", "adapter", "activations", "sampling", "total")
    made = table(title, _SAY["memory"], headings, left=("stage",), gap=1, whole=True)
    for need in plan.memory:
        sizes = need.weights, need.adapter, need.activations, need.sampling, need.total
        counts = f"{plan.steps[need.stage]:,}", f"{plan.adapters[need.stage] / 1e6:,.1f} M"
        made.add_row(need.stage, *counts, *(f"{size / 2**30:.1f}" for size in sizes))
    return made


def best_layers_table(directions: Directions, n_layers: int = 3) -> Table:
    """Separation and reliability of every label at the best layers, each with its control.

    >>> interp.reports.best_layers_table(found, n_layers=2).row_count
    9
    """
    facts = directions.facts
    by, evidence = "direction" if facts["by"] == "pair" else facts["by"], facts["evidence"]["all"]
    words = ("pairs in", "groups") if by == "direction" else ("groups of", "questions")
    groups = f"{evidence['groups']} {words[0]} {evidence['questions']} {words[1]}"
    title = f"Best of {len(directions.layers)} layers, on held-out {words[1]} ({groups})"
    controls = evidence.get("controls", {})
    columns = ("untrained", "text") if controls else ()
    beside = ("un-\ntrained", "text") if controls else ()
    wrong = "shuf-\nfled"
    headings = ("layer", by, "separation", *beside, wrong, "random", "relia-\nbility", wrong, "length")
    made = table(title, _SAY["layers"], headings, left=(by,), whole=True)
    chosen = evidence["chosen_layer"]
    for i, label in enumerate(directions.labels if chosen["layers"] else ()):
        known = [rounded(controls[name]["mean"][i]) for name in columns]
        made.add_row("chosen", label, bracketed(*(chosen[part][i] for part in _PARTS)), *known)
    made.add_section()
    names = ("separation_shuffled", "separation_random", "reliability", "reliability_shuffled")
    for layer in facts["best_layers"][:n_layers]:
        at = directions.layers.index(layer)
        for i, label in enumerate(directions.labels):
            separation = bracketed(*(evidence["separation"][part][i][at] for part in _PARTS))
            known = [rounded(evidence["separation_untrained"]["mean"][i][at]), ""] if controls else []
            means = (rounded(evidence[name]["mean"][i][at]) for name in names)
            length = f"{facts['norm'][i][at] / facts['residual_norm'][at]:.0%}"
            made.add_row(str(layer), label, separation, *known, *means, length)
        made.add_section()
    return made


def rows_table(
    rows: Sequence[EvaluationRow], title: str = "Accuracy and tokens per question", caption: str = _SAY["rows"]
) -> Table:
    """Evaluations side by side; tokens also as a multiple of the first row's on the same task.

    >>> records = [{"question": "1+1", "run": 0, "correct": True, "answer": "2", "usage": {"calls": 3}}]
    >>> interp.reports.rows_table([interp.evaluation.accuracy.summarize(records, "vote", "arithmetic")]).row_count
    1
    """
    headings = ("task", "method", "accuracy", "in", "out", "×", "calls", "none", "n")
    made = table(title, caption, headings, left=("task", "method"))
    first: dict[str, float] = {}
    for row in rows:
        times = ratio(row.tokens, first.setdefault(row.task, row.tokens))
        n = f"{row.questions:,}" + (f" × {row.runs}" if row.runs > 1 else "")
        made.add_row(row.task, row.method, *_costs(row), times, f"{row.calls:.2f}", str(row.undecided), n)
    return made


def _costs(row: EvaluationRow) -> tuple[str, str, str]:
    accuracy = bracketed(row.accuracy.mean, row.accuracy.low, row.accuracy.high, digits=3)
    return accuracy, f"{row.input_tokens:,.0f}", f"{row.output_tokens:,.0f}"


def results_table(found: Results) -> Table:
    """The methods of a training run side by side, and the tests between them."""
    from interp.training.results import TITLES

    first, seeds = found.rows[0], list(next(iter(found.by_seed.values())))
    several = len(seeds) > 1
    of_seeds = ", of trained methods over questions and seeds; differences: for these seeds" * several
    caption = [_SAY["results"].format(of_seeds=of_seeds)]
    caption += [f"{TITLES[a]} − {TITLES[b]}: {difference(test)}" for (a, b), test in found.tests.items()]
    title = f"{first.task}: {first.questions:,} questions that no stage has seen"
    title += f"; mean of seeds {', '.join(map(str, seeds))}" if several else ""
    headings = ["method", "accuracy", "in", "out", "÷ Debate", "out ÷", "none", "cut", *["by seed"] * several]
    made = table(title, "\n".join(caption), headings, left=("method",))
    for row in found.rows:
        shares = (f"{share:.1%}" for share in found.of_debate(row))
        by_seed = " ".join(f"{one.accuracy.mean:.2f}" for one in found.by_seed.get(row.method, {}).values())
        counts = f"{row.undecided:,}", f"{row.usage.cut:,}", *[by_seed] * several
        made.add_row(TITLES[row.method], *_costs(row), *shares, *counts)
    return made


def difference(test: PairedTest) -> str:
    """A difference in accuracy with its interval and the p-value of the exact sign-flip test."""
    p = f"p = {test.p:.2g}" if test.p > 0 else "p < 1e-300"
    return f"{bracketed(test.difference.mean, test.difference.low, test.difference.high, 3)} (95 % interval), {p}"


def failures(row: EvaluationRow) -> list[str]:
    """What went wrong while the questions were answered, one line for each kind."""
    usage = row.usage
    recovered = "" if usage.unanswered else ", all recovered by another attempt"
    lines = [f"failed attempts: {n:,} × {name}{recovered}" for name, n in usage.failures.items()]
    lines += [f"calls left without an answer: {loss}" for loss in usage.losses()]
    if usage.unanswered:
        lines.append("to repeat these calls, run the same command with --retry-failed")
    counts = {"answers cut off at the length limit": usage.cut}
    counts["calls whose tokens the server did not count, estimated"] = usage.estimated
    return lines + [f"{what}: {n:,} of {usage.calls:,}" for what, n in counts.items() if n]


def comparison_table(found: Comparison) -> Table:
    """Two evaluations and the test between them.

    >>> records = [{"question": "1+1", "run": 0, "correct": True, "answer": "2", "usage": {"calls": 3}}]
    >>> row = interp.evaluation.accuracy.summarize(records, "vote", "arithmetic")
    >>> test = interp.statistics.paired_test(np.ones((1, 4)), np.zeros((1, 4)))
    >>> interp.reports.comparison_table(interp.evaluation.accuracy.Comparison(row, row, test, left_out=0)).row_count
    2
    """
    test = found.test
    left_out = f"; {found.left_out:,} that only one of them answered left out" if found.left_out else ""
    counts = {name: getattr(test, name) for name in ("better", "worse", "tied")}
    compared = {"difference": difference(test), "ratio": ratio(found.second.tokens, found.first.tokens)}
    title = f"On the {found.first.questions:,} questions that both answered{left_out}"
    return rows_table([found.first, found.second], title, _SAY["comparison"].format(**compared, **counts))
