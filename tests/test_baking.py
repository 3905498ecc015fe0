"""Steering in weights: exactly what steering does as the model runs, or a refusal that writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_hf, make_tokenizer
from transformers import AutoModelForCausalLM

from interp.directions.directions import Direction, Directions
from interp.errors import UserError
from interp.interventions.baking import Baked, export_steered
from interp.models.model import load_model
from interp.steering.steering import add

IDS = torch.tensor([[5, 80, 3, 44, 17, 90, 2, 61]])


def checkpoint(folder: Path, architecture: str, **changes: Any) -> tuple[Path, Path]:
    """A model and directions for it."""
    hf = make_hf(architecture, **changes)
    hf.save_pretrained(folder / "model")
    make_tokenizer("bytes").save_pretrained(folder / "model")
    width = hf.config.hidden_size
    vectors = np.random.default_rng(0).standard_normal((1, 1, 3, width)).astype(np.float32)
    found = Directions(("kind",), (0, 1, 2), vectors, np.full(3, 2.0, np.float32), "blocks.{layer}.hook_resid_post", {})
    found.export(folder / "kind.pt")
    found.export(folder / "kind.safetensors")
    return folder / "model", folder / "kind.pt"


def plain(folder: Path) -> torch.Tensor:
    """The logits of what transformers loads from a folder."""
    with torch.no_grad():
        logits: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(IDS).logits
    return logits


@pytest.mark.parametrize("units", ["residual", "unit"])
def test_an_addition_is_a_bias(units: Any, tmp_path: Path) -> None:
    model, directions = checkpoint(tmp_path, "llama")
    baked = Baked(str(directions), layers=[0, 2], coefficient=0.7, units=units)
    assert export_steered(str(model), tmp_path / "out", baked, "fp32").startswith("add kind +0.7")
    if units == "unit":
        loaded = load_model(str(model), dtype="fp32", device="cpu")
        found = Directions.load(directions)
        with (
            torch.no_grad(),
            add([found["kind", 0], found["kind", 2]], 0.7, units="unit", tokens="everywhere").on(loaded),
        ):
            torch.testing.assert_close(plain(tmp_path / "out"), loaded.hf(IDS).logits, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain(tmp_path / "out"), plain(model), atol=1e-2)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("tied", [True, False])
def test_an_ablation_is_a_projection(architecture: str, tied: bool, tmp_path: Path) -> None:
    model, directions = checkpoint(tmp_path, architecture, tie_word_embeddings=tied)
    said = export_steered(str(model), tmp_path / "out", Baked(str(directions), layers=[1], operation="ablate"), "fp32")
    assert said == "ablate kind of layer 1 at every layer"
    unit: Direction = Directions.load(directions)["kind", 1].unit
    after = load_model(str(tmp_path / "out"), dtype="fp32", device="cpu")
    read: dict[str, torch.Tensor] = {}
    hooks = [(after.hook_name("resid_post", i), lambda v, hook: read.update({hook.name: v})) for i in range(3)]
    with torch.no_grad(), after.bridge.hooks(fwd_hooks=hooks):
        after.hf(IDS)
    assert len(read) == 3
    for value in read.values():
        assert float((value @ torch.from_numpy(unit.vector)).abs().max()) < 1e-4 * float(value.norm(dim=-1).max())
    assert not torch.allclose(plain(tmp_path / "out"), plain(model), atol=1e-3)


def test_what_weights_cannot_do(interp: Any, tmp_path: Path) -> None:
    model, directions = checkpoint(tmp_path, "qwen2")
    interp("--version")  # what was said before
    base = {"directions": str(directions), "layers": [1]}
    for change, expected in (
        ({}, "no mlp_bias to write an addition into"),
        ({"operation": "ablate", "layers": [0, 1]}, "choose the layer it is from"),
        ({"operation": "clamp"}, "operation: must be 'add' or 'ablate'"),
        ({"tokens": "generated"}, "tokens: must be 'everywhere'"),
        ({"direction_of": 9}, "label agent 9"),
        ({"strength": 2}, "strength: Unexpected keyword argument"),
        ({"layers": [7]}, "layer 7"),
    ):
        code, _, wrong = interp("export-model", model, "--steer", json.dumps(base | change), "--out", tmp_path / "out")
        assert (code, expected in wrong, wrong.count("\n")) == (2, True, 1), wrong
    for text in ("missing.json", "{", "[]"):
        code, _, wrong = interp("export-model", model, "--steer", text, "--out", tmp_path / "out")
        assert (code, "give JSON such as" in wrong) == (2, True), wrong
    assert not (tmp_path / "out").exists()


def test_norms_after_the_sublayers_are_refused(tmp_path: Path) -> None:
    """Gemma 2 scales what a layer writes, so a bias before that is not the addition."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 1200}
    hf = Gemma2ForCausalLM(Gemma2Config(**size, num_attention_heads=2, num_key_value_heads=2, head_dim=8))
    torch.nn.init.uniform_(hf.model.layers[0].post_feedforward_layernorm.weight, -0.5, 0.5)
    hf.save_pretrained(tmp_path / "model")
    make_tokenizer("bytes").save_pretrained(tmp_path / "model")
    torch.save({0: torch.randn(16), 1: torch.randn(16)}, tmp_path / "v.pt")
    with pytest.raises(UserError):
        export_steered(str(tmp_path / "model"), tmp_path / "out", Baked(str(tmp_path / "v.pt"), layers=[0]))
    baked = Baked(str(tmp_path / "v.pt"), layers=[0], operation="ablate")
    with pytest.raises(UserError, match=r"logits differ by \d"):
        export_steered(str(tmp_path / "model"), tmp_path / "out", baked)
    assert not (tmp_path / "out").exists()


def test_the_command(interp: Any, tmp_path: Path) -> None:
    model, directions = checkpoint(tmp_path, "llama")
    (tmp_path / "steer.json").write_text(json.dumps({"directions": str(directions), "operation": "ablate"}))
    code, said, wrong = interp("export-model", model, "--steer", tmp_path / "steer.json", "--out", tmp_path / "out")
    assert code == 0, wrong
    assert "with ablate kind of layer 1 at every layer in its weights" in said
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
