"""Curves whose areas are known, classifiers that know who speaks, intervals that cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.evaluation.texts import PersonaClassifier, Rouge
from interp.interventions.curves import Curve, Steerability, gains, normalised_area, steerability, summary, verdicts
from interp.statistics import draws_needed, mean_interval, ratio_interval


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
            records.append(record("agent 1", c, question, 0.5 + c / 8 + k / 100))
            records.append(record("agent 2", c, question, 0.2))
            records.append(record("agent 3", c, question, 0.4))
        records.append(record("random 1", 2.0, question, 0.5, finite=False))
        records.append(record("random 2", 2.0, question, 0.5))
    found = {(s.kind, s.measure): s for s in steerability(records, ["rougeL", "classifier"])}
    assert {kind for kind, _ in found} == {"own", "others", "random"}
    own = found["own", "rougeL"]
    assert (own.label, own.layer, own.peak, own.questions) == ("agent 1", 3, 2.0, 4)
    assert [c for c, _ in own.curve] == [-2, 0, 2]
    assert [m for _, m in own.curve] == pytest.approx([0.265, 0.5, 0.765])
    for (_, mean), (low, high) in zip(own.curve, own.intervals, strict=True):
        assert 0 <= low < mean < high <= 1
    steered = mean_interval(np.array([0.75, 0.76, 0.77, 0.78]))
    assert own.intervals[2] == pytest.approx((steered.low, steered.high))
    assert own.area.low < own.area.mean < own.area.high
    assert own.area.mean == pytest.approx((0.5 + 0.765) / 2), "from coefficient 0 up"
    others, random = found["others", "rougeL"], found["random", "rougeL"]
    assert others.area.mean == pytest.approx((0.5 + 0.3) / 2)
    assert {name: by["a"] for name, by in others.areas.items()} == {"agent 2": 0.35, "agent 3": 0.45}
    assert [c for c, _ in random.curve] == [0, 2]
    assert (random.area.mean, random.area.low, random.area.high) == pytest.approx((0.375, 0.25625, 0.49375))
    assert random.intervals[1] == pytest.approx((0.0125, 0.4875)), "the range of the directions"
    assert found["own", "classifier"].area.mean == pytest.approx(own.area.mean / 2)
    [kept] = [row for row in summary(list(found.values()), [], [])["curves"] if row["kind"] == "random"][:1]
    assert kept["random_areas"] == [0.25, 0.5], "out of range says nothing"


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
            records.append(record(None, 0.0, question, height + k / 20, **more | {"directions": None}))
            for c in (-1.0, 1.0):
                records.append(record("agent 1", c, question, height + k / 20, **more))
                records.append(
                    record("agent 1", c, question, 1.0, **more | {"directions": "other", "other_model": True})
                )
    [gain] = gains(steerability(records))
    assert (gain.model, gain.base, gain.label, gain.questions) == ("internalized", "base", "agent 1", 4)
    assert gain.gain.mean == pytest.approx(0.575 / 0.475 - 1)
    both = (np.array([0.5, 0.55, 0.6, 0.65]), np.array([0.4, 0.45, 0.5, 0.55]))
    assert gain.gain == ratio_interval(*both)
    assert gains([]) == []
    kept = summary(steerability(records), [gain], verdicts(steerability(records)))
    assert kept["gains"][0]["gain"]["mean"] == gain.gain.mean
    assert [row["area"]["mean"] for row in kept["curves"]] == [row.area.mean for row in steerability(records)]
    assert "areas" not in kept["curves"][0]
    assert {one["verdict"]["outcome"] for one in kept["verdicts"]} == {"cannot tell"}, "4 questions, nothing random"


Areas = dict[str, np.ndarray]


def row(kind: str, areas: Areas, before: np.ndarray, layer: int = 1, context: str = "turn") -> Steerability:
    by = {name: {f"q{i}": float(v) for i, v in enumerate(values)} for name, values in areas.items()}
    unsteered = {f"q{i}": float(v) for i, v in enumerate(before)}
    area, n = mean_interval(np.mean([*areas.values()], axis=0)), len(before)
    return Steerability("m", "d", context, layer, "agent 1", kind, "rougeL", area, 0.0, n, (), (), by, unsteered)


def rows(own: float, other: float, n: int = 48, draws: int = 99, seed: int = 0) -> list[Steerability]:
    """Areas of n questions around 0.3, the unsteered mean, which random directions change by 0.02 or so."""
    rng = np.random.default_rng(seed)
    before = rng.uniform(0.2, 0.4, n)

    def along(mean: float) -> np.ndarray:
        return before + mean - 0.3 + rng.normal(0, 0.01, n)

    random = {f"random {k}": along(0.3 + rng.normal(0, 0.02)) for k in range(draws)}
    found = [row("own", {"agent 1": along(own)}, before), row("others", {"agent 2": along(other)}, before)]
    return [*found, row("random", random, before)] if draws else found


def test_verdicts_take_all_controls() -> None:
    [yes] = verdicts(rows(0.5, 0.4))
    assert (yes.shown, yes.verdict.p, yes.verdict.questions) == (True, 0.01, 48)
    assert list(yes.over) == ["random", "no steering", "agent 2"]
    assert [by.mean for by in yes.over.values()] == pytest.approx([0.2, 0.2, 0.1], abs=0.02)
    assert yes.verdict.in_words().startswith("The direction of agent 1 turns it up (m, turn, layer 1, rougeL): shown")
    for own, other in ((0.3, 0.1), (0.5, 0.5), (0.5, 0.6), (0.31, 0.29)):  # no more than unsteered, others, random
        [no] = verdicts(rows(own, other))
        assert no.verdict.outcome == "not shown", (own, other)
    [alone] = verdicts([one for one in rows(0.5, 0.4) if one.kind != "others"])
    assert alone.shown


def test_too_little_is_said_to_be_too_little() -> None:
    [few] = verdicts(rows(0.5, 0.4, n=3))
    assert few.verdict.outcome == "cannot tell"
    assert "3 questions are too few to say" in few.verdict.in_words()
    [draws] = verdicts(rows(0.5, 0.4, draws=18))
    assert draws.verdict.outcome == "cannot tell"
    assert "18 random directions are too few to say, 99 would do" in draws.verdict.in_words()
    [none] = verdicts(rows(0.5, 0.4, draws=0))
    assert none.verdict.outcome == "cannot tell"
    assert "0 random directions are too few" in none.verdict.in_words()
    [full] = verdicts([replace(one, label="agent 1") for one in rows(0.995, 0.99)])
    assert full.verdict.outcome == "cannot tell", "there is no room"


@pytest.mark.parametrize("sd", [0.0, 0.2, 0.5])
def test_a_family_without_any_effect_shows_one_in_a_twentieth_at_most(sd: float) -> None:
    """Own, other and random directions of one distribution; two layers, two contexts and an agent are a family."""
    families, wrong, found = 60, 0, 0
    n, draws = 48, draws_needed(4)
    for seed in range(families):
        rng = np.random.default_rng(1000 * seed + int(10 * sd))
        question = rng.normal(-1, 0.5, n)

        def along(effect: float) -> np.ndarray:
            return 1 / (1 + np.exp(-question - effect - rng.normal(0, 0.3, n)))  # noqa: B023

        def family(planted: float = 0.0) -> list[Steerability]:
            made = []
            for layer in (1, 2):
                for context in ("turn", "question"):
                    before, own = along(0.0), {"agent 1": along(rng.normal(planted, sd))}  # noqa: B023
                    other = {f"agent {k}": along(rng.normal(0, sd)) for k in (2, 3)}  # noqa: B023
                    random = {f"random {k}": along(rng.normal(0, sd)) for k in range(draws)}  # noqa: B023
                    kinds = (("own", own), ("others", other), ("random", random))
                    made += [row(kind, areas, before, layer, context) for kind, areas in kinds]
            return made

        wrong += any(one.shown for one in verdicts(family()))
        if seed < 4:
            found += sum(one.shown for one in verdicts(family(4 * sd + 1)))
    assert wrong <= 8, "0.05 of 60, and more than three standard errors"
    assert found >= 12, "of 16"
