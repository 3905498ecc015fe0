"""What both stages share around TRL's trainers: metrics, progress, going on after a kill, the checkpoint.

Knows trainers and folders; knows nothing about examples, rewards or what is learnt.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_callback import ExportableState

from interp.errors import UserError
from interp.models.lineage import Lineage, read_lineage, write_checkpoint
from interp.models.loading import DTYPES, Plain, load_plain
from interp.storage.files import atomic_write
from interp.storage.journal import read_lines
from interp.training.schedule import Schedule
from interp.training.settings import LoRA, Preset

Progress = Callable[[str, int, int, dict[str, float]], None]
"""(stage, steps done, steps in all, latest metrics)."""

Config = TypeVar("Config")

_STATE = "trainer_state.json"  # what a trainer writes last into a kept state
PACKAGES = ("interp", "torch", "transformers", "trl", "peft", "accelerate")


@dataclass(frozen=True)
class Run:
    """Where a stage writes, and to whom it talks."""

    out: Path
    """The folder of the whole run: a checkpoint for each stage, and `metrics.jsonl`."""
    preset: Preset
    progress: Progress | None = None
    report_to: Sequence[str] = ()
    """`tensorboard`, `wandb`: besides the file, which is always written."""

    def checkpoint(self, stage: str) -> Path:
        return self.out / stage

    def kept(self, stage: str) -> Path:
        """Where a running stage keeps what it needs to go on; gone when the stage is finished."""
        return self.out / f".{stage}.resume"

    @property
    def metrics(self) -> Path:
        return self.out / "metrics.jsonl"

    def tell(self, what: str, done: int, total: int, metrics: Mapping[str, float] = MappingProxyType({})) -> None:
        """Show how far something is."""
        if self.progress:
            self.progress(what, done, total, dict(metrics))


@dataclass
class Start:
    """What a stage starts from."""

    name: str
    """As it was given."""
    plain: Plain
    lineage: Lineage | None
    """Its stages, where it is a checkpoint."""


def start_from(model: str, preset: Preset, whole_weights: bool = False) -> Start:
    """Load what a stage trains on. Weights that are trained themselves stay fp32; a LoRA's base may be bf16."""
    half = use_bf16(preset) and torch.cuda.is_available() and not whole_weights
    dtype = "bf16" if half else "fp32"
    plain = load_plain(model, dtype=dtype, device="cpu")  # the trainer moves it
    # By this name PEFT would look for the base's vocabulary, find that it grew, and save whole embeddings.
    plain.hf.name_or_path = plain.hf.config._name_or_path = ""
    return Start(model, plain, read_lineage(model))


def use_bf16(preset: Preset) -> bool:
    """Whether arithmetic is in bf16."""
    return preset.precision == "bf16" or (preset.precision == "auto" and torch.cuda.is_available())


def lora_config(lora: LoRA, tokens: dict[str, list[int]] | None = None) -> LoraConfig:
    """PEFT's configuration of an adapter; `tokens` are the embedding rows trained with it, by module."""
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        trainable_token_indices=tokens,
        task_type="CAUSAL_LM",
    )


def shared_arguments(run: Run, stage: str) -> dict[str, Any]:
    """Arguments of TRL's configurations that are the same in every stage.

    Raises `UserError` for a tracker that is not installed.
    """
    for name in run.report_to:
        if find_spec(name) is None:
            raise UserError(f"report to {name}: the package {name} is not installed; pip install {name}")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.out / "tensorboard")  # the resume folder is dropped
    return {
        "output_dir": str(run.kept(stage)),
        "seed": run.preset.seed,
        "bf16": use_bf16(run.preset),
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_total_limit": 1,
        "report_to": list(run.report_to),
        "run_name": f"{run.preset.name}-{stage}",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def configured(kind: type[Config], **arguments: Any) -> Config:
    """A configuration of TRL's. Raises `UserError` for what it refuses."""
    try:
        return kind(**arguments)
    except ValueError as error:
        raise UserError(f"{kind.__name__}: {error}; change it by --set") from None


def processes() -> PartialState:
    """The processes of this run. Before any trainer exists Accelerate has to be told that they are on a CPU."""
    return PartialState(cpu=not torch.cuda.is_available())


def accumulation(batch_size: int, device_batch_size: int, processes: int) -> tuple[int, int]:
    """(examples that a device reads at once, passes accumulated) whose product over all processes is the batch."""
    share = max(1, batch_size // processes)
    at_once = min(device_batch_size, share)
    while share % at_once:
        at_once -= 1
    return at_once, share // at_once


def fit(run: Run, stage: str, trainer: Any, schedule: Schedule | None = None) -> int:
    """Train, from the last kept state if there is one; returns the number of optimizer steps in all."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Follow(run, stage, trainer.is_world_process_zero(), schedule))
    trainer.train(resume_from_checkpoint=last_kept(run.kept(stage)))
    return int(trainer.state.global_step)


def last_kept(folder: Path) -> str | None:
    """The latest whole state in a resume folder; a kill may have left a part of one."""
    states = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for state in states:
        try:
            json.loads((state / _STATE).read_text())
        except (OSError, json.JSONDecodeError):
            continue
        return str(state)
    return None


def finish(
    run: Run, stage: str, trainer: Any, start: Start, facts: dict[str, Any], tokenizer: Any | None = None
) -> Path:
    """Write the checkpoint of a trained stage and drop what was kept to go on. Returns its folder."""
    folder = run.checkpoint(stage)
    weights = run.kept(stage) / "trained"
    trainer.save_model(str(weights))  # every process takes part where the weights are in shards
    if trainer.is_world_process_zero():
        settings = run.preset.record()
        del settings["model"]  # the lineage names the base, and without a path of this machine
        facts |= {
            "preset": settings,
            "seed": run.preset.seed,
            "processes": trainer.accelerator.num_processes,
            "dtype": str(start.plain.hf.dtype).removeprefix("torch."),
            "versions": {package: version(package) for package in PACKAGES},
        }
        facts["versions"]["torch"] = torch.__version__
        with write_checkpoint(folder, start.name, start.plain.provenance, start.lineage, stage, facts) as own:
            if tokenizer is not None:
                tokenizer.save_pretrained(own)
            for name in ("adapter_config.json", "config.json"):
                if (weights / name).exists():
                    config = json.loads((weights / name).read_text(encoding="utf-8"))
                    if name == "adapter_config.json":
                        config["base_model_name_or_path"] = Path(start.name).name
                    (own / name).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
            for path in weights.glob("*.safetensors"):
                save_file(
                    _rounded(load_file(path), DTYPES[run.preset.adapter_dtype]), own / path.name, {"format": "pt"}
                )
        shutil.rmtree(run.kept(stage))
    trainer.accelerator.wait_for_everyone()
    return folder


def _rounded(weights: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: tensor.to(dtype).contiguous() for name, tensor in weights.items()}


@dataclass
class Follow(TrainerCallback, ExportableState):  # type: ignore[misc]  # both are Any to mypy
    """Writes metrics, shows progress, and carries the schedule's state through a kill."""

    run: Run
    stage: str
    writes: bool
    """Whether this process is the one that writes."""
    schedule: Schedule | None = None
    latest: dict[str, float] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": self.schedule.state() if self.schedule else {}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        kept = state.stateful_callbacks.get(type(self).__name__)
        if self.schedule and kept and state.global_step:
            self.schedule.restore(kept["attributes"])
        if self.writes:
            self._forget_after(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not self.writes or not logs:
            return
        self.latest |= logs
        row = {"stage": self.stage, "step": state.global_step, **logs}
        with self.run.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.run.tell(self.stage, state.global_step, state.max_steps, self.latest)

    def _forget_after(self, step: int) -> None:
        """Drop the metrics of steps that will be taken again, and what a kill left of a line."""
        rows = read_lines(self.run.metrics) if self.run.metrics.exists() else []
        with atomic_write(self.run.metrics) as temporary, temporary.open("w", encoding="utf-8") as file:
            for row in rows:
                if row["stage"] != self.stage or row["step"] <= step:
                    file.write(json.dumps(row) + "\n")
