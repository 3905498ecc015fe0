"""The settings of a training run, and the presets of them by name. "The paper" is Latent Agents (arXiv 2604.24881)."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt

from interp.errors import UserError
from interp.models.catalog import could_be_model
from interp.options import LARGEST_SEED, option
from interp.storage.files import read_json
from interp.storage.provenance import differing
from interp.training.schedule import Descent, Schedule, Smooth, Steps, Waiting

Count = Annotated[int, Ge(1)]
Kind = Literal["planted", "unplanted", "stepwise", "side-by-side", "direct"]
"""Of an organism whose agents are known; see `interp.training.Planting`."""
Amount = Annotated[float, Ge(0), Lt(math.inf)]


@dataclass(frozen=True)
class LoRA:
    """A low-rank adapter on the linear maps of every layer.

    >>> interp.training.LoRA(rank=8).alpha
    32
    """

    rank: Count = 32
    """Rank of the update."""
    alpha: Amount = 32
    """The update is scaled by alpha / rank."""
    dropout: Amount = 0.0
    """Dropout on the adapter's inputs."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Linear maps that get an adapter; the paper takes all."""


@dataclass(frozen=True)
class StageSettings:
    """What all stages set. The defaults are the paper's for stage 1."""

    lora: LoRA | None = field(default_factory=LoRA)
    """The adapter; None trains all weights."""
    learning_rate: Amount = 5e-5
    """Peak learning rate."""
    lr_schedule: str = "cosine"
    """Learning-rate schedule, by its name in transformers."""
    warmup: Amount = 0.1
    """Share of the steps in which the learning rate rises."""
    batch_size: Count = 16
    """Examples or completions per optimizer step, over all devices."""
    device_batch_size: Annotated[int, Ge(0)] = 0
    """Examples or completions per device and forward pass; the rest of the batch is accumulated. 0: as many as fit in a
    GPU's free memory, and 4 on a CPU."""
    max_grad_norm: Amount = 0.3
    """Gradients are clipped to this norm."""
    gradient_checkpointing: bool = True
    """Recompute activations to save memory."""
    save_every: Count = 50
    """Optimizer steps between saved states; a killed run resumes from the last one."""
    minutes: Amount = 0.0
    """Time after which the stage ends with what it has learnt, over all resumes; 0: no limit. Ours."""


@dataclass(frozen=True)
class SFT(StageSettings):
    """Stage 1, and the DebateGPT baseline. The defaults are the paper's.

    >>> interp.training.SFT(epochs=1).max_length
    2048
    """

    epochs: Amount = 3
    """Passes over the examples."""
    max_length: Count = 2048
    """Longest transcript in tokens; longer ones are left out and counted."""
    direct_share: Amount = 0.0
    """Direct answers among the debates, as a share of them: a small model that never answers directly after stage 1
    hardly finds short answers in stage 2. Not in the paper."""
    practice: Amount = 0.0
    """Direct answers learnt behind a consensus tag, as a share of the debates: how to answer directly, not when.
    Without it a small model forgets how. Not in the paper."""
    direct_from: str = "base"
    """Who gives them: PERSONA, PERSONA=MODEL or MODEL, which may be `base` or `scripted`."""
    direct_error_rate: Annotated[float, Ge(0), Le(1)] = 0.26
    """How often a scripted agent makes a mistake in them."""


@dataclass(frozen=True)
class GRPO(StageSettings):
    """Stage 2. The defaults are the paper's; choices that it leaves open are marked as ours.

    >>> interp.training.GRPO(questions=100).learning_rate
    5e-06
    """

    lora: LoRA = field(default_factory=lambda: LoRA(alpha=64, dropout=0.1))
    """A new adapter on top of stage 1, whose own stays in place."""
    learning_rate: Amount = 5e-6
    lr_schedule: str = "constant_with_warmup"
    """Learning-rate schedule, by its name in transformers. Ours: the model must still learn when the limit is short."""
    warmup: Amount = 0.03
    """Share of the steps in which the learning rate rises. Ours."""
    epochs: Amount = 6
    """Passes over the questions: two for each of the three limits."""
    save_every: Count = 30
    """Optimizer steps between saved states, rounded up to whole batches of completions."""
    questions: Count = 1000
    """Distinct questions."""
    num_generations: Count = 4
    """Completions sampled for a question and compared with each other."""
    num_iterations: Count = 3
    """Optimizer steps on each batch of completions."""
    beta: Amount = 0.02
    """Weight of the KL divergence from the model after stage 1."""
    epsilon: Amount = 0.1
    """The ratio of probabilities is clipped to 1 ± epsilon."""
    loss_type: str = "bnpo"
    """How the loss is normalised: over the tokens of the batch."""
    entropy_coefficient: Amount = 0.0
    """Weight of an entropy bonus. Not in the paper."""
    temperature: Amount = 0.7
    """Sampling temperature."""
    top_p: Amount = 0.9
    """Nucleus sampling: the probability mass to sample from."""
    reward: Literal["gold", "consensus"] = "gold"
    """Which answer earns: the right one, or the consensus of debates; questions without one are left out. Ours."""
    combine: Literal["additive", "gated"] = "additive"
    """The paper's sum of correctness and structure, or `gated`: only right answers inside the limit earn anything."""
    use_structure: bool = True
    """Whether tags earn anything."""
    schedule: Literal["steps", "smooth", "waiting"] = "steps"
    """The paper's three fixed limits, one that falls at every step, or one that waits for the model."""
    descent: Descent = field(default_factory=Descent)
    """From the first limit and structure coefficient to the last."""
    moves: Count = 50
    """Waiting schedule: number of equal parts of the descent."""
    keep: Amount = 0.95
    """Waiting schedule: share of the best running accuracy that must hold before the limit moves."""
    generation: Literal["interp", "trl", "vllm"] = "trl"
    """Who samples: this package from a merged copy (small models, any device), TRL with transformers, or vLLM."""
    generation_batch_size: Count = 64
    """Completions that `interp` samples at once."""
    stop_at_limit: bool = False
    """Let `interp` stop sampling at the current limit, past which nothing is rewarded. Ours."""

    def make_schedule(self) -> Schedule:
        """A new schedule at its start."""
        if self.schedule == "waiting":
            return Waiting(self.descent, self.moves, self.keep)
        return Smooth(self.descent) if self.schedule == "smooth" else Steps(self.descent)


@dataclass(frozen=True)
class Grown:
    """Which organisms whose agents are known to train from nothing.

    >>> interp.training.settings.Grown().kinds
    ('planted', 'unplanted')
    """

    kinds: tuple[Kind, ...] = option(("planted", "unplanted"), name="kind")
    """What is learnt: with agents planted, as accurate without, stepwise, or a control of that. Repeat for several."""
    seeds: tuple[int, ...] = option((0,), name="seed", min=0, max=LARGEST_SEED)
    """Random seed. Repeat for several."""


@dataclass(frozen=True)
class Stepwise(StageSettings):
    """Stage 2 without rewards: the debates of stage 1 lose their front bit by bit (Deng et al., arXiv 2405.14838).

    >>> interp.training.Stepwise(unit="tokens", at_once=8).every
    100
    """

    lr_schedule: str = "constant"
    warmup: Amount = 0.0
    max_length: Count = 2048
    """Longest transcript in tokens; longer ones are left out and counted."""
    unit: Literal["turns", "tokens"] = "turns"
    """What is taken away: turns, a round's tag with its first, or, as in the source, tokens."""
    at_once: Count = 1
    """Units taken away at a removal, which resets the optimizer, as in the source."""
    every: Count = 100
    """Fewest optimizer steps before each removal."""
    after: Count = 500
    """Optimizer steps after the last removal, less those that removals waited; as many as `every` always remain."""
    jitter: Annotated[float, Ge(0), Lt(1)] = 0.02
    """Probability that an example loses one more unit, and then of another; the source's exp(-4)."""
    keep: Annotated[float, Ge(0), Le(1)] = 0.95
    """Share of the best running probability of a token, exp(-loss), that must hold before a removal; 0: no waiting."""


@dataclass(frozen=True)
class Architecture:
    """The sizes from a model's published configuration, for estimating its memory."""

    layers: Count
    """Number of layers."""
    width: Count
    """Width of the residual stream."""
    mlp_width: Count
    """Width inside the MLP."""
    heads: Count
    """Attention heads."""
    kv_heads: Count
    """Key and value heads."""
    head_width: Count
    """Width of a head."""
    vocabulary: Count
    """Rows of the embedding."""
    tied: bool
    """Whether input and output embeddings share weights."""
    biases: bool = False
    """Whether queries, keys and values have biases, as in Qwen 2."""


@dataclass(frozen=True)
class Preset:
    """Everything that decides a training run, apart from the transcripts.

    >>> interp.training.Preset("mine", "organism").override({"sft.epochs": "1"}).sft.epochs
    1.0
    """

    name: str
    """Name of the preset."""
    model: str
    """The base: a model preset, hub id, folder or training checkpoint."""
    architecture: Architecture | None = None
    """For the dry run."""
    agents: Count = 3
    """Agents in a debate."""
    rounds: Count = 2
    """Rounds of a debate."""
    personas: tuple[str, ...] = ("chain-of-thought", "self-critique", "program-of-thought")
    """Persona of each agent, in order; repeated if there are more agents."""
    task: str = "arithmetic"
    """Name of the task that is debated."""
    task_options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `make_task`, such as the digits and form of arithmetic questions."""
    debates: Count = 1000
    """Debates to generate if no transcripts are given."""
    answer_tokens: Count = 512
    """Longest turn of an agent in them, in tokens."""
    sft: SFT = field(default_factory=SFT)
    """Stage 1."""
    debategpt: SFT | None = None
    """The baseline that learns the consensus answer alone; None trains it with the settings of stage 1."""
    internalize: Literal["grpo", "stepwise"] = "grpo"
    """Stage 2: rewards under a falling length limit, or debates taken away step by step, without rewards."""
    grpo: GRPO = field(default_factory=GRPO)
    """Stage 2 with rewards."""
    stepwise: Stepwise = field(default_factory=Stepwise)
    """Stage 2 without."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of adapters, order, sampling and questions."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of training; auto is bf16 on a GPU and fp32 on a CPU."""
    adapter_dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Adapters are rounded to this at the end of a stage, before the next one starts from them."""
    table_questions: Count = 200
    """Questions of the results table; no stage has seen them."""

    @property
    def use_bf16(self) -> bool:
        import torch

        return self.precision == "bf16" or (self.precision == "auto" and torch.cuda.is_available())

    def record(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def override(self, changes: Mapping[str, str]) -> Preset:
        """The preset with fields changed, by dotted names such as `grpo.learning_rate`; values are JSON or text.

        Raises `UserError` for an unknown field and for a value of another type or out of range.
        """
        record = self.record()
        for name, text in sorted(changes.items(), key=lambda change: change[0].count(".")):  # outer settings first
            part: Any = record
            for field_name in name.split("."):
                if not isinstance(part, dict):
                    raise UserError(f"--set {name}: cannot set {field_name!r} of {json.dumps(part)}")
                if field_name not in part:
                    raise UserError(f"--set {name}: no such setting; {field_name!r} is not one of {', '.join(part)}")
                group, part = part, part[field_name]
            try:
                group[field_name] = json.loads(text)
            except json.JSONDecodeError:
                group[field_name] = text
        return read_preset(record, "--set ", changes)


def read_preset(record: Mapping[str, Any], source: str, texts: Mapping[str, str] | None = None) -> Preset:
    """The preset that `Preset.record` gave. `source` and the `texts` of the user appear in errors.

    Raises `UserError` for a value of another type or out of range.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Preset).validate_json(json.dumps(record), strict=True)
    except ValidationError as invalid:
        error = invalid.errors()[0]
    name = ".".join(map(str, error["loc"]))
    given = (texts or {}).get(name, json.dumps(error["input"]))
    expected = error["msg"].removeprefix("Input should be ").replace("greater than or equal to", "a number >=")
    if error["type"] == "literal_error":
        expected = "one of " + expected.replace("'", "").replace(" or ", ", ")
    raise UserError(f"{source}{name}={given}: expected {expected}")


PRESET_FILE = "preset.json"
_DATA = Path(__file__).parents[1] / "data" / "presets.toml"
PRESETS = {
    name: read_preset({"name": name} | record, f"{_DATA}: {name}.")
    for name, record in tomllib.loads(_DATA.read_text(encoding="utf-8")).items()
}
"""Two that run on a laptop, one for ten minutes on a GPU, and the paper's three with its hyperparameters.

>>> list(interp.training.PRESETS)
['organism', 'smollm2-135m', 'smollm2-135m-sums', 'llama-3.1-8b', 'qwen2.5-7b', 'mistral-nemo-12b']
"""


def preset(name: str) -> Preset:
    """A preset by name, or the paper's settings for any other model. Raises `UserError` for an empty name.

    >>> interp.training.preset("organism").grpo.descent.last_limit
    16
    """
    if not name.strip():
        raise UserError(f"--preset: empty; choose one of {', '.join(PRESETS)}, or give a model")
    return PRESETS.get(name) or Preset(name=name, model=name)


def require_model(chosen: Preset) -> None:
    """Raises `UserError` for a preset of an unknown name whose model cannot exist: it may be misspelt."""
    if chosen.name not in PRESETS and not could_be_model(chosen.model):
        near = ", ".join(get_close_matches(chosen.name.lower(), PRESETS, cutoff=0.4) or PRESETS)
        wrong = f"--preset {chosen.name}: no preset, and no folder, file or hub id (owner/name) of a model"
        raise UserError(f"{wrong}; the nearest presets: {near}")


def kept_preset(out: str | Path) -> Preset:
    """The settings of the run in a folder. Raises `UserError` if it has none, or those of another version.

    >>> from interp.models.catalog import SHIPPED
    >>> interp.training.kept_preset(SHIPPED["organism"].parent / "results").name
    'organism'
    """
    path = Path(out) / PRESET_FILE
    record = read_json(path, dict[str, Any], "the settings of a run", "interp train")
    kept = read_preset(record, f"{path}: ")
    record.pop("pretraining", None)
    if different := differing(kept.record(), record):
        wrong = f"{path}: written by another version of interp, whose settings differ in {different[0]}"
        raise UserError(f"{wrong}; train again with this version and another --out")
    return kept
