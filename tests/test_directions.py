from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_tokenizer
from safetensors.numpy import save_file

from interp.activations.corpus import Corpus, TurnTable
from interp.activations.reading import Readings, stream
from interp.activations.store import StoreWriter
from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript
from interp.directions.contrast import Contrast, differences
from interp.directions.directions import Direction, Directions
from interp.directions.extract import measure
from interp.directions.settings import ExtractionSettings
from interp.errors import UserError
from interp.models.model import Model
from interp.storage.arrays import read_arrays, write_arrays

PERSONAS = ("chain-of-thought", "self-critique", "program-of-thought")


def table(n_questions: int, n_agents: int = 3, n_rounds: int = 2, rotate: bool = False) -> TurnTable:
    """A table of turns as complete debates give it, personas rotating through the seats if asked."""
    transcript, round_, agent = (
        a.ravel() for a in np.mgrid[:n_questions, 1 : n_rounds + 1, 1 : n_agents + 1].astype(np.int64)
    )
    seats = (agent - 1 + rotate * transcript) % n_agents
    zeros, ones = np.zeros_like(agent), np.ones_like(agent)
    personas = tuple(f"persona {s}" for s in seats)
    return TurnTable(transcript, transcript, agent, round_, zeros, zeros, ones, personas)


def questions(n: int) -> tuple[str, ...]:
    return tuple(f"question {i}" for i in range(n))


def test_differences_by_hand() -> None:
    values = np.array([[[1.0, 0.0], [3.0, 0.0], [8.0, 6.0]]], dtype=np.float32)
    expected = [[1 - 5.5, -3.0], [3 - 4.5, -3.0], [8 - 2.0, 6.0]]
    np.testing.assert_allclose(differences(values)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("by", ["agent", "persona"])
def test_planted_directions_come_back(by: str) -> None:
    """Known directions plus noise, question effects and position effects."""
    rng = np.random.default_rng(0)
    n, d = 128, 256
    turns = table(n, rotate=by == "persona")
    planted = rng.normal(size=(3, d))
    seat_effect = rng.normal(size=(4, d)) * (2.0 if by == "persona" else 0.0)
    question_effect = rng.normal(size=(n, d)) * 5
    round_effect = rng.normal(size=(3, d)) * 3
    noise = rng.normal(size=(len(turns), d))
    who = np.array([int(p[-1]) for p in turns.persona])
    values = (
        planted[who] + seat_effect[turns.agent] + question_effect[turns.question] + round_effect[turns.round] + noise
    ).astype(np.float32)
    contrast = Contrast.build(turns, questions(n), by)  # type: ignore[arg-type]
    vectors = differences(values[contrast.rows]).mean(axis=0)
    for i, label in enumerate(contrast.labels):
        k = int(label[-1]) - (1 if by == "agent" else 0)
        truth = planted[k] - np.delete(planted, k, axis=0).mean(axis=0)
        cosine = vectors[i] @ truth / (np.linalg.norm(vectors[i]) * np.linalg.norm(truth))
        assert cosine >= 0.99
        assert np.linalg.norm(vectors[i]) == pytest.approx(np.linalg.norm(truth), rel=0.05)


def test_planted_directions_come_back_from_the_command_s_own_path(tmp_path: Path) -> None:
    """The same truth through a store on disk and `measure`, as `interp extract-directions` goes."""
    rng = np.random.default_rng(2)
    n, d = 96, 128
    turns = table(n)
    corpus = Corpus(tuple((1,) for _ in range(n)), turns, questions(n))
    planted = rng.normal(size=(3, d)) * 0.5
    shared = rng.normal(size=(n, d))[turns.question] * 4 + rng.normal(size=(3, d))[turns.round] * 3
    noise = rng.normal(size=(len(turns), 2, d))  # layer 0 is nothing but noise, layer 1 has the agents
    values = (shared[:, None] + noise).astype(np.float32)
    values[:, 1] += planted[turns.agent - 1].astype(np.float32)
    writer = StoreWriter(
        tmp_path / "a",
        corpus,
        layers=(0, 1),
        positions=("last",),
        hook_point="blocks.{layer}.hook_resid_post",
        d_model=d,
        provenance={},
    )
    writer.append(Readings(np.arange(len(turns)), values[:, None], tuple(range(n))))
    contrast = Contrast.build(turns, questions(n))
    found = measure(writer.finish(), contrast, ExtractionSettings(by_round=True)).directions
    for k in (1, 2, 3):
        truth = planted[k - 1] - np.delete(planted, k - 1, axis=0).mean(axis=0)
        vector = found[k, 1].vector
        assert vector @ truth / (np.linalg.norm(vector) * np.linalg.norm(truth)) >= 0.99
    evidence = found.facts["evidence"]["all"]
    separation = {part: np.array(values) for part, values in evidence["separation"].items()}
    assert separation["low"][:, 1].min() > 0.92
    assert (separation["low"][:, 0] < 0.5).all()  # nothing was planted at layer 0, and nothing is reported
    assert (separation["high"][:, 0] > 0.5).all()
    assert abs(np.array(evidence["reliability"]["mean"])[:, 0]).max() < 0.4
    assert evidence["chosen_layer"]["layers"] == [1]
    assert found.facts["best_layers"] == [1, 0]
    at_once = differences(values[contrast.rows]).mean(axis=0)  # label, layer, d_model
    np.testing.assert_allclose(at_once, found.vectors[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(values, axis=-1).mean(axis=0), found.residual_norm, rtol=1e-5)


def test_seat_is_told_from_persona_only_when_they_rotate() -> None:
    """With fixed seats a direction may be one of position; rotation takes that apart (invariant 9)."""
    rng = np.random.default_rng(1)
    n, d = 120, 64
    seat_effect = rng.normal(size=(4, d))
    for rotate, survives in ((False, True), (True, False)):
        turns = table(n, rotate=rotate)
        values = (seat_effect[turns.agent] + 0.1 * rng.normal(size=(len(turns), d))).astype(np.float32)
        contrast = Contrast.build(turns, questions(n), "persona")
        found = differences(values[contrast.rows]).mean(axis=0)
        assert (np.linalg.norm(found, axis=-1).max() > 1) == survives


def test_streaming_equals_all_at_once(tiny: Model, debates: list[Transcript]) -> None:
    corpus = Corpus.build(debates, tiny.tokenizer)
    contrast = Contrast.build(corpus.turns, corpus.questions)
    means = []
    for batch_tokens in (2000, 10**6):
        readings = list(stream(tiny, corpus, batch_tokens=batch_tokens))
        rows, values = np.concatenate([r.rows for r in readings]), np.concatenate([r.values for r in readings])
        means.append(differences(values[np.argsort(rows), 0][contrast.rows]).mean(axis=0))
    np.testing.assert_allclose(*means, atol=1e-5)
    assert means[0].shape == (3, tiny.n_layers, tiny.d_model)


def test_a_missing_agent_is_counted_and_named() -> None:
    whole = Transcript.build("1+1", [["a", "b", "c"], ["d", "e", "f"]], None)
    lacking = replace(
        whole, question="2+2", sections=tuple(s for s in whole.sections if "Agent 3 Revision" not in s[0])
    )
    silent = Transcript.build("3+3", [["a", "", "c"]], None)
    corpus = Corpus.build([whole, lacking, silent], make_tokenizer("bytes"))
    contrast = Contrast.build(corpus.turns, corpus.questions)
    assert len(contrast.rows) == 3
    assert [(s.transcript, s.question, s.round, s.reason) for s in contrast.skipped] == [
        (2, "2+2", 2, "agent 3 is missing"),
        (3, "3+3", 1, "agent 2 says nothing"),
    ]
    assert len(Contrast.build(corpus.turns, corpus.questions, text_needed=False).rows) == 4


def test_contrasts_that_cannot_be() -> None:
    tokenizer = make_tokenizer("bytes")
    alone = Corpus.build([Transcript.build("1+1", [["a"]], None)], tokenizer)
    with pytest.raises(UserError, match="at least two"):
        Contrast.build(alone.turns, alone.questions)
    apart = [Transcript.build("1+1", [["a", ""]], None), Transcript.build("2+2", [["", "b"]], None)]
    corpus = Corpus.build(apart, tokenizer)
    with pytest.raises(UserError, match="all 2 were skipped"):
        Contrast.build(corpus.turns, corpus.questions)
    with pytest.raises(UserError, match="--by agent"):
        Contrast.build(corpus.turns, corpus.questions, "persona")


def test_personas_in_rotating_seats_are_the_labels() -> None:
    corpus = Corpus.build(read_embedded("scripted-rotated")[:6], make_tokenizer("bytes"))
    contrast = Contrast.build(corpus.turns, corpus.questions, "persona")
    assert set(contrast.labels) == set(PERSONAS)
    for row in contrast.rows:
        assert tuple(corpus.turns.persona[r] for r in row) == contrast.labels


@pytest.fixture
def found() -> Directions:
    rng = np.random.default_rng(0)
    return Directions(
        labels=("agent 1", "agent 2"),
        layers=(0, 3, 4),
        vectors=rng.normal(size=(2, 2, 3, 8)).astype(np.float32),
        residual_norm=np.array([1, 2, 3], dtype=np.float32),
        hook_point="blocks.{layer}.hook_resid_post",
        facts={"provenance": {"seed": 0}, "evidence": {"all": {"groups": 4}}},
        rounds=("all", "1"),
        spread=rng.normal(size=(3, 5, 8)).astype(np.float16),
    )


def test_indexing_and_arithmetic(found: Directions) -> None:
    one, two = found[1, 3], found["agent 2", 3]
    np.testing.assert_array_equal(one.vector, found.vectors[0, 0, 1])
    np.testing.assert_array_equal(found[2, 4, 1].vector, found.vectors[1, 1, 2])
    assert one.hook_point == "blocks.3.hook_resid_post"
    assert one.unit.norm == pytest.approx(1)
    assert (2 * one - one).cosine(one) == pytest.approx(1)
    assert (-one).cosine(one) == pytest.approx(-1)
    np.testing.assert_allclose((one + two).vector, one.vector + two.vector)
    np.testing.assert_allclose(np.linalg.norm(found.units, axis=-1), 1, rtol=1e-5)
    assert found.cosines()[1, 0, 1] == pytest.approx(one.cosine(two), abs=1e-6)
    assert isinstance(one * 2, Direction)
    assert (one / 4).norm == pytest.approx(one.norm / 4)
    np.testing.assert_array_equal(found[np.int64(1), np.int64(3)].vector, one.vector)
    with pytest.raises(UserError, match="one hook point"):
        one + found[1, 4]


def test_a_label_alone_gives_all_layers_and_negative_layers_count_from_the_end(found: Directions) -> None:
    assert [d.layer for d in found["agent 2"]] == [d.layer for d in found[2]] == [0, 3, 4]
    assert [found["1", layer].layer for layer in (-1, -2, -3)] == [4, 3, 0]
    np.testing.assert_array_equal(found[1, -1, 1].vector, found.vectors[1, 0, 2])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (3, "label agent 3: not among these directions; choose one of agent 1, agent 2"),
        (("nobody", 3), "label nobody: .* agent 1, agent 2"),
        ((1, 2), "layer 2: .* choose one of 0, 3, 4"),
        ((1, -4), "layer -4: .* choose one of -3 to -1"),
        ((1, 3, 2), "round 2: .* choose one of all, 1"),
    ],
)
def test_wrong_keys_are_answered_with_the_right_ones(key: Any, message: str, found: Directions) -> None:
    with pytest.raises(UserError, match=message):
        found[key]


def test_the_zero_direction(found: Directions) -> None:
    zero = found[1, 3] - found[1, 3]
    assert (zero.norm, zero.unit.norm) == (0, 0)
    assert np.isnan(zero.cosine(found[1, 3]))


def test_directions_print_as_four_lines(found: Directions) -> None:
    assert str(found).splitlines() == [
        "directions: agent 1, agent 2 at layers 0, 3, 4, resid_post, width 8",
        "model: unknown",
        "data: unknown questions (source unknown)",
        "separation: not measured",
    ]


def test_a_checkpoint_s_name_says_its_stages_and_adapters_follow(found: Directions) -> None:
    model = {"name": "organism-sft", "lineage": {"stages": [{"name": "sft"}]}, "adapters": [{"name": "sft"}]}
    for own, line in (([], "model: organism-sft"), ([{"name": "mine"}], "model: organism-sft + mine")):
        facts = {"provenance": {"model": {**model, "adapters": [*model["adapters"], *own]}}}
        assert str(replace(found, facts=facts)).splitlines()[1] == line


def test_save_and_load(found: Directions, tmp_path: Path) -> None:
    found.save(tmp_path / "d.safetensors")
    again = Directions.load(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(again.vectors, found.vectors)
    assert again.spread is not None
    assert found.spread is not None
    np.testing.assert_array_equal(again.spread, found.spread)
    np.testing.assert_array_equal(again[1, 4].spread, found.spread[2])
    replace(found, spread=None).save(tmp_path / "d.safetensors")  # as earlier versions wrote it
    assert Directions.load(tmp_path / "d.safetensors").spread is None
    np.testing.assert_array_equal(again.residual_norm, found.residual_norm)
    assert (again.labels, again.layers, again.rounds) == (found.labels, found.layers, found.rounds)
    assert again.facts == found.facts
    assert [p.name for p in tmp_path.iterdir()] == ["d.safetensors"]


def test_what_is_no_file_of_directions(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Directions.load(tmp_path / "none")
    (tmp_path / "odd").write_text(json.dumps({}))
    for path in (tmp_path / "odd", model_folder / "model.safetensors"):
        with pytest.raises(UserError, match="not a file of directions"):
            Directions.load(path)


@pytest.mark.parametrize("header", ["no JSON", "[1]", '{"format": "interp.probe/1"}'])
def test_headers_of_other_shapes(header: str, tmp_path: Path) -> None:
    save_file({"vectors": np.zeros(3, np.float32)}, tmp_path / "d.safetensors", metadata={"interp": header})
    with pytest.raises(UserError, match="not a file of directions"):
        Directions.load(tmp_path / "d.safetensors")


def test_damaged_files_of_directions(found: Directions, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    found.save(path)
    header, arrays = read_arrays(path, dict[str, Any], "", "")
    few = {name: value for name, value in header.items() if name != "labels"}
    for odd, with_arrays, message in (
        (few, arrays, r"not a file of directions \(labels: Field required\)"),
        (header, {"x": np.zeros(2)}, "holds x, not vectors, residual_norm"),
        (header, arrays | {"vectors": np.zeros(3)}, r"vectors is float64\[3\], not float32\[2, 2, 3, d_model\]"),
    ):
        write_arrays(path, odd, with_arrays)
        with pytest.raises(UserError, match=message):
            Directions.load(path)
