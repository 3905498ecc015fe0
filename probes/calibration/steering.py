"""The verdict of a sweep, on areas of known truth: does an agent's own direction turn it up?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np

from interp.interventions.curves import Steerability, verdicts
from interp.statistics import Interval, Verdict
from probes.calibration.cells import LABELS, TYPICAL, Cell, Generator, Rate, share

SPREADS = (0.0, 0.2, 0.5)
LAYERS = (1, 2)
BY_QUESTION = 0.1
AREA = 0.4
DRAWN = 119


def cells() -> Iterator[Cell]:
    """The sweep's verdict, for families of agents at two layers."""
    for n, spread in ((20, SPREADS[1]), *product((48,), SPREADS)):
        setting = {"questions": n, "spread": spread, "random": DRAWN, "family": len(LABELS) * len(LAYERS)}
        yield Cell("a sweep", "verdicts", "false positives", setting, partial(_wrongly, n, spread), costs=4)
        yield Cell("a sweep", "verdicts", "power", setting, partial(_power, n, spread), True, costs=4)


def judged(n: int, spread: float, rng: Generator, effect: float | None = None) -> list[Verdict]:
    """The verdicts of a sweep in which every direction does something by chance, an agent's own included.

    With an `effect`, the first agent's own direction has that area beyond the mean of random ones, at the first layer.
    """
    found = []
    for (k, layer), label in product(enumerate(LAYERS), LABELS):
        others = [other for other in LABELS if other != label]
        names = [label, *others, *(f"random {i + 1}" for i in range(DRAWN))]
        does = spread * rng.standard_normal((len(names), 1))
        if effect is not None and k == 0 and label == LABELS[0]:
            does[0] = effect
            does[1:3] = np.minimum(does[1:3], 0)
        questions = [f"question {i}" for i in range(n)]
        unsteered = AREA + BY_QUESTION * rng.standard_normal(n)
        areas = unsteered + does + BY_QUESTION * rng.standard_normal((len(names), n))
        by_name = {
            name: dict(zip(questions, row.tolist(), strict=True)) for name, row in zip(names, areas, strict=True)
        }
        zero = dict(zip(questions, unsteered.tolist(), strict=True))
        for kind, of in (("own", [label]), ("others", others), ("random", names[3:])):
            place = ("model", "directions", "turn", layer, label, kind, "rougeL", Interval(AREA, 0, 1), 0.0, n, (), ())
            found.append(Steerability(*place, {name: by_name[name] for name in of}, zero))
    return [one.verdict for one in verdicts(found)]


def _wrongly(n: int, spread: float, rng: Generator, data_sets: int) -> Rate:
    return share(any(one.outcome == "shown" for one in judged(n, spread, rng)) for _ in range(data_sets))


def _power(n: int, spread: float, rng: Generator, data_sets: int) -> Rate:
    """As in `cells.power`; the controls that are not the weakest are easily beaten."""
    effect = float(np.median([judged(n, spread, rng)[0].detectable for _ in range(TYPICAL)]))
    return share(judged(n, spread, rng, effect)[0].outcome == "shown" for _ in range(data_sets))
