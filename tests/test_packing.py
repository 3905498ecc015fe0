"""Packed rows: the same loss, gradients and training as with padded ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_training_stepwise as stepwise
import torch
from architectures import build
from conftest import make_hf
from test_training_stages import TRANSCRIPTS, make_base
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from trl.trainer.utils import add_fused_lm_head

from interp.storage.journal import read_lines
from interp.training import packing
from interp.training.run import Run, activations, fitted
from interp.training.settings import SFT, LoRA
from interp.training.sft import train_sft

ROWS = [{"input_ids": list(range(3, 3 + n)), "labels": [-100, -100, *range(5, 3 + n)]} for n in (9, 30, 3, 17)]


def log_probs(hf: Any, padding_free: bool, rows: Any = ROWS) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Of every token to learn, text by text, and the gradients of the loss."""
    batch = DataCollatorForLanguageModeling(0, padding_free=padding_free)(rows)
    device = hf.device
    batch = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in batch.items()}
    hf.zero_grad()
    out = hf(**batch, fused_lm_head=True)
    out.loss.backward()
    gradients = {name: p.grad.clone() for name, p in hf.named_parameters() if p.grad is not None}
    return out.log_probs[out.label_mask].detach(), gradients


def fuse_head(hf: Any) -> None:
    """As the trainer does, whose loss reads the head's bias."""
    add_fused_lm_head(hf)
    if not hasattr(hf.get_output_embeddings(), "bias"):
        hf.get_output_embeddings().bias = None


def compare(hf: Any, **close: float) -> None:
    fuse_head(hf)
    padded, expected = log_probs(hf, padding_free=False)
    hf.set_attn_implementation(packing.NAME)
    packed, gradients = log_probs(hf, padding_free=True)
    assert len(packed) == sum(len(row["input_ids"]) - 2 for row in ROWS)
    torch.testing.assert_close(packed, padded, **close)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], **close, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_token_has_the_probability_that_it_has_alone(architecture: str, checkpointing: bool) -> None:
    hf = make_hf(architecture, n_layers=2).train()
    if checkpointing:
        hf.gradient_checkpointing_enable()
    compare(hf, atol=1e-5, rtol=1e-4)


def compare_filled(hf: Any, **close: float) -> None:
    """Rows of several lengths, each learnt from twice."""
    fuse_head(hf)
    hf.set_attn_implementation(packing.NAME)
    some = [ROWS, ROWS[:3], ROWS * 3, ROWS[1:], ROWS[:1]]
    expected = [log_probs(hf, True, rows) for rows in some]
    with packing.recorded(hf, 12, 31) as stacks:
        for _ in range(2):
            for rows, (learnt, gradients) in zip(some, expected, strict=True):
                filled, found = log_probs(hf, True, rows)
                torch.testing.assert_close(filled, learnt, **close)
                torch.testing.assert_close(found, gradients, **close)
    assert list(stacks) == [64, 192]
    assert log_probs(hf, True, ROWS)[0].equal(expected[0][0])


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "olmo2", "gpt-neox", "deepseek-v2", "mixtral"])
def test_a_row_that_is_filled_up_teaches_the_same(architecture: str) -> None:
    compare_filled(build(architecture), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
def test_what_would_be_recorded(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the recording itself, also of layers that are not trained."""

    def as_it_is(function: Any, examples: Any, pool: Any) -> Any:
        assert function(*examples).requires_grad
        return function

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", as_it_is)
    hf = make_hf("llama", n_layers=2).train()
    hf.model.layers.requires_grad_(not frozen)
    compare_filled(hf, atol=1e-5, rtol=1e-4)


on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="takes a CUDA GPU")


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_recorded_rows_on_a_gpu(architecture: str, recwarn: Any) -> None:
    """What is recorded gives what is launched, row after row."""
    compare_filled(make_hf(architecture, hidden_size=64).to("cuda", torch.bfloat16).train(), atol=3e-2, rtol=3e-2)
    assert not [w for w in recwarn if "recorded" in str(w.message)]


@pytest.mark.gpu
@on_gpu
def test_stage_1_recorded_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base(tmp_path / "base", tie_word_embeddings=True, hidden_size=64)
    chosen = stepwise.preset(base, every=1, after=1, at_once=2)
    chosen = chosen.override({"sft.gradient_checkpointing": "false", "sft.device_batch_size": "0", "precision": "bf16"})
    real, made, losses = packing.recorded, list[dict[int, Any]](), []

    @contextmanager
    def spy(*given: Any) -> Iterator[None]:
        with real(*given) as stacks:
            made.append(stacks)
            yield

    for name in ("launched", "recorded"):
        monkeypatch.setattr(packing, "recorded", spy if name == "recorded" else lambda *_: nullcontext())
        run = Run(tmp_path / name, chosen)
        train_sft(run, TRANSCRIPTS)
        losses.append([row["loss"] for row in read_lines(run.metrics) if "loss" in row])
    assert made[0]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_on_a_gpu(architecture: str) -> None:
    hf = make_hf(architecture, n_layers=2, hidden_size=64).to("cuda", torch.bfloat16).train()
    compare(hf, atol=3e-2, rtol=3e-2)


def test_what_cannot_be_packed_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Falcon would attend to other texts, StableLM has no place for where they begin; JetMoE takes no such row."""
    for name in ("falcon", "stablelm", "jetmoe", "mamba", "gpt2", "gemma3", "qwen3-next"):
        hf = build(name).eval()
        before = hf.config._attn_implementation
        assert not packing.pack(hf, half=False), name
        assert hf.config._attn_implementation == before
    for name in ("llama", "qwen3", "olmo2", "gpt-neox", "opt", "deepseek-v3", "mixtral"):
        assert packing.pack(build(name).eval(), half=False), name
    assert not packing.pack(make_hf("mistral", n_layers=1, sliding_window=64), half=True)
    assert not packing.pack(make_hf("llama", n_layers=1, attention_dropout=0.1), half=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    hf = make_hf("mistral", n_layers=1, sliding_window=None)
    assert not packing.pack(hf, half=False)
    assert packing.pack(hf, half=True)


@pytest.mark.parametrize("kind", ["sft", "stepwise"])
def test_stages_learn_the_same_from_packed_rows(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base(tmp_path / "base", tie_word_embeddings=True)
    runs = [Run(tmp_path / name, stepwise.preset(base, every=1, after=1, at_once=2)) for name in ("padded", "packed")]
    first = train_sft(runs[0], TRANSCRIPTS)
    real = packing.pack
    for run, packed in zip(runs, (False, True), strict=True):
        monkeypatch.setattr(packing, "pack", real if packed else lambda *_: False)
        if kind == "sft":
            train_sft(run, TRANSCRIPTS)
        else:
            stepwise.stage_two(run, first)
    stage = "sft" if kind == "sft" else "imad"
    rows = [[row for row in read_lines(run.metrics) if row["stage"] == stage and "loss" in row] for run in runs]
    padded, packed = ([row["loss"] for row in each] for each in rows)
    assert len(padded) == len(packed) > 2
    assert padded == pytest.approx(packed, abs=2e-4)
    rates = [row["tokens_per_second"] for row in rows[1] if "tokens_per_second" in row]
    assert len(rates) == len(packed) - 1
    assert min(rates) > 0


def test_device_batches_fit_in_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    hf, settings = make_hf("llama", n_layers=2), SFT(gradient_checkpointing=False)
    assert fitted(settings, hf, 100) == settings  # no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    weights = sum(4 * weight.numel() for weight in hf.parameters())
    sizes = hf.config.num_hidden_layers, hf.config.hidden_size, hf.config.intermediate_size
    row = 4 * 100 * activations(settings, *sizes)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2 * weights + 10 * row, 0))
    assert fitted(settings, hf, 100).device_batch_size == 6  # 0.6 of what the weights leave
    assert fitted(settings, hf, 50).device_batch_size == 12
    assert fitted(replace(settings, device_batch_size=3), hf, 100).device_batch_size == 3
    assert fitted(settings, hf, 10_000).device_batch_size == 1
    dropped, checkpointed = replace(settings, lora=LoRA(dropout=0.1)), replace(settings, gradient_checkpointing=True)
    assert activations(dropped, *sizes) > activations(settings, *sizes) > activations(checkpointed, 30, *sizes[1:]) / 9
