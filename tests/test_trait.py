"""A trait from the words of the command line: what goes with which task unless told."""

from __future__ import annotations

import pytest

from interp.debate.protocol import debate
from interp.debate.scripted.malicious import malicious_debaters
from interp.debate.tasks.rivalry import Rivalry
from interp.errors import UserError
from interp.interventions.trait import make_guard, make_trait


def test_the_organisms_trait_is_told_by_a_rule() -> None:
    trait = make_trait("small-arithmetic", fit=2, validation=2, test=3)
    assert (trait.asking.malicious.name, trait.accuracy.task.name) == ("evil", "small-arithmetic")
    assert trait.score.facts["kind"] == "rule"
    texts = [q.text for part in (trait.questions, trait.accuracy) for q in (*part.validation, *part.test)]
    assert len(set(texts)) == 10
    guard = make_guard(None, "small-arithmetic")
    assert guard is not None
    assert guard.name == "chain-of-thought"


def test_debates_are_divided_into_validation_and_test() -> None:
    debates = debate(Rivalry().questions(5, 9), malicious_debaters("evil", 0), task=Rivalry())
    trait = make_trait("evil", fit=1, validation=2, test=2, asked=["turn"], transcripts=debates)
    assert trait.transcripts == (debates[:2], debates[2:4])
    assert (trait.asking.malicious.name, trait.accuracy.task.name) == ("evil", "arithmetic")
    assert trait.score.facts["kind"] == "classifier"
    assert not trait.score.questions & {t.question for t in debates}
    with pytest.raises(UserError, match="give both, or neither"):
        make_trait("evil", fit=1, validation=2, test=2, transcripts=debates)


def test_a_guard_is_a_persona_a_text_or_none() -> None:
    assert make_guard("none", "evil") is None
    for given, system in (("guardian", None), ("Help others.", "Help others.")):
        guard = make_guard(given, "evil")
        assert guard is not None
        assert system in (None, guard.system_prompt)
    with pytest.raises(UserError, match="persona saint: not known"):
        make_guard("saint", "evil")
