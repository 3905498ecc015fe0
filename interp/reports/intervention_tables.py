"""What steer, sweep and suppress print: tables and the lines under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from interp.reports.words import bracketed, rounded

if TYPE_CHECKING:
    from interp.interventions.curves import Advantage, Gain, Steerability
    from interp.interventions.damage import Choice, Damage, Key, Suppression
    from interp.interventions.steer import Pair


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
            row.kind: rounded(row.area.mean, 3)
            for row in found
            if row.label == own.label and all(getattr(row, name) == getattr(own, name) for name in names)
        }
        table.add_row(
            *(str(getattr(own, name)) for name in varied),
            own.label,
            bracketed(own.area.mean, own.area.low, own.area.high, digits=3) + "*" * one.shown,
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
    from interp.interventions.damage import SUPPRESSED

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
            bracketed(row.trait.mean, row.trait.low, row.trait.high),
            "–" if row.right is None else rounded(row.right.mean),
            bracketed(row.accuracy.mean, row.accuracy.low, row.accuracy.high),
            "–" if row.perplexity is None else f"{row.perplexity.mean:.3g}",
            rounded(row.repetition.mean),
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
    from interp.interventions.damage import SUPPRESSED

    lines = []
    for (model, source, asked, remedy), found in smallest.items():
        way = source if remedy == "steering" else f"{remedy}, as long as {source}"
        lost = bracketed(found.lost.mean, found.lost.low, found.lost.high, digits=3)
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
