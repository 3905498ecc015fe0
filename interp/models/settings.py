"""Which model, and how it is loaded, as settings. Knows names; loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from interp.options import option

Dtype = Literal["auto", "fp32", "bf16", "fp16"]
Backend = Literal["interp", "vllm", "vllm-static", "eager"]


@dataclass(frozen=True)
class Loading:
    """How models are loaded."""

    dtype: Dtype = "auto"
    """Precision; auto is fp32 on a CPU and bf16 on a GPU."""
    device: str = option("auto")
    """Device: cpu, cuda, cuda:1 …; auto takes a GPU where there is one, shard all of them for one model."""
    revision: str | None = None
    """Revision of a model on the Hugging Face hub."""
    engine: Backend = "interp"
    """What reads and writes: this package, or interp-engine on vLLM, on vLLM with CUDA graphs, or eager."""


@dataclass(frozen=True)
class ModelSettings:
    """One model; `load_model(**settings.arguments)` loads it."""

    model: str = "smollm2-135m"
    """Model: a preset, hub id, local folder or GGUF file."""
    adapters: tuple[str, ...] = option((), name="adapter")
    """LoRA adapter for --model; repeat to apply several in order."""
    loading: Loading = Loading()

    @property
    def arguments(self) -> dict[str, Any]:
        return {"name": self.model, "adapters": self.adapters, **vars(self.loading)}
