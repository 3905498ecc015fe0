"""A preset's whole configuration, built without weights: what a run would do, and the memory that it needs.

Knows how to ask the stages for their configuration; loads and trains nothing.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.debate.tasks import make_task
from interp.debate.transcript import all_tags
from interp.errors import UserError
from interp.training.grpo import grpo_arguments
from interp.training.loop import Run, lora_config
from interp.training.settings import Architecture, LoRA, Preset
from interp.training.sft import sft_arguments


@dataclass(frozen=True)
class Plan:
    """What a run with a preset would be."""

    preset: Preset
    configurations: dict[str, dict[str, Any]]
    """Everything that TRL and PEFT would be given, by stage."""
    steps: dict[str, int]
    """Optimizer steps by stage."""
    parameters: int
    """Of the base."""
    adapters: dict[str, int]
    """Trained weights of the LoRA, by stage; the rows of the tags come on top in stage 1."""
    memory: list[Needs]


def plan(preset: Preset) -> Plan:
    """Build it. Raises `UserError` for settings that do not go together, and without an architecture."""
    memory = needs(preset)
    assert preset.architecture is not None  # needs() has refused it otherwise
    make_task(preset.task, **preset.task_options)
    with tempfile.TemporaryDirectory() as folder:  # the configurations name one; nothing is written there
        run = Run(Path(folder), preset)
        arguments = {"sft": sft_arguments(run, "sft", preset.sft), "grpo": grpo_arguments(run, "imad", preset.grpo)}
        configurations = {stage: made.to_dict() for stage, made in arguments.items()}
    loras = {"sft": preset.sft.lora, "grpo": preset.grpo.lora}
    for stage, lora in loras.items():
        configurations[stage]["lora"] = None if lora is None else lora_config(lora).to_dict()
    examples = preset.debates * (1 + preset.sft.direct_share + preset.sft.practice)
    per_step = arguments["grpo"].generation_batch_size / arguments["grpo"].num_generations
    return Plan(
        preset,
        configurations,
        {
            "sft": round(examples * preset.sft.epochs / preset.sft.batch_size),
            "grpo": round(preset.grpo.questions * preset.grpo.epochs / per_step * preset.grpo.num_iterations),
        },
        n_parameters(preset.architecture),
        {stage: 0 if lora is None else n_adapter(preset.architecture, lora) for stage, lora in loras.items()},
        memory,
    )


PROMPT_TOKENS = 64
"""Taken for the length of a question."""


@dataclass(frozen=True)
class Needs:
    """Bytes on one device in one stage."""

    stage: str
    weights: int
    adapter: int
    """With its gradient and optimizer; all weights' where all are trained."""
    activations: int
    cache: int
    copy: int
    """The merged copy that `generation = interp` samples from."""

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.activations + self.cache + self.copy


def n_parameters(a: Architecture) -> int:
    """Weights of the whole model."""
    return a.vocabulary * a.width * (1 if a.tied else 2) + a.layers * _layer(a) + a.width


def n_adapter(a: Architecture, lora: LoRA) -> int:
    """Weights of an adapter. Raises `UserError` for a map that the architecture lacks."""
    q, k = a.heads * a.head_width, a.kv_heads * a.head_width
    shapes = {
        "q_proj": (a.width, q),
        "k_proj": (a.width, k),
        "v_proj": (a.width, k),
        "o_proj": (q, a.width),
        "gate_proj": (a.width, a.mlp_width),
        "up_proj": (a.width, a.mlp_width),
        "down_proj": (a.mlp_width, a.width),
    }
    if unknown := [target for target in lora.targets if target not in shapes]:
        raise UserError(f"LoRA on {unknown[0]}: not one of {', '.join(shapes)}")
    return a.layers * sum(lora.rank * sum(shapes[target]) for target in lora.targets)


def needs(preset: Preset) -> list[Needs]:
    """What each stage takes; raises `UserError` for a preset without an architecture."""
    a = preset.architecture
    if a is None:
        raise UserError(f"preset {preset.name}: no architecture to reckon memory from; take one of the named presets")
    weights = 2 * n_parameters(a)
    rows = len(all_tags(preset.agents, preset.rounds)) * a.width * (1 if a.tied else 2)
    if preset.sft.lora is None:
        weights, adapter = 4 * n_parameters(a), 12 * n_parameters(a)
    else:
        adapter = 16 * (n_adapter(a, preset.sft.lora) + rows)
    tokens = preset.sft.device_batch_size * preset.sft.max_length
    first = Needs("sft", weights, adapter, _activations(a, tokens, preset.sft.gradient_checkpointing), 0, 0)
    g = preset.grpo
    length = PROMPT_TOKENS + g.descent.first_limit
    at_once = min(g.generation_batch_size, g.batch_size) if g.generation == "interp" else g.batch_size
    second = Needs(
        "grpo",
        2 * n_parameters(a),
        16 * n_adapter(a, g.lora),
        _activations(a, g.device_batch_size * length, g.gradient_checkpointing),
        at_once * length * 2 * a.layers * a.kv_heads * a.head_width * 2,
        2 * n_parameters(a) if g.generation == "interp" else 0,
    )
    return [first, second]


def _layer(a: Architecture) -> int:
    q, k = a.heads * a.head_width, a.kv_heads * a.head_width
    biases = q + 2 * k if a.biases else 0
    return 2 * a.width * q + 2 * a.width * k + 3 * a.width * a.mlp_width + 2 * a.width + biases


def _activations(a: Architecture, tokens: int, checkpointing: bool) -> int:
    inside = 8 * a.width + 4 * a.mlp_width
    return 2 * tokens * (a.layers * a.width + 2 * inside if checkpointing else a.layers * inside)
