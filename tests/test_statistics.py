"""Intervals cover what they should, and the exact test is exact."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from interp.statistics import Interval, mean_interval, paired_test


def accuracy(correct: np.ndarray) -> Interval:
    return mean_interval(correct.mean(axis=0))


@pytest.mark.parametrize(("right", "n"), [(0, 20), (1, 20), (13, 20), (20, 20), (756, 1000)])
def test_shares_have_clopper_and_pearsons_interval(right: int, n: int) -> None:
    found = accuracy(np.array([[1.0] * right + [0.0] * (n - right)]))
    expected = binomtest(right, n).proportion_ci(method="exact")
    assert found.mean == right / n
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)


def test_repeated_runs_that_never_differ_add_nothing() -> None:
    one = np.array([[1.0] * 30 + [0.0] * 20])
    single, repeated = accuracy(one), accuracy(np.repeat(one, 5, axis=0))
    assert repeated.low == pytest.approx(single.low, abs=0.01)
    assert repeated.high == pytest.approx(single.high, abs=0.01)
    assert repeated == accuracy(np.repeat(one, 2, axis=0))


def test_runs_that_are_independent_count_in_full() -> None:
    rng = np.random.default_rng(0)
    found = accuracy((rng.random((20, 300)) < 0.6).astype(float))
    expected = binomtest(round(found.mean * 6000), 6000).proportion_ci(method="wilson")
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.3)


@pytest.mark.parametrize("shape", [(3, 80), (10, 20), (10, 50), (1, 40)])
@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("mean", [0.1, 0.5, 0.95])
def test_the_interval_covers_the_truth_as_often_as_it_says(mean: float, spread: float, shape: tuple[int, int]) -> None:
    """Questions differ in difficulty; runs on one question share it."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(600):
        difficulty = rng.beta(spread * mean, spread * (1 - mean), size=shape[1])
        found = accuracy((rng.random(shape) < difficulty).astype(float))
        covered += found.low <= mean <= found.high
    assert covered / 600 >= 0.92


def test_with_one_run_each_the_test_is_mcnemars() -> None:
    first = np.array([[1.0] * 17 + [0.0] * 6 + [1.0] * 40 + [0.0] * 12])
    second = np.array([[0.0] * 17 + [1.0] * 6 + [1.0] * 40 + [0.0] * 12])
    found = paired_test(first, second)
    assert found.p == pytest.approx(binomtest(17, 23).pvalue)
    assert (found.better, found.worse, found.tied) == (17, 6, 52)
    assert found.difference.mean == pytest.approx(11 / 75)
    assert found.difference.low < 11 / 75 < found.difference.high
    swapped = paired_test(second, first)
    assert swapped.p == pytest.approx(found.p)
    assert swapped.difference.low == pytest.approx(-found.difference.high)


def test_with_several_runs_the_test_flips_the_sign_of_whole_questions() -> None:
    rng = np.random.default_rng(2)
    first = (rng.random((3, 9)) < 0.8).astype(float)
    second = (rng.random((2, 9)) < 0.4).astype(float)
    difference = np.rint(6 * (first.mean(0) - second.mean(0)))
    sums = [abs(np.dot(signs, difference)) for signs in product((1, -1), repeat=9)]
    expected = np.mean([s >= abs(difference.sum()) for s in sums])
    assert paired_test(first, second).p == pytest.approx(expected)
    assert paired_test(first, first).p == 1.0


def test_false_alarms_are_as_rare_as_the_p_value_says() -> None:
    rng = np.random.default_rng(3)
    alarms = covered = 0
    for _ in range(500):
        difficulty = rng.random(60)
        found = paired_test(*((rng.random((2, 60)) < difficulty).astype(float) for _ in range(2)))
        alarms += found.p < 0.05
        covered += found.difference.low <= 0 <= found.difference.high
    assert alarms / 500 <= 0.07
    assert 0.92 <= covered / 500 <= 0.985


def test_with_many_runs_the_interval_and_the_test_agree() -> None:
    rng = np.random.default_rng(4)
    agreed = covered = 0
    for _ in range(400):
        difficulty = rng.beta(2, 1, size=20)
        easier = np.clip(difficulty + 0.04, 0, 1)
        truth = float((easier - difficulty).mean())
        found = paired_test(*((rng.random((20, 20)) < d).astype(float) for d in (easier, difficulty)))
        covered += found.difference.low <= truth <= found.difference.high
        agreed += (found.p < 0.05) == (found.difference.low > 0 or found.difference.high < 0)
        assert found.difference.high - found.difference.low < 0.25
    assert covered / 400 >= 0.92
    assert agreed / 400 >= 0.9


def test_no_difference_still_has_an_interval() -> None:
    same = np.ones((1, 20))
    found = paired_test(same, same)
    assert found.difference.mean == 0
    assert found.difference.low < -0.05 < 0.05 < found.difference.high
