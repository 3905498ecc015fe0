"""How far an agent can be turned up: curves of scores over the coefficient, and the area under each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.debate.transcript import question_key
from interp.evaluation.texts import ROUGE
from interp.statistics import (
    Interval,
    Test,
    Verdict,
    all_of,
    difference_test,
    grouped,
    judge,
    mean_interval,
    means,
    rank_test,
    ratio_interval,
)


def normalised_area(
    coefficients: Float[np.ndarray, " coefficient"], scores: Float[np.ndarray, " coefficient *rest"]
) -> Float[np.ndarray, "*rest"]:
    """Mean height of curves: the integral by trapezoids, divided by the range of the coefficients.

    (Latent Agents does not say how its areas are normalised.) Raises `ValueError` unless coefficients ascend.

    >>> float(interp.interventions.normalised_area(np.array([0, 0.2, 0.4]), np.array([0.0, 0.5, 1.0])))
    0.5
    """
    if len(coefficients) < 2 or (np.diff(coefficients) <= 0).any():
        raise ValueError("an area needs two or more coefficients in ascending order")
    return np.asarray(np.trapezoid(scores, coefficients, axis=0) / (coefficients[-1] - coefficients[0]))


Scored = tuple[tuple[float, str], float]
"""((coefficient, question), score)."""


@dataclass(frozen=True)
class Curve:
    """Scores over ascending coefficients."""

    coefficients: Float[np.ndarray, " coefficient"]
    scores: Float[np.ndarray, "coefficient question"]
    questions: tuple[str, ...] = ()

    @staticmethod
    def of(scored: Iterable[Scored]) -> Curve:
        """From ((coefficient, question), score), repeated ones averaged, of questions scored at every coefficient."""
        values = means(scored)
        coefficients = sorted({c for c, _ in values})
        asked = dict.fromkeys(q for _, q in values)
        questions = tuple(q for q in asked if all(np.isfinite(values.get((c, q), np.nan)) for c in coefficients))
        scores = np.array([[values[c, q] for q in questions] for c in coefficients])
        return Curve(np.array(coefficients), scores.reshape(len(coefficients), len(questions)), questions)

    @property
    def peak(self) -> float:
        """The coefficient at which the mean score is highest; among several, the one nearest to 0."""
        mean = self.scores.mean(axis=1)
        return float(min(self.coefficients[mean >= mean.max() - 1e-12], key=abs))

    @property
    def areas(self) -> Float[np.ndarray, " question"]:
        """The normalised area of each question's curve from coefficient 0 up, or of all if that is a single point."""
        up = self.coefficients >= (0 if (self.coefficients >= 0).sum() > 1 else -np.inf)
        return normalised_area(self.coefficients[up], self.scores[up])


@dataclass(frozen=True, slots=True)
class Steerability:
    """How an agent's own words change as one kind of direction is added, on one measure.

    `kind` is `own` (the agent's direction) or a control: `others` (mean over the other agents' directions), `random`
    (mean over random directions, with the range of 95 % of them in place of intervals).
    """

    model: str
    directions: str
    context: str
    layer: int
    label: str
    kind: str
    measure: str
    area: Interval
    peak: float
    questions: int
    curve: tuple[tuple[float, float], ...]
    """(coefficient, mean score)."""
    intervals: tuple[tuple[float, float], ...]
    areas: Mapping[str, Mapping[str, float]]
    """By direction and question."""
    unsteered: Mapping[str, float]
    other_model: bool = False


def steerability(records: Sequence[Mapping[str, Any]], measures: Sequence[str] = ("rougeL",)) -> list[Steerability]:
    """The curves and areas in the records of a sweep, agent by agent with their controls.

    `measures` are names in `ROUGE` or `classifier`. After an agent's tag only that agent's words count; after
    the bare question each agent's do in turn. A text that overflowed scores 0.

    >>> interp.interventions.steerability([])
    []
    """
    found = []
    for measure in measures:
        scored = grouped(_scored(records, measure))
        for (model, directions, context, layer, label, kind, other_model), steered in scored.items():
            before = [score for _, score in scored[model, None, context, None, label, "unsteered", False]]
            curve = Curve.of([*(score for _, score in steered), *before])
            if kind == "unsteered" or not curve.questions:
                continue
            along = {name: Curve.of([*scores, *before]) for name, scores in grouped(steered).items()}
            areas = {name: dict(zip(one.questions, one.areas.tolist(), strict=True)) for name, one in along.items()}
            if kind == "random":
                area = range_of(one.areas for one in along.values())
                points = [range_of(each) for each in zip(*(one.scores for one in along.values()), strict=True)]
            else:
                area, points = mean_interval(curve.areas), [mean_interval(scores) for scores in curve.scores]
            line = tuple(zip(curve.coefficients.tolist(), curve.scores.mean(axis=1).tolist(), strict=True))
            zero = dict(zip(curve.questions, curve.scores[curve.coefficients == 0][0].tolist(), strict=True))
            what = (model, directions, context, layer, label, kind, measure, area, curve.peak, len(curve.questions))
            found.append(Steerability(*what, line, tuple((p.low, p.high) for p in points), areas, zero, other_model))
    return found


def range_of(values: Iterable[Float[np.ndarray, " question"]]) -> Interval:
    """The mean over random directions, and the range of 95 % of them."""
    drawn = np.array([each.mean() for each in values])
    return Interval(float(drawn.mean()), *map(float, np.quantile(drawn, (0.025, 0.975))))


def _scored(records: Sequence[Mapping[str, Any]], measure: str) -> Iterator[tuple[Any, tuple[str, Scored]]]:
    """What is compared, and its direction with ((coefficient, question), score)."""
    for r in records:
        direction = r["direction"] or "unsteered"
        control = direction if direction == "unsteered" else "random" if direction.startswith("random ") else "others"
        for label in r["rouge"] if r["before"] is None else [r["before"]]:
            kind, score = "own" if direction == label else control, 0.0
            if r["finite"] and measure == "classifier":
                score = r["probability"].get(label, np.nan)
            elif r["finite"]:
                score = r["rouge"][label][ROUGE.index(measure)]
            place = (r["model"], r["directions"], r["context"], r["layer"], label, kind, bool(r.get("other_model")))
            yield place, (direction, ((r["coefficient"], question_key(r["question"])), float(score)))


@dataclass(frozen=True, slots=True)
class Gain:
    """How much more steerable an agent, or their `mean`, is in one model than in another, along own directions."""

    model: str
    base: str
    context: str
    layer: int
    label: str
    measure: str
    gain: Interval
    """0.154 is +15.4 %."""
    questions: int


def gains(found: Sequence[Steerability]) -> list[Gain]:
    """`ratio_interval` of each model's areas over those of the first, on the questions that both have.

    If a model has several sets of its own directions, the first counts.

    >>> interp.interventions.gains([])
    []
    """
    own = [row for row in found if row.kind == "own" and not row.other_model]
    areas = {
        key: {row.label: row.areas[row.label] for row in rows if row.directions == rows[0].directions}
        for key, rows in grouped(((row.model, row.context, row.layer, row.measure), row) for row in own).items()
    }
    gained = []
    for (model, context, layer, measure), ours in areas.items():
        base = found[0].model
        theirs = areas.get((base, context, layer, measure), {}) if model != base else {}
        labels = [label for label in ours if label in theirs]
        for label, of in [*((label, [label]) for label in labels), *([("mean", labels)] if len(labels) > 1 else [])]:
            asked = [q for q in ours[of[0]] if all(q in areas[name] for areas in (ours, theirs) for name in of)]
            if asked:
                first, second = (np.array([[by[name][q] for q in asked] for name in of]) for by in (ours, theirs))
                gain = ratio_interval(first.mean(axis=0), second.mean(axis=0))
                gained.append(Gain(model, base, context, layer, label, measure, gain, len(asked)))
    return gained


@dataclass(frozen=True, slots=True)
class Advantage:
    """How much better an agent's own direction does than no steering and the controls, on the same questions."""

    model: str
    directions: str
    context: str
    layer: int
    label: str
    measure: str
    area: Interval
    over: Mapping[str, Interval]
    """That area minus that of `random` directions, of `no steering` and of each other agent's direction."""
    verdict: Verdict
    other_model: bool = False

    @property
    def shown(self) -> bool:
        """Whether the agent's own direction is shown to turn it up."""
        return self.verdict.outcome == "shown"


def _place(row: Steerability) -> tuple[str, str, str, int, str, str]:
    return row.model, row.directions, row.context, row.layer, row.label, row.measure


def verdicts(found: Sequence[Steerability]) -> list[Advantage]:
    """Whether each agent's own direction turns it up: more than random ones, no steering, and each other agent's.

    All of these must hold, the first by rank: there a direction is what is sampled. Corrected over the agents, layers
    and contexts of a model's directions, each measure for itself. Seen to be wrong in at most 5 % of such families,
    however much directions differ by chance.

    >>> interp.interventions.verdicts([])
    []
    """
    controls = {(*_place(row), row.kind): row for row in found}
    compared: list[Advantage] = []
    own = [((row.model, row.directions, row.measure), row) for row in found if row.kind == "own"]
    for rows in grouped(own).values():
        parts, rooms, tests = [], [], []
        for row in rows:
            some, room = _compared(row, *(controls.get((*_place(row), kind)) for kind in ("others", "random")))
            where = f"{row.model}, {row.context}, layer {row.layer}, {row.measure}"
            tests.append(all_of(f"The direction of {row.label} turns it up ({where})", some))
            parts.append({part.asked.removeprefix("more than "): part.estimate for part in some})
            rooms.append(room)
        for row, over, verdict in zip(rows, parts, judge(tests, headroom=rooms), strict=True):
            compared.append(Advantage(*_place(row), row.area, over, verdict, row.other_model))
    return compared


def _compared(own: Steerability, others: Steerability | None, random: Steerability | None) -> tuple[list[Test], float]:
    """The tests of an area against the controls, on the questions of all, and how far it could exceed them."""
    against = {"no steering": own.unsteered} | dict(others.areas if others else {})
    drawn = list(random.areas.values()) if random else []
    by = own.areas[own.label]
    asked = [q for q in by if all(q in areas for areas in (*against.values(), *drawn))]
    area, *rest = (np.array([areas[q] for q in asked]) for areas in (by, *against.values(), *drawn))
    controls, draws = rest[: len(against)], np.array(rest[len(against) :]).reshape(-1, len(asked))
    tests = [rank_test("more than random", area, draws)]
    tests += [difference_test(f"more than {what}", area - than) for what, than in zip(against, controls, strict=True)]
    return tests, 1 - max(float(values.mean()) for values in (*controls, draws) if values.size)


def summary(found: Sequence[Steerability], gained: Sequence[Gain], compared: Sequence[Advantage]) -> dict[str, Any]:
    """All of it without the single questions, as JSON; undefined numbers are None."""
    curves, shares = [], [asdict(row) | {"gain": row.gain.record()} for row in gained]
    for one in found:
        row = asdict(replace(one, areas={}, unsteered={}))
        del row["areas"], row["unsteered"]
        areas = [round(float(np.mean([*by.values()])), 4) for by in one.areas.values()]
        curves.append(row | ({"random_areas": areas} if one.kind == "random" else {}))
    judged = [asdict(one) | {"verdict": one.verdict.record()} for one in compared]
    return {"curves": curves, "gains": shares, "verdicts": judged}
