"""What both stages share around TRL's trainers: the model to start from, metrics, resuming, the checkpoint."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_callback import ExportableState

from interp.errors import TimeUp
from interp.models.lineage import read_lineage, write_checkpoint
from interp.models.loading import DTYPES, Plain, load_plain
from interp.models.tokens import tokenized_as
from interp.storage.files import atomic_write, checked, write_json, writing
from interp.storage.journal import read_lines
from interp.storage.provenance import file_sha256
from interp.training.run import Run, lora_arguments, of_first_process
from interp.training.schedule import Schedule
from interp.training.settings import LoRA, Preset

SUMS_FILE = "sha256.json"
SUMS = ("_total_loss_scalar", "_total_train_tokens")
"""What trainers sum up over a run, and begin again with a resumed one."""
PACKAGES = ("interp", "torch", "transformers", "trl", "peft", "accelerate")


def start_from(model: str, preset: Preset, whole_weights: bool = False) -> Plain:
    """Load what a stage trains. Weights that are trained themselves stay fp32; the base of a LoRA may be bf16."""
    gc.collect()  # a model used before may still be held by reference cycles
    half = preset.use_bf16 and torch.cuda.is_available() and not whole_weights
    plain = load_plain(model, dtype="bf16" if half else "fp32", device="cpu")  # the trainer moves it
    # With this name PEFT would look up the base's vocabulary, find that it grew, and save whole embeddings.
    plain.hf.name_or_path = plain.hf.config._name_or_path = ""
    plain.hf.requires_grad_(whole_weights)  # merging adapters froze what is beneath them
    return plain


def lora_config(lora: LoRA, tokens: dict[str, list[int]] | None = None) -> LoraConfig:
    """PEFT's configuration of an adapter; `tokens` are the embedding rows trained with it, by module."""
    return LoraConfig(**lora_arguments(lora), trainable_token_indices=tokens, task_type="CAUSAL_LM")


def fit(run: Run, stage: str, trainer: Any, schedule: Schedule | None = None, minutes: float = 0) -> int:
    """Train, from the last saved state if there is one, for so many `minutes` at most; returns the optimizer steps.

    Raises `TimeUp` when the run's time budget is used up, with its state saved.
    """
    trainer.remove_callback(PrinterCallback)
    if trainer.accelerator.native_amp and torch.cuda.is_available():
        for layer in trainer.model.modules():  # PEFT would turn what an adapter reads into fp32, and autocast it back
            if isinstance(layer, LoraLayer):
                layer.cast_input_dtype_enabled = False
    follow = Follow(run, stage, trainer, schedule, minutes)
    trainer.add_callback(follow)
    if hasattr(trainer, "_generate"):
        trainer._generate = partial(follow.timed, trainer._generate)
    save = trainer._save_checkpoint

    def save_or_say(*args: Any, **how: Any) -> None:
        with writing(run.kept(stage), RuntimeError):  # torch has one for a full disk
            save(*args, **how)

    trainer._save_checkpoint = save_or_say
    trainer.train(resume_from_checkpoint=last_kept(run.kept(stage)))
    if follow.stopped:
        raise TimeUp(f"{stage} stopped at step {trainer.state.global_step} of {trainer.state.max_steps}")
    return int(trainer.state.global_step)


def last_kept(folder: Path) -> str | None:
    """The latest state in a resume folder that is whole; a kill may have left an incomplete one."""
    for state in sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2])):
        with suppress(OSError, ValueError):
            checked(dict[str, Any], (state / "trainer_state.json").read_bytes())  # the last file that a trainer writes
            sums = state / SUMS_FILE
            if not sums.exists() or checked(dict[str, str], sums.read_bytes()) == _sums(state):
                return str(state)
    return None


def _sums(state: Path) -> dict[str, str]:
    """The checksum of each file of a state."""
    return {path.name: file_sha256(path) for path in sorted(state.iterdir()) if path.name != SUMS_FILE}


def finish(
    run: Run, stage: str, trainer: Any, model: str, plain: Plain, facts: dict[str, Any], tokenizer: Any = None
) -> Path:
    """Write the checkpoint of a stage that started from `model` and drop its resume folder; returns the checkpoint."""
    folder, weights = run.checkpoint(stage), run.kept(stage) / "trained"
    dtype = DTYPES[run.preset.adapter_dtype]
    trainer.save_model(str(weights))  # every process takes part if the weights are sharded
    if trainer.is_world_process_zero():
        settings = run.preset.record()
        del settings["model"]  # the lineage names the base, without a path of this machine
        versions = {package: version(package) for package in PACKAGES} | {"torch": torch.__version__}
        facts |= {
            "tokenized": tokenized_as(plain.tokenizer),
            "preset": settings,
            "seed": run.preset.seed,
            "processes": trainer.accelerator.num_processes,
        }
        facts |= {"dtype": str(plain.hf.dtype).removeprefix("torch."), "versions": versions}
        with write_checkpoint(folder, model, plain.provenance, read_lineage(model), stage, facts) as own:
            if tokenizer is not None:
                tokenizer.save_pretrained(own)
            for path in (*weights.glob("adapter_config.json"), *weights.glob("config.json")):
                config = json.loads(path.read_text(encoding="utf-8"))
                if path.name == "adapter_config.json":
                    config["base_model_name_or_path"] = Path(model).name
                    if isinstance(targets := config["target_modules"], list):
                        targets.sort()  # PEFT writes a set, in any order
                (own / path.name).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
            for path in weights.glob("*.safetensors"):
                rounded = {name: tensor.to(dtype).contiguous() for name, tensor in load_file(path).items()}
                save_file(rounded, own / path.name, {"format": "pt"})
        run.finished(stage)
    trainer.accelerator.wait_for_everyone()
    return folder


@dataclass
class Follow(TrainerCallback, ExportableState):  # type: ignore[misc]  # both are Any to mypy
    """Writes metrics, reports progress, and saves with the trainer's state what it forgets: schedule, sums and time."""

    run: Run
    stage: str
    trainer: Any
    schedule: Schedule | None = None
    minutes: float = 0
    latest: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=perf_counter)
    counted: tuple[float, float] | None = None  # when a step was last logged, and the tokens read by then
    sampling: float = 0.0  # seconds of a step
    stopped: bool = False  # by the time budget, before the last step

    def timed(self, sample: Callable[..., Any], *prompts: Any) -> Any:
        """What is sampled; the time that it takes is added up."""
        began = perf_counter()
        written = sample(*prompts)
        self.sampling += perf_counter() - began
        return written

    def state(self) -> dict[str, Any]:
        sums = {name: getattr(self.trainer, name, 0) for name in SUMS}
        schedule = self.schedule.state() if self.schedule else {}
        return {"args": {}, "attributes": {"sums": sums, "seconds": perf_counter() - self.began, "schedule": schedule}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        saved = state.stateful_callbacks.get(type(self).__name__)
        if saved and state.global_step:
            kept = saved["attributes"]
            vars(self.trainer).update(kept["sums"], _initial_global_step=0)
            self.began -= kept["seconds"]
            if self.schedule:
                self.schedule.restore(kept["schedule"])
        if self.trainer.is_world_process_zero():  # forget steps that are repeated, and a half-written line
            rows = read_lines(self.run.metrics) if self.run.metrics.exists() else []
            done = [r for r in rows if r["stage"] != self.stage or (r["step"] <= state.global_step and "loss" in r)]
            with atomic_write(self.run.metrics) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in done), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "train_runtime" in logs:  # over all of a run that was killed and resumed
            seconds = perf_counter() - self.began
            rates = {name: value for name, value in logs.items() if name.endswith("_per_second")}
            logs |= {name: round(rate * logs["train_runtime"] / seconds, 3) for name, rate in rates.items()}
            logs["train_runtime"] = round(seconds, 4)
        if logs and "step_time" in logs:
            parts = {"sampling": self.sampling, "learning": logs["step_time"] - self.sampling}
            for part, seconds in parts.items():
                logs |= {f"{part}_seconds": seconds, f"{part}_share": seconds / logs["step_time"]}
            self.sampling = 0.0
        if logs and "mean_token_accuracy" in logs:
            before, self.counted = self.counted, (perf_counter(), logs["num_tokens"])
            if before:
                logs["tokens_per_second"] = round((self.counted[1] - before[1]) / (self.counted[0] - before[0]))
        if logs and self.trainer.is_world_process_zero():
            self.latest |= logs
            finite = {name: value if abs(value) < math.inf else None for name, value in logs.items()}
            with self.run.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": self.stage, "step": state.global_step, **finite}) + "\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.run.tell(self.stage, state.global_step, state.max_steps, self.latest)
        # Only between two batches of completions is nothing half used, so that a resumed run is the same run.
        if state.global_step % getattr(self.trainer, "num_iterations", 1) or state.global_step == state.max_steps:
            return
        if self.minutes and of_first_process(perf_counter() - self.began) >= 60 * self.minutes:
            control.should_training_stop = True
        elif self.run.out_of_time():
            self.stopped = control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.accelerator.num_processes == 1:  # else another process may still be writing
            folder = self.run.kept(self.stage) / f"checkpoint-{state.global_step}"
            write_json(folder / SUMS_FILE, _sums(folder))
