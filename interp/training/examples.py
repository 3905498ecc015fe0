"""Transcripts as what stage 1 reads: token ids, and which of them are learnt.

Knows how `interp.activations.corpus` reads transcripts and does the same, so that a trained model's activations are
read at the tokens that it was trained on; knows nothing about trainers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.models.tokens import Encoder


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids with, for each, 1 where it is learnt and 0 in the prompt."""

    input_ids: list[int]
    completion_mask: list[int]


@dataclass(frozen=True, slots=True)
class Examples:
    """What stage 1 trains on, and what was left out."""

    kept: list[Example]
    undecided: int
    """Transcripts without a consensus, which are not learnt (Latent Agents, section 3)."""
    too_long: int
    """Transcripts of more tokens than the limit."""


Form = Callable[[Encoder, Transcript, int], Example]
"""(encoder, transcript, end token) → what is learnt of it."""


def whole(encode: Encoder, transcript: Transcript, end: int) -> Example:
    """The prompt, then the whole debate: stage 1 proper."""
    ids, _ = encode.transcript(transcript)
    return _example(encode, transcript, ids, end)


def consensus_only(encode: Encoder, transcript: Transcript, end: int) -> Example:
    """The prompt, then the sentence with the consensus answer, without tags: the baseline DebateGPT."""
    prompt = encode.prompt(transcript.prompt)
    return _example(encode, transcript, prompt + encode.continuation(transcript.consensus or ""), end)


def behind_tag(encode: Encoder, transcript: Transcript, end: int) -> Example:
    """The prompt and a first tag, both given, then all that follows it: how to go on there, not when to go there."""
    ids, _ = encode.transcript(transcript)
    example = _example(encode, transcript, ids, end)
    opening = 1 + example.completion_mask.index(1)
    return Example(example.input_ids, [0] * opening + example.completion_mask[opening:])


def make_examples(
    transcripts: Sequence[Transcript],
    tokenizer: object,
    *,
    form: Form = whole,
    max_length: int,
) -> Examples:
    """Turn transcripts into examples; each ends with the tokenizer's end token, which is learnt too.

    Raises `UserError` where nothing is left, and for a tokenizer without an end token.
    """
    end = getattr(tokenizer, "eos_token_id", None)
    if end is None:
        raise UserError("the tokenizer has no end token (eos_token), so the model could not learn to stop: set one")
    encode = Encoder(tokenizer)
    decided = [t for t in transcripts if t.consensus is not None]
    examples = [form(encode, t, end) for t in decided]
    kept = [e for e in examples if len(e.input_ids) <= max_length]
    found = Examples(kept, len(transcripts) - len(decided), len(examples) - len(kept))
    if not kept:
        raise UserError(
            f"none of the {len(transcripts)} transcripts can be learnt: {found.undecided} have no consensus and "
            f"{found.too_long} are longer than {max_length} tokens"
        )
    return found


def in_batches(kinds: Sequence[Sequence[Example]], batch_size: int, epochs: float, seed: int) -> list[Example]:
    """The examples in the order in which they are read, every epoch in an order of its own.

    Each batch is of one kind, as far as they go: a loss is a mean over a batch's tokens, in which short
    examples among long ones would count for nothing. The batches of all kinds are in random order; what
    fills no batch of its own comes at the end of the epoch.
    """
    rng = random.Random(seed)
    ordered: list[Example] = []
    for _ in range(math.ceil(epochs)):
        batches, rest = [], []
        for examples in kinds:
            shuffled = rng.sample(list(examples), len(examples))
            whole = len(shuffled) // batch_size * batch_size
            batches += [shuffled[i : i + batch_size] for i in range(0, whole, batch_size)]
            rest += shuffled[whole:]
        rng.shuffle(batches)
        ordered += [example for batch in (*batches, rest) for example in batch]
    return ordered[: round(epochs * sum(map(len, kinds)))]


def _example(encode: Encoder, transcript: Transcript, ids: list[int], end: int) -> Example:
    n_prompt = len(encode.prompt(transcript.prompt))
    return Example([*ids, end], [0] * n_prompt + [1] * (len(ids) + 1 - n_prompt))
