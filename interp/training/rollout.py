"""Completions for GRPO, sampled from a merged copy: with small models on a CPU several times faster than TRL."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from interp.generation.sampling import generate
from interp.models.model import wrap
from interp.models.tokens import Encoder
from interp.training.run import processes


class Rollout:
    """TRL's `rollout_func`: prompts → completions, seeded from torch's global random state.

    `hf` is the model without its adapter; `limit` gives the longest completion in tokens for a trainer's state;
    `options` are those of `generate`.
    """

    def __init__(self, hf: Any, tokenizer: Any, limit: Callable[[Any], int], **options: Any) -> None:
        plain = copy.deepcopy(hf).to(processes().device)
        self._weights = dict(plain.named_parameters())
        self._encode, self._model = Encoder(tokenizer), wrap(plain, tokenizer)
        self._limit, self._options = limit, options

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        self.refresh(trainer.accelerator.unwrap_model(trainer.model))
        ids = [self._encode.prompt(prompt) for prompt in prompts]
        seeds = torch.randint(2**62, (len(ids),)).tolist()
        limit = self._limit(trainer.state)
        with few_threads(sum(weight.numel() for weight in self._weights.values())):
            written = generate(self._model, ids, max_new_tokens=limit, seeds=seeds, **self._options)
        completions = [out.ids if out.end is None else [*out.ids, out.end] for out in written]
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None}

    @torch.no_grad()
    def refresh(self, model: Any) -> None:
        """Update the copy's weights to those of the model with its adapter."""
        from peft.tuners.lora import LoraLayer

        for name, layer in model.get_base_model().named_modules():
            if isinstance(layer, LoraLayer):
                weight = layer.get_base_layer().weight
                merged = weight + layer.get_delta_weight("default").to(weight.dtype)
                self._weights[f"{name}.weight"].copy_(merged)


@contextmanager
def few_threads(n_weights: int) -> Iterator[None]:
    """Use one thread for a model so small that more would only wait for each other."""
    before = torch.get_num_threads()
    if n_weights <= 20_000_000:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
