"""A KV cache that grows without being copied at every token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


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

    def _grown(self, name: str, new: Tensor) -> Tensor:
        old = getattr(self, name)
        n_old, n_all = old.shape[2], old.shape[2] + new.shape[2]
        buffer = self._buffers.get(name)
        if buffer is None or buffer.data_ptr() != old.data_ptr() or len(buffer) != len(old) or buffer.shape[2] < n_all:
            buffer = torch.empty(*new.shape[:2], n_all + 64, new.shape[3], dtype=new.dtype, device=new.device)
            buffer[:, :, :n_old] = old
            self._buffers[name] = buffer
        buffer[:, :, n_old:n_all] = new
        return buffer[:, :, :n_all]


def growing_cache() -> Cache:
    """A cache for a model all of whose layers attend to all that came before."""
    return Cache(layer_class_to_replicate=GrowingLayer)
