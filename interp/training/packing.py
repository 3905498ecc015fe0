"""Texts end to end in one row, without padding, each attending to itself alone. Slow to import."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from interp.models.adapters import RAISED
from interp.models.model import LOGIT_TOLERANCE

NAME, FULL = "packed", "full_attention"


def pack(hf: Any, half: bool) -> bool:
    """Have a model read packed rows, if what it then makes of two texts is what it makes of each alone.

    On a GPU, the kernel takes 16 bits. Short texts would not show a window or dropout.
    """
    config = hf.config.get_text_config()
    odd = ("sliding_window", "attn_logit_softcapping", "attention_dropout", "attn_pdrop")
    if any(getattr(config, name, None) for name in odd) or {*(getattr(config, "layer_types", None) or ())} - {FULL}:
        return False
    if torch.cuda.is_available():
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        if not half or width % 8 or width > 256 or torch.cuda.get_device_capability() < (8, 0):
            return False
    before, texts = hf.config._attn_implementation, [list(range(3, 3 + n)) for n in (9, 5)]
    rows = DataCollatorForLanguageModeling(0, padding_free=True)([{"input_ids": t, "labels": t} for t in texts])
    with torch.inference_mode(), suppress(*RAISED):
        alone = torch.cat([hf(input_ids=torch.tensor([text])).logits[0] for text in texts])
        hf.set_attn_implementation(NAME)
        off = (hf(**rows, use_cache=False).logits[0] - alone).abs().max() / alone.abs().max()
        if off <= 5 * LOGIT_TOLERANCE.get(hf.dtype, 1e-2):
            return True
    hf.set_attn_implementation(before)
    return False


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
