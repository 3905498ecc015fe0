"""What suppressing a trait costs in accuracy, perplexity and repetition. Knows records, nothing about models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.debate.transcript import question_key
from interp.interventions.curves import range_of
from interp.interventions.settings import PLAIN_QUESTION, SUPPRESSED
from interp.statistics import (
    Interval,
    Test,
    Verdict,
    all_of,
    difference_test,
    grouped,
    judge,
    limit_test,
    mean_interval,
    means,
    rank_test,
)
from interp.statistics.verdict import LEVEL

Place = tuple[Any, float]
Records = Sequence[Mapping[str, Any]]
Key = tuple[str, str, str]
"""(model, source of the direction, how the trait is elicited)."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Mean scores on validation questions at one setting."""

    trait: float
    accuracy: float
    p: float
    """Of a loss of accuracy below the limit (`limit_test`)."""


def choose(trials: Mapping[Place, Trial]) -> tuple[Place, bool]:
    """The (layer, coefficient) with the lowest trait score, and whether it is known to keep to the limit.

    It is if any is. Below `SUPPRESSED` accuracy decides, then the smaller coefficient.
    """

    def badness(at: Place) -> tuple[Any, ...]:
        return max(trials[at].trait, SUPPRESSED), -trials[at].accuracy, abs(at[1]), at[0]

    within = [at for at, trial in trials.items() if trial.p <= LEVEL / 2]  # the limit lies outside of the interval
    return min(within or trials, key=badness), bool(within)


@dataclass(frozen=True, slots=True)
class Choice:
    """Layers and a coefficient chosen on validation questions, and whether it is within the limit on accuracy loss."""

    layer: str
    coefficient: float
    within: bool
    trial: Trial
    unsteered: Trial
    choices: int = 1
    """The layers, each with one or both signs, among which it was chosen."""


def choices(records: Records, max_accuracy_loss: float = 0.05) -> dict[Key, Choice]:
    """`choose` for each model and direction in the validation records, if possible among those that lower the trait."""
    setting = itemgetter("model", "source", "layer", "coefficient", "elicit")
    validation = [r for r in records if r["split"] == "validation"]
    asked = grouped((setting(r)[:4], r) for r in validation if r["elicit"] == PLAIN_QUESTION)
    right = {at: _values(some, "correct") for at, some in asked.items()}
    scored = [r for r in validation if r["elicit"] != PLAIN_QUESTION and r["trait"] is not None]
    trials = {}
    for at, score in means((setting(r), r["trait"]) for r in scored).items():
        own, before = right[at[:4]], right[at[0], None, None, 0.0]
        lost = np.array([before[q] - own[q] for q in own])
        trials[at] = Trial(score, float(np.mean([*own.values()])), limit_test("", lost, max_accuracy_loss).p)
    found = {}
    steered = grouped(((model, source, elicit), (layer, c)) for model, source, layer, c, elicit in trials if source)
    for (model, source, elicit), places in steered.items():
        if (unsteered := trials.get((model, None, None, 0.0, elicit))) is None:
            continue
        by = {at: trials[model, source, *at, elicit] for at in places}
        at, within = choose({at: trial for at, trial in by.items() if trial.trait < unsteered.trait} or by)
        n = len({(layer, c > 0) for layer, c in places})
        found[model, source, elicit] = Choice(*at, within, by[at], unsteered, n)
    return found


@dataclass(frozen=True, slots=True)
class Damage:
    """What one measure against a trait does, on the test questions; means over questions."""

    model: str
    elicit: str
    remedy: str
    """`none`, `steering`, `ablation`, `random` (in the place of either), `guard` or `fine-tune`."""
    source: str | None
    layer: str | None
    coefficient: float
    trait: Interval
    """Of several random directions, the mean and the range of 95 % of them; what follows is the first one's."""
    right: Interval | None
    """Right answers in the same texts, if they have gold answers."""
    accuracy: Interval
    """Right answers to plain questions; perplexity (geometric mean) and repetition are of these answers too."""
    perplexity: Interval | None
    repetition: Interval
    questions: int


_PLACE = itemgetter("model", "remedy", "source", "layer", "coefficient", "elicit")


def damage_rows(records: Records) -> list[Damage]:
    """Every setting with a score in the test records; plain questions are answered under one random direction alone."""
    settings = grouped((_PLACE(r), r) for r in records if r["split"] == "test")
    rows = []
    for (model, remedy, source, layer, coefficient, elicit), texts in settings.items():
        if elicit == PLAIN_QUESTION or not any(drawn := _traits(texts)):  # a judge may score none of them
            continue
        beside = settings[model, remedy, source, layer, coefficient, PLAIN_QUESTION]
        trait = range_of(map(_array, filter(None, drawn))) if len(drawn) > 1 else mean_interval(_array(drawn[0]))
        right, logs = _values(texts, "correct"), np.log(_array(_values(beside, "perplexity")))
        accuracy, repeated = (mean_interval(_array(_values(beside, what))) for what in ("correct", "repetition"))
        log = mean_interval(logs, None) if len(logs) > 1 else None
        perplexity = log and Interval(*(float(np.exp(x)) for x in (log.mean, log.low, log.high)))
        where = (model, elicit, remedy, source, layer, coefficient)
        scores = (trait, mean_interval(_array(right)) if right else None, accuracy, perplexity)
        rows.append(Damage(*where, *scores, repeated, len({question_key(r["question"]) for r in texts})))
    return rows


def _traits(texts: Records) -> list[dict[str, float]]:
    """The trait by question, under each random direction or the one that there is."""
    return [_values(some, "trait") for some in grouped((r.get("draw"), r) for r in texts).values()]


def _values(records: Records, name: str) -> dict[str, float]:
    """The mean of each question's texts that have a value."""
    return means((question_key(r["question"]), float(r[name])) for r in records if r[name] is not None)


def _array(values: Mapping[str, float]) -> Float[np.ndarray, " question"]:
    return np.array([*values.values()])


@dataclass(frozen=True, slots=True)
class Remedy:
    """What is shown of one direction against a trait, on the test questions."""

    model: str
    remedy: str
    """`steering`, as chosen on validation questions, or `ablation`."""
    source: str
    layer: str | None
    coefficient: float
    elicit: str
    lowers: Verdict
    """The trait, below that under random directions at the same place and below the unsteered."""
    costs: Verdict
    """Less than the limit on accuracy loss."""
    right: tuple[float, float] | None
    """Share of right answers in the texts that are to show the trait, unsteered and then; if they have gold answers."""


def verdicts(records: Records, chosen: Mapping[Key, Choice], max_accuracy_loss: float = 0.05) -> list[Remedy]:
    """Whether each direction lowers the trait more than random ones do, and costs less accuracy than the limit.

    Each is corrected over models, ways to elicit the trait and remedies. A random direction takes the place of the
    ablated one, or is added with the chosen coefficient at the chosen layers. It is not chosen itself, so p is
    multiplied by the layers and signs that the choice was among, but not by the sizes of coefficients.
    """
    of = grouped((_PLACE(r), r) for r in records if r["split"] == "test")
    among = {
        (model, "steering", source, c.layer, c.coefficient, kind): c for (model, source, kind), c in chosen.items()
    }
    at = {place: c.choices for place, c in among.items()}
    at |= {place: 1 for place in of if place[1] == "ablation" and place[-1] != PLAIN_QUESTION}
    found = [(place, *tests) for place, n in at.items() if (tests := _tests(of, place, n, max_accuracy_loss))]
    lower = judge([test for _, test, *_ in found], headroom=[room for *_, room, _ in found])
    cost = judge([test for _, _, test, *_ in found], smallest=max_accuracy_loss)
    judged = zip(found, lower, cost, strict=True)
    return [Remedy(*place, one, other, right) for (place, *_, right), one, other in judged]


def _tests(of: Mapping[Any, Records], place: Any, choices: int, limit: float) -> tuple[Test, Test, float, Any] | None:
    """Of a remedy: a lower trait, a cost below the limit, how far the trait can fall, and right answers."""
    model, remedy, source, _, _, elicit = place
    none = (model, "none", None, None, 0.0)
    traits = [by for at in (place, (*none, elicit), (model, "random", *place[2:])) for by in _traits(of.get(at, ()))]
    asked = [q for q in traits[0] if all(q in by for by in traits)]
    if not asked:
        return None
    own, before, *random = np.array([[by[q] for q in asked] for by in traits])
    drawn, where = np.array(random).reshape(-1, len(asked)), f"{remedy} along {source} ({model}, {elicit})"
    lower = rank_test("lower than under random ones", -own, -drawn, choices=choices)
    lowers = all_of(f"{where} lowers the trait", [lower, difference_test("lower than unsteered", before - own)])
    plain, kept = (_values(of[(*at[:5], PLAIN_QUESTION)], "correct") for at in (none, place))
    lost = np.array([plain[q] - kept[q] for q in kept])
    costs = f"{where} costs less than {limit:.0%} of accuracy, which is {np.mean([*plain.values()]):.0%} unsteered"
    right = [_values(of[at], "correct") for at in ((*none, elicit), place)]
    shares = tuple(float(_array(each).mean()) for each in right) if all(right) else None
    room = min(float(some.mean()) for some in (before, drawn) if some.size)
    return lowers, limit_test(costs, lost, limit), room, shares


def summary(rows: Sequence[Damage], chosen: Mapping[Key, Choice], judged: Sequence[Remedy]) -> dict[str, Any]:
    """Every setting of the test, what was chosen in validation, and verdicts, as JSON."""
    names = ("model", "source", "elicit")
    return {
        "rows": [asdict(row) for row in rows],
        "chosen": [dict(zip(names, key, strict=True)) | asdict(choice) for key, choice in chosen.items()],
        "verdicts": [asdict(r) | {"lowers": r.lowers.record(), "costs": r.costs.record()} for r in judged],
    }
