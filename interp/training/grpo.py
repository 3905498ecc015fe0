"""Stage 2: GRPO under a falling limit, which moves the debate inside.

Knows how rewards, schedule and a fresh adapter come together in TRL's `GRPOTrainer` (Latent Agents,
stage 2: internalization). It starts from a checkpoint of stage 1 with that stage in place, and what is
trained is an adapter, always.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.models.tokens import Encoder
from interp.training.loop import (
    Run,
    accumulation,
    configured,
    finish,
    fit,
    lora_config,
    processes,
    shared_arguments,
    start_from,
)
from interp.training.rewards import Judge, Reward, additive, gated
from interp.training.rollout import Rollout
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
) -> Path:
    """Internalize the debates of `model`; returns the checkpoint's folder, `run.out / stage`.

    `model` is a checkpoint of stage 1 (or a base, for the ablation without stage 1, whose tokenizer then
    has no tags). `judge` takes the place of the task's grader. A finished stage is not trained
    again, and one that was killed goes on from the last state that it kept, its schedule too.
    """
    folder = run.checkpoint(stage)
    if folder.exists():
        return folder
    preset = run.preset
    settings = settings or preset.grpo
    arguments = grpo_arguments(run, stage, settings)
    start = start_from(model, preset)
    hf, tokenizer = start.plain.hf, start.plain.tokenizer
    check_prompts(tokenizer, questions, own=settings.generation == "interp")
    schedule = settings.make_schedule()
    reward = Reward(
        task,
        schedule,
        lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False)),
        preset.agents,
        preset.rounds,
        gated if settings.combine == "gated" else additive,
        settings.use_structure,
        judge,
    )
    rollout = None
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # it announces that rollout_func is experimental
    if settings.generation == "interp":
        rollout = Rollout(
            hf,
            tokenizer,
            temperature=settings.temperature,
            top_p=settings.top_p,
            batch_size=settings.generation_batch_size,
            limit=lambda state: (
                schedule.at(state.global_step, state.max_steps).limit
                if settings.stop_at_limit
                else settings.descent.first_limit
            ),
        )
    rows = [
        {"prompt": Transcript(q.text, ()).prompt, "question": q.text, "gold_answer": q.gold_answer}
        for q in asked(questions, settings.epochs, preset.seed)
    ]
    trainer = GRPOTrainer(
        model=hf,
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora),
        rollout_func=rollout,
    )
    reward.over_processes = lambda value: _mean_over_processes(trainer, value)
    steps = fit(run, stage, trainer, schedule)
    facts = {
        "kind": "grpo",
        "data": {"task": task.provenance(), "questions": len(questions)},
        "steps": steps,
        "schedule": schedule.state() | {"limit": schedule.at(steps, steps).limit},
    }
    return finish(run, stage, trainer, start, facts)


def grpo_arguments(run: Run, stage: str, settings: GRPO) -> GRPOConfig:
    """The whole configuration of TRL's trainer. Raises `UserError` for settings that do not go together."""
    if settings.generation == "vllm" and find_spec("vllm") is None:
        raise UserError("generation vllm: the package vllm is not installed; install it, or --set grpo.generation=trl")
    n_processes = processes().num_processes
    at_once, passes = accumulation(settings.batch_size, settings.device_batch_size, n_processes)
    if at_once * passes * n_processes % settings.num_generations:
        raise UserError(
            f"batches of {at_once * passes * n_processes} completions with {settings.num_generations} a question: "
            "give a batch_size that is a multiple of num_generations"
        )
    return configured(
        GRPOConfig,
        **shared_arguments(run, stage),
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_schedule,
        warmup_steps=settings.warmup,
        num_train_epochs=1,  # the rows below are in order for all epochs
        shuffle_dataset=False,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=passes,
        num_generations=settings.num_generations,
        num_iterations=settings.num_iterations,
        max_completion_length=settings.descent.first_limit,
        beta=settings.beta,
        epsilon=settings.epsilon,
        loss_type=settings.loss_type,
        entropy_coef=settings.entropy_coefficient,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_grad_norm=settings.max_grad_norm,
        gradient_checkpointing=settings.gradient_checkpointing,
        # Between two batches of completions nothing is half used, so that a resumed run is the same run.
        save_steps=math.ceil(settings.save_every / settings.num_iterations) * settings.num_iterations,
        use_vllm=settings.generation == "vllm",
    )


def asked(questions: Sequence[Question], epochs: float, seed: int) -> list[Question]:
    """The questions in the order in which they are asked, every epoch in an order of its own.

    TRL's sampler would forget, when a run goes on after a kill, which epoch's order it was in.
    """
    rng = random.Random(seed)
    orders = [rng.sample(list(questions), len(questions)) for _ in range(math.ceil(epochs))]
    return [question for order in orders for question in order][: round(epochs * len(questions))]


def check_prompts(tokenizer: Any, questions: Sequence[Question], *, own: bool) -> None:
    """Refuse prompts that TRL would tokenize in another way than interp reads them; `own` needs no check."""
    encode = Encoder(tokenizer)
    for question in () if own else questions:
        prompt = Transcript(question.text, ()).prompt
        if tokenizer(prompt)["input_ids"] != encode.prompt(prompt):
            raise UserError(
                f"question {question.text[:40]!r}: TRL would tokenize its prompt in another way than interp does; "
                "use --set grpo.generation=interp"
            )


def _mean_over_processes(trainer: Any, value: float) -> float:
    local = torch.tensor([value], device=trainer.accelerator.device)
    return float(trainer.accelerator.gather(local).mean())
