from __future__ import annotations

import numpy as np
import pytest

from interp.directions.directions import Direction
from interp.directions.subspaces import (
    Subspace,
    directions_in,
    drawn,
    effects,
    principal_angles,
    random_directions,
    random_subspace,
    span,
    spread,
)
from interp.errors import UserError
from interp.probing.fitting import ProbeExamples, erasure, held_out, linear
from interp.probing.probe import Probe
from interp.probing.scores import measure
from interp.steering.steering import ablate
from probes.angles import compare_subspaces, random_angles, spread_subspace
from probes.factors import factor_subspace, share_of_variance

D = 24


def planted(
    seed: int, n_questions: int = 240, persona: float = 1.0, seat: float = 1.0
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, Subspace, Subspace]:
    """Four personas in a plane, four seats on a line; a question's own part, and noise, longer than both.

    The personas rotate, but not evenly: a persona sits twice as often in its own seat as in each other one.
    """
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.standard_normal((D, D)))[0]
    of_persona = np.array([[1.0, 0.2], [-1, 0.3], [0.1, 1.1], [-0.1, -1.6]]) @ frame[:2]
    of_seat = np.array([[-1.5], [-0.5], [0.5], [1.5]]) @ frame[2:3]
    question = np.repeat(np.arange(n_questions), 4)
    seats = np.tile(np.arange(4), n_questions)
    turn = rng.choice(4, p=[0.4, 0.2, 0.2, 0.2], size=n_questions)
    personas = (seats + turn[question]) % 4
    values = 3 * rng.standard_normal((n_questions, D))[question] + rng.standard_normal((len(seats), D))
    values += persona * of_persona[personas] + seat * of_seat[seats]
    return values, {"persona": personas, "seat": seats}, question, span(of_persona), span(of_seat)


def test_planted_subspaces_are_found_with_their_dimensions_and_told_apart() -> None:
    values, factors, question, of_persona, of_seat = planted(0, n_questions=2000, persona=1.5, seat=1.5)
    persona = factor_subspace(values, factors, "persona", question, n_shuffles=19)
    seat = factor_subspace(values, factors, "seat", question, n_shuffles=19)
    assert persona.subspace.dimension == 2
    assert seat.subspace.dimension == 1
    assert principal_angles(persona.subspace, of_persona).max() < 5
    assert principal_angles(seat.subspace, of_seat).max() < 5
    assert principal_angles(persona.subspace, of_seat).min() > 85
    assert persona.p == seat.p == 0.05
    assert persona.gains[0] == pytest.approx(0)
    assert 0.1 < persona.share_of_variance < 0.4


def test_a_confound_alone_is_not_taken_for_an_effect() -> None:
    """With nothing but seats planted, personas that prefer their seats have no subspace of their own."""
    values, factors, question, _, of_seat = planted(1, n_questions=1000, persona=0)
    alone = effects(values, {"persona": factors["persona"]})["persona"]
    assert np.linalg.norm(alone @ of_seat.basis.T) > 0.4  # what would be found without the seats beside it
    persona = factor_subspace(values, factors, "persona", question, n_shuffles=19)
    assert persona.subspace.dimension == 0
    assert persona.p > 0.05


def test_without_an_effect_false_positives_keep_their_rate() -> None:
    """200 draws of noise: the test at 5 % rejects in about 5 % of them, and a dimension is rarely found."""
    rejected, found, missed = 0, 0, 0
    for seed in range(200):
        values, factors, question, _, _ = planted(seed, n_questions=30, persona=0)
        null = factor_subspace(values, factors, "persona", question, n_shuffles=19, seed=seed)
        rejected += null.p <= 0.05
        found += null.subspace.dimension > 0
    for seed in range(20):
        values, factors, question, _, _ = planted(seed, n_questions=60)
        missed += factor_subspace(values, factors, "persona", question, n_shuffles=19, seed=seed).p > 0.05
    assert 3 <= rejected <= 19  # 99.5 % of draws from a binomial of 200 and 0.05
    assert found <= 30
    assert missed == 0


def test_seats_that_never_change_are_refused() -> None:
    values, factors, question, _, _ = planted(0, n_questions=20)
    with pytest.raises(UserError, match="let the personas rotate"):
        factor_subspace(values, {"persona": factors["seat"], "seat": factors["seat"]}, "seat", question)
    with pytest.raises(UserError, match="let the personas rotate"):
        effects(values, {"persona": factors["seat"], "seat": factors["seat"]})


def test_a_basis_of_directions_is_orthonormal_and_drops_what_depends_on_others() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, D)).astype(np.float32)
    found = span([Direction(v, "x", 0, "blocks.0.hook_resid_post") for v in (a, b, a - b)])
    assert found.dimension == 2
    assert np.allclose(found.basis @ found.basis.T, np.eye(2), atol=1e-6)
    assert np.allclose(found.without(np.stack([a, b])), 0, atol=1e-5)
    assert np.allclose(found.coordinates(a) @ found.basis, a, atol=1e-5)


def test_angles_of_known_subspaces_and_of_chance() -> None:
    eye = np.eye(40)
    tilted = np.stack([eye[0], np.cos(np.radians(30)) * eye[1] + np.sin(np.radians(30)) * eye[2]])
    assert principal_angles(span(eye[:2]), span(tilted)) == pytest.approx([0, 30], abs=1e-4)
    chance = random_angles(span(eye[:2]), 2, eye, n=100)
    assert chance.shape == (100, 2)
    assert chance.min() > 40
    near = random_angles(span(eye[:2]), 2, eye[:3], n=100)
    assert near.mean() < chance.mean()  # in three dimensions two planes always meet


def test_two_halves_give_the_same_subspace_beyond_chance() -> None:
    values, factors, question, _, _ = planted(4, n_questions=400)
    first, second = question < 200, question >= 200

    def of(rows: np.ndarray) -> Subspace:
        levels = {name: column[rows] for name, column in factors.items()}
        return factor_subspace(values[rows], levels, "persona", question[rows], n_shuffles=1).subspace

    one, two = of(first), of(second)
    found = compare_subspaces(one, two, values[second], factors["persona"][second], question[second], n=20)
    assert len(found.angles) == 2
    assert found.angles[1] < found.random[1][0]
    assert found.angles[1] < found.shuffled[1][0]


@pytest.mark.parametrize("dimension", [0, 1, 3])
def test_the_spread_of_turns_has_its_planted_dimension(dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    frame = np.linalg.qr(rng.standard_normal((D, D)))[0][:dimension]
    question = np.repeat(np.arange(300), 3)
    values = rng.standard_normal((900, D)) + rng.standard_normal((900, dimension)) * 4 @ frame + 7
    found = spread_subspace(values, question)
    assert found.dimension == dimension
    if dimension:
        assert principal_angles(found, span(frame)).max() < 5
        assert np.allclose(found.basis @ found.basis.T, np.eye(dimension))


def test_variance_shares() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4000, 4)) * [3.0, 1, 1, 1]
    assert share_of_variance(span(np.eye(4)[:1]), values) == pytest.approx(9 / 12, abs=0.02)


def test_erasure_takes_the_covariance_and_what_a_probe_reads() -> None:
    """LEACE by its definition: no covariance is left, the mean stays, and erasing twice is erasing once."""
    rng = np.random.default_rng(0)
    question, labels = np.arange(400), rng.integers(0, 3, 400)
    mixing = rng.standard_normal((8, 8))
    means = 2 * rng.standard_normal((3, 8))
    values = rng.standard_normal((400, 8)) @ mixing + means[labels]
    examples = ProbeExamples(labels, question, ("a", "b", "c"))
    erase = erasure(values, labels)
    clean = erase(values)
    centred = np.eye(3)[labels] - np.eye(3)[labels].mean(axis=0)
    assert np.abs(centred.T @ clean).max() / len(values) < 1e-8
    assert np.allclose(clean.mean(axis=0), values.mean(axis=0))
    assert np.allclose(erase(clean), clean)
    assert np.linalg.matrix_rank(values - clean, tol=1e-6) == 2
    before = measure(held_out(linear(False), values, examples), examples)["auc"].interval
    after = measure(held_out(linear(False), values, examples, front=erasure), examples)["auc"].interval
    assert before.low > 0.75
    assert after.mean < 0.57


def varied(seed: int = 0, n: int = 400, n_layers: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Activations [group, label, layer, d] of a known covariance, the same examples in rotated frames at each layer.

    The two labels lie far apart, and so do the activations from 0.
    """
    rng = np.random.default_rng(seed)
    sizes = 3.0 * 0.7 ** np.arange(D)
    frames = [np.linalg.qr(rng.standard_normal((D, D)))[0] for _ in range(n_layers)]
    common = rng.standard_normal((n, 2, D)) * sizes
    values = np.stack([common @ frame for frame in frames], axis=2) + 100
    values[:, 1, :, 5] += 50
    return values.astype(np.float32), np.stack([f.T @ np.diag(sizes**2) @ f / (sizes**2).sum() for f in frames])


def test_random_vectors_have_the_covariance_of_the_activations_without_what_the_labels_differ_in() -> None:
    values, truth = varied(n=4000)
    held = spread(lambda layer: values[:512, :, layer], 2)
    assert held.dtype == np.float16
    for rows, covariance in zip(held.astype(np.float64), truth, strict=True):
        assert np.abs(np.cov(drawn(rows, 20_000, 1).T) - covariance).max() < 0.02


def test_the_same_seed_gives_the_same_mixture_of_examples_at_every_layer() -> None:
    values, _ = varied()
    held = spread(lambda layer: values[:, :, layer], 2).astype(np.float64)
    centred = (values - values.mean(axis=0)).reshape(-1, 2, D)
    one, two = (drawn(rows, 50, 7) for rows in held)
    # The frames are rotations of one another, so that products with the examples are the same at both layers.
    first, second = centred[:, 0] @ one.T, centred[:, 1] @ two.T
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.99
    np.testing.assert_array_equal(drawn(held[0], 3, 7), one[:3])


def like(values: np.ndarray | None) -> Direction:
    vector = np.arange(D, dtype=np.float32)
    return Direction(vector, "agent 1", 3, "blocks.3.hook_resid_post", 7.0, values)


def test_random_directions_are_as_long_and_lie_where_the_activations_vary() -> None:
    values, truth = varied()
    held = spread(lambda layer: values[:, :, layer], 1)[0]
    controls = random_directions(like(held), 300, seed=4)
    assert [c.label for c in controls[:2]] == ["random 1", "random 2"]
    assert all(c.norm == pytest.approx(like(held).norm, rel=1e-5) for c in controls)
    assert {(c.hook_point, c.layer, c.residual_norm) for c in controls} == {("blocks.3.hook_resid_post", 3, 7.0)}
    top = span(truth[0])
    share = [float((top.first(3).coordinates(c.vector) ** 2).sum() / c.norm**2) for c in controls]
    assert np.mean(share) > 0.8  # 0.125 if they were isotropic
    assert np.mean([abs(c.vector[5]) / c.norm for c in controls]) < 0.5  # where the labels differ most
    again = random_directions(like(held), 2, seed=4)
    np.testing.assert_array_equal(again[1].vector, controls[1].vector)
    assert random_directions(like(None), 0) == []


def test_a_random_subspace_has_the_rank_that_was_asked_for() -> None:
    values, truth = varied()
    held = spread(lambda layer: values[:, :, layer], 1)[0]
    for rank in (1, 3, 8):
        rows = np.stack([d.vector for d in random_subspace(like(held), rank, seed=rank)])
        np.testing.assert_allclose(rows @ rows.T, np.eye(rank), atol=1e-5)
        assert len(ablate(random_subspace(like(held), rank, seed=rank)).changes[0].basis) == rank
    planes = [np.stack([d.vector for d in random_subspace(like(held), 2, seed)]) for seed in range(60)]
    held_in = np.mean([np.trace(plane @ truth[0] @ plane.T) for plane in planes])
    assert held_in > 0.4  # 2 / 24 if it were isotropic
    with pytest.raises(UserError, match="vary in 2 dimensions only"):
        random_subspace(like(held[:2]), 3)


def test_what_does_not_say_how_activations_vary_has_no_random_directions() -> None:
    for unknown in (None, np.zeros((4, D), np.float16)):
        with pytest.raises(UserError, match=r"agent 1 at blocks.3.hook_resid_post: .*; extract it again"):
            random_directions(like(unknown), 1)


def test_the_subspace_of_an_answer_is_found_from_mean_differences_and_from_a_probe() -> None:
    """Two agents with four answers each, in three dimensions each, that agree more often than not."""
    rng = np.random.default_rng(0)
    frame, n = np.linalg.qr(rng.standard_normal((D, D)))[0], 3000
    first = rng.integers(0, 4, n)
    second = np.where(rng.random(n) < 0.5, first, rng.integers(0, 4, n))
    means = [np.linalg.qr(rng.standard_normal((4, 3)))[0] @ frame[k : k + 3] for k in (0, 3)]
    values = 4 * (means[0][first] + means[1][second]) + rng.standard_normal((n, D))
    truth = span(frame[:3])
    both = span(effects(values, {"agent 1": first, "agent 2": second})["agent 1"])
    assert principal_angles(truth, both).max() < 6
    assert principal_angles(truth, span(effects(values, {"agent 1": first})["agent 1"])).max() > 15  # confounded
    probe = Probe.fit(values, ProbeExamples(first, np.arange(n), tuple("abcd")), layer=2)
    assert probe.subspace.dimension == 3
    assert principal_angles(truth, probe.subspace).max() < 25  # by chance about 85
    found = directions_in(both, 2, values, label="agent 1", layer=2)
    assert [(d.label, d.layer, d.hook_point) for d in found] == [("agent 1", 2, "blocks.2.hook_resid_post")] * 2
    assert np.allclose([d.vector for d in found], both.basis[:2], atol=1e-6)
    assert found[0].residual_norm == pytest.approx(np.linalg.norm(values, axis=1).mean())
    assert found[0].spread is not None
    covariance = np.cov(values[:1024].T)
    assert np.allclose(found[0].spread.T @ found[0].spread, covariance / covariance.trace(), atol=1e-3)
    for rank in (0, 4):
        with pytest.raises(UserError, match=f"rank {rank}: the subspace of agent 1 has 3 dimensions"):
            directions_in(both, rank, values, label="agent 1", layer=2)
