"""How the rows of a batch may be read together, which the model's layers decide, and a cache that grows in place."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)

from interp.models.model import Model
from interp.models.positions import reaches_everywhere


class Batching(IntEnum):
    """How rows are read together, the fastest first; what can be read in one way can be in every later one."""

    JOINED = 0  # others join a batch under way, and a beginning is read once: padding stands anywhere in a row
    PADDED = 1  # prompts of different lengths, padded on the left
    EQUAL = 2  # prompts of the same length only
    ALONE = 3
    UNCACHED = 4  # alone, and the whole text again for every token


SLOWER = {
    Batching.PADDED: "some layers see part of the text or count padding: prompts do not share their beginning",
    Batching.EQUAL: "padding changes the logits: only prompts of the same length are written to together",
    Batching.ALONE: "a batch changes the logits: prompts are written to one by one",
    Batching.UNCACHED: "the cache does not give the logits of the whole text: it is read again for every token",
}
"""What the notes of a model say of a way that is not the fastest."""


def supposed_batching(model: Model) -> Batching:
    """The fastest way that the configuration and the layers of the cache that the model makes for itself allow."""
    ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        out = model.hf(ids, use_cache=True)
    cache = out.get("past_key_values", out.get("cache_params"))
    if not isinstance(cache, Cache):
        return Batching.UNCACHED
    kinds = {type(layer) for layer in cache.layers}
    if kinds == {DynamicLayer}:
        return Batching.JOINED if reaches_everywhere(model.hf.config) else Batching.PADDED
    known = (DynamicSlidingWindowLayer, LinearAttentionCacheLayerMixin, DummyLayer)
    return Batching.PADDED if all(kind is DynamicLayer or issubclass(kind, known) for kind in kinds) else Batching.ALONE


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """Keys and values, [row, head, token, d_head], in buffers with room for more; replaced ones get a new buffer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffers: dict[str, Tensor] = {}

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.keys, self.values = self._grown("keys", key_states), self._grown("values", value_states)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        if not self.is_initialized or len(beam_idx) > len(self.keys):
            super().reorder_cache(beam_idx)
            return
        beam_idx = beam_idx.to(self.keys.device)  # another in a sharded model
        to = (beam_idx != torch.arange(len(beam_idx), device=beam_idx.device)).nonzero()[:, 0]
        for name in ("keys", "values"):  # in place: a few rows that end do not move all others
            old = getattr(self, name)
            old[to] = old[beam_idx[to]]
            setattr(self, name, old[: len(beam_idx)])

    def _grown(self, name: str, new: Tensor) -> Tensor:
        old = getattr(self, name)
        n_old, n_all = old.shape[2], old.shape[2] + new.shape[2]
        buffer = self._buffers.get(name)
        if buffer is None or buffer.data_ptr() != old.data_ptr() or buffer.shape[2] < n_all:
            buffer = torch.empty(*new.shape[:2], n_all + 64, new.shape[3], dtype=new.dtype, device=new.device)
            buffer[:, :, :n_old] = old
            self._buffers[name] = buffer
        buffer = buffer[: len(new)]
        buffer[:, :, n_old:n_all] = new
        return buffer[:, :, :n_all]


def growing_cache() -> Cache:
    """A cache for a model all of whose layers attend to all that came before."""
    return Cache(layer_class_to_replicate=GrowingLayer)
