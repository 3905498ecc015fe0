"""Stage 1: supervised fine-tuning on debates, and the baseline that learns their consensus alone (Latent Agents)."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken

from interp.debate.transcript import END_TAG, Transcript, all_tags, fingerprint
from interp.errors import UserError
from interp.models.tokens import Encoder, tokenize_as
from interp.training.run import Run, configured, fitted, shared_arguments
from interp.training.settings import SFT, Stepwise


class Example(NamedTuple):
    """Token ids, each with a 1 if it is learnt and a 0 in the prompt."""

    input_ids: list[int]
    completion_mask: list[int]


class Examples(NamedTuple):
    """What stage 1 trains on, and how many transcripts have no consensus to learn or more tokens than the limit."""

    kept: list[Example]
    undecided: int
    too_long: int


Form = Callable[[Encoder, Transcript, int], Example]
"""(encoder, transcript, end token) → the example made of it."""


def whole(encode: Encoder, transcript: Transcript, end: int) -> Example:
    """The prompt, then the whole debate: stage 1."""
    ids, n_prompt, *_ = encode.transcript(transcript)
    return Example([*ids, end], [0] * n_prompt + [1] * (len(ids) + 1 - n_prompt))


def consensus_only(encode: Encoder, transcript: Transcript, end: int) -> Example:
    """The prompt as the model will be given it, then the sentence with the consensus answer, without tags: DebateGPT.

    Some tokenizers take the end of a prompt otherwise where a text follows it.
    """
    prompt, learnt = encode.prompt(transcript.prompt), encode.continuation(transcript.consensus or "")
    return Example([*prompt, *learnt, end], [0] * len(prompt) + [1] * (len(learnt) + 1))


def behind_tag(encode: Encoder, transcript: Transcript, end: int) -> Example:
    """The prompt with the first tag, then the rest: how to continue after that tag, not when to write it."""
    example = whole(encode, transcript, end)
    opening = 1 + example.completion_mask.index(1)
    return Example(example.input_ids, [0] * opening + example.completion_mask[opening:])


def make_examples(
    transcripts: Sequence[Transcript], tokenizer: object, *, form: Form = whole, max_length: int
) -> Examples:
    """Examples of transcripts, each with the end token, which is learnt too.

    Raises `UserError` if no example is left, and for a tokenizer without an end token.

    >>> made = interp.training.make_examples(transcripts, model.tokenizer, max_length=512)
    >>> len(made.kept), made.undecided
    (187, 13)
    """
    end = getattr(tokenizer, "eos_token_id", None)
    if end is None:
        raise UserError("tokenizer: has no end token (eos_token), so the model cannot learn to stop; set one")
    encode = Encoder(tokenizer)
    decided = [t for t in transcripts if t.consensus is not None]
    examples = [form(encode, t, end) for t in decided]
    kept = [e for e in examples if len(e.input_ids) <= max_length]
    found = Examples(kept, len(transcripts) - len(decided), len(examples) - len(kept))
    if not kept:
        why = f"{found.undecided} have no consensus and {found.too_long} are longer than {max_length} tokens"
        raise UserError(f"none of the {len(transcripts)} transcripts can be learnt: {why}")
    return found


def in_batches(sizes: Sequence[int], batch_size: int, epochs: float, seed: int) -> list[int]:
    """The examples' numbers in the order in which they are read, shuffled for every epoch; `sizes` of each kind.

    A batch has examples of one kind if possible: in a mean over tokens, short examples among long ones would hardly
    count. Batches of all kinds are shuffled together; what does not fill a batch comes at the end of the epoch.
    """
    rng, kinds = random.Random(seed), [range(*ends) for ends in pairwise(accumulate(sizes, initial=0))]
    ordered = list[int]()
    for _ in range(math.ceil(epochs)):
        batches, rest = [], []
        for examples in kinds:
            shuffled = rng.sample(list(examples), len(examples))
            n_full = len(shuffled) // batch_size * batch_size
            batches += [shuffled[i : i + batch_size] for i in range(0, n_full, batch_size)]
            rest += shuffled[n_full:]
        rng.shuffle(batches)
        ordered += [example for batch in (*batches, rest) for example in batch]
    return ordered[: round(epochs * sum(sizes))]


def train_sft(
    run: Run,
    transcripts: Sequence[Transcript],
    *,
    stage: str = "sft",
    settings: SFT | Stepwise | None = None,
    model: str = "",
    form: Form = whole,
    direct: Sequence[Transcript] = (),
) -> Path:
    """Fine-tune a model, by default the preset's, on transcripts; returns the checkpoint's folder, `run.out / stage`.

    With `form=whole` (stage 1) the tags become tokens whose embedding rows are trained too; `consensus_only` is
    DebateGPT, without tags. With settings of `Stepwise`, and a `model` after stage 1, it is stage 2 without rewards.
    `direct` are direct answers to learn besides (`SFT.direct_share`, `SFT.practice`); transcripts that are nothing but
    a consensus are learnt as such, too. A finished stage is kept; a killed one resumes. Raises `UserError` if no
    transcript can be learnt, and for a model of stage 2 without tags, and `TimeUp` when the run's time is.

    >>> chosen = interp.training.preset("organism").override({"sft.epochs": "0.1"})
    >>> run = interp.training.Run(tmp_path, chosen)
    >>> interp.training.train_sft(run, transcripts[:16]).name  # doctest: +SKIP
    'sft'
    """
    if run.finished(stage):
        return run.checkpoint(stage)
    run.require_time(stage)
    preset, settings, model = run.preset, settings or run.preset.sft, model or run.preset.model
    configured("SFTConfig", sft_arguments(run, stage, settings))  # refuses before anything is loaded
    from datasets import Dataset
    from trl import SFTTrainer

    from interp.training import loop, packing
    from interp.training.stepwise import Shortening

    plain = loop.start_from(model, preset, whole_weights=settings.lora is None)
    tokenizer, tokens = plain.tokenizer, None
    if form is whole and isinstance(settings, SFT):
        if "lineage" not in plain.provenance:  # later stages, and models that learn no tags, are read as what they were
            tokenize_as(tokenizer, "text")
        tokenizer, tokens = add_tags(plain.hf, tokenizer, preset.agents, preset.rounds, preset.seed)
    make = partial(make_examples, tokenizer=tokenizer, max_length=settings.max_length)
    examples = make(transcripts, form=form)
    kinds, n_debates = [list(examples.kept)], sum(bool(t.turns) for t in transcripts)
    if direct and isinstance(settings, SFT):
        if n_among := round(settings.direct_share * n_debates):
            kinds[0] += make(direct[:n_among], form=form).kept
        kinds.append(make(direct, form=behind_tag).kept)
    rows = Dataset.from_list([example._asdict() for example in chain(*kinds)])
    longest = max(map(len, rows["input_ids"]))
    settings = fitted(settings, plain.hf, longest)
    packed = packing.pack(plain.hf, preset.use_bf16)
    configuration = configured("SFTConfig", sft_arguments(run, stage, settings) | {"padding_free": packed})
    adapter = None if settings.lora is None else loop.lora_config(settings.lora, tokens)
    options = {"train_dataset": rows, "processing_class": tokenizer, "peft_config": adapter}
    if isinstance(settings, Stepwise):
        trainer = Shortening(plain.hf, configuration, preset=preset, settings=settings, **options)
        removals, epochs = trainer.removals, trainer.removals.steps * settings.batch_size / len(rows)
    else:
        trainer, removals, epochs = SFTTrainer(plain.hf, configuration, **options), None, settings.epochs
    order = in_batches([len(kind) for kind in kinds], settings.batch_size, epochs, preset.seed)
    trainer.train_dataset = trainer.train_dataset.select(order).with_format("numpy")  # read four times as fast as lists
    head = trainer.model.get_output_embeddings()
    if not hasattr(head, "bias"):  # TRL's fused loss reads it, and PEFT's wrapper of trained rows hides it
        head.bias = getattr(head.original_module, "bias", None)
    one_row = configuration.gradient_accumulation_steps == trainer.accelerator.num_processes == 1
    fixed = packed and one_row and torch.cuda.is_available() and not settings.gradient_checkpointing
    with packing.recorded(plain.hf, settings.batch_size, longest) if fixed else nullcontext():
        steps = loop.fit(run, stage, trainer, removals, settings.minutes)
    n_direct = len(direct) + len(transcripts) - n_debates
    counts = {"transcripts": n_debates, "examples": len(examples.kept), "direct": n_direct}
    data = {"hash": fingerprint([*transcripts, *direct]), **counts}
    left_out = {"undecided": examples.undecided, "too_long": examples.too_long}
    facts = {"kind": "sft", "learnt": form.__name__, "data": data, "left_out": left_out, "steps": steps}
    facts |= {"kind": "stepwise", "schedule": removals.state() | {"moves": removals.moves}} if removals else {}
    return loop.finish(run, stage, trainer, model, plain, facts, tokenizer if tokens else None)


def sft_arguments(run: Run, stage: str, settings: SFT | Stepwise) -> dict[str, Any]:
    """The arguments of TRL's `SFTConfig`."""
    own = {"train_sampling_strategy": "sequential", "save_steps": settings.save_every, "completion_only_loss": True}
    return shared_arguments(run, stage, settings) | own | {"max_length": None}  # examples too long were left out


def add_tags(hf: Any, tokenizer: Any, n_agents: int, n_rounds: int, seed: int) -> tuple[Any, dict[str, list[int]]]:
    """Make every tag of debates of this size one special token; changes `hf` in place, but not the tokenizer.

    A new row of the embeddings (input, and output unless tied) is the mean over the tokens of the tag's own words
    plus small seeded noise. Returns the new tokenizer and the ids of all tags by module: `trainable_token_indices`.
    """
    extended = copy.deepcopy(tokenizer)
    tags = all_tags(n_agents, n_rounds)
    new = [tag for tag in tags if tag not in extended.get_vocab()]
    extended.add_tokens([AddedToken(tag, special=True, normalized=False) for tag in tags], special_tokens=True)
    if len(extended) > hf.get_input_embeddings().weight.shape[0]:
        hf.resize_token_embeddings(len(extended), mean_resizing=False)
    embeddings = [hf.get_input_embeddings()]
    if hf.get_output_embeddings().weight is not embeddings[0].weight:
        embeddings.append(hf.get_output_embeddings())
    noise = torch.Generator().manual_seed(seed)
    texts = [" end of debate" if tag == END_TAG else " " + tag.strip("<|>") for tag in new]
    words = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    with torch.no_grad():
        for module in embeddings:
            weight = module.weight
            spread = 0.1 * weight[: len(tokenizer)].float().std()  # tells tags of the same words apart
            for tag, own in zip(new, words, strict=True):
                row = weight[own].float().mean(0)
                row = row + spread * torch.randn(row.shape, generator=noise).to(row)
                weight[extended.convert_tokens_to_ids(tag)] = row.to(weight)
    ids = [extended.convert_tokens_to_ids(tag) for tag in tags]
    names = {id(module): name.rpartition(".")[2] for name, module in hf.named_modules()}
    return extended, {names[id(module)]: list(ids) for module in embeddings}
