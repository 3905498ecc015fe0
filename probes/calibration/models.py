"""Separation and probes on synthetic activations: noise, or with agents planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from interp.directions.contrast import differences
from interp.directions.evidence import Design, Evidence, beyond, evaluate
from interp.probing.fitting import ProbeExamples, held_out
from interp.probing.scores import Measured, measure
from interp.statistics import Interval, Verdict, judge
from probes.calibration.cells import LABELS, ROUNDS, SIZES, TYPICAL, Cell, Generator, Rate, covers, share

D_MODEL = 16
PLANTED = (0.0, 0.5, 2.0)
"""How far an agent's turns lie from the others', in standard deviations of a turn."""
ALIKE = 0.5
"""The share of a turn's variance that the other rounds of its question have, too."""
DRAWS = 40


def cells() -> Iterator[Cell]:
    """Separation and probes over the grid."""
    for n, planted, rounds in product(SIZES, PLANTED, ROUNDS):
        setting = {"questions": n, "planted": planted, "rounds": rounds}
        draw = partial(_separation, n, planted, rounds)
        truth = None if planted else 0.5
        covering = partial(about_its_mean, draw, truth)
        yield Cell("separation of agents", "evaluate", "coverage", setting, covering, conservative=True, costs=3)
    for n, planted in product(SIZES, PLANTED[:2]):
        setting = {"questions": n, "planted": planted, "controls": 2}
        wrong = partial(_wrongly, partial(_beyond, n, planted, planted))
        yield Cell("separation beyond controls", "beyond", "false positives", setting, wrong, costs=4)
    for n in SIZES[1:]:
        setting = {"questions": n, "planted": PLANTED[1], "controls": 2}
        yield Cell("separation beyond controls", "beyond", "power", setting, partial(_power_beyond, n), True, costs=4)
    for n, planted, by in product(SIZES, (0.0, 2.0), ("accuracy", "auc", "brier", "r2")):
        setting = {"questions": n, "planted": planted}
        truth = 0.5 if not planted and by in ("accuracy", "auc") else None
        covering = partial(about_its_mean, partial(_read, n, planted, by), truth)
        yield Cell(f"{by} of a probe", "measure", "coverage", setting, covering, conservative=True, costs=4)
    for n, planted in product(SIZES[1:3], (0.0, 1.0)):
        setting = {"questions": n, "planted": planted}
        wrong = partial(_wrongly, partial(_probed, n, planted))
        yield Cell("a probe beyond another", "Measured.test", "false positives", setting, wrong, costs=4)


def about_its_mean(draw: Callable[[Generator], Interval], truth: float | None, rng: Generator, data_sets: int) -> Rate:
    """How often an interval covers the truth: that of no effect, or else the mean over all data sets."""
    found = [draw(rng) for _ in range(data_sets)]
    truth = float(np.mean([one.mean for one in found])) if truth is None else truth
    return share(covers(one, truth) for one in found)


def _wrongly(draw: Callable[[Generator], list[Verdict]], rng: Generator, data_sets: int) -> Rate:
    return share(any(one.outcome == "shown" for one in draw(rng)) for _ in range(data_sets))


def activations(n: int, planted: float, rounds: int, rng: Generator) -> np.ndarray:
    """Turns [group, agent, d_model] of n questions, debated in so many rounds."""
    place = np.zeros((len(LABELS), D_MODEL))
    place[np.diag_indices(len(LABELS))] = planted
    shared = np.repeat(rng.standard_normal((n, len(LABELS), D_MODEL)), rounds, axis=0)
    single = rng.standard_normal((n * rounds, len(LABELS), D_MODEL))
    return np.asarray(place + ALIKE**0.5 * shared + (1 - ALIKE) ** 0.5 * single, dtype=np.float32)


def _design(n: int, rounds: int, rng: Generator) -> Design:
    return Design.draw(np.repeat(np.arange(n), rounds), len(LABELS), int(rng.integers(2**31))).bare


def _evidence(n: int, planted: float, rounds: int, design: Design, rng: Generator) -> Evidence:
    return evaluate(differences(activations(n, planted, rounds, rng)), design)


def _separation(n: int, planted: float, rounds: int, rng: Generator) -> Interval:
    found = _evidence(n, planted, rounds, _design(n, rounds, rng), rng).separation
    return Interval(float(found.mean[0]), float(found.low[0]), float(found.high[0]))


def _beyond(n: int, own: float, controls: float, rng: Generator) -> list[Verdict]:
    """Agents against two controls in activations of their own, of which the second knows nothing."""
    design = _design(n, 1, rng)
    wins = [_evidence(n, planted, 1, design, rng).wins for planted in (own, controls, 0.0)]
    return beyond(LABELS, wins[0], {"an untrained model": wins[1], "the text": wins[2]})


def _power_beyond(n: int, rng: Generator, data_sets: int) -> Rate:
    """The first agent's separation, planted so far that it exceeds the controls' by what is detectable."""
    stated = np.median([_beyond(n, PLANTED[1], PLANTED[1], rng)[0].detectable for _ in range(TYPICAL)])
    strengths = np.linspace(PLANTED[1], 4, 12)
    gains = [np.mean([_beyond(n, s, PLANTED[1], rng)[0].estimate.mean for _ in range(DRAWS)]) for s in strengths]
    own = float(np.interp(stated, np.maximum.accumulate(gains), strengths))
    return share(_beyond(n, own, PLANTED[1], rng)[0].outcome == "shown" for _ in range(data_sets))


def _probe(n: int, planted: float, by: str, rng: Generator, labels: np.ndarray | None = None) -> Measured:
    """A probe of two labels, of which each question has both once or one twice, or, for R², of numbers."""
    if labels is None:
        labels = rng.standard_normal(2 * n) if by == "r2" else rng.integers(0, 2, 2 * n)
    examples = ProbeExamples(labels, np.repeat(np.arange(n), 2), () if by == "r2" else ("no", "yes"))
    X = rng.standard_normal((2 * n, D_MODEL // 2))
    X[:, 0] += planted * (labels - (0 if by == "r2" else 0.5))
    probe = Ridge() if by == "r2" else LogisticRegression(C=0.1)
    return measure(held_out(probe, X, examples, int(rng.integers(2**31))), examples)[by]


def _read(n: int, planted: float, by: str, rng: Generator) -> Interval:
    return _probe(n, planted, by, rng).interval


def _probed(n: int, planted: float, rng: Generator) -> list[Verdict]:
    """A probe against one that knows as much."""
    labels = rng.integers(0, 2, 2 * n)
    own, other = (_probe(n, planted, "auc", rng, labels) for _ in range(2))
    return judge([(own - other).test("it reads more")], smallest=0)
