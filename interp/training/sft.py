"""Stage 1: supervised fine-tuning on debates, and the baseline that learns their consensus alone (Latent Agents)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from interp.debate.transcript import Transcript, fingerprint
from interp.training.examples import Form, behind_tag, in_batches, make_examples, whole
from interp.training.run import Run, configured, shared_arguments
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

    With `form=whole` (stage 1) the tags become tokens whose embedding rows are trained too; `consensus_only` is
    DebateGPT, without tags. `direct` are direct answers, as transcripts, to learn besides (`SFT.direct_share`,
    `SFT.practice`). A finished stage is kept; a killed one resumes from its last saved state. Raises `UserError` if no
    transcript can be learnt.

    >>> chosen = interp.training.preset("organism").override({"sft.epochs": "0.1"})
    >>> run = interp.training.Run(tmp_path, chosen)
    >>> interp.training.train_sft(run, transcripts[:16]).name  # doctest: +SKIP
    'sft'
    """
    if run.checkpoint(stage).exists():
        return run.checkpoint(stage)
    preset, settings = run.preset, settings or run.preset.sft
    configuration = configured("SFTConfig", sft_arguments(run, stage, settings))
    from datasets import Dataset
    from trl import SFTTrainer

    from interp.training import loop

    plain = loop.start_from(preset.model, preset, whole_weights=settings.lora is None)
    tokenizer, tokens = plain.tokenizer, None
    if form is whole:
        tokenizer, tokens = add_tags(plain.hf, tokenizer, preset.agents, preset.rounds, preset.seed)
    make = partial(make_examples, tokenizer=tokenizer, max_length=settings.max_length)
    examples = make(transcripts, form=form)
    kinds = [list(examples.kept)]
    if direct:
        kinds[0] += make(direct[: round(settings.direct_share * len(transcripts))], form=form).kept
        kinds.append(make(direct, form=behind_tag).kept)
    ordered = in_batches(kinds, settings.batch_size, settings.epochs, preset.seed)
    trainer = SFTTrainer(
        plain.hf,
        configuration,
        train_dataset=Dataset.from_list([asdict(example) for example in ordered]),
        processing_class=tokenizer,
        peft_config=None if settings.lora is None else loop.lora_config(settings.lora, tokens),
    )
    head = trainer.model.get_output_embeddings()
    if not hasattr(head, "bias"):  # TRL's fused loss reads it, and PEFT's wrapper of trained rows hides it
        head.bias = getattr(head.original_module, "bias", None)
    steps = loop.fit(run, stage, trainer)
    counts = {"transcripts": len(transcripts), "examples": len(examples.kept), "direct": len(direct)}
    facts = {
        "kind": "sft",
        "learnt": form.__name__,
        "data": {"hash": fingerprint([*transcripts, *direct]), **counts},
        "left_out": {"undecided": examples.undecided, "too_long": examples.too_long},
        "steps": steps,
    }
    return loop.finish(run, stage, trainer, preset.model, plain, facts, tokenizer if tokens else None)


def sft_arguments(run: Run, stage: str, settings: SFT) -> dict[str, Any]:
    """The arguments of TRL's `SFTConfig`."""
    return shared_arguments(run, stage, settings) | {
        "train_sampling_strategy": "sequential",
        "save_steps": settings.save_every,
        "completion_only_loss": True,
        "max_length": None,  # examples that are too long were left out, and counted
    }
