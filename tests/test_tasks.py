"""Questions are what the paper debates; answers are numbers, however they are written."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.debate.grading.answers import boxed, number
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.settings import TaskSettings
from interp.debate.tasks.task import Question
from interp.errors import UserError

TASK = Arithmetic()


def test_questions_have_the_published_form_and_its_gold_answers() -> None:
    questions = TASK.questions(300, seed=1)
    assert len({question.text for question in questions}) == 300
    for question in questions:
        match = re.fullmatch(r"(\d\d)\+(\d\d)\*(\d\d)\+(\d\d)-(\d\d)\*(\d\d)", question.text)
        assert match is not None
        a, b, c, d, e, f = map(int, match.groups())
        assert question.gold_answer == str(a + b * c + d - e * f)
        assert all(10 <= operand <= 99 for operand in (a, b, c, d, e, f))


def test_the_seed_decides_and_a_longer_list_begins_with_the_shorter() -> None:
    assert TASK.questions(20, seed=3) == TASK.questions(50, seed=3)[:20]
    assert TASK.questions(20, seed=3) != TASK.questions(20, seed=4)
    assert TASK.questions(0, seed=3) == []


def test_a_range_that_is_too_small_is_refused_and_an_exact_one_is_used_up() -> None:
    assert len(Arithmetic(1, 2).questions(64, seed=0)) == 64
    for task in (Arithmetic(1, 2), Arithmetic(5, 4), Arithmetic(-5, 5)):
        with pytest.raises(UserError, match=r"questions over"):
            task.questions(65, seed=0)


@pytest.mark.parametrize(
    "written",
    [
        "1110",
        "1,110",
        "1{,}110",
        "1\\,110",
        "1_110",
        "1\u202f110",
        "1110.0",
        "1110.",
        " +1110 ",
        r"\text{1110}",
        r"\text{ 1,110 }",
        r"\mathbf{1110}",
        "$1110$",
        "$1110",
        r"\(1110\)",
        r"\[ 1110 \]",
        r"\(\boxed{1110}\)",
        r"The answer is \boxed{1110}.",
        r"$\boxed{\text{1110}}$",
        r"\boxed{x = 1110}",
        "x = 1110",
        "17+1093 = 1110",
        "**1110**",
        "1.11e3",
        r"1.11 \times 10^{3}",
        "1.11 × 10^3",
        "111E1",
        "2220/2",
        r"\frac{2220}{2}",
        "(1110)",
    ],
)
def test_one_number_in_many_spellings(written: str) -> None:
    assert TASK.grade(written, "1110")
    assert TASK.grade("1110", written)
    assert not TASK.grade(written, "-1110")
    assert not TASK.grade(written, "111")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(
            (r"\boxed{twelve}", "12"),
            ("twenty-one", "21"),
            ("Ninety nine", "99"),
            ("zero", "0"),
            ("minus forty", "-40"),
        ),
        *(("one half", "1/2"), ("two and a half", "5/2"), ("2½", "5/2"), ("three quarters", "3/4"), ("a third", "1/3")),
        *((r"12^{\text{th}}", "12"), ("1st", "1"), (r"22^{nd}", "22"), (r"3\text{rd}", "3"), ("-5", "minus five")),
    ],
)
def test_small_numbers_in_words_and_ordinals(written: str, value: str) -> None:
    assert TASK.grade(written, value)
    assert not TASK.grade(written, f"{value}1")


@pytest.mark.parametrize("written", ["−1110", "–1110", "-1,110", "- 1110", "−1.11e3", r"\boxed{−1110.00}"])
def test_every_minus_is_a_minus(written: str) -> None:
    assert TASK.grade(written, "-1110")
    assert not TASK.grade(written, "1110")


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "1,11",
        "1,1110",
        ",110",
        "11,10,000",
        "0,110",
        "1110,5",
        "1 110",
        "--5",
        "1.2.3",
        "5/0",
        "x",
        "1110 = x",
        "x != 1110",
        "x <= 1110",
        "٣",
        "1e9999",
        "9" * 5000,
        r"\boxed{}",
        r"\boxed{1110",
        r"\boxed{twelve-one}",
        "I do not know",
        "nan",
        "inf",
    ],
)
def test_nonsense_equals_nothing_not_even_itself(nonsense: str) -> None:
    assert not TASK.grade(nonsense, nonsense)
    assert not TASK.grade(nonsense, "1110")
    assert not TASK.grade(nonsense, "111")


def test_no_text_is_no_answer() -> None:
    assert not TASK.grade(None, "1")


def test_grading_is_exact_where_floats_are_not() -> None:
    assert not TASK.grade("9007199254740993", "9007199254740992")
    assert not TASK.grade("0.1000000000000000055511151231257827", "0.1")
    assert TASK.grade("0.30", "3/10")


@given(st.integers(-(10**12), 10**12))
def test_python_thousands_and_decimals_read_back(value: int) -> None:
    for written in (f"{value}", f"{value:,}", f"{value:_}", f"{value}.000", rf"\boxed{{{value:,}}}", f"y={value}"):
        assert TASK.grade(written, str(value))
        assert not TASK.grade(written, str(value + 1))


@given(st.text(max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    value = number(text)
    assert value is None or isinstance(value, Fraction)
    answer = boxed(rf"{text} \boxed{{7}}")
    assert answer == "7"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{3} and \boxed{4", "3"),
        (r"\boxed {5}", "5"),
        (r"\boxed{\boxed{6}}", "6"),
        (r"\boxed{a \} b}", r"a \} b"),
        (r"a \\ \\boxed{8}", "8"),
        (r"{ \boxed{9} } } \boxed{", "9"),
        ("no box", None),
        (r"\boxed 7", None),
    ],
)
def test_the_answer_is_the_last_balanced_box(text: str, answer: str | None) -> None:
    assert TASK.answer(text) == answer


def test_published_question() -> None:
    question = Question("91+24*13+45-41*38", "-1110")
    assert TASK.grade(r"Therefore, the solution is \(\boxed{-1110}\).", question.gold_answer)


def test_settings_make_a_task_and_refuse_what_it_does_not_take() -> None:
    assert TaskSettings().make() == Arithmetic()
    assert TaskSettings("arithmetic", digits=1, form="a+b").make() == Arithmetic(1, 9, "a+b")
    with pytest.raises(UserError, match="task evil: has no digits; it takes split"):
        TaskSettings("evil", digits=1).make()
    with pytest.raises(UserError, match="task chess: unknown; choose one of arithmetic"):
        TaskSettings("chess").make()


def test_public_names_are_there() -> None:
    import interp.debate

    assert {"Transcript", "read_transcripts", "make_task", "ScriptedAgent", "debates"} <= set(interp.debate.__all__)
    for name in interp.debate.__all__:
        assert getattr(interp.debate, name) is not None
