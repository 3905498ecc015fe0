"""Transcripts as the examples of stage 1: token ids, tokenized as activations are later read, and what is learnt."""

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
    """Token ids, each with a 1 if it is learnt and a 0 in the prompt."""

    input_ids: list[int]
    completion_mask: list[int]


@dataclass(frozen=True, slots=True)
class Examples:
    """What stage 1 trains on, and what was left out."""

    kept: list[Example]
    undecided: int
    """Transcripts without a consensus, which are not learnt (Latent Agents, section 3)."""
    too_long: int
    """Transcripts with more tokens than the limit."""


Form = Callable[[Encoder, Transcript, int], Example]
"""(encoder, transcript, end token) → the example made of it."""


def _example(encode: Encoder, transcript: Transcript, ids: list[int], end: int) -> Example:
    n_prompt = len(encode.prompt(transcript.prompt))
    return Example([*ids, end], [0] * n_prompt + [1] * (len(ids) + 1 - n_prompt))


def whole(encode: Encoder, transcript: Transcript, end: int) -> Example:
    """The prompt, then the whole debate: stage 1."""
    return _example(encode, transcript, encode.transcript(transcript)[0], end)


def consensus_only(encode: Encoder, transcript: Transcript, end: int) -> Example:
    """The prompt, then the sentence with the consensus answer, without tags: DebateGPT."""
    ids = encode.prompt(transcript.prompt) + encode.continuation(transcript.consensus or "")
    return _example(encode, transcript, ids, end)


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


def in_batches(kinds: Sequence[Sequence[Example]], batch_size: int, epochs: float, seed: int) -> list[Example]:
    """The examples in the order in which they are read, shuffled for every epoch.

    A batch has examples of one kind if possible: in a mean over tokens, short examples among long ones would hardly
    count. Batches of all kinds are shuffled together; what does not fill a batch comes at the end of the epoch.
    """
    rng = random.Random(seed)
    ordered = list[Example]()
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
