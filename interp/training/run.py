"""A run of training: where it writes, its processes, and its trainers' arguments. Needs no trainer itself."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

from interp.errors import TimeUp, UserError
from interp.storage.files import write_json
from interp.training.settings import LoRA, Preset, StageSettings

Progress = Callable[[str, int, int, dict[str, float]], None]
"""(stage, steps done, total steps, latest metrics)."""

Stage = TypeVar("Stage", bound=StageSettings)
SAMPLES_FILE = "samples.json"
EXTRA = ("trl", "datasets", "accelerate")


@dataclass(frozen=True)
class Run:
    """Where a run writes, its settings, and who follows its progress.

    >>> run = interp.training.Run(tmp_path, interp.training.preset("organism"))
    >>> run.checkpoint("sft").name
    'sft'
    """

    out: Path
    """Folder of the run: a checkpoint for each stage, and `metrics.jsonl`."""
    preset: Preset
    progress: Progress | None = None
    report_to: Sequence[str] = ()
    """Trackers besides `metrics.jsonl`: tensorboard, wandb."""
    ends: float | None = None
    """When the time budget is used up, by `time.monotonic`; then the call raises `TimeUp`, and the same one goes on."""

    def checkpoint(self, stage: str) -> Path:
        """Folder of a finished stage."""
        return self.out / stage

    def kept(self, stage: str) -> Path:
        """Folder of the states that a killed stage resumes from; removed when the stage is finished."""
        return self.out / f".{stage}.resume"

    def finished(self, stage: str) -> bool:
        """Whether a stage has its checkpoint; then it is not resumed any more."""
        if there := self.checkpoint(stage).exists():
            shutil.rmtree(self.kept(stage), ignore_errors=True)
        return there

    @property
    def metrics(self) -> Path:
        return self.out / "metrics.jsonl"

    def keep_samples(self, stage: str, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep a few texts of the last step in the place of the one before."""
        write_json(self.out / SAMPLES_FILE, {"stage": stage, "step": step, "samples": samples})

    def tell(self, what: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        if self.progress:
            self.progress(what, done, total, dict(metrics or {}))

    def tell_journalled(self, what: str, done: int, total: int) -> None:
        """Report work of this process that is kept as it is done. Raises `TimeUp` when the time budget is used up."""
        self.tell(what, done, total)
        if done < total and self.ends is not None and time.monotonic() >= self.ends:
            raise TimeUp(f"{what} stopped at {done} of {total}")

    def out_of_time(self) -> bool:
        """Whether the time budget is used up, by the clock of the first process; all processes ask together."""
        return self.ends is not None and of_first_process(time.monotonic()) >= self.ends

    def require_time(self, what: str) -> None:
        """Raises `TimeUp` when there is no time left to begin something."""
        if self.out_of_time():
            raise TimeUp(f"{what} not begun")


def require_trainers() -> None:
    """Raises `UserError` if the optional dependencies for training are not installed."""
    if missing := [package for package in EXTRA if find_spec(package) is None]:
        raise UserError(f"training: {', '.join(missing)} not installed; pip install 'interp[train]'")


def processes() -> Any:
    """The processes of this run, an `accelerate.PartialState`, on a CPU if there is no GPU."""
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def of_first_process(value: float) -> float:
    """The first process's value, in all of them."""
    values = [value]
    if processes().num_processes > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(values)
    return values[0]


def shared_arguments(run: Run, stage: str, settings: StageSettings, same: Sequence[str] = ()) -> dict[str, Any]:
    """TRL's arguments of all stages, and settings of the `same` name. Raises `UserError` for a missing tracker."""
    for name in run.report_to:
        if find_spec(name) is None:
            raise UserError(f"--report-to {name}: not installed; pip install {name}")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.out / "tensorboard")  # the default is in the resume folder
    n_processes = processes().num_processes if find_spec("accelerate") else 1  # not needed for a dry run
    share = max(1, settings.batch_size // n_processes)
    at_once = next(n for n in range(min(settings.device_batch_size or 4, share), 0, -1) if share % n == 0)
    gpu = torch.cuda.is_available()
    where = {"output_dir": str(run.kept(stage)), "run_name": f"{run.preset.name}-{stage}", "seed": run.preset.seed}
    device = {"use_cpu": not gpu, "bf16": run.preset.use_bf16, "dataloader_pin_memory": gpu}
    told = {"report_to": list(run.report_to), "logging_steps": 1, "disable_tqdm": True}
    rate = {"lr_scheduler_type": settings.lr_schedule, "warmup_steps": settings.warmup}
    kept = {"save_strategy": "steps", "save_total_limit": 1}
    batches = {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": share // at_once}
    batches["num_train_epochs"] = 1  # the data is in order for all epochs
    names = (*same, "learning_rate", "max_grad_norm", "gradient_checkpointing")
    own = {name: getattr(settings, name) for name in names}
    return {**where, **device, **told, **rate, **kept, **batches, **own}


def activations(settings: StageSettings, layers: int, width: int, mlp_width: int) -> int:
    """Numbers that a token leaves in a forward pass for the backward pass."""
    inside = 8 * width + 4 * mlp_width
    if settings.lora and settings.lora.dropout:  # which keeps each input of an adapter, and what it dropped
        inside += 9 * width + 2 * mlp_width
    return layers * width + 2 * inside if settings.gradient_checkpointing else layers * inside


def fitted(settings: Stage, hf: Any, length: int) -> Stage:
    """The settings with the `device_batch_size` for texts of that many tokens that a GPU's free memory takes."""
    if settings.device_batch_size or not torch.cuda.is_available():
        return settings
    from accelerate.utils import gather_object

    config = hf.config
    sizes = config.num_hidden_layers, config.hidden_size, getattr(config, "intermediate_size", 4 * config.hidden_size)
    weights = sum(weight.numel() * weight.element_size() for weight in hf.parameters())
    free = min(gather_object([torch.cuda.mem_get_info(processes().device)[0]])) - 2 * weights  # stage 2 has a copy
    rows = int(0.6 * free / (hf.dtype.itemsize * activations(settings, *sizes) * length))
    return replace(settings, device_batch_size=max(1, rows))


def configured(kind: str, arguments: Mapping[str, Any]) -> Any:
    """TRL's configuration of that name. Raises `UserError` for settings that it refuses."""
    require_trainers()
    import trl

    try:
        return getattr(trl, kind)(**arguments)
    except ValueError as error:
        raise UserError(f"{kind}: {error}; change it with --set") from None


def lora_arguments(lora: LoRA) -> dict[str, Any]:
    """The arguments of PEFT's `LoraConfig`."""
    alpha = int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha  # as PEFT writes it
    return {"r": lora.rank, "lora_alpha": alpha, "lora_dropout": lora.dropout, "target_modules": list(lora.targets)}
