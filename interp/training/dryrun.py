"""A preset's whole configuration, built without weights: what a run would do, and the memory that it needs.

Knows how to ask the stages for their configuration; loads and trains nothing.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.debate.tasks import make_task
from interp.training.grpo import grpo_arguments
from interp.training.loop import Run, lora_config
from interp.training.memory import Needs, n_adapter, n_parameters, needs
from interp.training.presets import Preset
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
