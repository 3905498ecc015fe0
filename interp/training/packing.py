"""Texts end to end in one row, without padding, each attending to itself alone. Slow to import."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "packed"


def can_pack(hf: Any, half: bool) -> bool:
    """Whether a GPU has a kernel for a model's packed rows: for plain causal attention in 16 bits."""
    config = hf.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    odd = ("sliding_window", "attn_logit_softcapping", "attention_dropout")
    plain = hf._supports_flash_attn and not any(getattr(config, name, None) for name in odd)
    plain &= {*(getattr(config, "layer_types", None) or ())} <= {"full_attention"} and width % 8 == 0 and width <= 256
    return half and plain and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: None, *, cu_seq_lens_q: Tensor, **how: Any
) -> tuple[Tensor, None]:
    """Causal attention within each text, from (1, head, token, width) to (1, token, head, width)."""
    scale = how.get("scaling")
    if query.is_cuda:
        parts = (x[0].transpose(0, 1).to(torch.bfloat16) for x in (query, key, value))
        texts = [cu_seq_lens_q] * 2 + [how["max_length_q"]] * 2
        # The kernel of torch.nn.attention.varlen, whose own arguments change between versions of torch.
        out = torch.ops.aten._flash_attention_forward(*parts, *texts, 0.0, True, False, scale=scale)[0]
        return out[None], None
    alone = partial(scaled_dot_product_attention, is_causal=True, scale=scale, enable_gqa=True)
    each: list[Any] = [[x[:, :, a:b] for x in (query, key, value)] for a, b in pairwise(cu_seq_lens_q.tolist())]
    return torch.cat([alone(*text) for text in each], dim=2).transpose(1, 2), None


AttentionInterface.register(NAME, attend)
