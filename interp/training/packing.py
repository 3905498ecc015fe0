"""Texts end to end in one row, without padding, each attending to itself alone. Slow to import."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from interp.errors import first_line
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
        ends = [cu_seq_lens_q] * 2 + [how["max_length_q"]] * 2
        # The kernel of torch.nn.attention.varlen, whose own arguments change between versions of torch.
        out = torch.ops.aten._flash_attention_forward(*parts, *ends, 0.0, True, False, scale=scale)[0]
        return out[None], None
    alone = partial(scaled_dot_product_attention, is_causal=True, scale=scale, enable_gqa=True)
    texts = [(a, b) for a, b in pairwise(cu_seq_lens_q.tolist()) if a < b]
    each: list[Any] = [[x[:, :, a:b] for x in (query, key, value)] for a, b in texts]
    return torch.cat([alone(*text) for text in each], dim=2).transpose(1, 2), None


AttentionInterface.register(NAME, attend)


class Stack(torch.nn.Module):
    """All layers of a model as one module whose arguments are tensors."""

    def __init__(self, layers: Iterable[Any], longest: int) -> None:
        super().__init__()
        self.layers, self.longest = torch.nn.ModuleList(layers), longest
        self.trained = {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def forward(self, ends: Tensor, hidden: Tensor, *positions: Tensor) -> Tensor:
        how = {"position_embeddings": positions, "cu_seq_lens_q": ends, "max_length_q": self.longest}
        if len(positions) == 1:  # a complex number in place of a cosine and a sine
            how["position_embeddings"] = positions[0]
        for layer in self.layers:
            hidden = type(layer).forward(layer, hidden, **how)  # the layer's own forward is replaced
        return hidden

    def record(self, given: Sequence[Tensor], pool: Any) -> Callable[..., Tensor]:
        """The same, recorded by a GPU, forward and backward, for tensors of these shapes."""

        n = len(given)

        def with_weights(*all_given: Tensor) -> Tensor:
            return functional_call(self, dict(zip(self.trained, all_given[n:], strict=True)), all_given[:n])

        # Gradients of the weights themselves would be awaited on the stream of an earlier step, which ends a recording.
        twins = [weight.detach().requires_grad_() for weight in self.trained.values()]
        examples = *(x.detach().clone().requires_grad_(x.requires_grad) for x in given), *twins
        dtype, on = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        with torch.autocast("cuda", dtype, on, cache_enabled=False):
            made: Any = torch.cuda.make_graphed_callables(with_weights, examples, pool=pool)
        return lambda *given: made(*given, *self.trained.values())


@contextmanager
def recorded(hf: Any, texts: int, longest: int) -> Iterator[dict[int, Callable[..., Tensor]]]:
    """Have a GPU record the layers, forward and backward (CUDA graphs), once for all packed rows of about one length.

    A row has so many `texts` at most, none longer than `longest`, and is filled up, by half at most, with what nothing
    is learnt from. The next row overwrites the gradients: for one row a step. Layers that cannot be recorded are
    launched. Yields what was made, by the length of a row.
    """
    layers, made = list(getattr(hf.get_decoder(), "layers", ())), dict[int, Callable[..., Tensor]]()
    if not layers or "position_embeddings" not in signature(layers[0].forward).parameters:
        yield made
        return
    stack, recordable = Stack(layers, longest), torch.cuda.is_available()
    pool = torch.cuda.graph_pool_handle() if recordable else None

    def run(hidden: Tensor, *, position_embeddings: Any, cu_seq_lens_q: Tensor, **_: Any) -> Tensor:
        nonlocal recordable
        positions = position_embeddings if isinstance(position_embeddings, tuple) else (position_embeddings,)
        given, n = (hidden, *positions), hidden.shape[1]
        if not torch.is_grad_enabled():
            return stack(cu_seq_lens_q, *given)
        step = max(64, 2 ** (n.bit_length() - 4))
        room = min((room for room in made if n <= room <= 1.5 * n), default=-(-n // step) * step)
        filler = n + longest * torch.arange(1, texts + room // longest + 3 - len(cu_seq_lens_q), device=hidden.device)
        ends = torch.cat([cu_seq_lens_q, filler.clamp(max=room).to(cu_seq_lens_q)])
        filled = (ends, *(torch.nn.functional.pad(x, (0, 0, 0, room - n)) for x in given))
        if room not in made:
            made[room] = stack
            if recordable:
                try:
                    made[room] = stack.record(filled, pool)
                except RuntimeError as error:
                    recordable = False
                    why = f"training steps cannot be recorded ({first_line(error)}): they are launched one by one"
                    warnings.warn(why, stacklevel=2)
        return made[room](*filled)[:, :n]

    layers[0].forward = run
    for layer in layers[1:]:
        layer.forward = lambda hidden, **_: hidden
    try:
        yield made
    finally:
        for layer in layers:
            del layer.forward
