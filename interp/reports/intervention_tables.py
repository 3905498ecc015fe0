"""What steer, sweep and suppress print: tables and the lines under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from math import isfinite
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from interp.errors import plain
from interp.reports.terminal import table
from interp.reports.words import bracketed, read_words, rounded

if TYPE_CHECKING:
    from interp.interventions.curves import Advantage, Gain, Steerability
    from interp.interventions.damage import Choice, Damage, Key, Remedy
    from interp.interventions.steer import Pair
    from interp.statistics import Verdict


def pair_table(pair: Pair, what: str) -> Table:
    """A prompt with its two answers, side by side; `what` says how the second was steered.

    >>> steering = interp.add(found[2, 2])
    >>> [pair] = interp.interventions.side_by_side(model, ["3+4*2"], steering, form="problem")
    >>> interp.reports.pair_table(pair, steering.summary).row_count
    1
    """
    headings = [f"unsteered ({pair.unsteered_tokens} tokens)", f"{what} ({pair.steered_tokens} tokens)"]
    shown = table(pair.prompt, "", headings, left=headings, gap=2, expand=True)
    end = "" if pair.finite else "\n[ends here: the numbers are out of range; use a smaller coefficient]"
    shown.add_row(pair.unsteered, Text(plain(pair.steered)).append(end, style="red"))
    return shown


_SAY = read_words("tables")
FEW = 0.2
"""Below this share of right answers, that few are lost says little."""


def _varied(found: Sequence[Any], names: Sequence[str]) -> tuple[list[str], str]:
    """The names of what differs between the rows, and what is the same in all of them, in words."""
    varied = [name for name in names if len({getattr(row, name) for row in found}) > 1]
    return varied, "; ".join(f"{n} {getattr(row, n)}" for row in found[:1] for n in names if n not in varied)


def _told_apart(found: Sequence[Any], name: str) -> dict[Any, str]:
    """Each value of a column in words; of paths, without the folders that all of them begin or end with."""
    values = list(dict.fromkeys(getattr(row, name) for row in found))
    each = [str(value).split("/") for value in values]

    def alike(rows: Sequence[Sequence[str]]) -> int:
        return sum(1 for _ in takewhile(lambda column: len({*column}) == 1, zip(*rows, strict=False)))

    start = alike([parts[:-1] for parts in each])
    end = alike([parts[start + 1 :][::-1] for parts in each])
    return {value: "/".join(parts[start : len(parts) - end]) for value, parts in zip(values, each, strict=True)}


_MARKS = {"shown": "*", "not shown": "", "cannot tell": "?"}


def steerability_table(found: Sequence[Steerability], compared: Sequence[Advantage]) -> Table:
    """Normalised areas of each agent's own direction and its controls; what is the same everywhere has no column."""
    names = ("model", "directions", "context", "layer", "measure")
    varied, same = _varied(found, names)
    shown = table(
        "Steerability: normalised area under the curve of each agent's own words",
        _SAY["steerability"].format(same=same),
        (*varied, "agent", "own", "at", "others", "random", "n"),
        left=("model", "directions", "context", "agent", "measure"),
        gap=1,
    )
    rows = {(*(getattr(row, name) for name in names), row.label, row.kind): row for row in found}
    said = {name: _told_apart(found, name) for name in varied}
    for one in compared:
        place = (*(getattr(one, name) for name in names), one.label)
        own, *controls = (rows.get((*place, kind)) for kind in ("own", "others", "random"))
        area = bracketed(one.area.mean, one.area.low, one.area.high, digits=3) + _MARKS[one.verdict.outcome]
        means = (rounded(row.area.mean if row else None, 3) for row in controls)
        where = (said[name][getattr(one, name)] for name in varied)
        shown.add_row(*where, one.label, area, *((f"{own.peak:g}", *means, str(own.questions)) if own else ()))
    return shown


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """What is shown, in full, and how many of the others are not shown or cannot be told, with why for the first."""
    lines = [one.in_words() for one in verdicts if one.outcome == "shown"]
    for outcome in ("not shown", "cannot tell"):
        if some := [one for one in verdicts if one.outcome == outcome]:
            lines.append(f"{outcome}, {len(some)} of {len(verdicts)}, such as: {some[0].in_words()}")
    return lines


def gains_table(found: Sequence[Gain]) -> Table:
    """How much more steerable each agent is in the other models than in the first."""
    varied, same = _varied(found, ("model", "context", "layer", "measure"))
    title = f"Gain in area over {found[0].base}, each model along its own directions"
    caption = f"95 % interval over questions; n: questions\n{same}"
    shown = table(title, caption, (*varied, "agent", "gain", "n"), left=(*varied, "agent"), gap=1)
    said = {name: _told_apart(found, name) for name in varied}
    for row in found:
        shares = f"{row.gain.mean:+.1%} [{row.gain.low:+.1%}, {row.gain.high:+.1%}]" if isfinite(row.gain.mean) else "–"
        where = (said[name][getattr(row, name)] for name in varied)
        shown.add_row(*where, row.label, shares, str(row.questions))
    return shown


def suppression_tables(rows: Sequence[Damage], chosen: Mapping[Key, Choice]) -> list[Table]:
    """What was done against a trait, on test questions: a table for each model and way to elicit the trait.

    >>> interp.reports.suppression_tables([], {})
    []
    """
    tables = []
    cases = list(dict.fromkeys((row.model, row.elicit) for row in rows))
    for model, elicit in cases:
        own = [row for row in rows if (row.model, row.elicit) == (model, elicit)]
        title = f"{model}, trait elicited by {elicit}; n = {own[0].questions}"
        caption = _SAY["damage"] if (model, elicit) == cases[-1] else ""
        headings = ("", "layer", "coef.", "trait", "right", "accuracy", "ppl", "rep.")
        tables.append(table(title, caption, headings, whole=True))
        for row in own:
            if row.remedy in ("none", "guard", "fine-tune"):
                tables[-1].add_row(*_damage_cells(row.remedy.replace("none", "unsteered"), row))
        for (of, source, how), choice in chosen.items():
            if (of, how) != (model, elicit):
                continue
            tables[-1].add_row(source, style="italic")
            by = {(row.remedy, row.layer, row.coefficient): row for row in own if row.source == source}
            at: tuple[Any, ...] = (choice.layer, choice.coefficient)
            places = {"chosen" if choice.within else "chosen*": ("steering", *at), "random": ("random", *at)}
            places |= {"ablated": ("ablation", None, 0.0), "random ": ("random", None, 0.0)}
            for what, place in places.items():
                if place in by:
                    tables[-1].add_row(*_damage_cells(what, by[place]))
    return tables


def _damage_cells(what: str, row: Damage) -> list[str]:
    trait, accuracy = (bracketed(each.mean, each.low, each.high) for each in (row.trait, row.accuracy))
    coefficient = f"{row.coefficient:g}" if row.coefficient else ""
    perplexity = "–" if row.perplexity is None else f"{row.perplexity.mean:.3g}"
    right, repeated = rounded(row.right.mean if row.right else None), rounded(row.repetition.mean)
    return [what, row.layer or "", coefficient, trait, right, accuracy, perplexity, repeated]


def suppression_lines(judged: Sequence[Remedy]) -> list[str]:
    """What is shown of each direction, a line for the trait and one for accuracy.

    >>> interp.reports.suppression_lines([])
    []
    """
    lines = []
    for one in judged:
        right = ""
        if one.right is not None:
            before, after = one.right
            right = f" Right answers in the texts that may show the trait: {after:.0%}; unsteered {before:.0%}"
            right += ", so there were few to lose." if before < FEW else "."
        lines += [one.lowers.in_words(), one.costs.in_words() + right]
    return lines


def count_lines(counts: Mapping[str, Any]) -> list[str]:
    """What `sweep` and `suppress` left out, and problems with texts or directions."""
    counted = [(text, n) for name, text in _SAY["counts"].items() if (n := counts.get(name))]
    lines = [text.format(n, counts["records"]) for text, n in counted]
    return lines + [f"{file}: {text}" for name, text in _SAY["files"].items() for file in counts.get(name, ())]
