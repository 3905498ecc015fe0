from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import UserError
from interp.training.schedule import Descent, Point, Smooth, Steps, Waiting

descents = st.builds(
    lambda last, more, geometric: Descent(last + more, last, geometric=geometric),
    st.integers(1, 300),
    st.integers(0, 3000),
    st.booleans(),
)


def test_the_papers_steps() -> None:
    points = [Steps().at(step, 300) for step in (0, 99, 100, 199, 200, 299, 300)]
    assert [p.limit for p in points] == [2048, 2048, 1280, 1280, 512, 512, 512]
    assert [round(p.coefficient, 3) for p in points] == [1.0, 1.0, 0.525, 0.525, 0.05, 0.05, 0.05]


@given(descents, st.integers(1, 500), st.integers(1, 9))
def test_clocks_fall_from_first_to_last(descent: Descent, max_steps: int, parts: int) -> None:
    for schedule in (Steps(descent, parts), Smooth(descent)):
        points = [schedule.at(step, max_steps) for step in range(max_steps + 1)]
        assert points[0] == descent.at(0)
        if not (isinstance(schedule, Steps) and parts == 1):
            last = points[-1]
            assert (last.limit, round(last.coefficient, 9)) == (descent.last_limit, descent.last_coefficient)
        for before, after in pairwise(points):
            assert before.limit >= after.limit
            assert before.coefficient >= after.coefficient


def test_a_geometric_path_falls_by_equal_ratios() -> None:
    descent = Descent(160, 10, geometric=True)
    assert [descent.at(i / 4).limit for i in range(5)] == [160, 80, 40, 20, 10]


@given(descents, st.lists(st.floats(0, 1), max_size=60), st.integers(0, 60))
def test_waiting_goes_on_exactly(descent: Descent, accuracies: list[float], cut: int) -> None:
    through, resumed = Waiting(descent, moves=10), Waiting(descent, moves=10)
    for i, accuracy in enumerate(accuracies):
        through.observe(accuracy)
        if i < cut:
            resumed.observe(accuracy)
    other = Waiting(descent, moves=10)
    other.restore(json.loads(json.dumps(resumed.state())))
    for accuracy in accuracies[cut:]:
        other.observe(accuracy)
    assert other == through


def test_waiting_waits_for_the_model() -> None:
    schedule = Waiting(Descent(100, 10), moves=9, warmup=3, memory=2.0)
    for _ in range(2):
        schedule.observe(0.5)
    assert schedule.at(999, 1000) == Point(100, 1.0)  # no clock moves it
    schedule.observe(0.5)
    assert schedule.at(0, 1000).limit == 90
    for _ in range(20):
        schedule.observe(0.4)
    assert schedule.at(0, 1000).limit == 90
    for _ in range(20):
        schedule.observe(0.5)
    assert schedule.at(0, 1000).limit == 10
    schedule.observe(0.0)
    assert schedule.at(0, 1000).limit == 10
    for _ in range(3):
        schedule.observe(0.0)  # the limit has cut below what the model writes
    assert schedule.at(0, 1000).limit > 10
    for _ in range(20):
        schedule.observe(0.5)
    assert schedule.at(0, 1000).limit == 10


def test_waiting_gives_up_what_cannot_be_had_again() -> None:
    schedule = Waiting(Descent(100, 10), moves=9, warmup=1, memory=2.0)
    schedule.observe(1.0)  # a lucky batch
    before = schedule.at(0, 1).limit
    for _ in range(200):
        schedule.observe(0.6)
    assert schedule.at(0, 1).limit < before


def test_waiting_does_not_move_on_nothing() -> None:
    schedule = Waiting(Descent(100, 10), moves=9)
    for _ in range(30):
        schedule.observe(0.0)
    assert schedule.at(0, 1).limit == 100


@pytest.mark.parametrize("limits", [(10, 20), (10, 0)])
def test_limits_that_rise_or_vanish_are_refused(limits: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="falling"):
        Descent(*limits)
