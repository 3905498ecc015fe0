"""Stage 1: supervised fine-tuning on debates, and the baseline that learns their consensus only.

Knows how examples, tags and an adapter come together in TRL's `SFTTrainer` (Latent Agents, stage 1:
debate structure learning); knows nothing about stage 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from interp.debate.transcript import Transcript, fingerprint
from interp.training.examples import Form, behind_tag, in_batches, make_examples, whole
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
from interp.training.settings import SFT
from interp.training.tags import add_tags


def train_sft(
    run: Run,
    transcripts: Sequence[Transcript],
    *,
    stage: str = "sft",
    settings: SFT | None = None,
    form: Form = whole,
    direct: Sequence[Transcript] = (),
) -> Path:
    """Fine-tune the preset's model on transcripts; returns the checkpoint's folder, `run.out / stage`.

    The loss is on the completion only. Tags become special tokens whose embedding rows alone are trained
    beside the adapter. `form` says what is learnt of a transcript: `whole` for stage 1, `consensus_only`
    for DebateGPT, which gets no tags. `direct` are plain answers, as transcripts, that are learnt beside
    the debates (`SFT.direct_share` and `SFT.practice`). A finished stage is not trained again, and one that was
    killed goes on from the last state that it kept. Raises `UserError` where no transcript can be learnt.
    """
    folder = run.checkpoint(stage)
    if folder.exists():
        return folder
    preset = run.preset
    settings = settings or preset.sft
    start = start_from(preset.model, preset, whole_weights=settings.lora is None)
    hf, tokenizer, tokens = start.plain.hf, start.plain.tokenizer, None
    if form is whole:
        tokenizer, tokens = add_tags(hf, tokenizer, preset.agents, preset.rounds, preset.seed)
    examples = make_examples(transcripts, tokenizer, form=form, max_length=settings.max_length)
    kinds = [list(examples.kept)]
    if direct:
        among = direct[: round(settings.direct_share * len(transcripts))]
        kinds[0] += make_examples(among, tokenizer, form=form, max_length=settings.max_length).kept
        kinds.append(make_examples(direct, tokenizer, form=behind_tag, max_length=settings.max_length).kept)
    ordered = in_batches(kinds, settings.batch_size, settings.epochs, preset.seed)
    trainer = SFTTrainer(
        model=hf,
        args=sft_arguments(run, stage, settings),
        train_dataset=Dataset.from_list([asdict(example) for example in ordered]),
        processing_class=tokenizer,
        peft_config=None if settings.lora is None else lora_config(settings.lora, tokens),
    )
    _show_bias(trainer.model.get_output_embeddings())
    steps = fit(run, stage, trainer)
    facts = {
        "kind": "sft",
        "learnt": form.__name__,
        "data": {
            "hash": fingerprint([*transcripts, *direct]),
            "transcripts": len(transcripts),
            "examples": len(examples.kept),
            "direct": len(direct),
        },
        "left_out": {"undecided": examples.undecided, "too_long": examples.too_long},
        "steps": steps,
    }
    return finish(run, stage, trainer, start, facts, tokenizer if tokens else None)


def sft_arguments(run: Run, stage: str, settings: SFT) -> SFTConfig:
    """The whole configuration of TRL's trainer. Raises `UserError` for settings that it refuses."""
    at_once, passes = accumulation(settings.batch_size, settings.device_batch_size, processes().num_processes)
    return configured(
        SFTConfig,
        **shared_arguments(run, stage),
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_schedule,
        warmup_steps=settings.warmup,
        num_train_epochs=1,  # the examples are in order for all epochs
        train_sampling_strategy="sequential",
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=passes,
        max_grad_norm=settings.max_grad_norm,
        gradient_checkpointing=settings.gradient_checkpointing,
        save_steps=settings.save_every,
        completion_only_loss=True,
        max_length=None,  # what is too long was left out, and counted
    )


def _show_bias(head: Any) -> None:
    """TRL's fused loss asks the output embedding for its bias, which PEFT's wrapper of trained rows hides."""
    if not hasattr(head, "bias"):
        head.bias = getattr(head.original_module, "bias", None)
