"""The next token of each row. What a row draws depends on its seed and on how much it has written, on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Pick = Callable[[Float[Tensor, "row token"], Int[Tensor, "row 2"], Int[Tensor, " row"]], Int[Tensor, " row"]]
"""(logits, keys of the rows, tokens that each has written) → its next token."""

# Odd factors of well-mixing 32-bit hashes, as signed integers (Wellons, "Hash function prospector").
_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B - 2**32


@dataclass(frozen=True)
class Drawing:
    """The likeliest token at temperature 0; else one from the smallest set whose probability reaches `top_p`.

    A draw is the largest of logit plus Gumbel noise: a search in cumulated probabilities would turn on their last
    digits, which change with the batch.
    """

    temperature: float
    top_p: float

    def __call__(self, logits: Tensor, keys: Tensor, written: Tensor) -> Int[Tensor, " row"]:
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits / self.temperature
        if self.top_p < 1:
            logits = logits.masked_fill(~_nucleus(logits.softmax(-1), self.top_p), -torch.inf)
        return (logits - _waits(keys, written, logits.shape[1]).log()).argmax(-1)


def keys_of(seeds: Sequence[int], device: torch.device) -> Int[Tensor, "row 2"]:
    """Two 32-bit numbers for each seed."""
    made = [np.random.SeedSequence(seed % 2**64).generate_state(2) for seed in seeds]
    return torch.from_numpy(np.array(made, np.uint32).reshape(-1, 2).view(np.int32)).to(device)


def _nucleus(probabilities: Float[Tensor, "row token"], top_p: float) -> Bool[Tensor, "row token"]:
    """The likeliest tokens, as few as reach `top_p`, with all that are as likely as the last."""
    if probabilities.device.type == "cpu":
        # Whatever is below this adds up to less than 1 - top_p; sorting the whole vocabulary would take far longer.
        likely = (probabilities > (1 - top_p) / probabilities.shape[1]).sum(-1)
        ordered = probabilities.topk(max(1, int(likely.max()))).values
        last = (ordered.cumsum(-1) < top_p).sum(-1, keepdim=True).clamp(max=ordered.shape[1] - 1)
        return probabilities >= ordered.gather(1, last)
    return probabilities >= _least_likely(probabilities, top_p)


def _least_likely(probabilities: Float[Tensor, "row token"], top_p: float) -> Float[Tensor, "row 1"]:
    """The last of these tokens' probability, without sorting, which failed when a GPU recorded it.

    Halves the range in which it lies: as bits, positive numbers are ordered like integers.
    """
    low = torch.zeros_like(probabilities[:, :1], dtype=torch.int32)
    high = torch.full_like(low, 0x3F800000)  # 1.0
    for _ in range(30):
        middle = (low + high + 1) // 2
        enough = (probabilities * (probabilities >= middle.view(torch.float32))).sum(-1, keepdim=True) >= top_p
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle - 1)
    return low.view(torch.float32)


def _waits(keys: Int[Tensor, "row 2"], written: Int[Tensor, " row"], n_tokens: int) -> Float[Tensor, "row token"]:
    """Standard exponential numbers made by hashing, for all rows at once."""
    tokens = _mixed(torch.arange(1, n_tokens + 1, dtype=torch.int32, device=keys.device))
    first, second = (_mixed(key + written.int() * _SECOND)[:, None] for key in keys.unbind(1))
    uniform = (_mixed((tokens ^ first) * (second | 1)) & 0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31)
    return uniform.neg_().log1p_().neg_()


def _mixed(number: Tensor) -> Tensor:
    """32-bit integers, hashed one to one; the shifts fill with zeros."""
    number = number ^ ((number >> 16) & 0xFFFF)
    number = number * _FIRST
    number ^= (number >> 15) & 0x1FFFF
    number *= _SECOND
    return number.bitwise_xor_((number >> 16) & 0xFFFF)
