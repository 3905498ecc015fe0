"""What stage 2 learns from completions: the same packed, padded and in any device batches as from TRL's own rows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import build
from conftest import make_hf, make_tokenizer
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from interp.training import packing
from interp.training.learning import Learner

LENGTHS = [(3, 9), (5, 2), (1, 14), (4, 4), (5, 1), (2, 20), (3, 7), (4, 11)]
"""Tokens of prompts and completions."""
UNWINDOWED: dict[str, dict[str, Any]] = {"llama": {}, "qwen2": {}, "mistral": {"sliding_window": None}}


def make_trainer(kind: type[GRPOTrainer], folder: Path, architecture: str, **settings: Any) -> Any:
    windowless = UNWINDOWED.get(architecture)
    hf = (build(architecture) if windowless is None else make_hf(architecture, n_layers=2, **windowless)).train()
    batch = {"per_device_train_batch_size": len(LENGTHS), "num_generations": 4, "report_to": [], "use_cpu": True}
    plain = {"bf16": False, "gradient_checkpointing": False}
    configuration = GRPOConfig(str(folder), **batch | plain | settings)
    rows = Dataset.from_list([{"prompt": "a"}] * len(LENGTHS))
    options = {"processing_class": make_tokenizer("bytes")}
    trainer: Any = kind(hf, lambda completions, **_: [0.0] * len(completions), configuration, rows, **options)
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def make_inputs() -> dict[str, Tensor]:
    """A step's completions, padded as TRL pads them, after the model has moved since they were written."""
    draw, widths = torch.Generator().manual_seed(0), [max(lengths) for lengths in zip(*LENGTHS, strict=True)]
    masks = [torch.zeros(len(LENGTHS), width, dtype=torch.long) for width in widths]
    for row, (n_prompt, n_completion) in enumerate(LENGTHS):
        masks[0][row, widths[0] - n_prompt :] = 1
        masks[1][row, :n_completion] = 1
    ids = [torch.randint(5, 90, mask.shape, generator=draw) * mask for mask in masks]
    old, reference = (torch.randn(masks[1].shape, generator=draw) * 0.2 - 5 for _ in range(2))
    made = {"prompt_ids": ids[0], "prompt_mask": masks[0], "completion_ids": ids[1], "completion_mask": masks[1]}
    made |= {"advantages": torch.randn(len(LENGTHS), generator=draw), "num_items_in_batch": masks[1].sum()}
    return made | {"old_per_token_logps": old, "ref_per_token_logps": reference}


def learnt(trainer: Any, inputs: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and its gradients."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, inputs or make_inputs())
    loss.backward()
    return loss.detach(), {name: weight.grad.clone() for name, weight in trainer.model.named_parameters()}


@pytest.mark.parametrize("architecture", UNWINDOWED)
@pytest.mark.parametrize(
    ("loss_type", "entropy"), [("bnpo", 0.1), ("dapo", 0.1), ("grpo", 0.0), ("dr_grpo", 0.0), ("cispo", 0.0)]
)
def test_the_loss_is_that_of_the_whole_step(architecture: str, loss_type: str, entropy: float, tmp_path: Path) -> None:
    settings = {"loss_type": loss_type, "entropy_coef": entropy, "epsilon": 0.1}
    trainers = [make_trainer(kind, tmp_path, architecture, **settings) for kind in (GRPOTrainer, Learner)]
    for trainer in trainers:
        trainer.beta = 0.1
    loss, gradients = learnt(trainers[0])
    clipped = trainers[0]._metrics["train"].get("clip_ratio/region_mean", [0.5])
    assert 0.1 < clipped[0] < 0.9
    learner, largest = trainers[1], max(float(gradient.abs().max()) for gradient in gradients.values())
    for packed in (False, True):
        assert not packed or packing.pack(learner.model, half=False)
        for learner.packed, learner.rows, learner.tokens in ((packed, 8, 0), (packed, 3, 0), (packed, 0, 30)):
            found, theirs = learnt(learner)
            torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-6)
            for name, gradient in theirs.items():
                torch.testing.assert_close(gradient, gradients[name], rtol=1e-3, atol=2e-6, msg=name)
    assert largest > 1e-4


def log_probs(trainer: Any, inputs: dict[str, Tensor], **how: Any) -> Tensor:
    ids, mask = (torch.cat([inputs[f"{part}_{x}"] for part in ("prompt", "completion")], 1) for x in ("ids", "mask"))
    n_last = inputs["completion_ids"].shape[1]
    with torch.no_grad():
        found, entropies, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, n_last, **how)
    assert found.shape == entropies.shape == inputs["completion_ids"].shape
    assert torch.equal(entropies != 0, inputs["completion_mask"] == 1)
    return found * inputs["completion_mask"]


@pytest.mark.parametrize(
    ("architecture", "packed"), [("llama", True), ("qwen2", True), ("mistral", True), ("gpt2", False)]
)
def test_every_text_is_read_alone_from_its_own_first_position(architecture: str, packed: bool, tmp_path: Path) -> None:
    learner, inputs = make_trainer(Learner, tmp_path, architecture), make_inputs()
    expected = torch.zeros(inputs["completion_ids"].shape)
    learner.model.eval()
    with torch.no_grad():
        for row, (n_prompt, n) in enumerate(LENGTHS):
            text = torch.cat([inputs["prompt_ids"][row, -n_prompt:], inputs["completion_ids"][row, :n]])
            each = learner.model(input_ids=text[None]).logits[0].log_softmax(-1)
            expected[row, :n] = each[n_prompt - 1 : -1].gather(1, text[n_prompt:, None])[:, 0]
    assert packing.pack(learner.model, half=False) == packed
    learner.packed, learner.rows = packed, 3
    whole = log_probs(learner, inputs)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(log_probs(learner, inputs, batch_size=8), whole, rtol=1e-5, atol=1e-6)
    inputs["completion_ids"][5] = inputs["completion_ids"][5].flip(0) * inputs["completion_mask"][5]
    inputs["prompt_ids"][5, -1] += 1
    others, after = torch.arange(len(LENGTHS)) != 5, log_probs(learner, inputs)
    torch.testing.assert_close(after[others], whole[others], rtol=0, atol=1e-6)
    assert (after[5] - whole[5]).abs().max() > 1e-2


def test_device_batches_are_full_and_no_more(tmp_path: Path) -> None:
    learner, lengths = make_trainer(Learner, tmp_path, "llama"), torch.tensor([9, 30, 4, 17, 17, 8, 25, 12])
    for learner.packed in (True, False):
        for learner.rows, learner.tokens in ((3, 0), (8, 0), (0, 60), (0, 1), (0, 1000)):
            batches = learner.device_batches(lengths)
            assert sorted(row for batch in batches for row in batch) == list(range(8))
            texts = [lengths[batch].tolist() for batch in batches]
            read = [sum(text) if learner.packed else len(text) * max(text) for text in texts]
            if learner.rows:
                assert max(map(len, batches)) <= learner.rows
                assert len(batches) == -(-8 // learner.rows)
            elif learner.tokens == 60:
                assert max(read) <= 60
                assert len(batches) == 3 if learner.packed else 4
            else:
                assert len(batches) == (8 if learner.tokens == 1 else 1)
            if not learner.packed:
                assert all(min(longer) >= max(shorter) for longer, shorter in pairwise(texts))
