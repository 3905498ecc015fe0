"""Stage 2: GRPO under a falling length limit, which moves the debate inside (Latent Agents)."""

from __future__ import annotations

import copy
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models.model import wrap
from interp.models.tokens import Encoder
from interp.training.rewards import Judge, Reward, additive, gated
from interp.training.run import Run, configured, fitted, processes, shared_arguments
from interp.training.settings import GRPO


def train_grpo(
    run: Run,
    model: str,
    questions: Sequence[Question],
    task: Task,
    *,
    stage: str = "imad",
    settings: GRPO | None = None,
    judge: Judge | None = None,
    undecided: int = 0,
) -> Path:
    """Internalize the debates of `model` in a new adapter; returns the checkpoint's folder, `run.out / stage`.

    `model` is a checkpoint of stage 1, or a base for the ablation without stage 1. The answer of each question, right
    or not, is what is rewarded; `undecided` others had none. `judge` replaces the task's grader.
    A finished stage is kept; a killed one, or one that raised `TimeUp`, resumes from its state, with its schedule.

    >>> task = interp.debate.make_task("small-arithmetic")
    >>> run = interp.training.Run(tmp_path, interp.training.preset("organism"))
    >>> interp.training.train_grpo(run, "organism-sft", task.questions(8, 0), task).name  # doctest: +SKIP
    'imad'
    """
    if run.finished(stage):
        return run.checkpoint(stage)
    run.require_time(stage)
    preset, settings = run.preset, settings or run.preset.grpo
    configuration = configured("GRPOConfig", grpo_arguments(run, stage, settings))  # refuses before anything is loaded
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # no warning that rollout_func is experimental
    from datasets import Dataset

    from interp.training import loop, packing
    from interp.training.learning import Learner

    plain = loop.start_from(model, preset)
    tokenizer = plain.tokenizer
    schedule, rollout = settings.make_schedule(), None
    combine, structure = gated if settings.combine == "gated" else additive, settings.use_structure
    decode = partial(tokenizer.decode, skip_special_tokens=False)
    reward = Reward(task, schedule, decode, preset.agents, preset.rounds, combine, structure, judge)
    rng = random.Random(preset.seed)  # TRL's own sampler forgets the order of the epoch when a killed run resumes
    orders = [rng.sample(list(questions), len(questions)) for _ in range(math.ceil(settings.epochs))]
    asked = [question for order in orders for question in order][: round(settings.epochs * len(questions))]
    prompts, encode = [Transcript(question.text, ()).prompt for question in asked], Encoder(tokenizer)
    if settings.generation == "interp":

        def limit(state: Any) -> int:
            now = schedule.at(state.global_step, state.max_steps).limit
            return now if settings.stop_at_limit else settings.descent.first_limit

        how = {"temperature": settings.temperature, "top_p": settings.top_p}
        rollout = Rollout(plain.hf, tokenizer, limit, batch_size=settings.generation_batch_size, **how)
    elif odd := [x for x in dict.fromkeys(prompts) if tokenizer(x)["input_ids"] != encode.prompt(x)]:
        wrong = f"prompt {odd[0][:50]!r}: TRL and interp tokenize it differently"
        raise UserError(f"{wrong}; use --set grpo.generation=interp")
    rows = [
        {"prompt": prompt, "question": question.text, "wanted": question.gold_answer}
        for prompt, question in zip(prompts, asked, strict=True)
    ]
    longest = max(len(encode.prompt(prompt)) for prompt in prompts[: len(questions)]) + settings.descent.first_limit
    at_once = fitted(settings, plain.hf, longest).device_batch_size
    packed = settings.generation != "trl" and packing.pack(plain.hf, preset.use_bf16)  # a rollout has its copy
    adapter, dataset = loop.lora_config(settings.lora), Dataset.from_list(rows)
    options = {"processing_class": tokenizer, "peft_config": adapter, "rollout_func": rollout}
    trainer = Learner(plain.hf, reward, configuration, dataset, **options)
    trainer.packed, trainer.rows, trainer.tokens = packed, settings.device_batch_size, (at_once or 4) * longest

    def mean_over_processes(value: float) -> float:
        local = torch.tensor([value], device=trainer.accelerator.device)
        return float(trainer.accelerator.gather(local).mean())

    reward.over_processes = mean_over_processes
    if trainer.is_world_process_zero():
        reward.keep = partial(run.keep_samples, stage)
    steps = loop.fit(run, stage, trainer, schedule, settings.minutes)
    data = {"task": task.provenance(), "questions": len(questions), "reward": settings.reward, "undecided": undecided}
    state = schedule.state() | {"limit": schedule.at(steps, steps).limit}
    facts = {"kind": "grpo", "data": data, "steps": steps, "schedule": state}
    return loop.finish(run, stage, trainer, model, plain, facts)


def grpo_arguments(run: Run, stage: str, settings: GRPO) -> dict[str, Any]:
    """The arguments of TRL's `GRPOConfig`. Raises `UserError` for incompatible settings."""
    if settings.generation == "vllm" and find_spec("vllm") is None:
        raise UserError("generation vllm: vllm is not installed; install it, or --set grpo.generation=trl")
    if settings.batch_size % settings.num_generations:
        given = f"batches of {settings.batch_size} completions, {settings.num_generations} per question"
        raise UserError(f"{given}: choose a batch_size that is a multiple of num_generations")
    same = ("num_generations", "num_iterations", "loss_type", "beta", "epsilon", "temperature", "top_p")
    # Only between two batches of completions is nothing half used, so that a resumed run is the same run.
    saving = {"save_steps": math.ceil(settings.save_every / settings.num_iterations) * settings.num_iterations}
    own = {"entropy_coef": settings.entropy_coefficient, "max_completion_length": settings.descent.first_limit}
    use = {"shuffle_dataset": False, "use_vllm": settings.generation == "vllm"}
    shared = shared_arguments(run, stage, settings, same)
    at_once = shared["per_device_train_batch_size"] * shared["gradient_accumulation_steps"]  # a device takes parts
    whole = {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": 1}
    return {**shared, **saving, **own, **use, **whole}


class Rollout:
    """TRL's `rollout_func`, sampling from a merged copy: with small models on a CPU several times faster than TRL.

    Seeded from torch's global random state. `hf` is the model without its adapter; `limit` gives the longest
    completion in tokens for a trainer's state; `options` are those of `generate`.
    """

    def __init__(self, hf: Any, tokenizer: Any, limit: Callable[[Any], int], **options: Any) -> None:
        plain = copy.deepcopy(hf).to(processes().device)
        self._weights = dict(plain.named_parameters())
        self._encode, self._model = Encoder(tokenizer), wrap(plain, tokenizer)
        self._limit, self._options = limit, options

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        self.refresh(trainer.accelerator.unwrap_model(trainer.model))
        ids = [self._encode.prompt(prompt) for prompt in prompts]
        seeds = torch.randint(2**62, (len(ids),)).tolist()
        limit = self._limit(trainer.state)
        with few_threads(sum(weight.numel() for weight in self._weights.values())):
            written = generate(self._model, ids, max_new_tokens=limit, seeds=seeds, **self._options)
        completions = [out.ids if out.end is None else [*out.ids, out.end] for out in written]
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None}

    @torch.no_grad()
    def refresh(self, model: Any) -> None:
        """Update the copy's weights to those of the model with its adapter."""
        from peft.tuners.lora import LoraLayer

        for name, layer in model.get_base_model().named_modules():
            if isinstance(layer, LoraLayer):
                weight = layer.get_base_layer().weight
                merged = weight + layer.get_delta_weight("default").to(weight.dtype)
                self._weights[f"{name}.weight"].copy_(merged)


@contextmanager
def few_threads(n_weights: int) -> Iterator[None]:
    """Use one thread for a model so small that more would only wait for each other."""
    before = torch.get_num_threads()
    if n_weights <= 20_000_000:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
