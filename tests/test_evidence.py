from __future__ import annotations

import numpy as np
import pytest

from interp.directions.contrast import differences
from interp.directions.evidence import Design, Evidence, at_chosen_layer, evaluate


def synthetic(
    n_questions: int = 60, n_labels: int = 3, d: int = 48, size: float = 0.5, seed: int = 0, per_question: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Activations [group, label, d] with planted label effects of the given size, and their questions."""
    rng = np.random.default_rng(seed)
    n = n_questions * per_question
    question = np.repeat(np.arange(n_questions), per_question)
    effect = rng.normal(size=(n_labels, d)) * size
    shared = rng.normal(size=(n_questions, 1, d))[question] * 3
    return (shared + effect + rng.normal(size=(n, n_labels, d))).astype(np.float32), question


def test_planted_effect_is_found() -> None:
    values, question = synthetic()
    random = np.random.default_rng(1).normal(size=(20, 48))
    found = evaluate(differences(values), Design.draw(question, 3, seed=0), random)
    assert found.separation.mean.min() > 0.95
    assert found.separation.low.min() > found.separation_shuffled.high.max()
    assert found.reliability.low.min() > 0.8
    assert (found.separation.low <= found.separation.mean).all()
    assert (found.separation.mean <= found.separation.high).all()
    assert abs(found.separation_shuffled.mean - 0.5).max() < 0.06
    assert (found.separation_random.mean < found.separation.mean).all()


def test_no_separation_where_none_was_planted() -> None:
    """Over 40 draws the 95 % intervals leave out chance about as rarely as they should."""
    missed = []
    for seed in range(40):
        values, question = synthetic(n_questions=40, size=0, seed=seed)
        found = evaluate(differences(values), Design.draw(question, 3, seed=seed).bare)
        missed.append((found.separation.low > 0.5) | (found.separation.high < 0.5))
        assert abs(found.reliability.mean).max() < 0.5
    assert np.mean(missed) < 0.12


def test_separation_is_what_it_says() -> None:
    """Against the definition written out: every turn scored with directions fitted without its fold."""
    values, question = synthetic(n_questions=15, per_question=2, size=0.2, seed=3)
    difference = differences(values)
    design = Design.draw(question, 3, seed=1)
    found = evaluate(difference, design)
    for label in range(3):
        wins = []
        for g in range(len(question)):
            apart = design.fold != design.fold[g]
            assert question[g] not in question[apart]
            direction = difference[apart, label].mean(axis=0)
            scores = values[g] @ direction
            wins += [float(scores[label] > scores[other]) for other in range(3) if other != label]
        assert found.separation.mean[label] == pytest.approx(np.mean(wins))


def test_reliability_is_what_it_says() -> None:
    """With two questions there is one way to halve them."""
    values, question = synthetic(n_questions=2, seed=4)
    difference = differences(values)
    found = evaluate(difference, Design.draw(question, 3, seed=0))
    a, b = difference
    expected = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    np.testing.assert_allclose(found.reliability.mean, expected, rtol=1e-5)


def test_turns_of_a_question_never_straddle_folds() -> None:
    _, question = synthetic(n_questions=37, per_question=4)
    design = Design.draw(question, 3, seed=0)
    for q in np.unique(question):
        assert len(set(design.fold[question == q])) == 1
    counts = np.bincount(design.fold)
    assert counts.max() - counts.min() <= 4


def test_intervals_resample_questions_not_turns() -> None:
    """Ten copies of every group say nothing new, and the interval must not shrink for them."""
    values, question = synthetic(n_questions=30, size=0.1, seed=5)
    many, many_question = np.repeat(values, 10, axis=0), np.repeat(question, 10)
    one = evaluate(differences(values), Design.draw(question, 3, seed=0)).separation
    ten = evaluate(differences(many), Design.draw(many_question, 3, seed=0)).separation
    np.testing.assert_allclose(one.high - one.low, ten.high - ten.low, rtol=0.25)


def noise_layers(seed: int, n_layers: int = 12, best: int | None = None) -> tuple[list[Evidence], Design]:
    """Layers that have nothing to do with each other, an effect planted in at most one of them."""
    values, question = synthetic(n_questions=40, size=0, seed=seed, d=24)
    design = Design.draw(question, 3, seed).bare
    layers = []
    for layer in range(n_layers):
        rng = np.random.default_rng([seed, layer])
        values = rng.normal(size=values.shape).astype(np.float32)
        if layer == best:
            values += rng.normal(size=(3, 24)).astype(np.float32) * 0.6
        layers.append(evaluate(differences(values), design))
    return layers, design


def test_choosing_the_best_of_many_layers_is_paid_for() -> None:
    """The best of twelve layers of noise looks good; chosen on other questions it is chance again."""
    chosen, naive = [], []
    for seed in range(6):
        layers, design = noise_layers(seed)
        naive.append(max(e.separation.mean.mean() for e in layers))
        chosen.append(at_chosen_layer(layers, design)[0].mean())
    assert np.mean(naive) > 0.53
    assert abs(np.mean(chosen) - 0.5) < 0.02


def test_the_layer_that_has_something_is_chosen() -> None:
    layers, design = noise_layers(0, best=7)
    wins, chosen = at_chosen_layer(layers, design)
    assert chosen == [7]
    np.testing.assert_allclose(wins, layers[7].wins)


def test_certainty_has_a_width() -> None:
    """When every turn is on its side, a bootstrap alone would say exactly 1."""
    values, question = synthetic(n_questions=10, size=5)
    found = evaluate(differences(values), Design.draw(question, 3, seed=0)).separation
    assert found.mean.tolist() == [1, 1, 1]
    np.testing.assert_allclose(found.low, 0.025 ** (2 / 10))  # ten coupled questions are as good as five


def test_shuffles_keep_the_rounds_of_a_question_together() -> None:
    _, question = synthetic(n_questions=9, per_question=2)
    owner = Design.draw(question, 3, seed=0).owner
    np.testing.assert_array_equal(owner[:, ::2], owner[:, 1::2])
    assert (owner[0] == [0, 1, 2]).all()
    assert (np.sort(owner, axis=-1) == [0, 1, 2]).all()


def test_one_question_defines_nothing() -> None:
    values, question = synthetic(n_questions=1)
    found = evaluate(differences(values), Design.draw(question, 3, seed=0))
    for estimate in (found.separation, found.separation_shuffled, found.separation_random, found.reliability):
        assert np.isnan([estimate.mean, estimate.low, estimate.high]).all()


def test_same_seed_same_evidence() -> None:
    values, question = synthetic(size=0.1)
    one, two, other = (
        evaluate(differences(values), Design.draw(question, 3, seed=seed)).separation_shuffled.mean
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
