"""The same architecture with random weights: what is known of a text before anything is learned."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from interp.errors import UserError, first_line
from interp.models.adapters import RAISED
from interp.models.loading import shard
from interp.models.model import Model, wrap

UNTRAINED = "untrained"


def untrained(model: Model, seed: int = 0) -> Model:
    """A model of the same architecture and tokenizer on the same device, with random weights.

    Raises `UserError` where transformers cannot build it from its configuration alone.

    >>> interp.models.untrained(model).provenance["seed"]
    0
    """
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(model.hf.config)
    config._attn_implementation = model.attention
    vars(config).pop("quantization_config", None)
    sharded = hasattr(model.hf, "hf_device_map") and not hasattr(model.hf, "hf_quantizer")
    try:
        with torch.random.fork_rng(), torch.device("cpu") if sharded else model.device:
            torch.manual_seed(seed)
            made = AutoModelForCausalLM.from_config(config, dtype=model.hf.dtype)
        made = shard(made) if sharded else made
    except RAISED as error:
        without = "go without that control (--no-controls; --no-untrained in probe)"
        raise UserError(
            f"model {model.name}: cannot be built with random weights ({first_line(error)}); {without}"
        ) from error
    return wrap(made, model.tokenizer, {"name": UNTRAINED, "shape_of": model.provenance, "seed": seed})


@contextmanager
def room_beside(model: Model) -> Iterator[None]:
    """Within this context a GPU has room for a second model; if need be, the first one waits in the CPU's memory."""
    size = sum(each.numel() * each.element_size() for each in model.hf.parameters())
    moved = model.device if model.device.type == "cuda" and not hasattr(model.hf, "hf_device_map") else None
    if moved is not None and torch.cuda.mem_get_info(moved)[0] < 1.5 * size:
        model.seats = None  # its memory too
        model.hf.to("cpu")
        torch.cuda.empty_cache()
    try:
        yield
    finally:
        if moved is not None:
            torch.cuda.empty_cache()
            model.hf.to(moved)
