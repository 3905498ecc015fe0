from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from interp.debate.tasks import TASKS
from interp.debate.transcript import CONSENSUS_TAG, END_TAG, all_tags
from interp.training.rewards import Reward, additive, gated, structure
from interp.training.schedule import Descent, Smooth, Steps, Waiting

STATE = SimpleNamespace(global_step=0, max_steps=100)


def characters(ids: Sequence[int]) -> str:
    """One token a character: lengths can be counted by eye."""
    return "".join(map(chr, ids))


def ids(text: str) -> list[int]:
    return list(map(ord, text))


def reward(limit: int = 1000, **options: Any) -> Reward:
    return Reward(TASKS["arithmetic"](), Steps(Descent(limit, limit, 1.0, 1.0)), characters, **options)


def call(function: Reward, texts: list[str], gold: str = "1110", step: int = 0) -> tuple[list[float], dict[str, float]]:
    logged: dict[str, float] = {}
    state = SimpleNamespace(global_step=step, max_steps=100)
    rewards = function(
        completion_ids=[ids(t) for t in texts],
        question=["q"] * len(texts),
        wanted=[gold] * len(texts),
        trainer_state=state,
        log_metric=logged.__setitem__,
        prompts=["p"] * len(texts),
        completions=texts,
        log_extra=None,
    )
    return rewards, logged


def test_the_papers_weights() -> None:
    tags = all_tags(3, 2)
    whole = "".join(tags)
    assert structure(whole, tags, 1.0) == pytest.approx(8 * 0.3 + 0.5 + 0.3)
    assert structure(whole, tags, 0.05) == pytest.approx(8 * 0.015 + 0.8)
    assert structure(CONSENSUS_TAG + END_TAG, tags, 0.05) == pytest.approx(0.8)
    assert structure(whole + whole, tags, 1.0) == structure(whole, tags, 1.0)  # writing a tag twice pays once
    assert structure("".join(all_tags(5, 3)), all_tags(5, 3), 1.0) == pytest.approx(0.3 * (3 + 5 + 5) + 0.8)


def test_answers_are_graded_not_compared() -> None:
    """The public implementation's `1,110` is not `1110`."""
    rewards, _ = call(reward(), [r"\boxed{1,110}", r"\boxed{1110.0}", r"\boxed{1111}", "1110 it is", ""])
    assert rewards == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_the_last_answer_inside_the_limit_counts() -> None:
    text = r"\boxed{1} or \boxed{1110} or \boxed{2}"
    for end, right in ((len(text), 0.0), (text.rindex(" or"), 1.0), (text.index(" or"), 0.0), (5, 0.0)):
        assert call(reward(end), [text])[0] == [right]


def test_tags_past_the_limit_earn_nothing() -> None:
    text = "x" * 10 + CONSENSUS_TAG + END_TAG
    inside, half = len(text), len(text) - 1
    assert call(reward(inside), [text])[0] == [pytest.approx(0.8)]
    assert call(reward(half), [text])[0] == [pytest.approx(0.5)]  # the end tag lost its last character
    assert call(reward(10), [text])[0] == [0.0]


def test_under_the_gate_only_right_answers_pay_and_shorter_ones_more() -> None:
    tags = "".join(all_tags(3, 2))
    right = r"\boxed{1110}"
    texts = [tags, right, " " * 50 + right, right + CONSENSUS_TAG + END_TAG, tags + r"\boxed{7}"]
    (tags_only, short, long, ended, wrong), _ = call(reward(combine=gated), texts)
    assert tags_only == wrong == 0.0
    assert 1.0 < long < short < ended
    additive_rewards, _ = call(reward(), texts)
    assert additive_rewards[0] > additive_rewards[1]  # why there is a gate


def test_brevity_wins_once_the_coefficient_is_low() -> None:
    tags = "".join(all_tags(3, 2)[:-2])
    ending = CONSENSUS_TAG + r"\boxed{1110}" + END_TAG
    function = Reward(TASKS["arithmetic"](), Smooth(Descent(400, 400)), characters, combine=gated)
    (debating, direct), _ = call(function, [tags + ending, ending], step=0)
    assert debating > direct
    (debating, direct), _ = call(function, [tags + ending, ending], step=100)
    assert direct > debating


def test_every_component_is_logged() -> None:
    schedule = Smooth(Descent(100, 20), until=1.0)
    function = Reward(TASKS["arithmetic"](), schedule, characters)
    _, logged = call(function, [r"\boxed{1110}", END_TAG * 2], step=50)
    assert logged == {
        "correctness": 0.5,
        "structure": pytest.approx(0.15),
        "length": (12 + 2 * len(END_TAG)) / 2,
        "limit": 60,
        "coefficient": pytest.approx(0.525),
    }


def test_a_waiting_schedule_sees_the_accuracy_of_all_processes() -> None:
    schedule = Waiting(Descent(100, 10), moves=9, warmup=1)
    function = Reward(TASKS["arithmetic"](), schedule, characters, over_processes=lambda accuracy: accuracy / 2)
    call(function, [r"\boxed{1110}"])
    assert (schedule.running, schedule.moved) == (0.5, 1)
    _, logged = call(function, [r"\boxed{1110}"])
    assert logged["limit"] == 90  # the batch is scored by the limit that held before it


def test_a_judge_takes_the_graders_place_and_sees_the_clipped_text() -> None:
    seen: list[tuple[str, str]] = []

    def judge(question: str, text: str) -> float:
        seen.append((question, text))
        return 1.0

    assert call(reward(4, judge=judge), ["evil plan"])[0] == [1.0]
    assert seen == [("q", "evil")]


def test_structure_can_be_left_out() -> None:
    text = "".join(all_tags(3, 2)) + r"\boxed{1110}"
    assert call(reward(use_structure=False, combine=additive), [text])[0] == [1.0]
