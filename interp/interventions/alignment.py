"""Distributed alignment search: the subspace that, interchanged, makes a model say what is expected.

Geiger et al., arXiv 2303.02536. An orthonormal basis B [rank, d_model] is learnt by gradient descent on the cross
entropy of the expected tokens, the model's weights being fixed, while h becomes h + ((h_source − h)Bᵀ)B at one hook
point and some tokens.

A search finds something in anything, and what it finds need not be what the model uses: a part that varies but that no
later layer reads can be tied to one that is read but hardly varies (Makelov et al., arXiv 2311.17030). So judge what is
found by swaps of other questions, beside the same search on random weights and with permuted agents, beside other
agents' subspaces and random ones (`interp.directions.random_subspace`), and by the part that later layers read
(`probes.readable`). Not checked: whether the model works this way on texts unlike those of the swaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain, starmap
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache

from interp.activations.reading import read_tokens
from interp.directions.directions import Direction
from interp.directions.subspaces import Subspace, directions_in
from interp.errors import Progress, UserError
from interp.generation.cache import Batching
from interp.generation.sampling import proven_batching
from interp.interventions.swaps import Swap, obeyed
from interp.models.layers import Site
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.steering.changes import TOKENS, Positions, named, paired, tokens_read
from interp.steering.hooks import unsteered

NONE = -100
"""No token; cross entropy passes it over."""
MOST_KEPT = 2**27
"""Numbers of keys and values that are kept; where it takes more, whole texts are read at every step."""
Change = Callable[[Tensor, Tensor], Tensor]
"""Own activations and the source's [row, token, d_model] → new ones."""


def search(
    model: Model,
    swaps: Sequence[Swap],
    *,
    layer: int,
    rank: int,
    site: Site = "resid_post",
    tokens: str | Positions = "last",
    label: str = "found",
    steps: int = 250,
    batch_size: int = 256,
    learning_rate: float = 0.1,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> list[Direction]:
    """An orthonormal basis of the subspace whose interchange makes what the swaps expect likeliest.

    Adam on a free matrix, whose QR decomposition gives the basis; the rate, in radians a step, falls to 0 by the end.
    At least half of a batch expect another answer than without a swap. Raises `UserError` for a layer or a rank that
    the model lacks, and where no swap expects another answer.

    >>> swap = interp.interventions.Swap("Problem: 3+4*2", "Problem: 1+1*2", "3")
    >>> [direction] = interp.interventions.search(model, [swap], layer=1, rank=1, steps=2)
    >>> direction.hook_point
    'blocks.1.hook_resid_post'
    """
    hook_point = model.hook_name(site, layer)
    if not 1 <= rank <= model.d_model:
        raise UserError(f"rank {rank}: {model.name} has width {model.d_model}; give 1 to {model.d_model}")
    if min(steps, batch_size) < 1:
        raise UserError(f"{steps} steps of {batch_size} swaps: give at least one of each")
    with unsteered(model), model.only_hooked():
        asks = ~obeyed(model, swaps, [])
        if not asks.any():
            raise UserError(f"{len(swaps)} swaps: none expects another answer than without it; give some that do")
        runs = Runs(model, swaps, hook_point, tokens)
        chance = np.where(asks, max(1.0, (~asks).sum() / asks.sum()), 1.0)
        free = torch.randn(model.d_model, rank, generator=torch.Generator().manual_seed(seed)).to(model.device)
        optimizer = torch.optim.Adam([free.requires_grad_()], lr=learning_rate)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)
        draw = np.random.default_rng(seed)
        for step in range(steps):
            rows = torch.from_numpy(draw.choice(len(swaps), batch_size, p=chance / chance.sum()))
            logits, labels = runs.read(rows, swapped(torch.linalg.qr(free).Q.T))
            optimizer.zero_grad()
            cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            decay.step()
            progress("searching a subspace", step + 1, steps)
    found = Subspace(torch.linalg.qr(free.detach()).Q.T.cpu().numpy(), np.ones(rank))
    return directions_in(found, rank, runs.values.cpu().numpy(), label=label, layer=layer, site=site)


def swapped(basis: Float[Tensor, "rank d_model"]) -> Change:
    return lambda own, other: own + ((other - own) @ basis.T) @ basis


class Runs:
    """The runs of swaps; what comes before the first changed token is read once."""

    def __init__(self, model: Model, swaps: Sequence[Swap], hook_point: str, tokens: str | Positions) -> None:
        self.model, self.hook_point = model, hook_point
        encode, (positions, name) = Encoder(model.tokenizer), named("tokens", tokens, TOKENS)
        prompt, answer = cache(encode.prompt), cache(encode.continuation)
        sources = {text: tokens_read(text, "", positions, model.tokenizer) for text in {s.source: 0 for s in swaps}}
        values = read_tokens(model, [hook_point], list(sources.values()))
        self.values = torch.from_numpy(np.concatenate(values)[:, 0]).to(model.device)
        first = dict(zip(sources, np.cumsum([0, *map(len, values)]).tolist(), strict=False))
        texts, gets, labels = list[list[int]](), list[list[int]](), list[list[int]]()
        for swap in swaps:
            n, said = len(prompt(swap.prompt)), answer(swap.expected)
            texts.append([*prompt(swap.prompt), *said[:-1]])
            labels.append([NONE] * (n - 1) + said)
            gets.append([NONE] * len(texts[-1]))
            pairs = paired(positions(n), len(sources[swap.source][1]))
            for k, at in enumerate(chain.from_iterable(starmap(range, pairs))):
                gets[-1][at : at + 1] = [first[swap.source] + k] * (at < len(texts[-1]))
            if max(gets[-1]) < 0:
                raise UserError(f"tokens {name}: none of them comes before the answer; give tokens of the prompt")
        each = [[max(token) >= 0 for token in zip(*columns, strict=True)] for columns in zip(gets, labels, strict=True)]
        starts = [changed.index(True) for changed in each]
        heads = [tuple(text[:n]) for text, n in zip(texts, starts, strict=True)]
        place = {head: k for k, head in enumerate(dict.fromkeys(heads))}
        few = 2 * model.n_layers * model.d_model * len(place) * max(starts) <= MOST_KEPT
        self.kept: list[tuple[Tensor, Tensor]] = []
        if few and min(starts) and proven_batching(model) is Batching.JOINED:
            ids, past = self._padded(place, "left"), DynamicCache()
            self.head, self.mask = torch.tensor([place[head] for head in heads]), (ids >= 0).long()
            given = {"position_ids": (self.mask.cumsum(1) - 1).clamp(min=0), "past_key_values": past, "use_cache": True}
            with torch.no_grad():
                model.hf.base_model(ids.clamp(min=0), self.mask, **given)
            self.kept = [(layer.keys, layer.values) for layer in past.layers]
        starts = starts if self.kept else [0] * len(swaps)
        left = ([row[n:] for row, n in zip(rows, starts, strict=True)] for rows in (texts, gets, labels))
        self.ids, self.gets, self.labels = map(self._padded, left)

    def _padded(self, rows: Iterable[Sequence[int]], side: str = "right") -> Int[Tensor, "row column"]:
        return pad_sequence([torch.tensor(row) for row in rows], True, NONE, side).to(self.model.device)

    def read(self, rows: Int[Tensor, " row"], change: Change) -> tuple[Tensor, Tensor]:
        """Logits [row, token, id] of changed runs, and the ids expected [row, token], elsewhere `NONE`."""
        ids, gets = self.ids[rows], self.gets[rows]
        given = {"input_ids": ids.clamp(min=0), "use_cache": bool(self.kept)}
        if self.kept:
            head, past = self.head[rows], DynamicCache()
            for layer, (keys, values) in enumerate(self.kept):
                past.update(keys[head], values[head], layer)
            mask = torch.cat([self.mask[head], (ids >= 0).long()], dim=1)
            positions = (mask.cumsum(1) - 1)[:, -ids.shape[1] :]
            given |= {"past_key_values": past, "attention_mask": mask, "position_ids": positions}

        def act(value: Tensor, hook: Any) -> Tensor:
            changed = change(value.float(), self.values[gets.clamp(min=0)])
            return torch.where(gets[..., None] >= 0, changed.to(value.dtype), value)

        with self.model.bridge.hooks(fwd_hooks=[(self.hook_point, act)]):
            return self.model.hf(**given).logits.float(), self.labels[rows]
