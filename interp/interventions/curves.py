"""How far an agent can be turned up: curves over the coefficient, and one number for a curve.

Knows texts, scores and questions; knows nothing about models or how a text was steered. Two measures:
ROUGE against the agent's own words, and a classifier of personas that was fitted on other transcripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.evaluation.texts import ROUGE
from interp.statistics import Interval, relative_gain, resampled, weights


def normalised_area(
    coefficients: Float[np.ndarray, " coefficient"], scores: Float[np.ndarray, coefficient * rest]
) -> Float[np.ndarray, "*rest"]:
    """Normalised area under a curve of scores over coefficients: its mean height.

    The integral by trapezoids from the smallest to the largest coefficient, divided by the distance
    between these two. A score that is the same everywhere is its own area, so with scores in [0, 1] the
    area is in [0, 1], and curves over other ranges or steps can be compared. It is linear in the scores:
    the area of a mean curve is the mean of the questions' areas, which is what intervals resample.
    Latent Agents reports an area without saying how it is normalised; this is the definition here.
    Raises `ValueError` for fewer than two coefficients, or ones that do not ascend.
    """
    if len(coefficients) < 2 or (np.diff(coefficients) <= 0).any():
        raise ValueError("an area takes two or more coefficients in ascending order")
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
        """The part from coefficient 0 up, where an agent is turned up; all of it where that is a single point.

        Over both sides of 0 a score that rises on one and falls on the other would have no more area than a flat one.
        """
        chosen = self.coefficients >= 0
        if chosen.sum() < 2:
            return self
        return Curve(self.coefficients[chosen], self.scores[chosen], self.questions)

    @property
    def peak(self) -> float:
        """The coefficient at which the mean score is highest; of several the one nearest to 0."""
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
    """How an agent's own words come and go as one kind of direction is added, on one measure.

    `kind` is `own` (the agent's direction) or a control: `others` (the mean over the other agents'
    directions), `random`.
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
    foreign: bool = False
    """Whether the directions are another model's."""

    def record(self) -> dict[str, Any]:
        """All fields as JSON takes them."""
        return asdict(self)


def steerability(records: Sequence[Mapping[str, Any]], measures: Sequence[str] = ("rougeL",)) -> list[Steerability]:
    """The curves and areas in the records of `interp.interventions.sweeps`, agent by agent with their controls.

    `measures` are names in `ROUGE` or `classifier`. After an agent's tag only that agent's words count;
    after the bare question each agent's in turn. A text that went out of range scores 0, as it says nothing.
    """
    found = []
    for measure in measures:
        groups: dict[tuple[Any, ...], dict[tuple[float, str], list[float]]] = {}
        unsteered: dict[tuple[Any, ...], list[float]] = {}
        for record in records:
            for label in record["rouge"]:
                if record["before"] not in (None, label):
                    continue
                score = _score(record, label, measure)
                if record["direction"] is None:
                    where = (record["model"], record["context"], label, record["question"])
                    unsteered.setdefault(where, []).append(score)
                    continue
                key = (
                    *(record[name] for name in ("model", "directions", "context", "layer")),
                    record.get("foreign", False),
                    label,
                    _kind(record, label),
                )
                groups.setdefault(key, {}).setdefault((record["coefficient"], record["question"]), []).append(score)
        for (model, directions, context, layer, foreign, label, kind), scores in groups.items():
            values = {at: float(np.mean(several)) for at, several in scores.items()}
            for question in dict.fromkeys(question for _, question in scores):
                values[0.0, question] = float(np.mean(unsteered[model, context, label, question]))
            curve = Curve.of(values)
            if not curve.questions:
                continue
            areas = dict(zip(curve.questions, curve.up.areas.tolist(), strict=True))
            before = {question: values[0.0, question] for question in curve.questions}
            points = tuple(zip(curve.coefficients.tolist(), curve.mean.tolist(), strict=True))
            ends = tuple((at.low, at.high) for at in curve.intervals())
            what = (model, directions, context, layer, label, kind, measure)
            n = len(curve.questions)
            found.append(Steerability(*what, curve.up.area(), curve.peak, n, points, ends, areas, before, foreign))
    return found


@dataclass(frozen=True, slots=True)
class Gain:
    """By how much an agent is more steerable in one model than in another, each with its own directions."""

    model: str
    base: str
    context: str
    layer: int
    label: str
    """An agent's, or `mean`: over all agents."""
    measure: str
    gain: Interval
    """As a share of the base's area: 0.154 is +15.4 %."""
    questions: int


def gains(found: Sequence[Steerability]) -> list[Gain]:
    """`relative_gain` of each model's areas over those of the first, on the questions that both have.

    Where a model has several sets of directions of its own, the first counts. Of the mean over agents, a question's
    area is the mean of its agents' areas, and questions without all agents are left out.
    """
    own: dict[tuple[str, str, int, str], dict[str, dict[str, Mapping[str, float]]]] = {}
    for row in found:
        if row.kind == "own" and not row.foreign:
            key = (row.model, row.context, row.layer, row.measure)
            own.setdefault(key, {}).setdefault(row.directions, {})[row.label] = row.by_question
    base = found[0].model if found else ""
    gained = []
    for (model, context, layer, measure), by_directions in own.items():
        if model == base or (base, context, layer, measure) not in own:
            continue
        ours, theirs = (next(iter(each.values())) for each in (by_directions, own[base, context, layer, measure]))
        labels = [label for label in ours if label in theirs]
        for label in [*labels, *(["mean"] if len(labels) > 1 else [])]:
            of = labels if label == "mean" else [label]
            asked = [q for q in ours[of[0]] if all(q in areas[name] for areas in (ours, theirs) for name in of)]
            if not asked:
                continue
            first, second = (
                np.array([np.mean([areas[name][q] for name in of]) for q in asked]) for areas in (ours, theirs)
            )
            where = (model, base, context, layer, label, measure)
            gained.append(Gain(*where, relative_gain(first, second), len(asked)))
    return gained


@dataclass(frozen=True, slots=True)
class Advantage:
    """By how much an agent's own direction does better than something else on the same questions."""

    model: str
    directions: str
    context: str
    layer: int
    label: str
    measure: str
    area: Interval
    """Along the agent's own direction."""
    over: Mapping[str, Interval]
    """That area minus another, question by question: of `no steering`, and of each control by its kind."""
    questions: int
    foreign: bool = False

    @property
    def shown(self) -> bool:
        """Whether the agent's own direction turns it up: every interval is above 0, with a control among them."""
        return len(self.over) > 1 and all(by.low > 0 for by in self.over.values())


def advantages(found: Sequence[Steerability]) -> list[Advantage]:
    """Each agent's own direction against no steering and against the controls beside it."""
    where = ("model", "directions", "context", "layer", "label", "measure")
    compared = []
    for own in (row for row in found if row.kind == "own"):
        others = {"no steering": own.unsteered} | {
            row.kind: row.by_question
            for row in found
            if row.kind != "own" and all(getattr(row, name) == getattr(own, name) for name in where)
        }
        over = {
            kind: resampled(np.array([area - scores[q] for q, area in own.by_question.items() if q in scores]))
            for kind, scores in others.items()
        }
        place = (own.model, own.directions, own.context, own.layer, own.label, own.measure)
        compared.append(Advantage(*place, own.area, over, own.questions, own.foreign))
    return compared


def verdicts(found: Sequence[Steerability]) -> list[str]:
    """Of each agent, in words, what `advantages` finds."""
    sentences = []
    for one in advantages(found):
        said = ", ".join(f"{kind}: {by.mean:+.2f} [{by.low:+.2f}, {by.high:+.2f}]" for kind, by in one.over.items())
        verdict = "its own direction turns it up" if one.shown else "that its own direction turns it up is not shown"
        sentences.append(
            f"{one.model}, {one.label}, layer {one.layer}: {verdict}. Area {one.area.mean:.2f}; beyond {said} "
            f"(n = {one.questions})."
        )
    return sentences


def summary(found: Sequence[Steerability], gained: Sequence[Gain], compared: Sequence[Advantage]) -> dict[str, Any]:
    """All of it without the single questions, as JSON takes it; None for what is not defined."""
    curves, shares = [asdict(row) for row in found], [asdict(row) for row in gained]
    for row in curves:
        del row["by_question"], row["unsteered"]
    for row in shares:
        row["gain"] = {end: value if np.isfinite(value) else None for end, value in row["gain"].items()}
    return {
        "curves": curves,
        "gains": shares,
        "advantages": [asdict(one) | {"shown": one.shown} for one in compared],
    }


def _score(record: Mapping[str, Any], label: str, measure: str) -> float:
    if not record["finite"]:
        return 0.0
    if measure == "classifier":
        return float(record["probability"].get(label, np.nan))
    return float(record["rouge"][label][ROUGE.index(measure)])


def _kind(record: Mapping[str, Any], label: str) -> str:
    direction = record["direction"]
    return "own" if direction == label else "random" if direction.startswith("random ") else "others"
