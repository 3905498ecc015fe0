"""A KV cache that grows without being copied at every token.

Knows how transformers calls a layer of a cache; knows nothing about models, prompts or rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_SPARE = 64
"""Tokens that there is room for beyond those that are kept."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """Keys and values of one layer, written into a buffer with room to spare.

    `keys` and `values` are those parts of the buffers that are in use, of shape [row, head, token, d_head];
    whatever else puts tensors of its own in their place is followed by a new buffer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffers: dict[str, Tensor] = {}

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add tokens; returns all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.keys = self._grown("keys", self.keys, key_states)
        self.values = self._grown("values", self.values, value_states)
        return self.keys, self.values

    def _grown(self, name: str, old: Tensor, new: Tensor) -> Tensor:
        n_old, n_all = old.shape[2], old.shape[2] + new.shape[2]
        buffer = self._buffers.get(name)
        if buffer is None or buffer.data_ptr() != old.data_ptr() or len(buffer) != len(old) or buffer.shape[2] < n_all:
            buffer = torch.empty(*new.shape[:2], n_all + _SPARE, new.shape[3], dtype=new.dtype, device=new.device)
            buffer[:, :, :n_old] = old
            self._buffers[name] = buffer
        buffer[:, :, n_old:n_all] = new
        return buffer[:, :, :n_all]


def growing_cache() -> Cache:
    """A cache for a model all of whose layers attend to all that came before."""
    return Cache(layer_class_to_replicate=GrowingLayer)
