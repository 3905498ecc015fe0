"""What steerings say: units, positions, which vectors, which models they fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import make_tokenizer

from interp.activations.corpus import Corpus
from interp.debate.transcript import Transcript
from interp.directions.directions import Direction, Directions, require_made_on
from interp.errors import UserError
from interp.models.model import Model
from interp.options import listed_numbers
from interp.steering.changes import TOKENS, Ranges, turns
from interp.steering.settings import SteeringSettings
from interp.steering.steering import OPERATIONS, UNITS, Steering, ablate, add, clamp

HOOK = "blocks.{layer}.hook_resid_post"
RNG = np.random.default_rng(0)


def direction(layer: int = 1, width: int = 32, label: str = "agent 1") -> Direction:
    vector = RNG.standard_normal(width).astype(np.float32)
    return Direction(vector, label, layer, HOOK.format(layer=layer), residual_norm=7.5)


@pytest.mark.parametrize("operation", [add, clamp])
def test_a_coefficient_is_so_many_units_along_the_unit_vector(operation: Any) -> None:
    d = direction()
    lengths = {"unit": 1.0, "raw": d.norm, "residual": 7.5}
    assert lengths.keys() == UNITS.keys()
    for name, length in lengths.items():
        for coefficient in (2.0, -0.5, 0.0):
            [change] = operation(d, coefficient, units=name).changes
            np.testing.assert_allclose(change.offset, d.vector / d.norm * coefficient * length, rtol=1e-5)
            assert (change.facts["units"], change.facts["tokens"]) == (name, "generated")
    [whole] = add(d, 1, units="raw").changes
    np.testing.assert_allclose(whole.offset, d.vector, rtol=1e-6)


def test_directions_bring_the_length_of_what_was_read() -> None:
    vectors = RNG.standard_normal((1, 2, 2, 8)).astype(np.float32)
    found = Directions(("agent 1", "agent 2"), (3, 5), vectors, np.array([2.0, 4.0], np.float32), HOOK, {})
    assert (found[1, 3].residual_norm, found[2, 5].residual_norm) == (2.0, 4.0)
    [change] = add(found[2, 5], 0.5).changes
    assert np.linalg.norm(change.offset) == pytest.approx(2.0)


def test_unknown_lengths_and_no_direction_are_refused() -> None:
    d = direction()
    for unclear in (lambda: add(replace(d, residual_norm=float("nan"))), lambda: add(d, float("inf"))):
        with pytest.raises(UserError, match="finite"):
            unclear()
    with pytest.raises(UserError, match="length 0"):
        clamp(d - d, 1)
    with pytest.raises(UserError, match="length 0"):
        ablate(d - d)
    with pytest.raises(UserError, match="units metres: unknown; choose one of residual, unit, raw"):
        add(d, units="metres")
    with pytest.raises(UserError, match="tokens somewhere: unknown; choose one of generated, writing"):
        add(d, tokens="somewhere")


def test_no_direction_adds_nothing() -> None:
    d = direction()
    assert add(d - d, 8) == Steering() == add([]) == ablate([])
    assert len(add([d, d - d], 8).changes) == 1


def test_names_and_functions_are_the_same() -> None:
    d = direction()
    by_function = add(d, 0.2, units=UNITS["residual"], tokens=TOKENS["writing"]).facts
    assert add(d, 0.2, units="residual", tokens="writing").facts == by_function
    assert add(d).facts[0] == {**by_function[0], "tokens": "generated"}
    for name, operation in OPERATIONS.items():
        assert operation(d, 0.2, units="residual", tokens="writing").facts[0]["operation"] == name


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"units": "metres"}, "units metres: unknown"),
        ({"operation": "push"}, "operation push: unknown; choose one of add, ablate, clamp"),
        ({"tokens": "somewhere"}, "tokens somewhere: unknown"),
        ({"tokens": "turns"}, "turns-of None"),
        ({"turns_of": 2}, "tokens generated, turns-of 2"),
        ({"coefficients": (float("nan"),)}, "finite"),
        ({"coefficients": ()}, "finite"),
    ],
)
def test_settings_are_checked(wrong: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        SteeringSettings(**wrong)


def test_coefficients_as_text() -> None:
    assert listed_numbers("0.2,-0.2") == (0.2, -0.2)
    with pytest.raises(UserError, match="expected comma-separated numbers"):
        listed_numbers("a,b")


def test_ablation_spans_what_is_at_the_same_hook_point() -> None:
    a, b, c = direction(), direction(), direction(layer=2)
    steering = ablate([a, b, a + b, c])
    assert [change.basis.shape for change in steering.changes] == [(2, 32), (1, 32)], "the sum adds nothing"
    basis = steering.changes[0].basis
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(basis.T @ (basis @ a.vector), a.vector, atol=1e-5)


def test_positions() -> None:
    meant = {name: [(start, min(stop, 9)) for start, stop in at(5)] for name, at in TOKENS.items()}
    assert meant == {
        "generated": [(5, 9)],
        "writing": [(4, 9)],
        "prompt": [(0, 5)],
        "last": [(4, 5)],
        "everywhere": [(0, 9)],
        "after-first": [(1, 9)],
    }


@pytest.mark.parametrize("kind", ["bytes", "merging", "metaspace"])
def test_turns_are_where_the_corpus_has_them(kind: str, debates: list[Transcript]) -> None:
    tokenizer = make_tokenizer(kind)
    corpus = Corpus.build(debates[:1], tokenizer)
    table = corpus.turns
    at = turns(tokenizer, debates[0], 2)
    own = [(int(a), int(b)) for a, b, k in zip(table.start, table.stop, table.agent, strict=True) if k == 2]
    assert at(10**6) == tuple(own)
    assert turns(tokenizer, debates[0], 2, round=1)(0) == (own[0],)
    with pytest.raises(UserError, match="agent 9"):
        turns(tokenizer, debates[0], 9)


def test_facts_tell_steerings_apart() -> None:
    d = direction()
    same = add(d, 2).facts
    assert add(d, 2).facts == same
    assert (add(d, 1) + add(d, 1)).facts != same
    others = [
        add(d, 3),
        add(direction(), 2),
        add(d, 2, tokens="everywhere"),
        add(d, 2, tokens=Ranges(((1, 2),))),
        clamp(d, 2),
    ]
    assert all(other.facts != same for other in others)
    assert Steering().facts == []


def test_directions_of_another_model_are_refused(tiny: Model) -> None:
    def made(**model: object) -> Directions:
        return Directions((), (), np.zeros(0), np.zeros(0), HOOK, {"provenance": {"model": model}})

    require_made_on(made(**tiny.provenance), tiny)
    require_made_on(made(**{**tiny.provenance, "dtype": "bfloat16", "device": "cuda"}), tiny)
    with pytest.raises(UserError, match="other weights"):
        require_made_on(made(**{**tiny.provenance, "hash": "x", "name": "other"}), tiny)
    with pytest.raises(UserError, match="other adapters"):
        require_made_on(made(**{**tiny.provenance, "adapters": [{"name": "a", "hash": "x"}]}), tiny)
