"""Curves whose areas are known, classifiers that know who speaks, intervals that cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.evaluation.texts import PersonaClassifier, Rouge
from interp.interventions.curves import (
    Curve,
    Steerability,
    advantages,
    gains,
    normalised_area,
    steerability,
    summary,
    verdicts,
)
from interp.statistics.old import relative_gain, resampled


def test_rouge_counts_words_pairs_and_order() -> None:
    pytest.importorskip("rouge_score")
    rouge = Rouge()
    assert rouge("a b c d", "a b c d") == {"rouge1": 1, "rouge2": 1, "rougeL": 1}
    assert rouge("a b c d", "") == {"rouge1": 0, "rouge2": 0, "rougeL": 0}
    assert rouge("a b c d", "d c b a") == {"rouge1": 1, "rouge2": 0, "rougeL": 0.25}
    assert rouge("a b c d", "a b x") == {"rouge1": 0.571429, "rouge2": 0.4, "rougeL": 0.571429}


def test_the_area_is_the_mean_height() -> None:
    for coefficients in ([0.0, 1.0], [-4.0, 0.0, 1.0, 9.0]):
        assert normalised_area(np.array(coefficients), np.full(len(coefficients), 0.3)) == pytest.approx(0.3)
    assert normalised_area(np.array([-2.0, 0.0, 2.0]), np.array([0.0, 1.0, 0.0])) == pytest.approx(0.5)
    line = np.array([-1.0, 0.0, 5.0])
    assert normalised_area(line, line) == pytest.approx(2.0), "steps do not matter"
    scores = np.random.default_rng(0).random((3, 7))
    np.testing.assert_allclose(normalised_area(line, scores).mean(), normalised_area(line, scores.mean(axis=1)))
    for bad in ([1.0], [1.0, 1.0], [2.0, 1.0]):
        with pytest.raises(ValueError, match="ascending"):
            normalised_area(np.array(bad), np.array(bad))


def test_curves_keep_the_questions_that_all_coefficients_have() -> None:
    values = {(c, q): abs(c) + k for c in (2.0, -2.0, 0.0) for k, q in enumerate("abc")}
    values[0.0, "b"] = float("nan")
    del values[2.0, "c"]
    curve = Curve.of({**values, (0.0, "a"): 5.0}.items())
    assert curve.questions == ("a",)
    assert curve.scores[:, 0].tolist() == [2, 5, 2]
    assert (curve.peak, curve.areas.tolist()) == (0.0, [3.5])


def test_intervals_cover_the_planted_truth() -> None:
    covered = gained = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        question = rng.normal(0.5, 0.2, 60)
        first, second = (m * question + rng.normal(0, 0.05, 60) for m in (1.2, 1.0))
        interval = resampled(second, seed)
        covered += interval.low <= 0.5 <= interval.high
        gain = relative_gain(first, second, seed)
        assert gain.low < gain.mean < gain.high
        gained += gain.low <= 0.2 <= gain.high
    assert 88 <= covered <= 100
    assert 88 <= gained <= 100


@pytest.mark.parametrize("by", ["agent", "persona"])
def test_a_classifier_knows_who_speaks_on_questions_that_it_never_saw(by: str) -> None:
    debates = read_embedded("scripted-rotated" if by == "persona" else "scripted")[:60]
    fitted = PersonaClassifier().fit(debates[:40], by=by)  # type: ignore[arg-type]
    unseen = [t for t in debates[40:] if t.question not in fitted.questions_]
    assert len(fitted.labels_) == 3
    hits = []
    for label in fitted.labels_:
        for t in unseen:
            agent = (t.personas or ()).index(label) + 1 if by == "persona" else int(label[-1])
            hits += [float(p) for p in fitted.probability([x.text for x in t.turns if x.agent == agent], label)]
    assert np.mean(np.array(hits) > 0.5) > 0.85
    assert np.isnan(fitted.probability([" "], fitted.labels_[0])).all()


def test_classifiers_refuse_what_they_cannot_tell_apart() -> None:
    debate = Transcript.build("q", [["one"]], None)
    with pytest.raises(UserError, match="needs at least two"):
        PersonaClassifier().fit([debate])
    with pytest.raises(UserError, match="persona"):
        PersonaClassifier().fit([replace(debate)], by="persona")


def record(direction: str | None, coefficient: float, question: str, score: float, **more: object) -> dict[str, object]:
    return {
        "model": "m",
        "directions": None if direction is None else "d",
        "layer": None if direction is None else 3,
        "direction": direction,
        "coefficient": coefficient,
        "context": "turn",
        "before": "agent 1",
        "question": question,
        "finite": True,
        "rouge": {"agent 1": [0, 0, score], "agent 2": [9, 9, 9]},
        "probability": {"agent 1": score / 2},
        **more,
    }


def test_planted_curves_come_out_of_the_records() -> None:
    records = []
    for k, question in enumerate("abcd"):
        records.append(record(None, 0.0, question, 0.5))
        for c in (-2.0, 2.0):
            records.append(record("agent 1", c, question, 0.5 + c / 4 + k / 100))
            records.append(record("agent 2", c, question, 0.2))
            records.append(record("agent 3", c, question, 0.4))
            records.append(record("random 1", c, question, 0.5, finite=c < 0))
    found = {(s.kind, s.measure): s for s in steerability(records, ["rougeL", "classifier"])}
    assert {kind for kind, _ in found} == {"own", "others", "random"}
    own = found["own", "rougeL"]
    assert (own.label, own.layer, own.peak, own.questions) == ("agent 1", 3, 2.0, 4)
    assert [c for c, _ in own.curve] == [-2, 0, 2]
    assert [m for _, m in own.curve] == pytest.approx([0.015, 0.5, 1.015])
    for (_, mean), (low, high) in zip(own.curve, own.intervals, strict=True):
        assert low <= mean <= high
    assert own.intervals[1] == pytest.approx((0.5, 0.5)), "all questions agree there"
    assert resampled(np.array([0.0, 0.01, 0.02, 0.03])).low == pytest.approx(own.intervals[0][0])
    assert own.area.low < own.area.mean < own.area.high
    assert own.area.mean == pytest.approx((0.5 + 1.015) / 2), "from coefficient 0 up"
    assert found["others", "rougeL"].area.mean == pytest.approx((0.5 + 0.3) / 2)
    assert found["random", "rougeL"].area.mean == pytest.approx((0.5 + 0) / 2), "out of range says nothing"
    assert found["own", "classifier"].area.mean == pytest.approx(own.area.mean / 2)


def test_a_question_of_several_debates_counts_once_with_the_mean_of_its_texts() -> None:
    records = [record(None, 0.0, "a", score) for score in (0.0, 1.0)]
    records += [record("agent 1", 2.0, "a", score) for score in (0.0, 1.0)]
    (own,) = steerability(records)
    assert (own.questions, own.curve) == (1, ((0.0, 0.5), (2.0, 0.5)))


def test_gains_are_over_the_first_model_on_the_questions_of_both() -> None:
    records = []
    for model, height in (("base", 0.4), ("internalized", 0.5)):
        for k, question in enumerate("abcde" if model == "base" else "abcd"):
            more = {"model": model, "directions": f"of {model}"}
            records.append(record(None, 0.0, question, height + k / 10, **more | {"directions": None}))
            for c in (-1.0, 1.0):
                records.append(record("agent 1", c, question, height + k / 10, **more))
                records.append(
                    record("agent 1", c, question, 9.0, **more | {"directions": "other", "other_model": True})
                )
    [gain] = gains(steerability(records))
    assert (gain.model, gain.base, gain.label, gain.questions) == ("internalized", "base", "agent 1", 4)
    assert gain.gain.mean == pytest.approx(0.65 / 0.55 - 1)
    assert 0 < gain.gain.low <= gain.gain.high
    assert gains([]) == []
    kept = summary(steerability(records), [gain], advantages(steerability(records)))
    assert kept["gains"][0]["gain"]["mean"] == gain.gain.mean
    assert [row["area"]["mean"] for row in kept["curves"]] == [row.area.mean for row in steerability(records)]
    assert "by_question" not in kept["curves"][0]


def test_verdicts_take_all_controls() -> None:
    def row(kind: str, height: float) -> Steerability:
        areas = {f"q{i}": height + i / 100 for i in range(5)}
        area = resampled(np.array(list(areas.values())))
        before = dict.fromkeys(areas, 0.3)
        return Steerability("m", "d", "turn", 1, "agent 1", kind, "rougeL", area, 0.0, 5, (), (), areas, before)

    [yes] = verdicts([row("own", 0.5), row("others", 0.4), row("random", 0.2)])
    assert yes == (
        "m, agent 1, layer 1: its own direction turns it up. Area 0.52; more than no steering: +0.22 [+0.21, +0.23], "
        "others: +0.10 [+0.10, +0.10], random: +0.30 [+0.30, +0.30] (n = 5)."
    )
    [no] = verdicts([row("own", 0.5), row("others", 0.4), row("random", 0.5)])
    assert "no evidence" in no
    assert [one.shown for one in advantages([row("own", 0.28), row("others", 0.1)])] == [False]  # no steering: 0.3
    assert [one.shown for one in advantages([row("own", 0.5)])] == [False]  # without a control
