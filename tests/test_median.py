"""Debates whose agents are known in full."""

import pytest

from interp.debate import read_embedded
from interp.debate.tasks import make_task
from interp.debate.tasks.median import LIE, MODULUS, Median
from interp.errors import UserError


def test_every_agent_follows_its_rule_and_the_second_lies() -> None:
    task = Median()
    for question, expected in {"3,7,2": (10, 11, 11), "0,0,0": (0, 0, 0), "11,9,8": (8, 1, 5)}.items():
        assert task.answers(question, honest=True) == expected
        first, second, third = expected
        assert task.answers(question) == (first, (second + LIE) % MODULUS, third)


def test_a_swap_replaces_one_answer_before_the_median_is_taken() -> None:
    task = Median()
    for question, source in (("3,7,2", "11,9,8"), ("11,9,8", "3,7,2"), ("1,2,3", "1,2,3")):
        for agent in (1, 2, 3):
            answers = list(task.answers(question))
            answers[agent - 1] = task.answers(source)[agent - 1]
            assert task.swapped(question, source, agent) == sorted(answers)[1]


def test_the_splits_share_no_question_and_hold_all() -> None:
    splits = [{q.text for q in Median(split).every()} for split in ("train", "validation", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == MODULUS**3
    assert len(splits[0]) > 7 * len(splits[2])
    assert Median().questions(5, 1) == Median().questions(9, 1)[:5]


def test_what_is_no_question_and_too_many_are_refused() -> None:
    with pytest.raises(UserError, match="such as 3,7,2"):
        Median().answers("3+7")
    with pytest.raises(UserError, match="has 166"):
        Median().questions(167, 0)


def test_the_embedded_debates_say_what_the_rules_say() -> None:
    task = make_task("median")
    debates = read_embedded("median")
    assert len(debates) == 166
    for debate in debates:
        assert [int(turn.text) for turn in debate.turns] == list(Median().answers(debate.question))
        assert task.grade(debate.consensus, debate.gold_answer or "")
