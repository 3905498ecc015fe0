"""What a run with a preset would do and the memory it needs, without loading or training anything."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from interp.debate.tasks import make_task
from interp.debate.transcript import all_tags
from interp.errors import UserError
from interp.training.grpo import grpo_arguments
from interp.training.run import EXTRA, Run, configured, lora_arguments
from interp.training.settings import Architecture, LoRA, Preset
from interp.training.sft import sft_arguments

PROMPT_TOKENS = 64
"""Assumed length of a question."""


@dataclass(frozen=True)
class Needs:
    """Bytes on one device in one stage."""

    stage: str
    weights: int
    adapter: int
    """The adapter, or all weights if all are trained, with gradient and optimizer."""
    activations: int
    cache: int
    copy: int
    """The merged copy that `generation = interp` samples from."""

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.activations + self.cache + self.copy


@dataclass(frozen=True)
class Plan:
    """What a run with a preset would be."""

    preset: Preset
    configurations: dict[str, dict[str, Any]]
    """The arguments of TRL's configuration and, under `lora`, PEFT's, by stage."""
    steps: dict[str, int]
    """Optimizer steps by stage."""
    parameters: int
    """Parameters of the base."""
    adapters: dict[str, int]
    """Trained parameters of the LoRA by stage; in stage 1 the rows of the tags are trained too."""
    memory: list[Needs]


def plan(preset: Preset) -> Plan:
    """Work it out. Raises `UserError` for incompatible settings and for a preset without an architecture.

    >>> planned = interp.training.plan(interp.training.preset("smollm2-135m"))
    >>> planned.steps, planned.parameters
    ({'sft': 75, 'grpo': 1800}, 134515008)
    """
    memory = needs(preset)
    assert preset.architecture is not None  # needs() has refused it otherwise
    make_task(preset.task, **preset.task_options)
    run = Run(Path(preset.name), preset)  # only named in the configurations
    configurations = {"sft": sft_arguments(run, "sft", preset.sft), "grpo": grpo_arguments(run, "imad", preset.grpo)}
    if all(find_spec(package) for package in EXTRA):
        configured("SFTConfig", configurations["sft"])
        configured("GRPOConfig", configurations["grpo"])
    loras = {"sft": preset.sft.lora, "grpo": preset.grpo.lora}
    for stage, lora in loras.items():
        configurations[stage]["lora"] = None if lora is None else lora_arguments(lora)
    examples = preset.debates * (1 + preset.sft.direct_share + preset.sft.practice)
    completions = preset.grpo.questions * preset.grpo.epochs * preset.grpo.num_generations
    return Plan(
        preset,
        configurations,
        {
            "sft": round(examples * preset.sft.epochs / preset.sft.batch_size),
            "grpo": round(completions / preset.grpo.batch_size * preset.grpo.num_iterations),
        },
        n_parameters(preset.architecture),
        {stage: 0 if lora is None else n_adapter(preset.architecture, lora) for stage, lora in loras.items()},
        memory,
    )


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
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    kind = Qwen2Config if a.biases else LlamaConfig
    config = kind(
        vocab_size=a.vocabulary,
        hidden_size=a.width,
        intermediate_size=a.mlp_width,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        num_key_value_heads=a.kv_heads,
        head_dim=a.head_width,
        tie_word_embeddings=a.tied,
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def needs(preset: Preset) -> list[Needs]:
    """The memory of each stage. Raises `UserError` for a preset without an architecture."""
    a = preset.architecture
    if a is None:
        raise UserError(f"preset {preset.name}: has no architecture to estimate memory from; choose a named preset")
    n = n_parameters(a)
    rows = len(all_tags(preset.agents, preset.rounds)) * a.width * (1 if a.tied else 2)
    sft, grpo = preset.sft, preset.grpo
    length = PROMPT_TOKENS + grpo.descent.first_limit
    own = grpo.generation == "interp"
    at_once = min(grpo.generation_batch_size, grpo.batch_size) if own else grpo.batch_size
    return [
        Needs(
            "sft",
            4 * n if sft.lora is None else 2 * n,
            12 * n if sft.lora is None else 16 * (n_adapter(a, sft.lora) + rows),
            _activations(a, sft.device_batch_size * sft.max_length, sft.gradient_checkpointing),
            cache=0,
            copy=0,
        ),
        Needs(
            "grpo",
            2 * n,
            16 * n_adapter(a, grpo.lora),
            _activations(a, grpo.device_batch_size * length, grpo.gradient_checkpointing),
            cache=at_once * length * 2 * a.layers * a.kv_heads * a.head_width * 2,
            copy=2 * n if own else 0,
        ),
    ]


def _activations(a: Architecture, tokens: int, checkpointing: bool) -> int:
    inside = 8 * a.width + 4 * a.mlp_width
    return 2 * tokens * (a.layers * a.width + 2 * inside if checkpointing else a.layers * inside)
