"""A trait from the words of the command line: what goes with which task unless told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interp.debate.personas import TRAIT_PERSONAS, Persona
from interp.debate.protocol import debate
from interp.debate.scripted.malicious import malicious_debaters
from interp.debate.tasks.rivalry import Rivalry
from interp.errors import UserError
from interp.interventions.settings import TraitSettings
from interp.interventions.trait import make_trait


def test_the_organisms_trait_is_told_by_a_rule() -> None:
    trait = make_trait(TraitSettings(fit_questions=2, validation_questions=2, questions=3))
    assert (trait.elicitation.malicious.name, trait.accuracy.task.name) == ("evil", "small-arithmetic")
    assert trait.score.facts["kind"] == "rule"
    texts = [q.text for part in (trait.questions, trait.accuracy) for q in (*part.validation, *part.test)]
    assert len(set(texts)) == 10
    assert trait.guard is not None
    assert trait.guard.name == "chain-of-thought"


def test_debates_are_divided_into_validation_and_test() -> None:
    debates = debate(Rivalry().questions(5, 9), malicious_debaters("evil", 0), task=Rivalry())
    settings = TraitSettings(task="evil", elicit=("turn",), fit_questions=1, validation_questions=2, questions=2)
    trait = make_trait(settings, transcripts=debates)
    assert trait.transcripts == (debates[:2], debates[2:4])
    assert (trait.elicitation.malicious.name, trait.accuracy.task.name) == ("evil", "arithmetic")
    assert trait.score.facts["kind"] == "classifier"
    assert not trait.score.questions & {t.question for t in debates}
    with pytest.raises(UserError, match="give both, or neither"):
        make_trait(replace(settings, elicit=("persona",)), transcripts=debates)


def test_a_guard_is_a_persona_a_text_or_none() -> None:
    def guard(named: str) -> Persona | None:
        return make_trait(TraitSettings(guard=named, fit_questions=1, validation_questions=1, questions=1)).guard

    assert guard("none") is None
    assert guard("guardian") == TRAIT_PERSONAS["guardian"]
    assert guard("Help others.") == Persona("guard", "Help others.")
    with pytest.raises(UserError, match="persona saint: unknown"):
        guard("saint")
