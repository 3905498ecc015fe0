"""What stage 2 reads again to learn: each completion once where that is enough, and never with all of its logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_hf, make_tokenizer
from test_training_stages import TASK, toy
from torch.utils._python_dispatch import TorchDispatchMode
from trl.kernels import chunked_logprob

from interp.training import grpo, loop
from interp.training.run import Run

VOCABULARY = 1031  # no other size of the model
TILE = 40  # more than its width, less than the tokens of a device batch


class Widest(TorchDispatchMode):
    """Watches how many rows the largest tensor over the vocabulary has."""

    rows = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, torch.Tensor) and each.dim() > 1 and each.shape[-1] == VOCABULARY:
                self.rows = max(self.rows, each.numel() // VOCABULARY)
        return out


@pytest.mark.parametrize(("iterations", "beta", "reads"), [(1, 0.0, 2), (1, 0.1, 4), (2, 0.0, 6)])
def test_a_step(iterations: int, beta: float, reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two device batches a step: read to learn, and besides only for a divergence or for a second step on them."""
    make_hf("llama", n_layers=1, vocab_size=VOCABULARY).save_pretrained(tmp_path / "base")
    make_tokenizer("bytes").save_pretrained(tmp_path / "base")
    seen, widest, real = list[int](), Widest(), loop.fit
    monkeypatch.setattr(chunked_logprob, "TOKEN_CHUNK_SIZE", TILE)

    def fit(run: Run, stage: str, trainer: Any, *rest: Any) -> int:
        def watched(*given: Any, **how: Any) -> Any:
            seen.append(1)
            with widest:
                return read(*given, **how)

        read, trainer.model.forward = trainer.model.forward, watched
        return real(run, stage, trainer, *rest)

    monkeypatch.setattr(loop, "fit", fit)
    base, preset = str(tmp_path / "base"), toy(tmp_path / "base")
    settings = replace(preset.grpo, num_iterations=iterations, beta=beta, epochs=1)
    grpo.train_grpo(Run(tmp_path / "run", preset), base, TASK.questions(2, 0), TASK, settings=settings)
    assert sum(seen) == reads
    assert widest.rows == TILE
