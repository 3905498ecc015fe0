"""Intervals cover what they should, and the exact test is exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import beta, binomtest, norm, permutation_test, t, ttest_1samp

from interp.statistics import (
    Interval,
    all_of,
    difference_interval,
    difference_test,
    holm,
    judge,
    limit_test,
    mean_interval,
    paired_test,
    rank_test,
    ratio_interval,
    seeds_interval,
)


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


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (-3.0, 7.0)])
def test_a_bounded_interval_is_clopper_and_pearsons_for_as_many_trials(bounds: tuple[float, float]) -> None:
    """Step by step, for scores of which all questions make the mean."""
    low, high = bounds
    values = low + (high - low) * np.random.default_rng(0).beta(6, 4, 40)
    mean = sum(values) / 40
    squares = [(value - mean) ** 2 / (high - low) ** 2 for value in values]
    variance = (sum(squares) + 2 * max(squares)) / 42 / 40 * (t.ppf(0.975, 39) / norm.ppf(0.975)) ** 2
    share = (mean - low) / (high - low)
    effective = 40 / (1 + sum(squares) / 40 / min(share, 1 - share) ** 2)
    unseen = (4 / effective) ** 6
    trials = share * (1 - share) / ((1 - unseen) * variance + unseen * share * (1 - share) / 40)
    assert trials > 40
    found = mean_interval(values, bounds)
    hits, misses = share * trials, (1 - share) * trials
    ends = beta(hits, misses + 1).ppf(0.025), beta(hits + 1, misses).ppf(0.975)
    assert [found.low, found.high] == pytest.approx([low + (high - low) * end for end in ends])
    coupled = mean_interval(values, bounds, coupled=True)
    assert coupled.low == pytest.approx(low + (high - low) * beta(hits / 2, misses / 2 + 1).ppf(0.025))
    mirrored = mean_interval(low + high - values, bounds)
    assert mirrored.low == pytest.approx(low + high - found.high)


def test_few_questions_that_make_a_mean_hide_others() -> None:
    """One of ten scores is not 0: as for right answers, since another may be 1."""
    scores = np.array([0.5] + [0.0] * 9)
    found = mean_interval(scores)
    assert (found.low, found.high) == pytest.approx((beta(0.5, 10.5).ppf(0.025), beta(1.5, 9.5).ppf(0.975)))


def test_an_unbounded_interval_is_students_with_two_more_questions() -> None:
    values = np.random.default_rng(1).normal(5, 2, 12)
    far = np.abs(values - values.mean()).max()
    error = np.sqrt((((values - values.mean()) ** 2).sum() + 2 * far**2) / 14 / 12)
    found = mean_interval(values, None)
    assert (found.low, found.high) == pytest.approx(t(11, values.mean(), error).interval(0.95))
    plain = ttest_1samp(values, 0).confidence_interval()
    assert found.low < plain.low
    assert found.high > plain.high


def test_a_difference_has_the_interval_of_a_bounded_mean() -> None:
    differences = np.random.default_rng(2).uniform(-0.4, 0.7, 30)
    assert difference_interval(differences) == mean_interval(differences, (-1, 1))
    assert difference_interval(differences, scale=3) == mean_interval(differences, (-3, 3))


def test_a_ratios_ends_are_those_at_which_a_paired_test_turns() -> None:
    """Fieller's interval by root finding: the ratios r for which first − r × second differs from 0 in no t-test."""
    rng = np.random.default_rng(3)
    second = rng.gamma(5, 1, 15)
    first = second * 1.4 + rng.normal(0, 1, 15)

    def turns(ratio: float) -> float:
        return float(ttest_1samp(first - ratio * second, 0).pvalue) - 0.05

    value = first.mean() / second.mean()
    found = ratio_interval(first, second)
    assert found.mean == pytest.approx(value - 1)
    assert found.low == pytest.approx(brentq(turns, value - 2, value) - 1)
    assert found.high == pytest.approx(brentq(turns, value, value + 2) - 1)
    unknown = ratio_interval(first, rng.normal(0.1, 1, 15))
    assert (unknown.low, unknown.high) == (-1, np.inf)


def test_seeds_have_the_variance_of_the_two_way_layout() -> None:
    """Mean squares by explicit sums, then Satterthwaite's degrees of freedom."""
    right = (np.random.default_rng(4).random((4, 25)) < np.linspace(0.4, 0.8, 4)[:, None]).astype(float)
    mean = sum(right[s, q] for s in range(4) for q in range(25)) / 100
    of_seed = [sum(right[s, q] for q in range(25)) / 25 for s in range(4)]
    of_question = [sum(right[s, q] for s in range(4)) / 4 for q in range(25)]
    seeds = 25 * sum((one - mean) ** 2 for one in of_seed) / 3
    questions = 4 * sum((one - mean) ** 2 for one in of_question) / 24
    rest = sum((right[s, q] - of_seed[s] - of_question[q] + mean) ** 2 for s in range(4) for q in range(25)) / 72
    total = max(seeds + questions - rest, seeds, questions)
    degrees = total**2 / (seeds**2 / 3 + questions**2 / 24 + rest**2 / 72)
    variance = total / 100 * (t.ppf(0.975, min(max(degrees, 3), 24)) / norm.ppf(0.975)) ** 2
    trials = mean * (1 - mean) / variance
    found = seeds_interval(right)
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(beta(mean * trials, (1 - mean) * trials + 1).ppf(0.025))
    assert found.high == pytest.approx(beta(mean * trials + 1, (1 - mean) * trials).ppf(0.975))
    assert seeds_interval(right[:1]) == mean_interval(right[0])


def test_one_sided_sign_flips_are_scipys_and_an_enumeration() -> None:
    differences = np.random.default_rng(5).integers(-3, 6, 9) / 10
    found = difference_test("better", differences).p
    sums = [np.dot(signs, differences) for signs in product((1, -1), repeat=9)]
    assert found == pytest.approx(np.mean([one >= differences.sum() - 1e-9 for one in sums]))
    how = {"permutation_type": "samples", "alternative": "greater", "n_resamples": np.inf}
    assert found == pytest.approx(permutation_test((differences,), np.sum, **how).pvalue)
    one = np.array([1.0] * 9 + [-1.0] * 3 + [0.0] * 20)
    assert difference_test("better", one).p == pytest.approx(binomtest(9, 12, alternative="greater").pvalue)


@pytest.mark.parametrize(("n", "differ"), [(10, 3), (20, 0), (48, 20)])
def test_what_pairs_can_show_is_a_sum_over_their_outcomes(n: int, differ: int) -> None:
    pairs = np.array([1.0, -1.0] * (differ // 2) + [1.0] * (differ % 2) + [0.0] * (n - differ))
    effect = difference_test("better", pairs).detectable(0.05, 0.8)
    share, power = max(differ / n, effect), 0.0
    for m in range(n + 1):
        for better in range(m + 1):
            up, down = (share + effect) / 2, (share - effect) / 2
            ways = comb(n, m) * comb(m, better)
            chance = ways * up**better * down ** (m - better) * (1 - share) ** (n - m)
            tail = sum(comb(m, k) for k in range(better, m + 1)) / 2**m
            power += chance * (tail <= 0.05)
    assert power == pytest.approx(0.8, abs=0.002)


def test_too_few_questions_can_show_nothing() -> None:
    assert difference_test("better", np.array([0.3, 0.2, 0.4])).detectable(0.05, 0.8) == np.inf
    assert difference_test("better", np.ones(3)).detectable(0.05, 0.8) == np.inf
    (verdict,) = judge([difference_test("better", np.array([0.3, 0.2, 0.4]))], smallest=0.1)
    assert verdict.outcome == "cannot tell"


def test_coupled_differences_and_limits_have_students_test() -> None:
    differences = np.random.default_rng(6).normal(0.2, 0.4, 20)
    deviations = differences - differences.mean()
    variance = ((deviations**2).sum() + 2 * (deviations**2).max()) / 22 / 20
    coupled = difference_test("better", differences, coupled=True).p
    assert coupled == pytest.approx(t.sf(differences.mean() / np.sqrt(2 * variance), 19))
    limited = limit_test("it costs less", differences, 0.3)
    assert limited.p == pytest.approx(t.sf((0.3 - differences.mean()) / np.sqrt(variance), 19))
    lost = difference_interval(differences)
    assert limited.estimate == Interval(0.3 - lost.mean, 0.3 - lost.high, 0.3 - lost.low)


def test_ranks_count_the_random_directions_that_do_as_much() -> None:
    rng = np.random.default_rng(7)
    own, random = rng.normal(0.5, 0.2, 12), rng.normal(0, 0.5, (99, 1)) + rng.normal(0, 0.2, (99, 12))
    as_much = sum(1 for one in random if sum(one) / 12 >= sum(own) / 12)
    found = rank_test("more", own, random)
    assert found.p == (1 + as_much) / 100
    assert found.estimate.mean == pytest.approx(own.mean() - random.mean())
    assert found.detectable(0.009, 0.8) == np.inf, "none of 99 can be that rare"
    assert rank_test("more", random[0], random[1:]).p == rank_test("more", random[0], random[:0:-1]).p


def test_holm_rejects_what_its_steps_do() -> None:
    rng = np.random.default_rng(8)
    for _ in range(50):
        p = rng.random(6) ** 3
        shown = set()
        for step, k in enumerate(sorted(range(6), key=lambda k: p[k])):
            if p[k] > 0.05 / (6 - step):
                break
            shown.add(k)
        assert {k for k, one in enumerate(holm(p.tolist())) if one <= 0.05} == shown


def test_all_of_several_is_as_sure_as_the_weakest() -> None:
    rng = np.random.default_rng(9)
    tests = [difference_test(name, rng.normal(mean, 0.3, 20)) for name, mean in (("a", 0.3), ("b", 0.1), ("c", 0.5))]
    both = all_of("all", tests)
    assert both.p == max(test.p for test in tests)
    assert both.detectable(0.05, 0.8) > max(test.detectable(0.05, 0.8) for test in tests)
    assert all_of("one", tests[:1]).detectable(0.05, 0.8) == tests[0].detectable(0.05, 0.8)


def test_a_verdict_has_three_outcomes() -> None:
    rng = np.random.default_rng(10)
    strong, none, few = rng.normal(0.3, 0.2, 48), rng.normal(0, 0.05, 48), rng.normal(0, 0.5, 48)
    few -= few.mean()
    none -= none.mean()
    found = judge([difference_test("x", one) for one in (strong, none, few)], smallest=0.1)
    assert [one.outcome for one in found] == ["shown", "not shown", "cannot tell"]
    (confined,) = judge([difference_test("x", none)], smallest=0.1, headroom=0.001)
    assert confined.outcome == "cannot tell", "there was no room for an effect"


def test_what_all_of_several_show_is_known_even_if_a_test_is_no_surer_of_more() -> None:
    def told(*effects: float) -> Callable[[float, float], float]:
        return lambda level, power: float(np.interp(power, np.linspace(0.8, 0.999, len(effects)), effects))

    one = difference_test("one", np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3]))
    for effects in ((0.3, 0.2), (0.2, 0.2), (0.1, 0.4)):
        both = all_of("both", [replace(one, detectable=told(*effects)), replace(one, detectable=told(0.1, 0.1))])
        assert 0.1 <= both.detectable(0.05, 0.8) <= max(effects)
