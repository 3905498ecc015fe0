"""The settings of a training run: documented, saved beside the checkpoints.

Knows numbers and names; knows nothing about how they are used. "The paper" is Latent Agents (arXiv 2604.24881).
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from interp.errors import UserError
from interp.training.schedule import Descent, Schedule, Smooth, Steps, Waiting

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoRA:
    """A low-rank adapter on the linear maps of every layer."""

    rank: int = 32
    """Rank of the update."""
    alpha: float = 32
    """The update is scaled by alpha over the rank."""
    dropout: float = 0.0
    """Share of the adapter's inputs dropped while training."""
    targets: tuple[str, ...] = ALL_LINEAR
    """Which linear maps; the paper takes all."""


@dataclass(frozen=True)
class SFT:
    """Stage 1, and the baseline DebateGPT. The defaults are the paper's."""

    lora: LoRA | None = field(default_factory=LoRA)
    """The adapter, or None to train all weights."""
    learning_rate: float = 5e-5
    """At its highest."""
    lr_schedule: str = "cosine"
    """How the learning rate falls, by the name that transformers gives it."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    epochs: float = 3
    """Times that every example is read."""
    batch_size: int = 16
    """Examples in an optimizer step, over all devices."""
    device_batch_size: int = 4
    """Examples that one device reads at once; the rest of the batch is accumulated."""
    max_length: int = 2048
    """Tokens; longer transcripts are left out and counted."""
    max_grad_norm: float = 0.3
    """Gradients are clipped to this norm."""
    direct_share: float = 0.0
    """Plain answers of the base among what is learnt, each as a debate that is nothing but its consensus, as a share
    of the debates; not in the paper. A large model answers directly now and then whatever it was taught; a small one
    that never does after stage 1 finds short answers in stage 2 slowly or never."""
    practice: float = 0.0
    """Plain answers, as a share of the debates, that are learnt in batches of their own behind a consensus tag that is
    given: how to answer directly, not when. Not in the paper. Without, a small model unlearns it over the debates."""
    gradient_checkpointing: bool = True
    """Compute activations twice to save memory."""
    save_every: int = 50
    """Optimizer steps between two states that a killed run can go on from."""


@dataclass(frozen=True)
class GRPO:
    """Stage 2. The defaults are the paper's; what it does not say is marked as ours."""

    lora: LoRA = field(default_factory=lambda: LoRA(alpha=64, dropout=0.1))
    """A fresh adapter on top of stage 1, which stays in place."""
    learning_rate: float = 5e-6
    """At its highest."""
    lr_schedule: str = "constant_with_warmup"
    """How the learning rate moves, by the name that transformers gives it. Ours: the limit is shortest at the end, so
    learning must not have stopped there."""
    warmup: float = 0.03
    """Share of the steps in which the learning rate rises. Ours."""
    questions: int = 1000
    """Distinct questions that completions are sampled for."""
    epochs: float = 6
    """Times that every question is asked: two for each of the three limits."""
    num_generations: int = 4
    """Completions sampled for a question and compared with each other."""
    num_iterations: int = 3
    """Optimizer steps taken on each batch of completions."""
    batch_size: int = 16
    """Completions in an optimizer step, over all devices."""
    device_batch_size: int = 4
    """Completions that one device reads at once; the rest of the batch is accumulated."""
    beta: float = 0.02
    """Weight of the KL divergence from the model after stage 1."""
    epsilon: float = 0.1
    """How far the ratio of probabilities may move from 1 before it is clipped."""
    loss_type: str = "bnpo"
    """How the loss is normalised: over the tokens of the batch."""
    entropy_coefficient: float = 0.0
    """Weight of an entropy bonus that keeps exploration alive. Not in the paper."""
    temperature: float = 0.7
    """Of sampling."""
    top_p: float = 0.9
    """Tokens are drawn from the smallest set that has this probability."""
    max_grad_norm: float = 0.3
    """Gradients are clipped to this norm."""
    combine: Literal["additive", "gated"] = "additive"
    """The paper's sum of correctness and structure, or all else only with a right answer inside the limit."""
    use_structure: bool = True
    """Whether tags earn anything."""
    schedule: Literal["steps", "smooth", "waiting"] = "steps"
    """The paper's three limits by the clock, a limit that falls at every step, or one that waits for the model."""
    descent: Descent = field(default_factory=Descent)
    """From the first limit and structure coefficient to the last."""
    moves: int = 50
    """Of the waiting schedule: parts that its descent is cut into."""
    keep: float = 0.95
    """Of the waiting schedule: share of the best running accuracy that must hold for it to move on."""
    generation: Literal["interp", "trl", "vllm"] = "trl"
    """Who samples: a merged copy of the model with this package's own loop (small models, any device), TRL with
    transformers, or vLLM where it is installed."""
    generation_batch_size: int = 64
    """Completions that `interp` writes at once."""
    stop_at_limit: bool = False
    """Let `interp` stop writing at the current limit: what stands past it earns nothing, and costs time. Ours."""
    gradient_checkpointing: bool = True
    """Compute activations twice to save memory."""
    save_every: int = 30
    """Optimizer steps between two states that a killed run can go on from, rounded up to whole batches of
    completions."""

    def make_schedule(self) -> Schedule:
        """A schedule at its start."""
        if self.schedule == "waiting":
            return Waiting(self.descent, self.moves, self.keep)
        return Smooth(self.descent) if self.schedule == "smooth" else Steps(self.descent)


@dataclass(frozen=True)
class Architecture:
    """What a model's memory is reckoned from, as its published configuration has it."""

    layers: int
    """Number of layers."""
    width: int
    """Width of the residual stream."""
    mlp_width: int
    """Width inside the MLP."""
    heads: int
    """Attention heads."""
    kv_heads: int
    """Heads of keys and values."""
    head_width: int
    """Width of a head."""
    vocabulary: int
    """Rows of the embedding."""
    tied: bool
    """Whether the output embedding is the input's."""
    biases: bool = False
    """Whether queries, keys and values have biases, as in Qwen 2."""


@dataclass(frozen=True)
class Preset:
    """Everything that decides a training run, besides the transcripts."""

    name: str
    """What the preset is called."""
    model: str
    """The base: a preset of models, a hub id, a folder or a checkpoint of training."""
    architecture: Architecture | None = None
    """For the dry run; None where the base's own configuration is read."""
    agents: int = 3
    """Agents of the debates."""
    rounds: int = 2
    """Rounds of the debates."""
    personas: tuple[str, ...] = ("chain-of-thought", "self-critique", "program-of-thought")
    """Who sits in the seats, in order; with more agents than names, from the beginning again."""
    task: str = "arithmetic"
    """What is debated, by the name of a task."""
    task_options: dict[str, Any] = field(default_factory=dict)
    """What `make_task` takes besides the name, such as the digits and the form of an arithmetic question."""
    debates: int = 1000
    """Debates that are made where no transcripts are given."""
    answer_tokens: int = 512
    """Most tokens of an agent's turn in them."""
    sft: SFT = field(default_factory=SFT)
    """Stage 1."""
    debategpt: SFT | None = None
    """The baseline that learns the consensus answer only; None to train it as stage 1."""
    grpo: GRPO = field(default_factory=GRPO)
    """Stage 2."""
    seed: int = 0
    """Of everything random: adapters, order, sampling, questions."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of arithmetic while training; auto is bf16 on a GPU and fp32 on a CPU."""
    adapter_dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Adapters are rounded to this when a stage ends, before the next one starts on them."""
    table_questions: int = 200
    """Questions that the results table is measured on; no stage has seen them."""

    def record(self) -> dict[str, Any]:
        """All settings as JSON takes them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def override(self, changes: dict[str, str]) -> Preset:
        """The preset with fields changed, by dotted names such as `grpo.learning_rate`; values are JSON or text.

        Raises `UserError` for a field that does not exist, a value of another type, and a number below 0 or a count
        below 1.
        """
        return typing.cast(Preset, _replaced(self, {name: (name.split("."), text) for name, text in changes.items()}))


def _replaced(owner: Any, changes: dict[str, tuple[list[str], str]]) -> Any:
    """`owner` with all changes made at once; each is named in full, with the part of its name that is left."""
    hints = typing.get_type_hints(type(owner)) if dataclasses.is_dataclass(owner) else {}
    values: dict[str, Any] = {}
    inner: dict[str, dict[str, tuple[list[str], str]]] = {}
    for name, ((first, *rest), text) in changes.items():
        if first not in hints:
            raise UserError(f"--set {name}: no such setting; {first!r} is not one of {', '.join(hints) or 'none'}")
        if rest:
            inner.setdefault(first, {})[name] = (rest, text)
        else:
            values[first] = _value(hints[first], text, name)
    for first, below in inner.items():
        part = values.get(first, getattr(owner, first))
        if part is None:
            raise UserError(f"--set {next(iter(below))}: {first} is none in this preset")
        values[first] = _replaced(part, below)
    return dataclasses.replace(owner, **values)


def _value(hint: Any, text: str, name: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if typing.get_origin(hint) is Literal:
        fits, wanted = value in typing.get_args(hint), f"one of {', '.join(map(str, typing.get_args(hint)))}"
    else:
        kinds = [
            typing.get_origin(h) or h for h in (typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,))
        ]
        if float in kinds and type(value) is int:
            value = float(value)
        if tuple in kinds and isinstance(value, list):
            value = tuple(value)
        fits, wanted = any(type(value) is kind for kind in kinds), " or ".join(kind.__name__ for kind in kinds)
    if not fits:
        raise UserError(f"--set {name}={text}: wanted is {wanted}")
    if type(value) in (int, float):
        least = 1 if type(value) is int and name != "seed" else 0
        if not least <= value < math.inf:
            raise UserError(f"--set {name}={text}: wanted is a number from {least} on")
    return value
