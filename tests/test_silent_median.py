"""The silent debate on debates of `median`, whose agents are known: what it decodes, where, and what steering does."""

from __future__ import annotations

import numpy as np

from interp.debate.embedded import read_embedded
from interp.debate.tasks import make_task
from interp.debate.tasks.median import RULES, Median
from interp.models.model import load_model
from interp.models.random_weights import untrained
from interp.probing.experiments import Outcome
from interp.statistics import judge
from probes.known import Answering, Known
from probes.silent_agents import experiment as silent_agents
from probes.silent_agents import toward
from probes.silent_agents.debated import Debated, independent_rules


def test_answers_of_few_values_are_decoded_beside_agents_that_follow_other_rules() -> None:
    debates = read_embedded("median")
    debated = Debated.read(debates, make_task("median"))
    assert debated.values(2) == tuple(map(str, range(12)))
    known = [Median().answers(question)[1] for question in debated.questions]
    assert (debated.valued(2) == known).all()
    found = silent_agents.targets(debated, 0)
    assert set(found["agent 2's answer"].labels) <= set(range(12))
    rules = [name for name in found if name.startswith("fictitious agent 2's answer")]
    assert rules == [f"fictitious agent 2's answer, rule {i}" for i in range(1, 6)]
    every = np.array([[a, b, c] for a in range(12) for b in range(12) for c in range(12)])
    for rule in independent_rules():
        other = every @ np.array(rule) % 12
        for agent in RULES:
            joint = np.bincount(other * 12 + every @ np.array(agent) % 12, minlength=144)
            assert set(joint) == {12}, (rule, agent)  # 1,728 questions over 144 pairs of answers
    assert not Debated.read(read_embedded("organism"), make_task("arithmetic")).values(1)


def test_questions_of_median_are_read_where_their_direct_answer_stands() -> None:
    model = load_model("organism-planted")
    debated = Debated.read(read_embedded("median")[:40], make_task("median"))
    values, written = silent_agents.read_silently(model, debated, (1,))
    assert all(debated.task.grade(text, gold) for text, gold in zip(written, debated.gold, strict=True))
    known = Known(debated.questions)
    at_answer = Answering(model, known, "blocks.1.hook_resid_post").values
    np.testing.assert_allclose(values["answer"][1], at_answer, atol=1e-4)
    assert np.abs(values["question"][1] - at_answer).max() > 0.1


def test_steering_along_answers_is_shown_where_agents_are_planted() -> None:
    model = load_model("organism-planted")
    debated = Debated.read(read_embedded("median")[:40], make_task("median"))
    outcomes = {}
    for name, made in (("planted", model), ("untrained", untrained(model))):
        outcome = Outcome("silent_agents", silent_agents.ASKS)
        asked = toward.steer_answers(outcome, made, name, debated, 1, 0, toward.N_RANDOM)
        verdicts = judge([one.test for one in asked])
        outcomes[name] = {verdict.outcome for verdict in verdicts if f"{name}: 1 along" in verdict.asked}
        own = [t["value"]["mean"] for t in outcome.tests if t.get("kind") == "own" and t["coefficient"] == 1]
        assert min(own) > 0.95 if name == "planted" else max(own) < 0.2
    assert outcomes["planted"] == {"shown"}
    assert "shown" not in outcomes["untrained"]
