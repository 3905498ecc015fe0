"""Verdicts of an experiment: what is read beyond its controls, judged as one family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from interp.models.random_weights import UNTRAINED
from interp.probing.experiments import CHOSEN, TEXT_BASELINES, Outcome
from interp.statistics import Test, Verdict, all_of
from interp.statistics import judge as judge_tests


@dataclass(frozen=True)
class Asked:
    """A test with the largest effect that it could find, and values to print beside its verdict."""

    test: Test
    headroom: float
    values: str = ""


def beyond_text(outcome: Outcome, models: Sequence[str], targets: Sequence[str], measure: str = "auc") -> list[Asked]:
    """Whether each target is read from each model better than from its text and from an untrained model."""
    asked = []
    for target, model in product(targets, models):
        own = outcome.measured(measure, kind=CHOSEN, model=model, target=target)
        known = {kind: outcome.measured(measure, kind=kind, target=target) for kind in TEXT_BASELINES}
        known[UNTRAINED] = outcome.measured(measure, kind=CHOSEN, model=UNTRAINED, target=target)
        rivals = {what: value for what, value in known.items() if value is not None}
        if own is None or not rivals:
            continue
        tests = [(own - value).test(f"beyond {what}") for what, value in rivals.items()]
        test = all_of(f"{model}, {target}: read beyond {', '.join(rivals)}", tests)
        values = "; ".join(f"{what} {value.interval}" for what, value in rivals.items())
        room = 1 - max(value.value for value in rivals.values())
        name = "AUC" if measure == "auc" else measure.capitalize()
        asked.append(Asked(test, room, f"{name}: {own.interval}; {values}."))
    return asked


def judge(outcome: Outcome, asked: Sequence[Asked]) -> list[Verdict]:
    """Verdicts of a family of tests, which the outcome keeps, with a sentence each."""
    rooms = [one.headroom for one in asked]
    found = judge_tests([one.test for one in asked], headroom=rooms) if asked else []
    outcome.verdicts += found
    outcome.finding += [f"{v.in_words()} {one.values}".strip() for v, one in zip(found, asked, strict=True)]
    return found
