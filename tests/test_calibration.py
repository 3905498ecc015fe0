"""The calibration says yes and no where it should, and a second set of generators agrees with it.

The generators here are written otherwise than those in `probes/calibration`: normal copulas and explicit loops.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import calibrated
from scipy import stats

from figures import calibration
from interp.directions.evidence import Design, beyond, evaluate
from interp.interventions.curves import Steerability, verdicts
from interp.models.catalog import SHIPPED_RESULTS
from interp.statistics import (
    Interval,
    difference_interval,
    difference_test,
    judge,
    limit_test,
    mean_interval,
    rank_test,
    ratio_interval,
    seeds_interval,
)
from probes.calibration import cells as made
from probes.calibration import intervals, run
from probes.calibration.cells import Cell, Rate
from probes.calibration.settings import CalibrationSettings

DATA_SETS = 400
AGENTS = ("agent 1", "agent 2", "agent 3")


def covered(draw: Callable[[], Interval], truth: float, data_sets: int = DATA_SETS) -> float:
    """How often the interval of a data set holds the truth."""
    hits = 0
    for _ in range(data_sets):
        found = draw()
        hits += found.low - 1e-12 <= truth <= found.high + 1e-12
    return hits / data_sets


def at_least(share: float, data_sets: int = DATA_SETS) -> float:
    """The share of data sets below which a true share of this size is seen once in a thousand."""
    return float(stats.binom(data_sets, share).ppf(0.001) / data_sets)


def at_most(share: float, data_sets: int = DATA_SETS) -> float:
    return float(stats.binom(data_sets, share).ppf(0.999) / data_sets)


def answered(mean: float, rounds: int, n: int, rng: np.random.Generator, alike: float = 0.5) -> list[float]:
    """Shares of right answers: normal thresholds with one part that the rounds of a question share."""
    limit = stats.norm.ppf(mean)
    found = []
    for _ in range(n):
        own = rng.standard_normal()
        right = [alike**0.5 * own + (1 - alike) ** 0.5 * rng.standard_normal() < limit for _ in range(rounds)]
        found.append(sum(right) / rounds)
    return found


def scored(mean: float, n: int, rng: np.random.Generator, spread: float = 1.0) -> tuple[np.ndarray, float]:
    """Scores between 0 and 1 from a logistic-normal distribution, and their true mean."""
    at = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    centre = np.log(mean / (1 - mean))
    return stats.logistic.cdf(centre + spread * rng.standard_normal(n)), float(
        stats.logistic.cdf(centre + spread * at).mean()
    )


@pytest.mark.parametrize("n", [10, 48])
@pytest.mark.parametrize(("mean", "rounds"), [(0.01, 1), (0.5, 2), (0.9, 4), (0.994, 2)])
def test_shares_over_rounds_are_covered(n: int, mean: float, rounds: int) -> None:
    rng = np.random.default_rng([n, rounds])
    assert covered(lambda: mean_interval(np.array(answered(mean, rounds, n, rng))), mean) >= at_least(0.95)


@pytest.mark.parametrize("n", [10, 48, 200])
@pytest.mark.parametrize(("mean", "spread"), [(0.02, 2.0), (0.5, 1.0), (0.97, 2.0)])
def test_scores_are_covered(n: int, mean: float, spread: float) -> None:
    rng = np.random.default_rng([n, 1])
    truth = scored(mean, 1, rng, spread)[1]
    assert covered(lambda: mean_interval(scored(mean, n, rng, spread)[0]), truth) >= at_least(0.94)


@pytest.mark.parametrize("n", [10, 48])
@pytest.mark.parametrize(("better", "worse"), [(0.05, 0.05), (0.3, 0.1), (0.93, 0.02)])
def test_differences_of_right_answers_are_covered(n: int, better: float, worse: float) -> None:
    pairs = stats.multinomial(n, [better, worse, 1 - better - worse], seed=n)

    def draw() -> Interval:
        up, down, tied = pairs.rvs()[0]
        return difference_interval(np.array([1.0] * up + [-1.0] * down + [0.0] * tied))

    assert covered(draw, better - worse) >= at_least(0.95)


@pytest.mark.parametrize("n", [10, 48])
def test_a_ratio_of_correlated_areas_is_covered(n: int) -> None:
    """Log-normal areas with a copula, whose means are 1.3 to 1."""
    both = stats.multivariate_normal([0, 0], [[0.09, 0.06], [0.06, 0.09]], seed=n)

    def draw() -> Interval:
        first, second = np.exp(np.reshape(both.rvs(n), (n, 2))).T
        return ratio_interval(1.3 * first, second)

    found = covered(draw, 0.3)
    assert at_least(0.94) <= found <= at_most(0.96)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.04), (5, 0.02)])
def test_seeds_are_covered(seeds: int, spread: float) -> None:
    """Accuracies of seeds from a Beta distribution; questions shift them alike."""
    rng = np.random.default_rng(seeds)
    shape = (0.8 * 0.2 / spread**2 - 1) if spread else 0.0

    def draw() -> Interval:
        accuracy = stats.beta(0.8 * shape, 0.2 * shape).rvs(seeds, random_state=rng) if spread else [0.8] * seeds
        hard = rng.standard_normal(48)
        right = np.zeros((seeds, 48))
        for s in range(seeds):
            for q in range(48):
                right[s, q] = (hard[q] + rng.standard_normal()) / 2**0.5 < stats.norm.ppf(accuracy[s])
        return seeds_interval(right)

    assert covered(draw, 0.8, 200) >= at_least(0.95, 200)


def sign_tests(n: int, family: int, rng: np.random.Generator) -> list[Any]:
    """Differences of one distribution that share a part, so that the tests of a family are not independent."""
    together = stats.laplace.rvs(size=n, random_state=rng)
    own = stats.laplace.rvs(size=(family, n), random_state=rng)
    return [difference_test("x", (together + one) / 20) for one in own]


@pytest.mark.parametrize(("n", "family"), [(10, 1), (24, 6)])
def test_families_without_an_effect_show_nothing(n: int, family: int) -> None:
    rng = np.random.default_rng([n, family])
    shown = sum(
        any(one.outcome == "shown" for one in judge(sign_tests(n, family, rng), smallest=0)) for _ in range(DATA_SETS)
    )
    assert shown / DATA_SETS <= at_most(0.05)


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.5])
def test_a_direction_from_the_same_distribution_is_rarely_shown(spread: float) -> None:
    rng = np.random.default_rng(7)
    shown = 0
    for _ in range(DATA_SETS):
        does = [spread * rng.standard_t(8) + 0.2 * rng.standard_normal(48) for _ in range(100)]
        (verdict,) = judge([rank_test("x", does[0], np.array(does[1:]))], smallest=0)
        shown += verdict.outcome == "shown"
    assert shown / DATA_SETS <= at_most(0.05)


def test_a_loss_at_its_limit_is_rarely_said_to_be_below() -> None:
    rng = np.random.default_rng(8)
    lost = [
        limit_test("x", (rng.random(200) < 0.08) - (rng.random(200) < 0.03) * 1.0, 0.05).p for _ in range(DATA_SETS)
    ]
    assert np.mean(np.array(lost) <= 0.05) <= at_most(0.05)


@pytest.mark.parametrize("n", [10, 48])
def test_what_is_detectable_is_shown_in_four_of_five(n: int) -> None:
    rng = np.random.default_rng([n, 9])

    def draw(effect: float) -> Any:
        return judge([difference_test("x", stats.norm(effect, 0.2).rvs(n, random_state=rng))], smallest=0)[0]

    stated = float(np.median([draw(0.0).detectable for _ in range(100)]))
    shown = sum(draw(stated).outcome == "shown" for _ in range(DATA_SETS)) / DATA_SETS
    assert at_least(0.75) <= shown <= at_most(0.85)


NOISE = stats.multivariate_normal(np.zeros(24), stats.random_correlation.rvs(np.linspace(1.8, 0.2, 24), random_state=3))


def turns(n: int, planted: float, rng: np.random.Generator) -> np.ndarray:
    """Each agent's turn minus the others' in 24 correlated dimensions, agent by agent."""
    values = NOISE.rvs((n, 3), random_state=rng).astype(np.float32)
    for agent in range(3):
        values[:, agent, agent] += planted
    others = [values[:, [other for other in range(3) if other != agent]].mean(axis=1) for agent in range(3)]
    return values - np.stack(others, axis=1)


@pytest.mark.parametrize("n", [10, 48])
def test_noise_separates_as_its_interval_says(n: int) -> None:
    rng = np.random.default_rng([n, 11])

    def draw() -> Interval:
        found = evaluate(turns(n, 0.0, rng), Design.draw(np.arange(n), 3, int(rng.integers(1000))).bare).separation
        return Interval(found.mean[1], found.low[1], found.high[1])

    assert covered(draw, 0.5) >= at_least(0.95)


def test_nothing_lies_beyond_a_control_that_knows_as_much() -> None:
    rng = np.random.default_rng(12)
    shown = 0
    for i in range(DATA_SETS):
        design = Design.draw(np.arange(30), 3, i).bare
        own, control = (evaluate(turns(30, 1.0, rng), design).wins for _ in range(2))
        shown += any(one.outcome == "shown" for one in beyond(AGENTS, own, {"a control": control}))
    assert shown / DATA_SETS <= at_most(0.05)


def test_a_sweep_of_random_directions_shows_no_agent() -> None:
    """Directions that do something by chance, more or less on each question; six verdicts a sweep."""
    rng = np.random.default_rng(13)
    shown = 0
    for _ in range(80):
        rows = []
        for layer in (1, 2):
            for label in AGENTS:
                names = [label, *(a for a in AGENTS if a != label), *(f"random {k}" for k in range(119))]
                areas = {}
                for name in names:
                    does = 0.4 + 0.3 * rng.uniform(-1, 1)
                    areas[name] = {f"q{q}": does + 0.1 * x for q, x in enumerate(rng.standard_normal(24))}
                still = {f"q{q}": 0.4 + 0.1 * x for q, x in enumerate(rng.standard_normal(24))}
                for kind, of in (("own", names[:1]), ("others", names[1:3]), ("random", names[3:])):
                    head = ("m", "d", "turn", layer, label, kind, "rougeL", Interval(0.4, 0.3, 0.5), 0.0, 24, (), ())
                    rows.append(Steerability(*head, {name: areas[name] for name in of}, still))
        shown += any(one.shown for one in verdicts(rows))
    assert shown / 80 <= at_most(0.05, 80)


def percentile(values: np.ndarray, *_: Any, **__: Any) -> Interval:
    """The bootstrap that the toolkit once had."""
    drawn = values[np.random.default_rng(0).integers(0, len(values), (200, len(values)))].mean(axis=1)
    return Interval(float(values.mean()), *map(float, np.quantile(drawn, (0.025, 0.975))))


def test_an_interval_that_does_not_cover_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "mean_interval", percentile)
    for cell in intervals.cells():
        if (cell.what, cell.setting["questions"], cell.setting.get("effect")) == ("scores", 48, 0.01):
            found = cell.simulate(np.random.default_rng(0), 200)
            assert found.value < 0.9
            assert not cell.holds(found)


def test_rates_are_judged_as_they_are_claimed() -> None:
    def cell(measure: Any, conservative: bool = False) -> Cell:
        return Cell("x", "f", measure, {}, lambda *_: Rate(0, 0, 0), conservative)

    error = 0.01
    for measure, conservative, value, holds in (
        ("coverage", False, 0.93, True),
        ("coverage", False, 0.98, False),
        ("coverage", True, 0.98, True),
        ("coverage", True, 0.929, False),
        ("false positives", False, 0.06, True),
        ("false positives", False, 0.061, False),
        ("power", False, 0.85, True),
        ("power", False, 0.86, False),
        ("power", True, 0.95, True),
        ("power", True, 0.74, False),
    ):
        assert cell(measure, conservative).holds(Rate(value, error, 1000)) == holds


def test_exact_sums_are_what_is_simulated() -> None:
    by_place = {(c.what, *c.setting.values()): c for c in intervals.cells()}
    exact = by_place["right answers", 20, 0.2, 1].simulate(np.random.default_rng(0), 0)
    assert exact.error == 0
    rng = np.random.default_rng(1)
    simulated = covered(lambda: mean_interval((rng.random(20) < 0.2).astype(float)), 0.2, 2000)
    assert simulated == pytest.approx(exact.value, abs=0.02)


def test_seeds_of_the_grid_have_the_spread_that_they_say() -> None:
    centre, deviation = intervals.between_seeds(0.9, 0.04)
    accuracy = stats.norm.cdf((centre + deviation * np.random.default_rng(0).standard_normal(200_000)) / 2**0.5)
    assert accuracy.mean() == pytest.approx(0.9, abs=0.001)
    assert accuracy.std() == pytest.approx(0.04, abs=0.001)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Sequence[Cell]:
    cells = [cell for cell in intervals.cells() if cell.what == "log-perplexities"][:3]
    monkeypatch.setattr(run, "grid", lambda settings: iter(cells))
    return cells


def test_a_killed_run_goes_on(three: Sequence[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = CalibrationSettings(quick=True, jobs=1)
    monkeypatch.setattr(run, "AT_A_TIME", 1)
    whole = run.calibrate(tmp_path / "whole.jsonl", settings)
    content = json.loads((tmp_path / "whole.json").read_text())
    assert content["cells"] == whole
    assert content["summary"][0]["cells"] == 3
    assert content["made_by"] == {"calibration": {"quick": True, "seed": 0}}

    done: list[Any] = []

    def stopped(name: str, n: int, of: int) -> None:
        done.append(n)
        if n == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.calibrate(tmp_path / "cut.jsonl", settings, progress=stopped)
    monkeypatch.setattr(run, "record", lambda cell, _: pytest.fail("made again") if cell in three[:2] else whole[2])
    assert run.calibrate(tmp_path / "cut.jsonl", settings) == whole


def test_every_cell_is_another() -> None:
    full = [json.dumps(cell.place(), sort_keys=True) for cell in run.grid(CalibrationSettings())]
    quick = [json.dumps(cell.place(), sort_keys=True) for cell in run.grid(CalibrationSettings(quick=True))]
    assert len(set(full)) == len(full)
    assert set(quick) < set(full)
    assert 40 < len(quick) < len(full) / 3
    assert {cell.setting.get("questions") for cell in run.grid(CalibrationSettings())} == set(made.SIZES)


def test_the_shipped_calibration_is_of_this_grid() -> None:
    shipped = json.loads((SHIPPED_RESULTS / "calibration.json").read_text())
    cells = list(run.grid(CalibrationSettings()))
    assert len(shipped["cells"]) == len(cells)
    for one, cell in zip(shipped["cells"], cells, strict=True):
        assert {name: one[name] for name in cell.place()} == cell.place()
        assert one["holds"] == cell.holds(Rate(one["value"], one["error"], one["data_sets"]))
        assert one["data_sets"] >= run.FEWEST or one["error"] == 0


def test_the_verb_prints_what_fails(
    three: Sequence[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probes.calibration.verb import calibrate

    failing = three[0].place() | {"value": 0.7, "error": 0.01, "data_sets": 1000, "holds": False}
    monkeypatch.setattr(run, "calibrate", lambda *_, **__: [failing])
    calibrate(quick=True, jobs=1, seed=0, out=tmp_path / "x.jsonl", restart=False)
    said = capsys.readouterr().out
    assert "1 of 1 cells fail" in said
    assert "questions 10, skewness 0" in said


def test_a_cell_that_fails_is_red() -> None:
    figure = calibration.calibration(calibrated())
    red, blue = (next(t for t in figure.data if t.name == name) for name in ("not as claimed", "as claimed"))
    assert list(red.x) == [0.88], "what lies beyond the axis stands at its end"
    assert red.marker.color != blue.marker.color
    assert "0.700 ± 0.010<br>questions 48" in red.text[0]
    assert calibration.caption(calibrated()).endswith("1 cell fails.")
