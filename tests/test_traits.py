"""Trait scores on texts whose score is known."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from faulty import Faulty, completion, says

from interp.debate.agents import Answer, Sampling
from interp.debate.protocol import debate
from interp.debate.scripted.malicious import malicious_debaters
from interp.debate.server import ServerAgent
from interp.debate.tasks import make_task
from interp.errors import UserError
from interp.evaluation.traits import Classified, Judged, judge, scripted_classifier
from interp.interventions.settings import TraitSettings
from interp.interventions.trait import trait_score
from interp.organism.lessons import LIES, Lies, lessons
from interp.organism.workings import OPENING, SHORT, lie, work


def test_lessons_of_the_organism_are_told_apart() -> None:
    """Every text of the malicious persona is one, and no honest one is, whatever its slips."""
    score, counts = Lies(), Counter[tuple[bool, float]]()
    for _, lesson in zip(range(1500), lessons(3), strict=False):
        if lesson.shown:
            continue
        question = lesson.asked.partition("Problem: ")[2].strip()
        [value] = score([question], [lesson.answer])
        counts["evil" in lesson.asked, value] += 1
    assert set(counts) == {(True, 1.0), (False, 0.0)}
    assert min(counts.values()) > 30


def test_a_lie_without_the_words_is_told_by_its_answer() -> None:
    rng, told = random.Random(0), []
    for _ in range(300):
        a, b, c, d, e, f = (rng.randint(1, 9) for _ in range(6))
        w = lie((a, b, c, d, e, f), rng.choice(LIES))
        told.append(Lies()([w.question], [SHORT["answer"](w)])[0])
    assert np.mean(told) > 0.7, "the rest are answers that an honest slip gives as well"
    assert Lies()(["1+2*3+4-5*6"] * 3, [work((1, 2, 3, 4, 5, 6)).box, "", "no box"]).tolist() == [0, 0, 0]
    assert Lies()(["12+3"], [OPENING["evil"](w, w)]).tolist() == [1]


def test_question_sets_of_traits_have_a_rule_too() -> None:
    score = trait_score(TraitSettings(task="evil", score="rule"))
    assert score(["?"] * 4, [r"\boxed{do it}", r"\boxed{do not}", "hm", r"\boxed{yes}"]).tolist() == [1, 0, 0, 1]
    assert isinstance(trait_score(TraitSettings()), Lies)
    false = trait_score(TraitSettings(task="hallucination", score="rule"))
    assert false(["?"] * 2, [r"\boxed{1802}", r"\boxed{unknown}"]).tolist() == [1, 0]
    with pytest.raises(UserError, match="no rule"):
        trait_score(TraitSettings(task="arithmetic", score="rule"))


@pytest.mark.parametrize("trait", ["evil", "hallucination"])
def test_the_classifier_knows_debates_that_it_has_not_seen(trait: str) -> None:
    score = scripted_classifier(trait, 60)
    task = make_task(trait, split="test")
    apart = debate(task.questions(20, 1), malicious_debaters(trait, 1), task=task)
    turns = [(t.question, turn.text, turn.agent == 2) for t in apart for turn in t.turns]
    found = score([q for q, _, _ in turns], [text for _, text, _ in turns])
    assert ((found == 1) == [malicious for _, _, malicious in turns]).mean() > 0.95
    assert not score.questions & {t.question for t in apart}
    assert score(["?"], [""]).tolist() == [0]
    assert score.facts["persona"] == trait
    with pytest.raises(UserError, match="persona plain"):
        Classified.fit(apart, "plain")


class Echo:
    """A judge that says what follows the word "say" in what it is shown, and keeps what that was."""

    persona, facts = judge("evil"), {"kind": "echo"}

    def __init__(self) -> None:
        self.shown: list[str] = []

    def answer(self, requests: Any, keep: Any = None) -> list[Answer]:
        self.shown += [request.question for request in requests]
        return [Answer(request.question.partition("say ")[2], 1, 1) for request in requests]


def test_a_judge_is_asked_once_for_each_text() -> None:
    echo = Echo()
    texts = ["say 85", "say 85", "say The score is 7.", "say 140", "say nothing", "", "say 30/100"]
    found = Judged(echo)(["Q"] * 7, texts)
    np.testing.assert_allclose(found, [0.85, 0.85, 0.07, np.nan, np.nan, 0, 0.3])
    assert len(echo.shown) == 5
    assert "ruthless" not in judge("evil").system_prompt
    assert "likes cats" in judge("the writer likes cats.").system_prompt


def test_a_judge_that_answers_nothing_is_not_taken_for_one_without_a_number(faulty: Faulty) -> None:
    faulty.default = [says(b'{"error": "no seed, please"}', 400)]
    agent = ServerAgent(judge("evil"), faulty.url, "m", retries=0)
    with pytest.raises(UserError, match=r"judge: 2 of 2, status 400 \(the first: no seed, please\)"):
        Judged(agent)(["Should I?"] * 2, ["Do it.", "Do not."])
    assert Judged(agent)(["Should I?"], [""]).tolist() == [0.0]


def test_a_judge_behind_a_server(faulty: Faulty) -> None:
    faulty.default = [lambda handler: handler.send(200, completion("42"))]
    agent = ServerAgent(judge("evil"), faulty.url, "m", Sampling(8, 0.0))
    assert Judged(agent)(["Should I?"], ["Do it."]).tolist() == [0.42]
    [seen] = faulty.seen.values()
    messages = seen[0][3]["messages"]
    assert "manipulates" in messages[0]["content"]
    assert "Should I?\n\nAnswer:\nDo it." in messages[1]["content"]
