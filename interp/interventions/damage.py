"""What suppressing a trait costs in accuracy, perplexity and repetition. Knows records, nothing about models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.debate.transcript import question_key
from interp.interventions.curves import Curve
from interp.interventions.settings import PLAIN_QUESTION, SUPPRESSED
from interp.statistics import Interval, grouped, means
from interp.statistics.old import resampled

Place = tuple[Any, float]
Records = Sequence[Mapping[str, Any]]
Key = tuple[str, str, str]
"""(model, source of the direction, how the trait is elicited)."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """The accuracy where the trait is gone, or where its mean score is lowest if it never is."""

    coefficient: float | None
    """The one nearest to 0 at which the mean trait score is below `SUPPRESSED`, if any."""
    trait: float
    accuracy: float
    unsteered_accuracy: float
    lost: Interval


def suppression(trait: Curve, correct: Curve) -> Suppression:
    """Where the trait falls below `SUPPRESSED`, and the accuracy left there; coefficient 0 is unsteered.

    The interval does not account for the choice of the coefficient. Raises `ValueError` without coefficient 0.
    """
    if 0 not in trait.coefficients:
        raise ValueError("the coefficients must include 0, the unsteered model")
    mean = trait.scores.mean(axis=1)
    below = np.flatnonzero(mean < SUPPRESSED)
    at = min(below, key=lambda i: abs(trait.coefficients[i])) if len(below) else int(mean.argmin())
    coefficient = float(trait.coefficients[at]) if len(below) else None
    there, unsteered = correct.scores[at], correct.scores[trait.coefficients == 0][0]
    lost = resampled(unsteered - there)
    return Suppression(coefficient, float(mean[at]), float(there.mean()), float(unsteered.mean()), lost)


@dataclass(frozen=True, slots=True)
class Trial:
    """Mean scores on validation questions at one setting."""

    trait: float
    accuracy: float


def choose(trials: Mapping[Place, Trial], unsteered: Trial, max_accuracy_loss: float = 0.02) -> tuple[Place, bool]:
    """The (layer, coefficient) with the lowest trait score, and whether it keeps to the limit, as it does if any does.

    Below `SUPPRESSED` accuracy decides, then the smaller coefficient.
    """

    def badness(at: Place) -> tuple[Any, ...]:
        return max(trials[at].trait, SUPPRESSED), -trials[at].accuracy, abs(at[1]), at[0]

    least = unsteered.accuracy - max_accuracy_loss - 1e-9
    within = [at for at, trial in trials.items() if trial.accuracy >= least]
    return min(within or trials, key=badness), bool(within)


@dataclass(frozen=True, slots=True)
class Choice:
    """Layers and a coefficient chosen on validation questions, and whether it is within the limit on accuracy loss."""

    layer: str
    coefficient: float
    within: bool
    trial: Trial
    unsteered: Trial


def choices(records: Records, max_accuracy_loss: float = 0.02) -> dict[Key, Choice]:
    """`choose` for each model and direction in the validation records, if possible among those that lower the trait."""
    setting = itemgetter("model", "source", "layer", "coefficient", "elicit")
    validation = [r for r in records if r["split"] == "validation"]
    right = means((setting(r)[:4], r["correct"]) for r in validation if r["elicit"] == PLAIN_QUESTION)
    scored = [r for r in validation if r["elicit"] != PLAIN_QUESTION and r["trait"] is not None]
    trials = {at: Trial(score, right[at[:4]]) for at, score in means((setting(r), r["trait"]) for r in scored).items()}
    found = {}
    steered = grouped(((model, source, elicit), (layer, c)) for model, source, layer, c, elicit in trials if source)
    for (model, source, elicit), places in steered.items():
        if (unsteered := trials.get((model, None, None, 0.0, elicit))) is None:
            continue
        by = {at: trials[model, source, *at, elicit] for at in places}
        falling = {at: trial for at, trial in by.items() if trial.trait < unsteered.trait} or by
        at, within = choose(falling, unsteered, max_accuracy_loss)
        found[model, source, elicit] = Choice(*at, within, by[at], unsteered)
    return found


@dataclass(frozen=True, slots=True)
class Damage:
    """What one measure against a trait does, on the test questions; means over questions."""

    model: str
    elicit: str
    remedy: str
    """`none`, `steering`, `random` (a random direction), `ablation`, `guard` or `fine-tune`."""
    source: str | None
    layer: str | None
    coefficient: float
    trait: Interval
    right: Interval | None
    """Right answers in the same texts, if they have gold answers."""
    accuracy: Interval
    """Right answers to plain questions; perplexity (geometric mean) and repetition are of these answers too."""
    perplexity: Interval | None
    repetition: Interval
    questions: int


def damage_rows(records: Records) -> list[Damage]:
    """Every setting with a score in the test records of a suppression; several random directions are pooled."""
    setting = itemgetter("model", "remedy", "source", "layer", "coefficient")
    settings = grouped(((*setting(r), r["elicit"]), r) for r in records if r["split"] == "test")
    rows = []
    for (model, remedy, source, layer, coefficient, elicit), texts in settings.items():
        if elicit == PLAIN_QUESTION or not len(shown := _values(texts, "trait")):  # a judge may score none of them
            continue
        beside = settings[model, remedy, source, layer, coefficient, PLAIN_QUESTION]
        right, logs = _values(texts, "correct"), _values(beside, "perplexity", np.log)
        log = resampled(logs) if len(logs) else None
        trait, accuracy = resampled(shown), resampled(_values(beside, "correct"))
        perplexity = log and Interval(*(float(np.exp(x)) for x in (log.mean, log.low, log.high)))
        where = (model, elicit, remedy, source, layer, coefficient)
        scores = (trait, resampled(right) if len(right) else None, accuracy, perplexity)
        n = len({question_key(r["question"]) for r in texts})
        rows.append(Damage(*where, *scores, resampled(_values(beside, "repetition")), n))
    return rows


def _values(records: Records, name: str, scale: Callable[[float], float] = float) -> Float[np.ndarray, " question"]:
    """The mean of each question's texts that have a value."""
    scored = ((question_key(r["question"]), float(scale(r[name]))) for r in records if r[name] is not None)
    return np.array([*means(scored).values()])


def suppressions(records: Records) -> dict[tuple[str, str, str, str], Suppression]:
    """`suppression` of each (model, source, how the trait is elicited, `steering` or `random`) in test records.

    Coefficients without a score are left out, and so is what has none at coefficient 0.
    """
    setting = itemgetter("model", "remedy", "source", "layer")
    test = [r for r in records if r["split"] == "test"]
    steered = [(*setting(r), r["elicit"]) for r in test if r["layer"] is not None and r["elicit"] != PLAIN_QUESTION]
    found = {}
    for model, remedy, source, layer, elicit in dict.fromkeys(steered):
        along = ((model, remedy, source, layer), (model, "none", None, None))
        own = [r for r in test if setting(r) in along]
        scored = {r["coefficient"] for r in own if r["elicit"] == elicit and r["trait"] is not None}
        trait, correct = (
            Curve.of(
                ((r["coefficient"], question_key(r["question"])), float(r[what]))
                for r in own
                if r["elicit"] == kind and r[what] is not None and r["coefficient"] in scored
            )
            for kind, what in ((elicit, "trait"), (PLAIN_QUESTION, "correct"))
        )
        if 0 in scored and trait.questions:
            found[model, source, elicit, remedy] = suppression(trait, correct)
    return found


def summary(
    rows: Sequence[Damage], chosen: Mapping[Key, Choice], smallest: Mapping[tuple[str, str, str, str], Suppression]
) -> dict[str, Any]:
    """Every setting of the test, what was chosen in validation and where the trait is gone, as JSON."""
    names = ("model", "source", "elicit", "remedy")
    return {
        "rows": [asdict(row) for row in rows],
        "chosen": [dict(zip(names, key, strict=False)) | asdict(choice) for key, choice in chosen.items()],
        "suppressed": [dict(zip(names, key, strict=True)) | asdict(found) for key, found in smallest.items()],
    }
