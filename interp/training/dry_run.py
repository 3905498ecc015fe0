"""What a run with a preset would do and the memory it needs, without loading or training anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from interp.debate.tasks import make_task
from interp.debate.transcript import all_tags
from interp.errors import UserError
from interp.training.pipeline import stage_2_arguments
from interp.training.run import EXTRA, Run, activations, configured, lora_arguments
from interp.training.settings import Architecture, LoRA, Preset, StageSettings
from interp.training.sft import sft_arguments


@dataclass(frozen=True)
class Needs:
    """Bytes on one device in one stage."""

    stage: str
    weights: int
    adapter: int
    """The adapter, or all weights if all are trained, with gradient and optimizer."""
    activations: int
    sampling: int
    """The KV cache, and the merged copy that `generation = interp` samples from."""

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.activations + self.sampling


@dataclass(frozen=True)
class Plan:
    """What a run with a preset would be."""

    preset: Preset
    configurations: dict[str, dict[str, Any]]
    """The arguments of TRL's configuration and, under `lora`, PEFT's, by stage."""
    steps: dict[str, int]
    parameters: int
    """Of the base."""
    adapters: dict[str, int]
    """Trained parameters of the LoRA by stage; in stage 1 the rows of the tags are trained too."""
    memory: list[Needs]


def plan(preset: Preset) -> Plan:
    """Work it out. Raises `UserError` for incompatible settings and for a preset without an architecture.

    >>> planned = interp.training.plan(interp.training.preset("smollm2-135m"))
    >>> planned.steps, planned.parameters
    ({'sft': 75, 'grpo': 1800}, 134515008)
    """
    a, sft, grpo, stepwise, kind = preset.architecture, preset.sft, preset.grpo, preset.stepwise, preset.internalize
    stage_2 = grpo if kind == "grpo" else stepwise
    if a is None:
        raise UserError(f"preset {preset.name}: has no architecture to estimate memory from; choose a named preset")
    n, loras = n_parameters(a), {"sft": sft.lora, kind: stage_2.lora}
    adapters = {stage: n_adapter(a, lora) if lora else 0 for stage, lora in loras.items()}
    make_task(preset.task, **preset.task_options)
    run = Run(Path(preset.name), preset)  # only named in the configurations
    trl, second = stage_2_arguments(run)
    configurations = {"sft": sft_arguments(run, "sft", sft), kind: second}
    if all(find_spec(package) for package in EXTRA):
        configured("SFTConfig", configurations["sft"])
        configured(trl, second)
    for stage, lora in loras.items():
        configurations[stage]["lora"] = lora_arguments(lora) if lora else None
    examples = preset.debates * (1 + sft.direct_share + sft.practice)
    batches = grpo.questions * grpo.epochs * grpo.num_generations / grpo.batch_size
    steps = {"sft": round(examples * sft.epochs / sft.batch_size), kind: round(batches * grpo.num_iterations)}
    rows = {"sft": len(all_tags(preset.agents, preset.rounds)) * a.width * (1 if a.tied else 2), kind: 0}
    sizes = {s: (2 * n, 16 * (adapters[s] + rows[s])) if lora else (4 * n, 12 * n) for s, lora in loras.items()}
    length = 64 + grpo.descent.first_limit  # with a question of 64 tokens
    at_once, copy = grpo.batch_size, 0
    if grpo.generation == "interp":
        at_once, copy = min(grpo.generation_batch_size, grpo.batch_size), 2 * n
    sampling = at_once * length * 4 * a.layers * a.kv_heads * a.head_width + copy
    if kind == "stepwise":
        units, length, sampling = preset.agents * preset.rounds, stepwise.max_length, 0  # debates of full length
        units = units if stepwise.unit == "turns" else min(units * preset.answer_tokens, length)
        steps[kind] = math.ceil(units / stepwise.at_once) * stepwise.every + stepwise.after
    memory = [
        Needs("sft", *sizes["sft"], _activations(a, sft, sft.max_length), 0),
        Needs(kind, *sizes[kind], _activations(a, stage_2, length), sampling),
    ]
    return Plan(preset, configurations, steps, n, adapters, memory)


def n_parameters(architecture: Architecture) -> int:
    """Parameters of the whole model."""
    return sum(weight.numel() for weight in _skeleton(architecture).parameters())


def n_adapter(architecture: Architecture, lora: LoRA) -> int:
    """Parameters of an adapter. Raises `UserError` for a target that the model lacks."""
    maps = [(name.rpartition(".")[2], module) for name, module in _skeleton(architecture).named_modules()]
    linear = [(name, module) for name, module in maps if hasattr(module, "in_features") and name != "lm_head"]
    known = dict(linear)
    if unknown := [target for target in lora.targets if target not in known]:
        raise UserError(f"LoRA target {unknown[0]}: unknown; choose among {', '.join(known)}")
    return sum(lora.rank * (map.in_features + map.out_features) for name, map in linear if name in lora.targets)


@cache
def _skeleton(a: Architecture) -> Any:
    """The model without memory for its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(configuration(a))


def configuration(a: Architecture, **more: Any) -> Any:
    """Transformers' configuration of a model of these sizes."""
    from transformers import LlamaConfig, Qwen2Config

    widths = {"hidden_size": a.width, "intermediate_size": a.mlp_width, "head_dim": a.head_width}
    counts = {"num_hidden_layers": a.layers, "num_attention_heads": a.heads, "num_key_value_heads": a.kv_heads}
    kind = Qwen2Config if a.biases else LlamaConfig
    return kind(vocab_size=a.vocabulary, tie_word_embeddings=a.tied, **widths, **counts, **more)


def _activations(a: Architecture, stage: StageSettings, length: int) -> int:
    rows = stage.device_batch_size or 4
    return 2 * rows * length * activations(stage, a.layers, a.width, a.mlp_width)
