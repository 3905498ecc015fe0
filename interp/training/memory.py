"""What a preset needs in GPU memory, reckoned from its architecture: for the dry run.

Knows arithmetic only: no weights, no torch. The figures are for one device that holds the whole model;
FSDP and ZeRO-3 divide weights, gradients and optimizer by the number of devices.

Formulas, with L layers, width d, MLP width m, q and k the widths of all query and all key heads,
V rows of the embedding, B sequences of T tokens at once:

- weights: 2 bytes for each of V·d·(1, or 2 if untied) + L·(2·d·q + 2·d·k + 3·d·m + 2·d [+ q + 2·k biases]) + d
- adapter: 16 bytes (fp32 weight, gradient and Adam's two moments) for each of L·Σ rank·(in + out) over the
  adapted maps, and in stage 1 for the rows of the tags
- activations, with checkpointing: B·T·2 bytes·(L·d kept between layers + 2·(8·d + 4·m) inside the layer
  that is computed again); without: B·T·2 bytes·L·(8·d + 4·m)
- KV cache while sampling: 2·L·k·2 bytes for each token of each completion written at once
"""

from __future__ import annotations

from dataclasses import dataclass

from interp.debate.transcript import all_tags
from interp.errors import UserError
from interp.training.presets import Architecture, LoRA, Preset

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
