"""The settings of a training run: documented, saved beside the checkpoints, made for each model.

Knows numbers and names; knows nothing about how they are used. Every field is documented by the line
under it. "The paper" is Latent Agents (arXiv 2604.24881).
"""

from __future__ import annotations

import json
import typing
from dataclasses import is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.models.catalog import could_be_model
from interp.training.schedule import Descent
from interp.training.settings import GRPO, SFT, Architecture, LoRA, Preset

_SLOWER = SFT(learning_rate=3e-5, epochs=6)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="organism",
            model="organism",
            task="small-arithmetic",
            task_options={"split": "train"},
            debates=2000,
            answer_tokens=96,
            sft=SFT(
                learning_rate=4e-3,
                epochs=2,
                device_batch_size=16,
                max_length=512,
                max_grad_norm=1.0,
                direct_share=0.6,
                practice=0.6,
                gradient_checkpointing=False,
            ),
            grpo=GRPO(
                lora=LoRA(alpha=64),
                learning_rate=4e-4,
                questions=2000,
                epochs=2,
                num_generations=8,
                num_iterations=1,
                batch_size=64,
                device_batch_size=64,
                beta=0.0,
                temperature=1.0,
                top_p=1.0,
                max_grad_norm=1.0,
                combine="gated",
                schedule="waiting",
                moves=40,
                descent=Descent(288, 16, first_coefficient=0.3, geometric=True),
                generation="interp",
                stop_at_limit=True,
                gradient_checkpointing=False,
            ),
            precision="bf16",
            adapter_dtype="fp16",
            table_questions=600,
        ),
        Preset(
            name="smollm2-135m",
            model="smollm2-135m",
            architecture=Architecture(30, 576, 1536, 9, 3, 64, 49152, tied=True),
            debates=400,
            answer_tokens=256,
            sft=SFT(learning_rate=2e-4, gradient_checkpointing=False),
            grpo=GRPO(
                learning_rate=5e-5,
                questions=400,
                combine="gated",
                schedule="waiting",
                descent=Descent(1024, 128, geometric=True),
                generation="interp",
                stop_at_limit=True,
                gradient_checkpointing=False,
            ),
            adapter_dtype="bf16",
        ),
        Preset(
            name="llama-3.1-8b",
            model="llama-3.1-8b",
            architecture=Architecture(32, 4096, 14336, 32, 8, 128, 128256, tied=False),
        ),
        Preset(
            name="qwen2.5-7b",
            model="qwen2.5-7b",
            architecture=Architecture(28, 3584, 18944, 28, 4, 128, 152064, tied=False, biases=True),
        ),
        Preset(
            name="mistral-nemo-12b",
            model="mistral-nemo-12b",
            architecture=Architecture(40, 5120, 14336, 32, 8, 128, 131072, tied=False),
            sft=_SLOWER,
            grpo=GRPO(learning_rate=3e-6),
        ),
    )
}
"""The presets by name: two that run here, and the paper's three with its hyperparameters."""


def require_model(chosen: Preset) -> None:
    """Raises `UserError` for a preset made for any model, whose name nothing has: it may be misspelt."""
    if chosen.name not in PRESETS and not could_be_model(chosen.model):
        near = get_close_matches(chosen.name.lower(), PRESETS, cutoff=0.4) or PRESETS
        raise UserError(
            f"--preset {chosen.name}: no preset, and no folder, file or hub id (owner/name) of a model; "
            f"the nearest presets: {', '.join(near)}"
        )


def preset(name: str) -> Preset:
    """A preset by name, or one with the paper's settings for any other model. Raises `UserError` for an empty name."""
    if not name.strip():
        raise UserError(f"--preset: an empty name; give one of {', '.join(PRESETS)}, or a model")
    return PRESETS.get(name) or Preset(name=name, model=name)


PRESET_FILE = "preset.json"


def kept_preset(out: Path) -> Preset:
    """The settings of the run in a folder. Raises `UserError` where there is none, or one that lacks some of them."""
    try:
        record = json.loads((out / PRESET_FILE).read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{out}: holds no run, as it has no {PRESET_FILE}; give the --out of interp train") from None
    try:
        return _read(Preset, record)
    except KeyError as missing:
        raise UserError(
            f"{out / PRESET_FILE}: lacks the setting {missing.args[0]}, as an older version of interp wrote it; "
            "train the run again with this version, with another --out"
        ) from None


def _read(kind: Any, value: Any) -> Any:
    """The settings of a kind from what `Preset.record` made of them."""
    parts: list[Any] = [part for part in (typing.get_args(kind) or (kind,)) if is_dataclass(part)]
    if parts and value is not None:
        hints = typing.get_type_hints(parts[0])
        return parts[0](**{name: _read(hint, value[name]) for name, hint in hints.items()})
    return tuple(value) if isinstance(value, list) else value
