from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from interp.errors import UserError
from interp.probing.decoding import control_labels, decode, text_baselines
from interp.probing.fitting import (
    N_FOLDS,
    Chosen,
    HeldOut,
    ProbeExamples,
    at_chosen_layer,
    boosted,
    held_out,
    linear,
    mass_mean,
)
from interp.probing.scores import measure
from interp.statistics import deal
from probes.trait import false_alarms

N_QUESTIONS, D = 60, 12


def planted(seed: int = 0, size: float = 3.0, per_question: int = 3) -> tuple[np.ndarray, ProbeExamples, np.ndarray]:
    """Activations with one class direction, and a stronger one of the question that means nothing."""
    rng = np.random.default_rng(seed)
    question = np.repeat(np.arange(N_QUESTIONS), per_question)
    labels = rng.integers(0, 2, len(question))
    direction = np.linalg.qr(rng.standard_normal((D, D)))[0][0]
    values = rng.standard_normal((len(question), D)) + 3 * rng.standard_normal((N_QUESTIONS, D))[question]
    values += size * (2 * labels[:, None] - 1) * direction
    return values, ProbeExamples(labels, question, ("no", "yes")), direction


def as_held(predicted: np.ndarray) -> HeldOut:
    return HeldOut(predicted, np.zeros(len(predicted), int), np.zeros(1))


def test_no_question_is_in_two_folds_and_all_folds_are_used() -> None:
    question = np.random.default_rng(0).integers(0, 40, 300)
    fold = deal(question, N_FOLDS, 1)
    assert all(len(set(fold[question == q])) == 1 for q in range(40))
    assert set(fold) == set(range(N_FOLDS))
    assert (deal(question, N_FOLDS, 1) == fold).all()
    assert (deal(question, N_FOLDS, 2) != fold).any()


class Spy(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Keeps which questions (in the features' only column) it is fitted on and asked for."""

    fitted: ClassVar[list[set[int]]] = []
    asked: ClassVar[list[tuple[int, set[int]]]] = []

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def fit(self, X: np.ndarray, y: np.ndarray) -> Spy:
        self.classes_ = np.array([0, 1])
        self.number_ = len(Spy.fitted)
        Spy.fitted.append(set(X[:, 0].astype(int)))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        Spy.asked.append((self.number_, set(X[:, 0].astype(int))))
        return np.tile([1 - self.strength / 4, self.strength / 4], (len(X), 1))


def test_nothing_is_fitted_or_chosen_on_what_evaluates() -> None:
    """Every estimator that is made, those that choose the regularisation included, is asked only what it never saw."""
    Spy.fitted, Spy.asked = [], []
    question = np.repeat(np.arange(30), 2)
    examples = ProbeExamples(np.tile([0, 1], 30), question, ("a", "b"))
    probe = Chosen((), Spy(), "strength", (1.0, 2.0))
    held = held_out(probe, question[:, None].astype(float), examples)
    assert all(not Spy.fitted[number] & asked for number, asked in Spy.asked)
    last = [Spy.fitted[3 * f + 2] for f in range(N_FOLDS)]  # 2 settings to choose from, then the one that counts
    for f, whole in enumerate(last):
        outside = set(question[held.fold == f])
        assert whole == set(range(30)) - outside
        assert all(not used & outside for used in Spy.fitted[3 * f : 3 * f + 3])


def test_what_is_the_questions_own_cannot_be_decoded_from_copies_of_it() -> None:
    """Labels by question at random, examples of a question alike: every leak between folds would show."""
    rng = np.random.default_rng(3)
    question = np.repeat(np.arange(N_QUESTIONS), 5)
    labels = rng.integers(0, 2, N_QUESTIONS)[question]
    values = rng.standard_normal((N_QUESTIONS, 80))[question] + 0.01 * rng.standard_normal((len(question), 80))
    examples = ProbeExamples(labels, question, ("a", "b"))
    for probe in (linear(False), mass_mean(False), boosted(False)):
        accuracy = measure(held_out(probe, values, examples), examples)["accuracy"]
        assert accuracy.value < 0.65  # with a question in two folds it would be near 1


def test_a_planted_class_is_found_and_its_controls_find_nothing() -> None:
    values, examples, _ = planted()
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(values.shape)
    examples = ProbeExamples(
        examples.labels,
        examples.question,
        examples.classes,
        texts=tuple(rng.choice(["up", "down", "left"], len(examples))),
        surface=rng.standard_normal((len(examples), 2)),
        types=rng.integers(0, 12, len(examples)),
    )
    found = decode(
        {0: noise, 4: values},
        examples,
        features={"operands": (linear(False), noise), "operands, boosted": (boosted(False), noise)},
    )
    assert found.row("probe", 4).scores["auc"].low > 0.65
    assert found.row("mass-mean", 4).scores["auc"].low > 0.55
    for kind, layer in (
        *(("probe", 0), ("shuffled", 4), ("operands", None), ("operands, boosted", None)),
        *(("bag of words", None), ("length and position", None)),
    ):
        assert found.row(kind, layer).scores["auc"].low < 0.5, kind
    assert found.row("control task", 4).scores["accuracy"].low < 0.6
    selectivity = found.row("probe", 4).selectivity
    assert selectivity is not None
    assert selectivity.interval.low > 0
    assert found.row("chosen layer").facts["layers"] == [4] * N_FOLDS
    assert found.best() == 4


def test_a_layer_is_chosen_without_the_questions_that_score_it() -> None:
    """The best of many layers of noise looks better than chance; the chosen one does not."""
    rng = np.random.default_rng(5)
    _, examples, _ = planted()
    probe = Chosen((), LogisticRegression(), "C", (0.1, 1.0))
    held = [held_out(probe, rng.standard_normal((len(examples), 3)), examples) for _ in range(12)]
    chosen, _ = at_chosen_layer(held)
    best = max(measure(h, examples)["auc"].value for h in held)
    assert best > 0.53
    auc = measure(chosen, examples)["auc"].interval
    assert auc.mean < best
    assert auc.low < 0.5


def test_numbers_are_decoded_by_ridge() -> None:
    rng = np.random.default_rng(0)
    question = np.arange(100)
    values = rng.standard_normal((100, 6))
    examples = ProbeExamples(values @ rng.standard_normal(6) + 0.1 * rng.standard_normal(100), question)
    found = decode({0: values}, examples)
    assert found.row("probe", 0).scores["r2"].low > 0.9
    assert found.row("mass-mean", 0).scores["r2"].low > 0.5
    assert found.row("shuffled", 0).scores["r2"].mean < 0.1


def test_a_seat_that_is_left_out_is_still_predicted() -> None:
    values, examples, _ = planted(per_question=4)
    seen = np.tile([True, True, True, False], N_QUESTIONS)
    held = held_out(linear(False), values, examples, fitted_on=seen)
    assert (held.predicted[~seen].argmax(1) == examples.labels[~seen]).mean() > 0.7


def test_shuffled_labels_keep_what_is_constant_in_a_question_constant() -> None:
    question = np.repeat(np.arange(20), 3)
    labels = (np.arange(20) % 2)[question]
    changed = control_labels(ProbeExamples(labels, question, ("a", "b")), 0)["shuffled"].labels
    assert (changed != labels).any()
    assert all(len(set(changed[question == q])) == 1 for q in range(20))


def test_measures_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, brier_score_loss, roc_auc_score

    rng = np.random.default_rng(0)
    question, labels = np.repeat(np.arange(50), 2), rng.integers(0, 2, 100)
    score = np.round(np.clip(0.3 * labels + 0.7 * rng.random(100), 0, 1), 1)  # with ties
    predicted = np.stack([1 - score, score], axis=1)
    examples = ProbeExamples(labels, question, ("no", "yes"))
    found = measure(as_held(predicted), examples)
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, score), abs=1e-4)
    assert found["accuracy"].value == pytest.approx(accuracy_score(labels, predicted.argmax(1)), abs=1e-4)
    assert found["brier"].value == pytest.approx(brier_score_loss(labels, score), abs=1e-4)
    three = rng.dirichlet(np.ones(3), 100)
    classes = rng.integers(0, 3, 100)
    area = measure(as_held(three), ProbeExamples(classes, question, ("a", "b", "c")))["auc"].value
    assert area == pytest.approx(roc_auc_score(classes, three, multi_class="ovr"), abs=1e-4)


@pytest.mark.parametrize(("d", "per_question", "share"), [(4, 3, 0.5), (32, 1, 0.3)])
def test_where_nothing_is_planted_intervals_keep_their_rate_on_both_sides(
    d: int, per_question: int, share: float
) -> None:
    """200 draws of noise: a 95 % interval of an AUC, and of a difference of two, misses in about 5 on either side."""
    plain, missed = LogisticRegression(C=0.1), np.zeros((2, 2), int)
    n = 120 // per_question
    for seed in range(200):
        rng = np.random.default_rng(seed)
        question = np.repeat(np.arange(n), per_question)
        examples = ProbeExamples((rng.random(120) < share).astype(int), question, ("a", "b"))
        noise = rng.standard_normal((2, 120, d)) + rng.standard_normal((2, n, d))[:, question]
        first, second = (measure(held_out(plain, values, examples, seed), examples)["auc"] for values in noise)
        found = [first.interval, (first - second).interval]
        chance = (0.5, 0.0)
        missed[0] += [value.low > c for value, c in zip(found, chance, strict=True)]
        missed[1] += [value.high < c for value, c in zip(found, chance, strict=True)]
    assert missed.max() <= 11  # 2.5 % of 200 are 5; more than 11 come in half a percent of such tests
    assert missed.sum() >= 1  # and the intervals are not just wide


def test_calibration_error_tells_the_sure_from_the_right() -> None:
    rng = np.random.default_rng(0)
    chance = rng.random(4000)
    labels = (rng.random(4000) < chance).astype(int)
    examples = ProbeExamples(labels, np.arange(4000), ("a", "b"))
    honest = np.stack([1 - chance, chance], axis=1)
    assert measure(as_held(honest), examples)["ece"].value < 0.03
    sure = np.tile([1.0, 0.0], (4000, 1))
    assert measure(as_held(sure), examples)["ece"].value == pytest.approx(0.5, abs=0.02)


def test_false_alarms_at_a_recall() -> None:
    score = np.r_[np.linspace(0.5, 1, 100), np.linspace(0, 0.75, 100)]
    positive = np.arange(200) < 100
    share, threshold = false_alarms(score, positive, 0.99)
    assert (score[positive] >= threshold).mean() >= 0.99
    assert share == pytest.approx((score[~positive] >= threshold).mean())
    assert 0.3 < share < 0.36


def test_a_class_of_one_question_is_predicted_by_what_never_saw_it() -> None:
    values, examples, _ = planted()
    rare = replace(examples, labels=(examples.question == 7).astype(int))
    held = held_out(linear(False), values, rare)
    assert (held.predicted[examples.question == 7, 1] == 0).all()


def test_too_few_questions_and_one_label_are_refused() -> None:
    few: Any = ProbeExamples(np.array([0, 1]), np.array([0, 1]), ("a", "b"))
    with pytest.raises(UserError, match="2 questions: a probe needs at least 10"):
        decode({0: np.zeros((2, 3))}, few)
    with pytest.raises(UserError, match="2 questions: a probe needs at least 10"):
        text_baselines(few)
    with pytest.raises(UserError, match="the same label"):
        decode({0: np.zeros((30, 3))}, ProbeExamples(np.zeros(30, int), np.arange(30), ("a", "b")))
