"""Planted curves, texts whose damage is known, and perplexities worked out token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interp.evaluation.texts import perplexity, repetition
from interp.interventions.damage import Trial, choices, choose, damage_rows, verdicts
from interp.models.model import Model
from interp.reports.intervention_tables import suppression_lines, suppression_tables


def test_repetition() -> None:
    assert repetition("a b c d e f g h") == 0
    assert repetition("a b") == 0
    assert repetition("no " * 23) == pytest.approx(19 / 20)


def test_perplexity_is_that_of_each_text_alone(tiny: Model) -> None:
    rng = np.random.default_rng(0)
    prompts = [rng.integers(5, 900, n).tolist() for n in (3, 9, 1, 5)]
    texts = [rng.integers(5, 900, n).tolist() for n in (4, 1, 7, 0)]
    found = perplexity(tiny, prompts, texts, batch_size=3)
    for prompt, text, value in zip(prompts[:3], texts[:3], found[:3], strict=True):
        nll = []
        for k, token in enumerate(text):
            with torch.no_grad():
                logits = tiny.hf(torch.tensor([prompt + text[:k]])).logits[0, -1]
            nll.append(-float(logits.log_softmax(-1)[token]))
        assert value == pytest.approx(np.exp(np.mean(nll)), rel=1e-3)
    assert np.isnan(found[3])


def test_the_choice_keeps_to_the_damage_limit() -> None:
    trials = {
        (3, -8.0): Trial(0.0, 0.50, 1.0),
        (3, -4.0): Trial(0.04, 0.785, 0.02),
        (4, -4.0): Trial(0.01, 0.79, 0.01),
        (4, -2.0): Trial(0.02, 0.79, 0.01),
        (4, -1.0): Trial(0.60, 0.80, 0.001),
        (5, -2.0): Trial(0.0, 0.80, 0.03),
    }
    assert choose(trials) == ((4, -2.0), True)
    assert choose({at: trial for at, trial in trials.items() if trial.p != 0.01}) == ((3, -4.0), True)
    assert choose({(3, -8.0): Trial(0.0, 0.5, 0.9)}) == ((3, -8.0), False), "no setting keeps to it"


def record(asked: str, question: str, coefficient: float = 0.0, **more: Any) -> dict[str, Any]:
    steered = {"remedy": "steering", "source": "prompts", "layer": "3"} if coefficient else {}
    facts = {"split": "test", "model": "m", "elicit": asked, "remedy": "none", "source": None, "layer": None}
    scores = {"coefficient": coefficient, "question": question, "trait": 0.0, "correct": True}
    return {**facts, **scores, "repetition": 0.0, "perplexity": 2.0, **steered, **more}


N = 200


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """At −1 the trait halves for free, at −2 it goes with an eighth of the accuracy, at 1 it stays; nothing random."""
    made = []
    for split in ("validation", "test"):
        for i in range(N):
            at = ((0.0, 1, i >= 50), (-1.0, i % 2, i >= 50), (-2.0, 0, i >= 75), (1.0, 1, i >= 50))
            for c, trait, correct in at:
                made.append(record("persona", f"q{i}", c, trait=float(trait), split=split, correct=i < 16))
                made.append(record("plain", f"p{i}", c, correct=correct, split=split, perplexity=2.0 ** (i % 8)))
    return made


def random(records: list[dict[str, Any]], draws: int = 99, coefficient: float = -1.0) -> list[dict[str, Any]]:
    """As many random directions, each of which takes the trait from a few questions."""
    made = []
    for k in range(draws):
        for r in records:
            if (r["split"], r["elicit"], r["coefficient"]) == ("test", "persona", coefficient):
                trait = float(int(r["question"][1:]) % 100 > k % 10)
                made.append(r | {"remedy": "random", "draw": k + 1, "trait": trait})
    plain = [r for r in records if (r["split"], r["elicit"], r["coefficient"]) == ("test", "plain", coefficient)]
    return made + [r | {"remedy": "random", "draw": 1} for r in plain]


def test_choices_are_made_on_validation_records(records: list[dict[str, Any]]) -> None:
    [(key, choice)] = choices(records).items()
    assert key == ("m", "prompts", "persona")
    assert (choice.layer, choice.coefficient, choice.within, choice.choices) == ("3", -1.0, True, 2)
    assert (choice.trial.trait, choice.trial.accuracy) == (0.5, 0.75)
    assert (choice.unsteered.trait, choice.unsteered.accuracy) == (1.0, 0.75)
    assert choices(records, max_accuracy_loss=0.2)[key].coefficient == -2.0
    only = [r for r in records if r["coefficient"] in (0.0, -2.0)]
    assert (choices(only)[key].coefficient, choices(only)[key].within) == (-2.0, False)
    assert not choices([r for r in records if r["split"] == "test"])


def test_a_limit_that_too_few_questions_cannot_hold_does_not_hold(records: list[dict[str, Any]]) -> None:
    """Nothing was lost on 50 questions: up to 6 points may be."""
    few = [r for r in records if int(r["question"][1:]) % 8 < 2]
    [choice] = choices(few).values()
    assert (choice.coefficient, choice.within) == (-2.0, False)


def test_rows_and_the_one_number_come_from_test_records(records: list[dict[str, Any]]) -> None:
    rows = {row.coefficient: row for row in damage_rows(records)}
    assert [rows[c].trait.mean for c in (0.0, -1.0, -2.0, 1.0)] == [1, 0.5, 0, 1]
    assert rows[-2.0].trait.low == 0
    assert 0.015 < rows[-2.0].trait.high < 0.025, "none of 200 may be 2 %"
    assert [rows[c].accuracy.mean for c in (0.0, -2.0)] == [0.75, 0.625]
    assert rows[0.0].right is not None
    assert rows[0.0].right.mean == 0.08
    assert rows[0.0].perplexity is not None
    assert rows[0.0].perplexity.mean == pytest.approx(2**3.5)
    assert rows[0.0].perplexity.low < 2**3.5 < rows[0.0].perplexity.high
    [drawn] = [row for row in damage_rows(records + random(records)) if row.remedy == "random"]
    assert (drawn.trait.low, drawn.trait.high) == pytest.approx((0.90, 0.99), abs=0.005)


def test_a_remedy_is_judged_against_random_directions(records: list[dict[str, Any]]) -> None:
    chosen = choices(records)
    [one] = verdicts(records + random(records), chosen)
    assert (one.source, one.elicit, one.remedy, one.coefficient) == ("prompts", "persona", "steering", -1)
    assert one.lowers.outcome == "shown"
    assert one.lowers.p == pytest.approx(0.02), "first of 100, chosen among two signs"
    assert one.costs.outcome == "shown"
    assert "costs less than 5% of accuracy, which is 75% unsteered" in one.costs.asked
    assert one.right == (0.08, 0.08)
    lines = suppression_lines([one])
    assert lines[0].startswith("steering along prompts (m, persona) lowers the trait: shown (by ")
    assert lines[1].endswith(": 8%; unsteered 8%, so there were few to lose.")
    [few] = verdicts(records + random(records, 30), chosen)
    assert few.lowers.outcome == "cannot tell"
    assert "30 random directions are too few to say, 99 would do" in few.lowers.in_words()
    weak = [r | {"trait": 0.0} if r["remedy"] == "random" else r for r in records + random(records)]
    assert verdicts(weak, chosen)[0].lowers.outcome != "shown", "random ones do as much"
    costly = [r | {"correct": False} if r["coefficient"] and r["elicit"] == "plain" else r for r in records]
    assert verdicts(costly, chosen)[0].costs.outcome != "shown"


def test_ablation_has_random_controls_of_its_own(records: list[dict[str, Any]]) -> None:
    gone = [r | {"remedy": "ablation", "layer": None, "coefficient": 0.0} for r in records if r["coefficient"] == -2.0]
    drawn = [r | {"remedy": "random"} for r in random(gone, coefficient=0.0)]
    judged = verdicts(records + random(records) + gone + drawn, choices(records))
    assert [(one.remedy, one.layer, one.lowers.outcome) for one in judged] == [
        ("steering", "3", "shown"),
        ("ablation", None, "shown"),
    ]
    assert [one.costs.outcome == "shown" for one in judged] == [True, False]
    assert {one.lowers.family for one in judged} == {2}
    tables = suppression_tables(damage_rows(records + gone + drawn), choices(records))
    assert "ablated" in list(tables[0].columns[0].cells)


def test_what_was_not_scored_is_left_out(records: list[dict[str, Any]]) -> None:
    for r in records:
        if r["question"] == "q1":
            r["trait"] = None
    rows = {row.coefficient: row for row in damage_rows(records)}
    assert rows[-1.0].trait.mean == pytest.approx(99 / 199)
    [one] = verdicts(records + random(records), choices(records))
    assert one.lowers.questions == 199


@pytest.mark.parametrize(
    ("unscored", "n_rows"), [((-2.0,), 3), ((-1.0, 1.0), 2), ((0.0,), 3), ((-2.0, -1.0, 0.0, 1.0), 0)]
)
def test_a_judge_may_score_no_text_of_a_setting(
    records: list[dict[str, Any]], unscored: tuple[float, ...], n_rows: int
) -> None:
    for r in records:
        if r["split"] == "test" and r["coefficient"] in unscored:
            r["trait"] = None
    rows, chosen = damage_rows(records), choices(records)
    assert len(rows) == n_rows
    assert len(verdicts(records, chosen)) == (0.0 not in unscored and -1.0 not in unscored)
    assert len(suppression_tables(rows, chosen)) == (n_rows > 0)
    assert choices([{**r, "trait": None} for r in records]) == {}
    without = [{**r, "trait": None if r["coefficient"] == 0 else r["trait"]} for r in records]
    assert choices(without) == {}
