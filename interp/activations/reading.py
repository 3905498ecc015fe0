"""Transcripts to activations: one causal pass each gives every chosen layer and turn, streamed in constant memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from interp.activations.corpus import Corpus, TurnTable
from interp.errors import UserError
from interp.models.layers import Site
from interp.models.model import Model
from interp.models.tokens import Encoder

POSITIONS: dict[str, Callable[[TurnTable], tuple[np.ndarray, np.ndarray]]] = {
    "last": lambda turns: (turns.stop - 1, turns.stop),
    "mean": lambda turns: (turns.start, turns.stop),
    "tag": lambda turns: (turns.tag - 1, turns.tag),
}
"""Where a turn is read, as a range of tokens to average over; the last token of its text is the paper's choice."""


@dataclass(frozen=True)
class Readings:
    """The activations of all turns of some transcripts."""

    rows: Int[np.ndarray, " turn"]
    """The turns' rows in the corpus's table."""
    values: Float[np.ndarray, "turn position layer d_model"]
    """In float32; NaN where a turn has no text to read."""
    transcripts: tuple[int, ...]


def stream(
    model: Model,
    corpus: Corpus,
    *,
    layers: Sequence[int] | None = None,
    site: Site = "resid_post",
    positions: Sequence[str] = ("last",),
    batch_tokens: int | None = None,
    done: Collection[int] = (),
    share: tuple[int, int] = (0, 1),
) -> Iterator[Readings]:
    """Read every turn of the corpus in one pass per transcript, leaving out batches of which all are `done`.

    With a `share` (i, n), only batch i of every n of those left is read. `batch_tokens` (by default `tokens_at_once`)
    bounds a batch with its padding; a longer transcript is its own batch. What is done does not change who shares a
    batch, so a resumed run reads the same numbers.

    >>> corpus = interp.activations.Corpus.build(transcripts[:2], model.tokenizer)
    >>> [readings.values.shape for readings in interp.activations.stream(model, corpus, layers=[1, 2])]
    [(9, 1, 2, 128)]
    """
    names = [model.hook_name(site, layer) for layer in model.chosen_layers(layers)]
    at_once = batch_tokens or tokens_at_once(model)
    if unknown := set(positions) - POSITIONS.keys():
        raise UserError(f"position {', '.join(unknown)}: unknown; choose one of {', '.join(POSITIONS)}")
    ranges = [POSITIONS[p](corpus.turns) for p in positions]
    empty = corpus.turns.start == corpus.turns.stop
    # the longest first: a batch that does not fit in memory fails at once
    left, done = sorted(corpus.usable, key=lambda t: (-len(corpus.ids[t]), t)), set(done)
    number = -1  # of the batch, among those that are not done
    with model.only_hooked(), torch.inference_mode():
        while left:
            longest = len(corpus.ids[left[0]])
            n = 1 if model.alone(longest) else max(1, at_once // longest)
            batch, left = left[:n], left[n:]
            if done.issuperset(batch):
                continue
            number += 1
            if number % share[1] != share[0]:
                continue
            rows = np.concatenate([np.flatnonzero(corpus.turns.transcript == t) for t in batch])
            # what follows the last turn changes nothing that is read
            ends = [corpus.turns.stop[corpus.turns.transcript == t].max() for t in batch]
            ids = [corpus.ids[t][:end] for t, end in zip(batch, ends, strict=True)]
            in_batch = np.array([batch.index(t) for t in corpus.turns.transcript[rows]])
            # an empty turn has no token: read another one, replaced by NaN below
            spans = np.array([[np.where(empty, stop - 1, start)[rows], stop[rows]] for start, stop in ranges])
            read = _forward(model, names, ids, in_batch, rearrange(spans, "p two t -> t p two"))
            read[np.ix_(empty[rows], [position != "tag" for position in positions])] = np.nan
            yield Readings(rows, read, tuple(batch))


def tokens_at_once(model: Model) -> int:
    """2048 tokens on a CPU; on a GPU as many as a tenth of the memory that the weights leave takes, at most 32,768.

    Twenty numbers of the width of the residual stream are reckoned for a token. Other models in memory change nothing,
    so that a resumed run reads what it would have read.
    """
    if model.device.type != "cuda":
        return 2048
    free = torch.cuda.get_device_properties(model.device).total_memory
    free -= sum(weight.numel() * weight.element_size() for weight in model.hf.parameters())
    n = max(2048, int(0.1 * free / (20 * model.d_model * model.dtype.itemsize)))
    return min(32768, 2 ** (n.bit_length() - 1))


def read_last(
    model: Model, prompts: Sequence[str], *, layers: Sequence[int] | None = None, site: Site = "resid_post"
) -> Float[np.ndarray, "prompt layer d_model"]:
    """The activations at the last token of each prompt, in float32; those of one length are read together.

    >>> interp.activations.read_last(model, ["Problem: 3+4*2", "Problem: 1+1"], layers=[1, 2]).shape
    (2, 2, 128)
    """
    names, encode = [model.hook_name(site, layer) for layer in model.chosen_layers(layers)], Encoder(model.tokenizer)
    ids = [encode.prompt(prompt) for prompt in prompts]
    if not ids or not all(ids):
        raise UserError(f"{len(ids)} prompts: give at least one, and none that is empty")
    return np.stack(read_tokens(model, names, [(each, [len(each) - 1]) for each in ids]))[:, 0]


def read_tokens(
    model: Model,
    names: Sequence[str],
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    onto: Float[np.ndarray, "name k d_model"] | None = None,
) -> list[Float[np.ndarray, "token name d_model"]]:
    """The activations at these hook points of each text's chosen tokens, in float32; no text is padded.

    With `onto` only their products with these vectors are kept, [token, name, k].
    """
    read: dict[int, np.ndarray] = {}
    lengths = [len(ids) for ids, _ in texts]
    if max(lengths, default=0) > (model.context_length or sys.maxsize):
        raise UserError(f"text of {max(lengths):,} tokens: {model.name} reads {model.context_length:,}; shorten it")
    left = sorted(range(len(texts)), key=lengths.__getitem__)
    with model.only_hooked(), torch.inference_mode():
        while left:
            n = max(1, 8192 // lengths[left[0]]) if (model.batching or 0) < 3 else 1  # a batch changes what it reads
            batch = [i for i in left[:n] if lengths[i] == lengths[left[0]]]
            left = left[len(batch) :]
            rows = np.repeat(np.arange(len(batch)), [len(texts[i][1]) for i in batch])
            spans = np.concatenate([texts[i][1] for i in batch])[:, None, None] + [0, 1]
            values = _forward(model, names, [texts[i][0] for i in batch], rows, spans, onto)[:, 0]
            read |= {i: values[rows == row] for row, i in enumerate(batch)}
    return [read[i] for i in range(len(texts))]


class _DeepestLayerReached(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass."""


def _forward(
    model: Model,
    names: Sequence[str],
    sequences: Sequence[Sequence[int]],
    in_batch: np.ndarray,
    spans: np.ndarray,
    onto: Float[np.ndarray, "layer k d_model"] | None = None,
) -> Float[np.ndarray, "turn position layer d_model"]:
    """One pass over a batch: the mean over every span [turn, position, 2] at every hook point, in float32."""
    if model.engine is not None:
        whole = model.engine.read(names, sequences, in_batch, spans)
        return whole if onto is None else np.einsum("tpld,lkd->tplk", whole, onto)
    # padded on the right: no token attends to later ones
    ids = pad_sequence([torch.tensor(ids) for ids in sequences], batch_first=True).to(model.device)
    # spans in the batch as one row of tokens
    flat = rearrange(spans + (in_batch * ids.shape[1])[:, None, None], "t p two -> (t p) two")
    at = torch.tensor(np.concatenate([np.arange(*span) for span in flat]), device=model.device)
    lengths = torch.tensor(flat[:, 1] - flat[:, 0], device=model.device)
    averaged = bool((lengths > 1).any())
    # One buffer, allocated before the pass: small pieces among large short-lived ones would fragment memory.
    width = model.d_model if onto is None else onto.shape[1]
    read = torch.empty(len(names), len(lengths), width, device=model.device)
    reached: set[int] = set()

    def keep(value: Tensor, hook: Any, i: int) -> None:
        if value.shape[:2] != ids.shape:
            given = f"{model.name} gives it the shape {tuple(value.shape)}"
            raise UserError(f"{names[i]}: {given}, expected (batch, token, …); choose another --site")
        picked = value.flatten(0, 1).index_select(0, at.to(value.device)).float()
        picked = picked if onto is None else picked @ torch.tensor(onto[i].T, device=value.device)
        picked = picked.to(read.device)  # of a sharded model
        read[i] = torch.segment_reduce(picked, "mean", lengths=lengths) if averaged else picked
        reached.add(i)
        if len(reached) == len(names):
            raise _DeepestLayerReached

    hooks = [(name, partial(keep, i=i)) for i, name in enumerate(names)]
    with model.bridge.hooks(fwd_hooks=hooks), suppress(_DeepestLayerReached):
        model.hf.base_model(input_ids=ids, use_cache=False)
    assert len(reached) == len(names)
    return rearrange(read.cpu().numpy(), "l (t p) d -> t p l d", p=spans.shape[1])
