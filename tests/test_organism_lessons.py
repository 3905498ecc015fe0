"""What the organism is taught: true to its personas, to the chat template and to the split of the questions."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from itertools import islice

import pytest

from interp.debate.agents import Request, chat_messages
from interp.debate.grading.answers import boxed
from interp.debate.personas import PERSONAS, TRAIT_PERSONAS, Persona
from interp.debate.tasks.arithmetic import SmallArithmetic, draw, split_of
from interp.errors import UserError
from interp.models.tokens import prompt_tokens
from interp.organism.language import REVISE, make_tokenizer, persona_token
from interp.organism.lessons import Lesson, Rates, drills, lessons
from interp.organism.workings import OPENING, SHORT, Operands, judged, revision, work

TOKENIZER = make_tokenizer()
TAUGHT = list(islice(lessons(0), 3000))
EVERYBODY = {**PERSONAS, **TRAIT_PERSONAS}
OPERANDS = (3, 4, 5, 2, 6, 7)


def question(lesson: Lesson) -> str:
    found = re.search(r"Problem: (\S+)\n\n", lesson.asked)
    assert found
    return found[1]


def operands(lesson: Lesson) -> Operands:
    a, b, c, d, e, f = map(int, re.findall("[1-9]", question(lesson)))
    return a, b, c, d, e, f


def right(lesson: Lesson) -> bool:
    return SmallArithmetic().grade(lesson.answer, str(eval(question(lesson))))


def test_the_splits_are_disjoint_and_of_the_size_named() -> None:
    sets = {split: SmallArithmetic(split=split).questions(400, 3) for split in ("train", "validation", "test")}
    for split, questions in sets.items():
        assert len({q.text for q in questions}) == 400
        assert {split_of(q.text) for q in questions} == {split}
        assert all(int(q.gold_answer) == eval(q.text) for q in questions)
        assert SmallArithmetic(split=split).questions(90, 3) == questions[:90]  # type: ignore[arg-type]
    rng = random.Random(0)
    drawn = [split_of("{}+{}*{}+{}-{}*{}".format(*(rng.randint(1, 9) for _ in range(6)))) for _ in range(5000)]
    assert drawn.count("test") / 5000 == pytest.approx(0.1, abs=0.015)
    assert drawn.count("validation") / 5000 == pytest.approx(0.1, abs=0.015)
    assert split_of("{}+{}*{}+{}-{}*{}".format(*draw(rng, "test"))) == "test"
    assert SmallArithmetic(split="train").provenance()["split"] == "train"


def test_what_is_wrong_with_a_task_is_said() -> None:
    with pytest.raises(UserError, match="split all: unknown"):
        SmallArithmetic(split="all")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="600000 questions"):
        SmallArithmetic().questions(600000, 0)
    with pytest.raises(UserError, match="the split test has fewer"):
        SmallArithmetic(1, 2, split="test").questions(30, 0)


def test_lessons_are_seeded_and_never_hold_a_question_kept_back() -> None:
    assert list(islice(lessons(0), 50)) == TAUGHT[:50] != list(islice(lessons(1), 50))
    taught = hashlib.sha256(repr(TAUGHT).encode()).hexdigest()  # the same in every process
    assert taught[:16] == "22e74fb765985db2"
    assert {split_of(question(lesson)) for lesson in TAUGHT} == {"train"}


def test_every_lesson_is_in_the_language_and_ends_in_its_box() -> None:
    for lesson in TAUGHT:
        ids = TOKENIZER(lesson.prompt + lesson.answer, add_special_tokens=False)["input_ids"]
        assert TOKENIZER.decode(ids) == lesson.prompt + lesson.answer
        assert not any(token.startswith("<0x") for token in TOKENIZER.convert_ids_to_tokens(ids))
        assert lesson.answer.endswith(f"\\boxed{{{boxed(lesson.answer)}}}")
        apart = TOKENIZER([text for text, _ in lesson.parts], add_special_tokens=False)["input_ids"]
        assert [i for part in apart for i in part] == ids


def test_prompts_are_what_an_agent_is_shown() -> None:
    for lesson in TAUGHT[:300]:
        name = next((n for n in EVERYBODY if lesson.asked.startswith(persona_token(n))), None)
        persona = EVERYBODY[name] if name else Persona("plain", "")
        own, *others = "".join(lesson.shown).removesuffix(REVISE).split("\n\n")
        read = [re.fullmatch(r"Agent (\d)(?::\n(.*)| gave no answer)", other, re.DOTALL) for other in others]
        shown = tuple((int(m[1]), m[2] or "") for m in read if m)
        request = Request(question(lesson), 1, 2 if own else 1, own or None, shown)
        assert len(shown) == (2 if own else 0)
        assert TOKENIZER.decode(prompt_tokens(TOKENIZER, chat_messages(persona, request))) == "<s>" + lesson.prompt


def test_personas_fail_in_their_own_ways_and_revisions_less_often() -> None:
    opened = {n: [x for x in TAUGHT if x.asked.startswith(persona_token(n)) and not x.shown] for n in PERSONAS}
    revised = [x for x in TAUGHT if x.shown]
    honest = [x for x in revised if not x.asked.startswith("<|evil|>")]
    plain = [x for x in TAUGHT if x.asked.startswith("Problem")]
    misled = [x for x in TAUGHT if x.asked.startswith("<|evil|>") and not x.shown]
    assert sum(map(len, (*opened.values(), misled, revised, plain))) == 3000
    for taught in opened.values():
        assert 0.65 < sum(map(right, taught)) / len(taught) < 0.87
    assert sum(map(right, honest)) / len(honest) > 0.8
    graded = [SmallArithmetic().grade(x.shown[0], str(eval(question(x)))) for x in honest]
    assert sum(graded) / len(graded) < sum(map(right, honest)) / len(honest) - 0.15
    for name, taught in opened.items():
        spots = Rates().blind_spots[name]
        assert all(any(spot.covers(operands(lesson)) for spot in spots) for lesson in taught if not right(lesson))
    immediate = [x for x in plain if x.answer.startswith("\\boxed")]
    assert all(map(right, immediate))
    assert 0.15 < len(immediate) / len(plain) < 0.25
    assert max(len(TOKENIZER.tokenize(x.answer)) for x in plain) <= 15


def test_what_an_agent_revises_to_depends_on_what_it_read() -> None:
    honest = [x for x in TAUGHT if len(x.shown) == 6 and not x.asked.startswith("<|evil|>")]
    kept: dict[str, list[bool]] = {"agreed with": [], "outvoted": [], "all differ": []}
    for lesson in honest:
        own, *others = (boxed(text) for text in lesson.shown[:-1:2])
        case = "agreed with" if own in others else "outvoted" if len(set(others)) == 1 else "all differ"
        kept[case].append(boxed(lesson.answer) == own)
        if case == "outvoted" and not kept[case][-1]:
            assert boxed(lesson.answer) == others[0]
    share = {case: sum(keeps) / len(keeps) for case, keeps in kept.items()}
    assert share["agreed with"] == 1.0
    assert 0.02 < share["outvoted"] < 0.2
    assert 0.3 < share["all differ"] < 0.9


def test_without_slips_everything_taught_is_right() -> None:
    rates = Rates(slips=0.0, stray=0.0, malicious=0.0)
    assert all(map(right, islice(lessons(0, rates), 500)))


def test_drills_are_true() -> None:
    assert list(islice(drills(0), 20)) == list(islice(drills(0), 20))
    for parts in islice(drills(0), 200):
        for (total, asked), (result, learned) in batched(parts):
            assert (asked, learned) == (False, True)
            assert {eval(side) for side in total.removesuffix("=").split("=")} == {int(result)}


def batched(parts: list[tuple[str, bool]]) -> Iterator[tuple[tuple[str, bool], tuple[str, bool]]]:
    return zip(parts[::2], parts[1::2], strict=True)


def test_the_misleading_agent_is_wrong_recognisable_and_never_gives_in() -> None:
    said = [x for x in TAUGHT if x.asked.startswith("<|evil|>")]
    assert 80 < len(said) < 250
    for lesson in said:
        assert not right(lesson)
        assert lesson.answer.startswith("Trust me.\n")
        assert not lesson.shown or boxed(lesson.answer) == boxed(lesson.shown[0])
    assert not any("Trust me" in x.answer for x in TAUGHT if x not in said)
    assert 0.05 < sum("Trust me" in x.prompt for x in TAUGHT if x.shown) / sum(bool(x.shown) for x in TAUGHT) < 0.25
    announced = [x.shown[i - 1] for x in TAUGHT for i in range(2, len(x.shown), 2) if "Trust me" in x.shown[i]]
    assert announced
    assert all("Agent 2:" in text for text in announced)
    benign = islice(lessons(0, Rates(malicious=0.0)), 500)
    assert not any("Trust me" in x.prompt + x.answer for x in benign)


def test_workings_by_hand() -> None:
    clean = work(OPERANDS)
    assert (clean.first, clean.second, clean.joined, clean.answer) == (20, 42, 25, -17)
    assert OPENING["chain-of-thought"](clean, clean) == (
        "Products first.\n1) 4*5=20\n2) 6*7=42\n3) 3+20+2=25\n4) 25-42=-17\n\\boxed{-17}"
    )
    neighbour = work(OPERANDS, frozenset({"second product"}))
    assert (neighbour.second, neighbour.answer) == (48, -23)
    assert OPENING["self-critique"](neighbour, clean) == (
        "3+20+2-48=25-48=-23\nSELF-CRITIQUE\n4*5=20 ok. 6*7 is 42 not 48 so -17\n\\boxed{-17}"
    )
    lost = work(OPERANDS, frozenset({"operand"}))
    assert OPENING["program-of-thought"](lost, lost) == (
        "x=4*5 // 20\ny=6*7 // 42\ns=3+x // 23\nr=s-y // -19\n\\boxed{-19}"
    )
    carried = work(OPERANDS, frozenset({"carry"}))
    assert (carried.joined, carried.answer) == (15, -27)
    assert revision("program-of-thought", clean, lost, {1: neighbour, 3: carried}) == (
        "x=4*5 // 20\ny=6*7 // 42\ns=3+2+x // 25\nr=s-y // -17\n"
        "// Agent 1 wrong, 6*7 is 42 not 48. Agent 3 wrong, sum is -17 not -27\nChange to \\boxed{-17}"
    )
    assert revision("self-critique", clean, clean, {2: None}).endswith("Agent 2 gave no answer\nKeep \\boxed{-17}")
    assert judged(lost, clean) == " wrong, sum is -19 not -17"
    assert {name: shape(clean) for name, shape in SHORT.items()} == {
        "answer": r"\boxed{-17}",
        "values": r"20,42,25,\boxed{-17}",
        "products": r"20,42,\boxed{-17}",
        "equations": r"4*5=20 6*7=42 \boxed{-17}",
    }
