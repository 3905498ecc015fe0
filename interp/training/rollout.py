"""Completions for GRPO from a merged copy of the model.

Knows how to keep a plain copy in step with a model under LoRA and how to sample from it; knows nothing
about rewards. A small model spends more time on the adapter's many little products than on its own
weights, and `interp.generation` drops a row as soon as it ends: together they sample several times
faster than TRL does on a CPU. The copy is never trained: LoRA stays LoRA.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from interp.generation.sampling import generate
from interp.models.model import wrap
from interp.models.tokens import Encoder
from interp.training.loop import processes

SMALL = 20_000_000
"""Weights up to which sampling on a CPU takes one thread: a second one waits more than it works, and on a
busy machine it makes sampling several times slower."""


class Rollout:
    """TRL's `rollout_func`: prompts → completions, sampled with random numbers from torch's own state.

    `limit` gives the most tokens of a completion for a trainer's state.
    """

    def __init__(
        self,
        hf: Any,
        tokenizer: Any,
        *,
        temperature: float,
        top_p: float,
        batch_size: int,
        limit: Callable[[Any], int],
    ) -> None:
        """`hf` is the model before it gets its adapter, and before the trainer moves it to its device."""
        plain = copy.deepcopy(hf).to(processes().device)
        self._weights = dict(plain.named_parameters())
        self._encode = Encoder(tokenizer)
        self._model = wrap(plain, tokenizer)
        self._options: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "batch_size": batch_size}
        self._limit = limit

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        model = trainer.accelerator.unwrap_model(trainer.model)
        self.refresh(model)
        ids = [self._encode.prompt(prompt) for prompt in prompts]
        seeds = torch.randint(2**62, (len(ids),)).tolist()
        limit = self._limit(trainer.state)
        with few_threads(sum(weight.numel() for weight in self._weights.values())):
            written = generate(self._model, ids, max_new_tokens=limit, seeds=seeds, **self._options)
        completions = [out.ids if out.end is None else [*out.ids, out.end] for out in written]
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None}

    @torch.no_grad()
    def refresh(self, model: Any) -> None:
        """Bring the copy's weights up to the model's, its adapter included."""
        for name, layer in model.get_base_model().named_modules():
            if isinstance(layer, LoraLayer):
                weight = layer.get_base_layer().weight
                merged = weight + layer.get_delta_weight("default").to(weight.dtype)
                self._weights[f"{name}.weight"].copy_(merged)


@contextmanager
def few_threads(n_weights: int) -> Iterator[None]:
    """One thread, where a model is so small that more would only wait for each other."""
    before = torch.get_num_threads()
    if n_weights <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
