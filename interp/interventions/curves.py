"""How far an agent can be turned up: curves of scores over the coefficient, and the area under each.

Knows scores and questions; knows nothing about models or how a text was steered. Two measures: ROUGE against the
agent's own words, and a classifier of personas fitted on other transcripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.evaluation.texts import ROUGE
from interp.interventions.rows import grouped
from interp.statistics import Interval, relative_gain, resampled, weights


def normalised_area(
    coefficients: Float[np.ndarray, " coefficient"], scores: Float[np.ndarray, coefficient * rest]
) -> Float[np.ndarray, "*rest"]:
    """Normalised area under a curve of scores over coefficients: its mean height.

    The integral by trapezoids from the smallest to the largest coefficient, divided by the distance between them.
    A constant score is its own area, so curves over different ranges or steps can be compared. It is linear in the
    scores: the area of a mean curve is the mean of the questions' areas, which intervals resample. (Latent Agents
    reports an area without saying how it is normalised.) Raises `ValueError` unless there are two or more
    ascending coefficients.

    >>> float(interp.interventions.normalised_area(np.array([0, 0.2, 0.4]), np.array([0.0, 0.5, 1.0])))
    0.5
    """
    if len(coefficients) < 2 or (np.diff(coefficients) <= 0).any():
        raise ValueError("an area needs two or more coefficients in ascending order")
    return np.asarray(np.trapezoid(scores, coefficients, axis=0) / (coefficients[-1] - coefficients[0]))


@dataclass(frozen=True)
class Curve:
    """Scores [coefficient, question] and the coefficients, ascending."""

    coefficients: Float[np.ndarray, " coefficient"]
    scores: Float[np.ndarray, "coefficient question"]
    questions: tuple[str, ...]

    @staticmethod
    def of(values: Mapping[tuple[float, str], float]) -> Curve:
        """From the score of each (coefficient, question); questions without a score at some coefficient drop out."""
        coefficients = sorted({c for c, _ in values})
        asked = dict.fromkeys(q for _, q in values)
        questions = tuple(q for q in asked if all(np.isfinite(values.get((c, q), np.nan)) for c in coefficients))
        scores = np.array([[values[c, q] for q in questions] for c in coefficients])
        return Curve(np.array(coefficients), scores.reshape(len(coefficients), len(questions)), questions)

    @property
    def mean(self) -> Float[np.ndarray, " coefficient"]:
        return self.scores.mean(axis=1)

    @property
    def up(self) -> Curve:
        """The part from coefficient 0 up, where an agent is turned up; the whole curve if that is a single point.

        Over both sides of 0, a score that rises on one and falls on the other has no more area than a flat one.
        """
        chosen = self.coefficients >= 0
        if chosen.sum() < 2:
            return self
        return Curve(self.coefficients[chosen], self.scores[chosen], self.questions)

    @property
    def peak(self) -> float:
        """The coefficient at which the mean score is highest; among several, the one nearest to 0."""
        mean = self.mean
        best = np.flatnonzero(mean >= mean.max() - 1e-12)
        return float(min(self.coefficients[best], key=abs))

    @property
    def areas(self) -> Float[np.ndarray, " question"]:
        """The normalised area of each question's curve."""
        return normalised_area(self.coefficients, self.scores)

    def intervals(self, seed: int = 0) -> list[Interval]:
        """The mean at each coefficient with its 95 % interval from resampling questions, the same everywhere."""
        means = self.scores @ weights(len(self.questions), seed)
        low, high = np.quantile(means, (0.025, 0.975), axis=1)
        return [Interval(*map(float, ends)) for ends in zip(self.mean, low, high, strict=True)]

    def area(self, seed: int = 0) -> Interval:
        """The normalised area with its 95 % interval from resampling questions."""
        return resampled(self.areas, seed)


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
    """Of the part from coefficient 0 up, as `Curve.up`."""
    peak: float
    """The coefficient at which the mean curve is highest."""
    questions: int
    curve: tuple[tuple[float, float], ...]
    """(coefficient, mean score)."""
    intervals: tuple[tuple[float, float], ...]
    """The 95 % interval of each mean score, over questions."""
    by_question: Mapping[str, float]
    """The area of each question's curve."""
    unsteered: Mapping[str, float]
    """The score of each question at coefficient 0."""
    other_model: bool = False
    """Whether the directions are another model's."""


def steerability(records: Sequence[Mapping[str, Any]], measures: Sequence[str] = ("rougeL",)) -> list[Steerability]:
    """The curves and areas in the records of a sweep, agent by agent with their controls.

    `measures` are names in `ROUGE` or `classifier`. After an agent's tag only that agent's words count; after
    the bare question each agent's do in turn. A text that overflowed scores 0.

    >>> interp.interventions.steerability([])
    []
    """
    found = []
    for measure in measures:
        scored = [
            (r, label, _score(r, label, measure))
            for r in records
            for label in r["rouge"]
            if r["before"] in (None, label)
        ]
        unsteered = grouped(
            ((r["model"], r["context"], label, r["question"]), score)
            for r, label, score in scored
            if r["direction"] is None
        )
        curves = grouped(
            ((*map(r.get, _PLACE), label, _kind(r["direction"], label)), ((r["coefficient"], r["question"]), score))
            for r, label, score in scored
            if r["direction"] is not None
        )
        for (model, directions, context, layer, other_model, label, kind), points in curves.items():
            values = {at: float(np.mean(several)) for at, several in grouped(points).items()}
            for question in dict.fromkeys([question for _, question in values]):
                values[0.0, question] = float(np.mean(unsteered[model, context, label, question]))
            curve = Curve.of(values)
            if not curve.questions:
                continue
            areas = dict(zip(curve.questions, curve.up.areas.tolist(), strict=True))
            before = {question: values[0.0, question] for question in curve.questions}
            line = tuple(zip(curve.coefficients.tolist(), curve.mean.tolist(), strict=True))
            ends = tuple((at.low, at.high) for at in curve.intervals())
            what = (model, directions, context, layer, label, kind, measure)
            n = len(curve.questions)
            found.append(
                Steerability(*what, curve.up.area(), curve.peak, n, line, ends, areas, before, bool(other_model))
            )
    return found


@dataclass(frozen=True, slots=True)
class Gain:
    """How much more steerable an agent is in one model than in another, each with its own directions."""

    model: str
    base: str
    context: str
    layer: int
    label: str
    """An agent's, or `mean` over all agents."""
    measure: str
    gain: Interval
    """As a share of the base's area: 0.154 is +15.4 %."""
    questions: int


def gains(found: Sequence[Steerability]) -> list[Gain]:
    """`relative_gain` of each model's areas over those of the first, on the questions that both have.

    If a model has several sets of its own directions, the first counts. For the mean over agents, a question's area
    is the mean of its agents' areas, and questions without all agents are left out.

    >>> interp.interventions.gains([])
    []
    """
    rows = grouped(
        ((row.model, row.context, row.layer, row.measure), row)
        for row in found
        if row.kind == "own" and not row.other_model
    )
    own = {
        key: {row.label: row.by_question for row in each if row.directions == each[0].directions}
        for key, each in rows.items()
    }
    base = found[0].model if found else ""
    gained = []
    for (model, context, layer, measure), ours in own.items():
        theirs = own.get((base, context, layer, measure), {})
        labels = [label for label in ours if label in theirs and model != base]
        for label, of in [*((label, [label]) for label in labels), ("mean", labels)]:
            if label == "mean" and len(labels) < 2:
                continue
            asked = [q for q in ours[of[0]] if all(q in areas[name] for areas in (ours, theirs) for name in of)]
            if asked:
                first, second = (
                    np.array([np.mean([areas[name][q] for name in of]) for q in asked]) for areas in (ours, theirs)
                )
                where = (model, base, context, layer, label, measure)
                gained.append(Gain(*where, relative_gain(first, second), len(asked)))
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
    """Along the agent's own direction."""
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
    compared = []
    for own in (row for row in found if row.kind == "own"):
        place = (own.model, own.directions, own.context, own.layer, own.label, own.measure)
        others = {"no steering": own.unsteered} | {
            row.kind: row.by_question
            for row in found
            if (row.model, row.directions, row.context, row.layer, row.label, row.measure) == place
            and row.kind != "own"
        }
        over = {
            kind: resampled(np.array([area - scores[q] for q, area in own.by_question.items() if q in scores]))
            for kind, scores in others.items()
        }
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
        verdict = "its own direction turns it up" if one.shown else "no evidence that its own direction turns it up"
        sentences.append(
            f"{one.model}, {one.label}, layer {one.layer}: {verdict}. Area {one.area.mean:.2f}; more than {over} "
            f"(n = {one.questions})."
        )
    return sentences


def summary(found: Sequence[Steerability], gained: Sequence[Gain], compared: Sequence[Advantage]) -> dict[str, Any]:
    """All of it without the single questions, as JSON; undefined numbers are None."""
    curves, shares = [asdict(row) for row in found], [asdict(row) for row in gained]
    for row in curves:
        del row["by_question"], row["unsteered"]
    for row in shares:
        row["gain"] = {end: value if np.isfinite(value) else None for end, value in row["gain"].items()}
    return {"curves": curves, "gains": shares, "advantages": [asdict(one) | {"shown": one.shown} for one in compared]}


_PLACE = ("model", "directions", "context", "layer", "other_model")


def _score(record: Mapping[str, Any], label: str, measure: str) -> float:
    if not record["finite"]:
        return 0.0
    if measure == "classifier":
        return float(record["probability"].get(label, np.nan))
    return float(record["rouge"][label][ROUGE.index(measure)])


def _kind(direction: str, label: str) -> str:
    return "own" if direction == label else "random" if direction.startswith("random ") else "others"
