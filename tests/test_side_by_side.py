"""`interp steer`: two answers to each prompt, what is kept of them, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_model

from interp.debate.agents import Sampling
from interp.directions.directions import Directions
from interp.errors import UserError
from interp.interventions.steer import FORMS, make_steering, read_prompts, side_by_side
from interp.models.model import Model, load_model
from interp.steering.settings import SteeringSettings
from interp.steering.steering import Steering, add

SHORT = Sampling(8, 0.0)


@pytest.fixture(scope="module")
def found() -> Directions:
    vectors = np.random.default_rng(0).standard_normal((1, 3, 2, 32)).astype(np.float32)
    labels = ("agent 1", "agent 2", "agent 3")
    hook_point = "blocks.{layer}.hook_resid_post"
    return Directions(labels, (0, 2), vectors, np.array([2.0, 4.0], np.float32), hook_point, {"best_layers": [2, 0]})


def test_prompts_come_one_a_line_or_as_records(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one\n\n{two}\n")
    assert read_prompts(tmp_path / "p.txt") == ["one", "{two}"]
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"question": "b", "gold_answer": "1"}\n')
    assert read_prompts(tmp_path / "p.jsonl") == ["a", "b"]
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n[1]\n')
    (tmp_path / "empty.txt").write_text("\n")
    for name, said in (("bad.jsonl", "line 2"), ("empty.txt", "no prompt"), ("none", "no such file")):
        with pytest.raises(UserError, match=said):
            read_prompts(tmp_path / name)


def test_the_turns_of_a_seat_alone(found: Directions, tiny: Model) -> None:
    steering = make_steering(found, ["2"], SteeringSettings(tokens="turns", turns_of=3), tiny)
    assert steering.facts[0]["tokens"] == {"agent": 3, "round": None}


def test_steerings_in_the_words_of_the_command_line(found: Directions) -> None:
    one = make_steering(found, ["2"], SteeringSettings(coefficients=(3.0,)))
    assert one.summary == "add agent 2 +3 residual, layer 2", "the best layer"
    np.testing.assert_allclose(one.changes[0].offset, 12 * found["agent 2", 2].unit.vector, rtol=1e-5)
    settings = SteeringSettings(layers=(0, 2), coefficients=(0.5, -1.0), tokens="everywhere")
    two = make_steering(found, ["1", "agent 3"], settings)
    assert make_steering(found, ["1", "agent 3"], replace(settings, layers=None)).facts == two.facts
    assert two.summary == "add agent 1 +0.5 residual, layer 0, 2; add agent 3 -1 residual, layer 0, 2"
    assert [round(float(np.linalg.norm(c.offset)), 4) for c in two.changes] == [1, 2, 2, 4]
    ablated = make_steering(found, ["1", "2"], SteeringSettings(operation="ablate", layers=(0,)))
    assert ablated.changes[0].basis.shape == (2, 32)
    clamped = make_steering(found, ["1"], SteeringSettings(operation="clamp"))
    assert clamped.summary == "clamp agent 1 0.2 residual, layer 2"
    for of, settings, said in (
        ("9", SteeringSettings(), "label agent 9: not among these directions; choose one of agent 1, agent 2, agent 3"),
        ("1", SteeringSettings(layers=(1,)), "layer 1: not among these directions; choose one of 0, 2"),
        ("1", SteeringSettings(coefficients=(1.0, 2.0)), "2 coefficients for 1 directions"),
    ):
        with pytest.raises(UserError, match=said):
            make_steering(found, [of], settings)


@pytest.mark.parametrize("form", FORMS)
def test_pairs_are_what_the_prompts_give_alone(tiny: Model, found: Directions, form: Any) -> None:
    steering = add(found["agent 1", 2], 60, tokens="writing")
    asked = ["What is 2+2?", "Hello", "12*3 and so on"]
    pairs = side_by_side(tiny, asked, steering, form=form, sampling=SHORT)
    assert [pair.prompt for pair in pairs] == asked
    assert all(pair.steered != pair.unsteered and pair.finite for pair in pairs)
    for prompt, pair in zip(asked, pairs, strict=True):
        assert side_by_side(tiny, [prompt], steering, form=form, sampling=SHORT) == [pair]
    nothing = side_by_side(tiny, asked, Steering(), form=form, sampling=Sampling(8, 0.9))
    assert all(pair.steered == pair.unsteered for pair in nothing), "both draw the same random numbers"
    assert not side_by_side(tiny, asked[:1], add(found["agent 1", 2], 1e30), form=form, sampling=SHORT)[0].finite


def test_a_killed_run_goes_on_with_the_same_bytes(tiny: Model, found: Directions, tmp_path: Path) -> None:
    strong, stronger = (make_steering(found, ["2"], SteeringSettings(coefficients=(c,))) for c in (40.0, 41.0))
    asked = [f"{k} + {k}" for k in range(5)]
    side_by_side(tiny, asked, strong, sampling=SHORT, batch_size=2, out=tmp_path / "whole.jsonl")

    def stop(what: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    out = tmp_path / "cut.jsonl"
    with pytest.raises(KeyboardInterrupt):
        side_by_side(tiny, asked, strong, sampling=SHORT, batch_size=2, out=out, progress=stop)
    assert len(out.read_text().splitlines()) == 4
    side_by_side(tiny, asked, strong, sampling=SHORT, batch_size=2, out=out)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    facts = json.loads((tmp_path / "cut.json").read_text())
    assert (facts["pairs"], facts["out_of_range"]) == (5, 0)
    assert facts["made_by"]["steering"][0]["directions"] == ["agent 2"]
    with pytest.raises(UserError, match="another"):
        side_by_side(tiny, asked, stronger, sampling=SHORT, out=out)


def test_prompts_that_do_not_fit(found: Directions) -> None:
    model = make_model(max_position_embeddings=16)
    with pytest.raises(UserError, match="reads 16"):
        side_by_side(model, ["a b c d " * 20], Steering())
    with pytest.raises(UserError, match="empty prompt"):
        side_by_side(model, [""], Steering(), form="text")


def test_the_command(interp: Any, model_folder: Path, tmp_path: Path, found: Directions) -> None:
    file, out = tmp_path / "d.safetensors", tmp_path / "out.jsonl"
    facts = {**found.facts, "provenance": {"model": load_model(str(model_folder)).provenance}}
    replace(found, facts=facts).save(file)
    common = ("steer", "--model", model_folder, "--directions", file, "--max-new-tokens", 6)
    code, said, _ = interp(*common, "--direction-of", 2, "--coefficients", "-30", "--prompt", "Ask [me]", "--out", out)
    assert code == 0
    assert "unsteered (6 tokens)" in said
    assert "add agent 2 -30 residual, layer 2" in " ".join(said.split())
    assert "Ask [me]" in said
    [record] = map(json.loads, out.read_text().splitlines())
    assert record["prompt"] == "Ask [me]"
    code, said, _ = interp(*common, "--coefficients", "1e30", "--prompt", "a")
    assert (code, "[ends here" in said) == (0, True)
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    assert (
        interp(
            *common, "--prompts", tmp_path / "p.txt", "--operation", "ablate", "--direction-of", 1, "--direction-of", 3
        )[0]
        == 0
    )
    replace(found, facts={**facts, "provenance": {"model": {"name": "other", "hash": "x"}}}).save(tmp_path / "o.st")
    replace(found, vectors=found.vectors[..., :16]).save(tmp_path / "w.st")
    prompt = ("--prompt", "x")
    for arguments, expected in (
        ((*common, *prompt, "--layers", 3), "layer 3"),
        ((*common, *prompt, "--layers", 1), "layer 1: not among these directions; choose one of 0, 2"),
        ((*common, *prompt, "--direction-of", "nobody"), "label nobody: not among these directions"),
        ((*common, *prompt, "--coefficients", "nan"), "comma-separated numbers"),
        ((*common, *prompt, "--coefficients", "1,2"), "2 coefficients for 1 directions"),
        (common, "--prompt"),
        ((*common[:4], tmp_path / "o.st", *prompt), "extracted from other with other weights"),
        ((*common[:4], tmp_path / "w.st", *prompt, "--other-model"), "the direction 16"),
        ((*common[:4], tmp_path / "none", *prompt), "no such file"),
        ((*common[:4], out, *prompt), "not a file of directions"),
        ((*common, "--prompt", "another", "--out", out), "started with another"),
    ):
        code, _, wrong = interp(*arguments)
        assert (code, expected in wrong, wrong.count("\n")) == (2, True, 1), wrong
    assert interp(*common[:4], tmp_path / "o.st", *prompt, "--max-new-tokens", 2, "--other-model")[0] == 0
