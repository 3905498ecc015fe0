from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from interp.errors import UserError
from interp.options import documented
from interp.training.dry_run import n_adapter, n_parameters, plan
from interp.training.schedule import Smooth, Steps, Waiting
from interp.training.settings import GRPO, PRESETS, SFT, Architecture, LoRA, Preset, preset, require_model

NAMES = {"llama-3.1-8b": "llama", "qwen2.5-7b": "qwen2", "mistral-nemo-12b": "mistral", "smollm2-135m": "llama"}


def on_meta(kind: str, a: Architecture) -> torch.nn.Module:
    """The architecture as transformers builds it, without memory."""
    sizes = {
        "vocab_size": a.vocabulary,
        "hidden_size": a.width,
        "intermediate_size": a.mlp_width,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "tie_word_embeddings": a.tied,
    }
    with torch.device("meta"):
        if kind == "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**sizes))
        if kind == "mistral":
            return MistralForCausalLM(MistralConfig(head_dim=a.head_width, **sizes))
        return LlamaForCausalLM(LlamaConfig(**sizes))


@pytest.mark.parametrize("name", NAMES)
def test_the_presets_count_their_weights_as_transformers_does(name: str) -> None:
    from peft import get_peft_model

    from interp.training.loop import lora_config

    chosen = PRESETS[name]
    assert chosen.architecture is not None
    assert chosen.sft.lora is not None
    model = on_meta(NAMES[name], chosen.architecture)
    assert sum(p.numel() for p in model.parameters()) == n_parameters(chosen.architecture)
    adapted = get_peft_model(model, lora_config(chosen.sft.lora))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trained == n_adapter(chosen.architecture, chosen.sft.lora)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen2.5-7b", "mistral-nemo-12b"])
def test_the_papers_presets_build_their_whole_configuration(name: str) -> None:
    planned = plan(PRESETS[name])
    sft, grpo = planned.configurations["sft"], planned.configurations["grpo"]
    slower = name == "mistral-nemo-12b"
    assert (sft["learning_rate"], grpo["learning_rate"]) == ((3e-5, 3e-6) if slower else (5e-5, 5e-6))
    assert PRESETS[name].sft.epochs == (6 if slower else 3)
    assert sft["per_device_train_batch_size"] * sft["gradient_accumulation_steps"] == 16
    assert (sft["max_grad_norm"], grpo["max_grad_norm"]) == (0.3, 0.3)
    assert (sft["lr_scheduler_type"], sft["warmup_steps"]) == ("cosine", 0.1)
    wanted = {"beta": 0.02, "epsilon": 0.1, "temperature": 0.7, "top_p": 0.9, "num_generations": 4, "num_iterations": 3}
    assert {key: grpo[key] for key in wanted} == wanted
    assert grpo["loss_type"] == "bnpo"
    assert grpo["max_completion_length"] == 2048
    assert [sft["lora"][key] for key in ("r", "lora_alpha", "lora_dropout")] == [32, 32, 0.0]
    assert [grpo["lora"][key] for key in ("r", "lora_alpha", "lora_dropout")] == [32, 64, 0.1]
    assert len(sft["lora"]["target_modules"]) == 7
    limits = [PRESETS[name].grpo.make_schedule().at(step, 6).limit for step in range(6)]
    assert limits == [2048, 2048, 1280, 1280, 512, 512]
    for need in planned.memory:
        assert 2 * planned.parameters < need.total < 80 * 2**30


def test_every_field_of_every_setting_is_documented() -> None:
    for settings in (LoRA, SFT, GRPO, Architecture, Preset):
        assert set(documented(settings)) == {field.name for field in dataclasses.fields(settings)}


def test_overrides() -> None:
    chosen = preset("llama-3.1-8b").override(
        {
            "grpo.learning_rate": "1e-5",
            "sft.epochs": "1",
            "grpo.schedule": "waiting",
            "sft.lora": "null",
            "grpo.descent.last_limit": "256",
            "task": "gsm8k",
        }
    )
    assert (chosen.grpo.learning_rate, chosen.sft.epochs, chosen.task) == (1e-5, 1.0, "gsm8k")
    assert chosen.sft.lora is None
    assert chosen.grpo.descent.last_limit == 256
    assert preset("org/some-model").model == "org/some-model"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("grpo.lr", "1", "no such setting; 'lr' is not one of lora, learning_rate"),
        ("grpo.learning_rate", "fast", "grpo.learning_rate=fast: expected a valid number"),
        ("grpo.schedule", "sometimes", "one of steps, smooth, waiting"),
        ("grpo.descent.last_limit", "4096", "falling"),
        ("seed.x", "1", "cannot set 'x' of 0"),
        ("debategpt.epochs", "1", "cannot set 'epochs' of null"),
        ("seed", "-1", "expected a number >= 0"),
        ("grpo.moves", "0", "expected a number >= 1"),
        ("sft.batch_size", "0", "expected a number >= 1"),
        ("grpo.learning_rate", "-1", "expected a number >= 0"),
        ("grpo.learning_rate", "NaN", "less than inf"),
    ],
)
def test_overrides_that_mean_nothing(name: str, value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PRESETS["llama-3.1-8b"].override({name: value})


@pytest.mark.parametrize(
    ("name", "near"), [("smolm2-135m", "smollm2-135m"), ("Qwen2.5-7b", "qwen2.5-7b"), ("NAEM", ", ".join(PRESETS))]
)
def test_a_name_that_nothing_has_is_refused_with_those_near_it(
    interp: Any, tmp_path: Path, name: str, near: str
) -> None:
    code, _, wrong = interp("train", "--preset", name, "--out", tmp_path / "out")
    assert (code, wrong.count("\n")) == (2, 1)
    assert f"--preset {name}: no preset, and no folder" in wrong
    assert f"the nearest presets: {near}" in wrong
    assert not (tmp_path / "out").exists()
    for model in ("org/some-model", "organism-sft", str(tmp_path)):
        require_model(preset(model))
    require_model(preset(name).override({"model": "org/some-model"}))


def test_settings_that_do_not_go_together() -> None:
    llama = PRESETS["llama-3.1-8b"]
    with pytest.raises(UserError, match="multiple of num_generations"):
        plan(llama.override({"grpo.num_generations": "5"}))
    with pytest.raises(UserError, match="vllm is not installed"):
        plan(llama.override({"grpo.generation": "vllm"}))
    with pytest.raises(UserError, match="task nonsense"):
        plan(llama.override({"task": "nonsense"}))
    with pytest.raises(UserError, match="no architecture"):
        plan(preset("some/model"))


def test_schedules_by_name() -> None:
    kinds = {"steps": Steps, "smooth": Smooth, "waiting": Waiting}
    for name, kind in kinds.items():
        assert isinstance(PRESETS["organism"].override({"grpo.schedule": name}).grpo.make_schedule(), kind)


def test_a_dry_run_needs_no_trainers() -> None:
    """Without the extra `train`, settings and memory can be looked at, and training says what to install."""
    script = """
import sys
for name in ("trl", "datasets", "accelerate"):
    sys.modules[name] = None
from interp.cli import main
from interp.training import pipeline, results, schedule, settings
sys.argv = ["interp", "train", "--preset", "llama-3.1-8b", *sys.argv[1:]]
main()
"""
    run = partial(subprocess.run, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    planned = run([sys.executable, "-c", script, "--dry-run"])
    assert planned.returncode == 0, planned.stderr
    assert "llama-3.1-8b: 8,030,261,248 weights" in planned.stdout
    refused = run([sys.executable, "-c", script, "--out", "unused"])
    assert refused.returncode == 2
    assert refused.stderr == ("error: training: trl, datasets, accelerate not installed; pip install 'interp[train]'\n")
