"""How far an agent can be turned up: curves of scores over the coefficient, and the area under each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.debate.transcript import question_key
from interp.evaluation.texts import ROUGE
from interp.statistics import Interval, grouped, means
from interp.statistics.old import percentiles, relative_gain, resampled, weights


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


@dataclass(frozen=True)
class Curve:
    """Scores over ascending coefficients."""

    coefficients: Float[np.ndarray, " coefficient"]
    scores: Float[np.ndarray, "coefficient question"]
    questions: tuple[str, ...] = ()

    @staticmethod
    def of(scored: Iterable[tuple[tuple[float, str], float]]) -> Curve:
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

    `kind` is `own` (the agent's direction) or a control: `others` (mean over the other agents' directions), `random`.
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
    by_question: Mapping[str, float]
    """Areas."""
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
            curve = Curve.of([*steered, *scored[model, None, context, None, label, "unsteered", False]])
            if kind == "unsteered" or not curve.questions:
                continue
            ends = percentiles(curve.scores @ weights(len(curve.questions)), axis=1)
            line = tuple(zip(curve.coefficients.tolist(), curve.scores.mean(axis=1).tolist(), strict=True))
            areas = dict(zip(curve.questions, curve.areas.tolist(), strict=True))
            zero = dict(zip(curve.questions, curve.scores[curve.coefficients == 0][0].tolist(), strict=True))
            along = (line, tuple(zip(*(end.tolist() for end in ends), strict=True)), areas, zero, other_model)
            what = (model, directions, context, layer, label, kind, measure)
            found.append(Steerability(*what, resampled(curve.areas), curve.peak, len(curve.questions), *along))
    return found


def _scored(records: Sequence[Mapping[str, Any]], measure: str) -> Iterator[tuple[Any, tuple[Any, float]]]:
    """What is compared, and ((coefficient, question), score)."""
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
            yield place, ((r["coefficient"], question_key(r["question"])), float(score))


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
    """`relative_gain` of each model's areas over those of the first, on the questions that both have.

    If a model has several sets of its own directions, the first counts.

    >>> interp.interventions.gains([])
    []
    """
    own = [row for row in found if row.kind == "own" and not row.other_model]
    areas = {
        key: {row.label: row.by_question for row in rows if row.directions == rows[0].directions}
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
                gain = relative_gain(first.mean(axis=0), second.mean(axis=0))
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
    """That area minus that of `no steering`, and of each control by its kind, question by question."""
    questions: int
    other_model: bool = False

    @property
    def shown(self) -> bool:
        """Whether the agent's own direction turns it up: there is a control, and every interval is above 0."""
        return len(self.over) > 1 and all(by.low > 0 for by in self.over.values())


def advantages(found: Sequence[Steerability]) -> list[Advantage]:
    """Each agent's own direction against no steering and against its controls.

    >>> interp.interventions.advantages([])
    []
    """
    rows = [((r.model, r.directions, r.context, r.layer, r.label, r.measure), r) for r in found]
    controls = grouped((place, row) for place, row in rows if row.kind != "own")
    compared = []
    for place, own in ((place, row) for place, row in rows if row.kind == "own"):
        others = {"no steering": own.unsteered} | {row.kind: row.by_question for row in controls.get(place, [])}
        more = {what: [area - by[q] for q, area in own.by_question.items() if q in by] for what, by in others.items()}
        over = {what: resampled(np.array(values)) for what, values in more.items()}
        compared.append(Advantage(*place, own.area, over, own.questions, own.other_model))
    return compared


def verdicts(found: Sequence[Steerability]) -> list[str]:
    """What `advantages` finds, a sentence per agent.

    >>> interp.interventions.verdicts([])
    []
    """
    sentences = []
    for one in advantages(found):
        over = ", ".join(f"{kind}: {by.mean:+.2f} [{by.low:+.2f}, {by.high:+.2f}]" for kind, by in one.over.items())
        verdict = f"{'' if one.shown else 'no evidence that '}its own direction turns it up"
        area = f"Area {one.area.mean:.2f}; more than {over} (n = {one.questions})."
        sentences.append(f"{one.model}, {one.label}, layer {one.layer}: {verdict}. {area}")
    return sentences


def summary(found: Sequence[Steerability], gained: Sequence[Gain], compared: Sequence[Advantage]) -> dict[str, Any]:
    """All of it without the single questions, as JSON; undefined numbers are None."""
    curves, shares = [asdict(row) for row in found], [asdict(row) for row in gained]
    for row in curves:
        del row["by_question"], row["unsteered"]
    for row in shares:
        row["gain"] = {end: value if np.isfinite(value) else None for end, value in row["gain"].items()}
    return {"curves": curves, "gains": shares, "advantages": [asdict(one) | {"shown": one.shown} for one in compared]}
