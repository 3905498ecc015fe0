"""Tests and verdicts on synthetic data: how often they are wrong, one by one and as families, and their power."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from interp.statistics import Test, all_of, difference_test, limit_test, paired_test, rank_test
from probes.calibration.cells import LEVEL, ROUNDS, SIZES, Cell, Generator, Rate, false_positives, power, share
from probes.calibration.intervals import scores

DIFFER = (0.05, 0.2, 0.5)
SPREADS = (0.0, 0.2, 0.5)
FAMILIES = (6, 18)
DRAWN = 199
Draw = Callable[[Generator, float], list[Test]]
"""The tests of a data set with an effect, which the first of them is about."""


def cells() -> Iterator[Cell]:
    """Every test over the grid."""
    for n in SIZES:
        for d in DIFFER:
            setting: dict[str, float] = {"questions": n, "differ": d}
            draw = partial(right_or_wrong, d, n)
            yield from _pair("pairs, right or wrong", "difference_test", setting, partial(_differences, draw))
            two = partial(_two_sided, draw)
            yield Cell("pairs, right or wrong", "paired_test", "false positives", setting, two)
        for rounds in ROUNDS if n < SIZES[-1] else ROUNDS[:1]:  # these take long
            setting = {"questions": n, "rounds": rounds}
            draw = partial(of_scores, rounds, n)
            yield from _pair("pairs of scores", "difference_test", setting, partial(_differences, draw), 1 + n // 100)
        for spread in SPREADS:
            setting = {"questions": n, "spread": spread, "random": DRAWN}
            yield from _pair("a direction among random ones", "rank_test", setting, partial(_ranked, n, spread))
        for limit in (0.02, 0.05):
            setting = {"questions": n, "limit": limit}
            wrong = partial(
                false_positives, partial(_without, partial(_limited, partial(right_or_wrong, 0.1), n, limit))
            )
            yield Cell("a loss of right answers", "limit_test", "false positives", setting, wrong)
            lost = partial(_limited, partial(of_scores, 1), n, limit)
            yield from _pair("a loss of scores", "limit_test", setting, lost)
        for family in FAMILIES if n < SIZES[-1] else ():
            setting = {"questions": n, "family": family}
            draw = partial(of_scores, 1, n)
            yield from _pair("a family", "judge", setting, partial(_family, draw, family), costs=2)
        setting = {"questions": n, "controls": 3}
        yield Cell("beyond all of several", "all_of", "false positives", setting, partial(_beyond, n), costs=2)


def _pair(what: str, function: str, setting: dict[str, float], draw: Draw, costs: int = 1) -> Iterator[Cell]:
    """False positives and power of a test of data with an effect."""
    none = partial(false_positives, partial(_without, draw))
    yield Cell(what, function, "false positives", setting, none, costs=costs)
    yield Cell(what, function, "power", setting, partial(power, draw), costs=costs)


def _without(draw: Draw, rng: Generator) -> list[Test]:
    return draw(rng, 0.0)


def right_or_wrong(differ: float, n: int, rng: Generator, effect: float) -> np.ndarray:
    """Differences of right answers, of which a share is not 0."""
    up = (max(differ, abs(effect)) + effect) / 2
    return rng.choice([1.0, -1.0, 0.0], n, p=[up, up - effect, 1 - 2 * up + effect])


def of_scores(rounds: int, n: int, rng: Generator, effect: float) -> np.ndarray:
    """Differences of two scores, shifted by the effect."""
    return scores(n, 0.4, rounds, rng) - scores(n, 0.4, rounds, rng) + effect


def _differences(draw: Callable[[Generator, float], np.ndarray], rng: Generator, effect: float) -> list[Test]:
    return [difference_test("the first is better", draw(rng, effect))]


def _two_sided(draw: Callable[[Generator, float], np.ndarray], rng: Generator, data_sets: int) -> Rate:
    def shown(rng: Generator) -> bool:
        differences = draw(rng, 0.0)
        return paired_test((differences > 0)[None] * 1.0, (differences < 0)[None] * 1.0).p <= LEVEL

    return share(shown(rng) for _ in range(data_sets))


def _ranked(n: int, spread: float, rng: Generator, effect: float) -> list[Test]:
    """Own and random directions do more or less by nature, and a bit differently at each question."""
    does = spread * rng.standard_normal((DRAWN + 1, 1))
    does[0] = effect or does[0]
    at_question = does + 0.2 * rng.standard_normal((DRAWN + 1, n))
    return [rank_test("its own does more", at_question[0], at_question[1:])]


def _limited(
    differ: Callable[[int, Generator, float], np.ndarray], n: int, limit: float, rng: Generator, effect: float
) -> list[Test]:
    """A loss at the limit, or better than that by the effect."""
    return [limit_test("it costs less than that", differ(n, rng, limit - effect), limit)]


def _family(draw: Callable[[Generator, float], np.ndarray], family: int, rng: Generator, effect: float) -> list[Test]:
    effects = [effect, *[0.0] * (family - 1)]
    return [test for one in effects for test in _differences(draw, rng, one)]


def _beyond(n: int, rng: Generator, data_sets: int) -> Rate:
    """Well beyond two controls, and not beyond the third."""

    def draw(rng: Generator) -> list[Test]:
        gaps = [of_scores(1, n, rng, effect) for effect in (0.0, 0.5, 0.5)]
        return [all_of("beyond all", [difference_test("beyond one", gap) for gap in gaps])]

    return false_positives(draw, rng, data_sets)
