"""What suppressing a trait costs in accuracy, perplexity and repetition.

Knows scores and texts; knows nothing about how a text was steered or how a trait is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from interp.debate.tasks.task import Question, Task
from interp.errors import Progress, UserError
from interp.evaluation.texts import perplexity
from interp.interventions.curves import Curve
from interp.interventions.prompts import PLAIN_QUESTION, plain
from interp.interventions.rows import grouped
from interp.models.lazy import LazyModel
from interp.models.tokens import Encoder
from interp.statistics import Interval, resampled
from interp.storage.journal import Journal

SUPPRESSED = 0.05
"""The trait score below which a trait counts as suppressed."""

Layer = TypeVar("Layer", int, str)


@dataclass(frozen=True, slots=True)
class Suppression:
    """The one number of a suppression: the accuracy at the coefficient where the trait is gone."""

    coefficient: float | None
    """The one nearest to 0 at which the mean trait score is below the threshold, if any."""
    trait: float
    """The mean score there; the lowest of all if the trait is never suppressed."""
    accuracy: float
    """There, or where the score is lowest."""
    unsteered_accuracy: float
    lost: Interval
    """Accuracy lost against the unsteered model; the 95 % interval resamples questions."""


def suppression(
    coefficients: Float[np.ndarray, " coefficient"],
    trait: Float[np.ndarray, "coefficient trait_question"],
    correct: Float[np.ndarray, "coefficient question"],
    *,
    threshold: float = SUPPRESSED,
    seed: int = 0,
) -> Suppression:
    """Where the trait falls below the threshold, and the accuracy left there; coefficient 0 is unsteered.

    Trait scores and right answers may be of different questions. The interval does not account for the choice of
    the coefficient; `choose` on other questions if that matters. Raises `ValueError` without coefficient 0.
    """
    if (coefficients == 0).sum() != 1:
        raise ValueError("the coefficients must include 0, the unsteered model, once")
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


def choose(
    trials: Mapping[tuple[Layer, float], Trial], unsteered: Trial, max_accuracy_loss: float = 0.02
) -> tuple[Layer, float]:
    """The (layer, coefficient) with the lowest trait score among those that cost at most so much accuracy.

    Among settings that suppress the trait (below `SUPPRESSED`), accuracy decides, then the smaller coefficient.
    Raises `UserError` if every setting costs more.
    """
    allowed = {at: t for at, t in trials.items() if t.accuracy >= unsteered.accuracy - max_accuracy_loss - 1e-9}
    if not allowed:
        best = max((t.accuracy for t in trials.values()), default=float("nan"))
        raise UserError(
            f"no setting keeps accuracy within {max_accuracy_loss:.0%} of {unsteered.accuracy:.1%} (best {best:.1%}); "
            "allow a larger --max-accuracy-loss, or try smaller coefficients"
        )

    def badness(at: tuple[Layer, float]) -> tuple[float, float, float, Layer]:
        trial = allowed[at]
        return max(trial.trait, SUPPRESSED), -trial.accuracy, abs(at[1]), at[0]

    return min(allowed, key=badness)


@dataclass(frozen=True, slots=True)
class Choice:
    """A layer and a coefficient, chosen on validation questions."""

    layer: str
    """Or several, separated by commas."""
    coefficient: float
    within: bool
    """Whether it keeps to the limit on accuracy loss; if no setting does, it is the best without one."""
    trial: Trial
    unsteered: Trial


Key = tuple[str, str, str]
"""(model, source of the direction, how the trait is elicited)."""
Records = Sequence[Mapping[str, Any]]


def choices(records: Records, max_accuracy_loss: float = 0.02) -> dict[Key, Choice]:
    """`choose` for each model and direction in the validation records.

    Settings that do not lower the trait are chosen only if none does.
    """
    setting = itemgetter("model", "source", "layer", "coefficient")
    validation = [r for r in records if r["split"] == "validation"]
    correct = grouped((setting(r), r["correct"]) for r in validation if r["elicit"] == PLAIN_QUESTION)
    trait = grouped(
        ((*setting(r), r["elicit"]), r["trait"])
        for r in validation
        if r["elicit"] != PLAIN_QUESTION and r["trait"] is not None
    )
    trials = {at: Trial(float(np.mean(scores)), float(np.mean(correct[at[:4]]))) for at, scores in trait.items()}
    found = {}
    steered = grouped(((model, source, elicit), (layer, c)) for model, source, layer, c, elicit in trials if source)
    for (model, source, elicit), places in steered.items():
        unsteered = trials[model, None, None, 0.0, elicit]
        by = {at: trials[model, source, *at, elicit] for at in places}
        falling = {at: trial for at, trial in by.items() if trial.trait < unsteered.trait} or by
        try:
            at, within = choose(falling, unsteered, max_accuracy_loss), True
        except UserError:
            at, within = choose(falling, unsteered, max_accuracy_loss=1.0), False
        found[model, source, elicit] = Choice(*at, within, by[at], unsteered)
    return found


@dataclass(frozen=True, slots=True)
class Damage:
    """What one measure against a trait does, on the test questions; intervals resample questions."""

    model: str
    elicit: str
    """How the trait was elicited."""
    remedy: str
    """`none`, `steering`, `random` (a random direction), `ablation`, `guard` or `fine-tune`."""
    source: str | None
    layer: str | None
    coefficient: float
    trait: Interval
    """The mean trait score of the texts."""
    right: Interval | None
    """The share of right answers in the same texts; None without gold answers."""
    accuracy: Interval
    """The share of right answers to plain questions."""
    perplexity: Interval | None
    """Geometric mean over the plain answers, under the unsteered base model; None if all are empty."""
    repetition: Interval
    """Mean over the plain answers."""
    questions: int


def damage_rows(records: Records) -> list[Damage]:
    """Every setting in the test records of a suppression; several random directions are pooled."""
    setting = itemgetter("model", "remedy", "source", "layer", "coefficient")
    settings = grouped(((*setting(r), r["elicit"]), r) for r in records if r["split"] == "test")
    rows = []
    for (model, remedy, source, layer, coefficient, elicit), texts in settings.items():
        if elicit == PLAIN_QUESTION:
            continue
        beside = settings[model, remedy, source, layer, coefficient, PLAIN_QUESTION]
        logs = [{**r, "log": None if r["perplexity"] is None else float(np.log(r["perplexity"]))} for r in beside]
        log = _mean(logs, "log")
        rows.append(
            Damage(
                *(model, elicit, remedy, source, layer, coefficient),
                trait=_defined(texts, "trait"),
                right=_mean(texts, "correct"),
                accuracy=_defined(beside, "correct"),
                perplexity=log and Interval(*(float(np.exp(x)) for x in (log.mean, log.low, log.high))),
                repetition=_defined(beside, "repetition"),
                questions=len({r["question"] for r in texts}),
            )
        )
    return rows


def suppressions(records: Records) -> dict[tuple[str, str, str, str], Suppression]:
    """`suppression` of each (model, source, how the trait is elicited, `steering` or `random`) in test records."""
    found = {}
    test = [record for record in records if record["split"] == "test"]
    place = itemgetter("model", "source", "elicit", "remedy", "layer")
    steered = [r for r in test if r["layer"] is not None and r["elicit"] != PLAIN_QUESTION]
    for model, source, elicit, remedy, layer in dict.fromkeys(map(place, steered)):
        along = ((model, remedy, source, layer), (model, "none", None, None))
        here = [r for r in test if (r["model"], r["remedy"], r["source"], r["layer"]) in along]
        trait, correct = (
            Curve.of(
                {
                    at: float(np.mean(several))
                    for at, several in grouped(
                        ((r["coefficient"], r["question"]), float(r[what]))
                        for r in here
                        if r["elicit"] == kind and r[what] is not None
                    ).items()
                }
            )
            for kind, what in ((elicit, "trait"), (PLAIN_QUESTION, "correct"))
        )
        found[model, source, elicit, remedy] = suppression(trait.coefficients, trait.scores, correct.scores)
    return found


def summary(
    rows: Sequence[Damage], chosen: Mapping[Key, Choice], smallest: Mapping[tuple[str, str, str, str], Suppression]
) -> dict[str, Any]:
    """Every setting of the test, what was chosen in validation and where the trait is gone, as JSON."""
    return {
        "rows": [asdict(row) for row in rows],
        "chosen": [
            {"model": model, "source": source, "elicit": elicit, **asdict(choice)}
            for (model, source, elicit), choice in chosen.items()
        ],
        "suppressed": [
            {"model": model, "source": source, "elicit": elicit, "remedy": remedy, **asdict(found)}
            for (model, source, elicit, remedy), found in smallest.items()
        ],
    }


def _mean(records: Records, name: str) -> Interval | None:
    """The mean over questions, a question with several texts counting once; None without any value."""
    values = grouped((r["question"], float(r[name])) for r in records if r[name] is not None)
    return resampled(np.array([np.mean(several) for several in values.values()])) if values else None


def _defined(records: Records, name: str) -> Interval:
    found = _mean(records, name)
    assert found is not None
    return found


def perplexities(
    out: Path,
    made_by: Mapping[str, Any],
    answers: Sequence[tuple[Task, str, str]],
    under: LazyModel,
    *,
    batch_size: int = 32,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> list[float | None]:
    """The perplexity of each (task, question, text) after the plain question; None for an empty text.

    The numbers are kept in `NAME-perplexity.jsonl` beside `out`, line for line, and not computed twice.
    """
    journal = Journal(out.with_name(f"{out.stem}-perplexity.jsonl"), made_by, restart=restart)
    found = [record["perplexity"] for record in journal.records]
    if len(found) < len(answers):
        model = under.load()
        encode = Encoder(model.tokenizer)
        for start in range(len(found), len(answers), 8 * batch_size):
            some = answers[start : start + 8 * batch_size]
            prompts = [next(plain(model, task, [Question(question, "")])).ids for task, question, _ in some]
            texts = [encode.continuation(text) for *_, text in some]
            for value in perplexity(model, prompts, texts, batch_size):
                found.append(None if np.isnan(value) else round(float(value), 4))
                journal.append({"perplexity": found[-1]})
            progress("perplexity", len(found), len(answers))
    journal.finish({"records": len(found)})
    return found
