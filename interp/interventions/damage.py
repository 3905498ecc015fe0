"""What suppressing a trait costs: damage to the text, and the accuracy that is kept.

Knows scores, texts as words, and the model that a text's perplexity is taken under; knows nothing about how a
text was steered. The trait itself is scored elsewhere: by `interp.evaluation.texts.PersonaClassifier`
fitted with `by="persona"` on malicious debates apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from interp.debate.tasks.task import Question, Task
from interp.errors import Progress, UserError
from interp.evaluation.texts import perplexity
from interp.interventions.curves import Curve
from interp.interventions.prompts import PLAINLY, plain
from interp.models.lazy import LazyModel
from interp.models.tokens import Encoder
from interp.statistics import Interval, resampled
from interp.storage.journal import Journal

SUPPRESSED = 0.05
"""The trait score below which a trait counts as suppressed."""

Layer = TypeVar("Layer", int, str)


@dataclass(frozen=True, slots=True)
class Suppression:
    """The number that sums up a suppression: the accuracy at the coefficient where the trait is gone."""

    coefficient: float | None
    """The one nearest to 0 at which the mean trait score is below the threshold; None where there is none."""
    trait: float
    """The mean score there; the lowest of all where the trait never is suppressed."""
    accuracy: float
    """There, or where the score is lowest."""
    unsteered_accuracy: float
    lost: Interval
    """Accuracy lost against the unsteered model, with its 95 % interval from resampling questions."""


def suppression(
    coefficients: Float[np.ndarray, " coefficient"],
    trait: Float[np.ndarray, "coefficient trait_question"],
    correct: Float[np.ndarray, "coefficient question"],
    *,
    threshold: float = SUPPRESSED,
    seed: int = 0,
) -> Suppression:
    """Where the trait falls below the threshold, and what accuracy is left there; coefficient 0 is unsteered.

    Trait scores and right answers may be over different questions. The interval holds for the coefficient that
    was found: choose it on other questions (`choose`) where that matters. Raises `ValueError` without coefficient 0.
    """
    if (coefficients == 0).sum() != 1:
        raise ValueError("the coefficients must have 0, the unsteered model, among them once")
    unsteered = int(np.flatnonzero(coefficients == 0)[0])
    mean = trait.mean(axis=1)
    below = np.flatnonzero(mean < threshold)
    at = min(below, key=lambda i: abs(coefficients[i])) if len(below) else int(mean.argmin())
    lost = correct[unsteered] - correct[at]
    return Suppression(
        float(coefficients[at]) if len(below) else None,
        float(mean[at]),
        float(correct[at].mean()),
        float(correct[unsteered].mean()),
        resampled(lost, seed),
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """Mean scores on validation questions at one setting."""

    trait: float
    accuracy: float


def choose(trials: Mapping[tuple[Layer, float], Trial], unsteered: Trial, damage: float = 0.02) -> tuple[Layer, float]:
    """The (layer, coefficient) with the lowest trait score among those that cost at most `damage` in accuracy.

    Settings that suppress the trait alike (both below `SUPPRESSED`) are told apart by accuracy, and then by the
    smaller coefficient. Raises `UserError` where every setting costs more.
    """
    allowed = {at: t for at, t in trials.items() if t.accuracy >= unsteered.accuracy - damage - 1e-9}
    if not allowed:
        best = max((t.accuracy for t in trials.values()), default=float("nan"))
        raise UserError(
            f"no setting keeps accuracy within {damage:.0%} of {unsteered.accuracy:.1%} (best {best:.1%}); "
            "allow more damage, or try smaller coefficients"
        )

    def badness(at: tuple[Layer, float]) -> tuple[float, float, float, Layer]:
        trial = allowed[at]
        return max(trial.trait, SUPPRESSED), -trial.accuracy, abs(at[1]), at[0]

    return min(allowed, key=badness)


@dataclass(frozen=True, slots=True)
class Choice:
    """A layer and a coefficient, chosen on validation questions."""

    layer: str
    """Or several, with commas between."""
    coefficient: float
    within: bool
    """Whether it keeps to the damage limit; where no setting does, it is the best without one."""
    trial: Trial
    unsteered: Trial


Key = tuple[str, str, str]
"""(model, source of the direction, how the trait is called up)."""


def choices(records: Sequence[Mapping[str, Any]], damage: float = 0.02) -> dict[Key, Choice]:
    """`choose` for each model and direction in the validation records of `interp.interventions.suppression`.

    Settings that do not lower the trait are taken only where none does.
    """
    trait: dict[tuple[Any, ...], list[float]] = {}
    correct: dict[tuple[Any, ...], list[float]] = {}
    for record in records:
        if record["split"] != "validation":
            continue
        setting = (record["model"], record["source"], record["layer"], record["coefficient"])
        if record["asked"] == PLAINLY:
            correct.setdefault(setting, []).append(record["correct"])
        elif record["trait"] is not None:
            trait.setdefault((*setting, record["asked"]), []).append(record["trait"])
    trials: dict[Key, dict[tuple[str, float], Trial]] = {}
    for (model, source, layer, coefficient, asked), scores in trait.items():
        if source is not None:
            trial = Trial(float(np.mean(scores)), float(np.mean(correct[model, source, layer, coefficient])))
            trials.setdefault((model, source, asked), {})[layer, coefficient] = trial
    found = {}
    for (model, source, asked), by in trials.items():
        plain = (model, None, None, 0.0)
        unsteered = Trial(float(np.mean(trait[*plain, asked])), float(np.mean(correct[plain])))
        falling = {at: trial for at, trial in by.items() if trial.trait < unsteered.trait} or by
        try:
            at, within = choose(falling, unsteered, damage), True
        except UserError:
            at, within = choose(falling, unsteered, damage=1.0), False
        found[model, source, asked] = Choice(*at, within, by[at], unsteered)
    return found


@dataclass(frozen=True, slots=True)
class Damage:
    """What something done against a trait does, on the test questions; intervals from resampling questions."""

    model: str
    asked: str
    """How the trait was called up."""
    remedy: str
    """`none`, `steering`, `random` (a direction without meaning), `ablation`, `guard` or `fine-tune`."""
    source: str | None
    layer: str | None
    coefficient: float
    trait: Interval
    """The mean score of the texts in which the trait was called up."""
    right: Interval | None
    """The share of right answers among the same texts; None where there are no gold answers."""
    accuracy: Interval
    """The share of right answers to questions that were put plainly."""
    perplexity: Interval | None
    """Geometric mean over the plain answers, under the unsteered base model; None where all are empty."""
    repetition: Interval
    """Mean over the plain answers."""
    questions: int


def damage_rows(records: Sequence[Mapping[str, Any]]) -> list[Damage]:
    """Every setting in the test records of `suppress`; those of several random directions are pooled."""
    called: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    plain: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        if record["split"] == "test":
            setting = tuple(record[name] for name in ("model", "remedy", "source", "layer", "coefficient"))
            if record["asked"] == PLAINLY:
                plain.setdefault(setting, []).append(record)
            else:
                called.setdefault((*setting, record["asked"]), []).append(record)
    rows = []
    for (model, remedy, source, layer, coefficient, asked), texts in called.items():
        beside = plain[model, remedy, source, layer, coefficient]
        trait = _mean(texts, "trait")
        accuracy, repeated = _mean(beside, "correct"), _mean(beside, "repetition")
        assert trait is not None
        assert accuracy is not None
        assert repeated is not None
        logs = [{**r, "log": None if r["perplexity"] is None else float(np.log(r["perplexity"]))} for r in beside]
        log = _mean(logs, "log")
        read = None if log is None else Interval(*(float(np.exp(x)) for x in (log.mean, log.low, log.high)))
        what = (model, asked, remedy, source, layer, coefficient)
        n = len({r["question"] for r in texts})
        rows.append(Damage(*what, trait, _mean(texts, "correct"), accuracy, read, repeated, n))
    return rows


def suppressions(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str, str], Suppression]:
    """`suppression` of each (model, source, how the trait is called up, `steering` or `random`) in test records."""
    found = {}
    test = [record for record in records if record["split"] == "test"]
    steered = [r for r in test if r["layer"] is not None and r["asked"] != PLAINLY]
    for model, source, asked, remedy, layer in dict.fromkeys(
        (r["model"], r["source"], r["asked"], r["remedy"], r["layer"]) for r in steered
    ):
        curves = []
        for how, what in ((asked, "trait"), (PLAINLY, "correct")):
            values: dict[tuple[float, str], list[float]] = {}
            for r in test:
                along = (r["remedy"], r["source"], r["layer"]) in ((remedy, source, layer), ("none", None, None))
                if r["model"] == model and r["asked"] == how and along and r[what] is not None:
                    values.setdefault((r["coefficient"], r["question"]), []).append(float(r[what]))
            curves.append(Curve.of({at: float(np.mean(several)) for at, several in values.items()}))
        trait, correct = curves
        found[model, source, asked, remedy] = suppression(trait.coefficients, trait.scores, correct.scores)
    return found


def summary(
    rows: Sequence[Damage], chosen: Mapping[Key, Choice], smallest: Mapping[tuple[str, str, str, str], Suppression]
) -> dict[str, Any]:
    """Every setting of the test, what was chosen in validation and where the trait is gone, as JSON takes them."""
    return {
        "rows": [asdict(row) for row in rows],
        "chosen": [
            {"model": model, "source": source, "asked": asked, **asdict(choice)}
            for (model, source, asked), choice in chosen.items()
        ],
        "suppressed": [
            {"model": model, "source": source, "asked": asked, "remedy": remedy, **asdict(found)}
            for (model, source, asked, remedy), found in smallest.items()
        ],
    }


def _mean(records: Sequence[Mapping[str, Any]], name: str) -> Interval | None:
    """The mean over questions, several texts to a question being one; None where there is no value at all."""
    values: dict[str, list[float]] = {}
    for record in records:
        if record[name] is not None:
            values.setdefault(record["question"], []).append(float(record[name]))
    return resampled(np.array([np.mean(several) for several in values.values()])) if values else None


def perplexities(
    out: Path,
    made_by: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    said: Callable[[Mapping[str, Any]], tuple[Task, str]],
    under: LazyModel,
    *,
    batch_size: int = 32,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> list[float | None]:
    """For each record the perplexity of its text after its question, put plainly; None for an empty text.

    `said` gives the task that a record's question is one of, and its text. The numbers are kept in
    `NAME-perplexity.jsonl` beside `out`, a line for a line; what is there is not worked out again.
    """
    journal = Journal(out.with_name(f"{out.stem}-perplexity.jsonl"), made_by, restart=restart)
    found = [record["perplexity"] for record in journal.records]
    if len(found) < len(records):
        model = under.load()
        encode = Encoder(model.tokenizer)
        for start in range(len(found), len(records), 8 * batch_size):
            prompts, texts = [], []
            for record in records[start : start + 8 * batch_size]:
                task, text = said(record)
                prompts.append(next(plain(model, task, [Question(record["question"], "")])).ids)
                texts.append(encode.continuation(text))
            for value in perplexity(model, prompts, texts, batch_size):
                found.append(None if np.isnan(value) else round(float(value), 4))
                journal.append({"perplexity": found[-1]})
            progress("perplexity", len(found), len(records))
    journal.finish({"records": len(found)})
    return found
