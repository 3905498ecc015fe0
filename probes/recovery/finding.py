"""What the recovery table says: a verdict for every way, use and model, and the table over all runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.table import Table

from interp.models.random_weights import UNTRAINED
from interp.probing.experiments import Outcome
from interp.reports.terminal import table
from interp.statistics import all_of, difference_test, mean_interval, rank_test, seeds_interval
from probes.recovery.uses import INTERCHANGE, READ, USES
from probes.recovery.ways import PERMUTED, SEARCH
from probes.verdicts import Asked, judge

OF_RUN, OVER_RUNS = "recovery in one run", "recovery"
MARKS = {"shown": "*", "not shown": "–", "cannot tell": "?"}
Record = Mapping[str, Any]


def conclude(outcome: Outcome, records: Sequence[Record]) -> None:
    """Judge all ways to each use in each model as one family, put runs together, and say what came out."""
    runs = list(dict.fromkeys(record["run"] for record in records))
    models = [list(dict.fromkeys(r["model"] for r in records if r["run"] == run)) for run in runs]
    for place, named in enumerate(zip(*models, strict=True)):
        for use in USES:
            found = dict[str, list[dict[str, Any]]]()
            for run, model in zip(runs, named, strict=True):
                here = [record for record in records if record["run"] == run]
                rows = [record for record in here if record["model"] == model and use in record["uses"]]
                verdicts = judge(outcome, [asked(record, use, here) for record in rows])
                for record, verdict in zip(rows, verdicts, strict=True):
                    found.setdefault(record["way"], []).append(row(record, use) | {"outcome": verdict.outcome})
            for each in found.values():
                outcome.tests += [public(one) for one in each]
                outcome.tests.append(together(each, Path(models[0][place]).name))
    outcome.finding.insert(0, summary(outcome))
    outcome.tables.append(shown(outcome))


def asked(record: Record, use: str, others: Sequence[Record]) -> Asked:
    """Whether a way's use does more than random subspaces, and than the controls of its own."""
    used, name = record["uses"][use], f"{record['model']}, {record['way']}: {use}"
    own, kept = values(used)
    drawn, by_question = np.array(used["random_draws"]), np.array(used["random_questions"], dtype=float)[kept]
    # with the means of draws and of questions that the test is about
    random = drawn[:, None] + by_question - by_question.mean()
    tests = [rank_test("random subspaces", own, random)]
    tests += [difference_test(*rival) for rival in rivals(record, use, others)]
    test = all_of(f"{name} beyond {', '.join(test.asked for test in tests)}", tests)
    return Asked(test, 1 - float(by_question.mean()))


def rivals(record: Record, use: str, others: Sequence[Record]) -> Iterator[tuple[str, np.ndarray]]:
    """What a use is also compared with, as differences by question."""
    own, kept = values(record["uses"][use])
    if use == READ:
        for what, theirs in record["uses"][use]["question alone"].items():
            yield what, own - np.array(theirs, dtype=float)[kept]
    if use == READ and record["model"] != UNTRAINED:
        for other in others:
            if (other["model"], other["way"]) == (UNTRAINED, record["way"]):
                yield UNTRAINED, own - values(other["uses"][use])[0]
    if record.get("known"):  # that much is obeyed anyway
        known = np.array(record["known"], dtype=float)[kept]
        yield "the other agent's planted subspace", own - known
    if record["way"] == SEARCH and use == INTERCHANGE:
        theirs = next(r for r in others if (r["model"], r["way"]) == (record["model"], PERMUTED))["uses"][use]
        first, second = (np.array(each["own"], dtype=float) for each in (record["uses"][use], theirs))
        both = ~np.isnan(first) & ~np.isnan(second)
        yield "permuted agents", (first - second)[both]


def values(used: Record) -> tuple[Float[np.ndarray, " question"], np.ndarray]:
    """The values of the questions that ask something, and which these are."""
    own = np.array(used["own"], dtype=float)
    return own[~np.isnan(own)], ~np.isnan(own)


def row(record: Record, use: str) -> dict[str, Any]:
    """One way in one model of one run; what begins with an underscore is for the row over all runs."""
    used = record["uses"][use]
    own, _ = values(used)
    made = {"name": OF_RUN, **{what: record[what] for what in ("run", "seed", "model", "way")}, "use": use}
    made |= {what: used[what] for what in ("at", "rank", "coefficient", "validation")}
    made |= {"value": asdict(mean_interval(own)), "random": float(np.mean(used["random_draws"]))}
    made |= {"best random": float(np.max(used["random_draws"])), "questions": len(own), "_own": own}
    each = [np.array(of, dtype=float) for of in used["by_agent"]]
    made["by agent"] = [asdict(mean_interval(of[~np.isnan(of)])) if (~np.isnan(of)).any() else None for of in each]
    if use == READ:
        alone = used["question alone"].items()
        made["question alone"] = {what: float(np.mean(theirs)) for what, theirs in alone}
    if "of the lie" in used:
        made["of the lie"] = used["of the lie"]
    if use == INTERCHANGE:
        made |= {w: record[w] for w in ("angles", "random angles", "parts", "elsewhere") if record.get(w)}
    return made


def public(made: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made.items() if not name.startswith("_")}


def together(rows: Sequence[dict[str, Any]], model: str) -> dict[str, Any]:
    """One way in the models at the same place of all runs; runs and questions are drawn. Shown is what all show."""
    outcomes = [one["outcome"] for one in rows]
    made = {"name": OVER_RUNS, "model": model, "way": rows[0]["way"], "use": rows[0]["use"], "outcomes": outcomes}
    made |= {
        "outcome": outcomes[0] if len(set(outcomes)) == 1 else "cannot tell",
        "ranks": [one["rank"] for one in rows],
    }
    made |= {
        "value": asdict(seeds_interval(np.stack([one["_own"] for one in rows]))),
        "questions": rows[0]["questions"],
    }
    made |= {"random": float(np.mean([one["random"] for one in rows]))}
    made |= {"best random": max(one["best random"] for one in rows)}
    if "angles" in rows[0]:
        made["angles"] = [angle for one in rows for of in one["angles"].values() for angle in of]
    for part in rows[0].get("parts", ()):
        made[f"{part} part"] = float(np.mean([one["parts"][part]["value"]["mean"] for one in rows]))
    return made


def summary(outcome: Outcome) -> str:
    """Which ways are shown to work in each model, by use."""
    rows = [test for test in outcome.tests if test["name"] == OVER_RUNS]
    sentences = []
    for model in dict.fromkeys(test["model"] for test in rows):
        each = []
        for use in USES:
            works = [t["way"] for t in rows if (t["model"], t["use"], t["outcome"]) == (model, use, "shown")]
            each.append(f"{use} by {', '.join(works) or 'none'}")
        sentences.append(f"{model}: {'; '.join(each)}.")
    runs = len(rows[0]["outcomes"])
    of_runs = f" in each of {runs} runs" * (runs > 1)
    return f"Shown to work beyond their controls{of_runs}. {' '.join(sentences)}"


def shown(outcome: Outcome) -> Table:
    """The recovery table as it is printed: a row for each way and model, a column for each use."""
    rows = [test for test in outcome.tests if test["name"] == OVER_RUNS]
    caption = (
        "share of test questions where the use does what it should (random subspaces of the rank)\n"
        "*: shown; –: not shown, though it would have been; ?: cannot tell, or runs differ\n"
        "rank, and median angle to what is planted: of what is interchanged"
    )
    headings = ("model", "way", "rank", "angle", *USES)
    made = table("What is found, and what it does", caption, headings, left=("model", "way"))
    for key in dict.fromkeys((test["model"], test["way"]) for test in rows):
        of = {t["use"]: t for t in rows if (t["model"], t["way"]) == key}
        swapped = of[INTERCHANGE]
        ranks, angles = sorted(set(swapped["ranks"])), swapped.get("angles")
        angle = f"{np.median(angles):.0f}°" if angles else ""
        cells = [_cell(of[use]) if use in of else "" for use in USES]
        made.add_row(*key, ", ".join(map(str, ranks)), angle, *cells)
    return made


def _cell(test: Record) -> str:
    return f"{test['value']['mean']:.2f} ({test['random']:.2f}){MARKS[test['outcome']]}"
