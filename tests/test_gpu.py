"""What a GPU must do as a CPU does: extraction, generation, and both stages in bf16."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_gates as gates
import torch
from architectures import build
from conftest import make_hf, make_tokenizer
from test_architectures import direction, drawn, wrapped
from test_generation import prompts, sharp
from test_learning import learnt, make_inputs, make_trainer
from test_seats import STEERINGS
from test_training_pipeline import TOY
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript
from interp.directions.extract import extract_directions
from interp.generation import sampling
from interp.generation.sampling import generate
from interp.models.lineage import read_lineage
from interp.models.loading import load_plain
from interp.models.model import Model, wrap
from interp.storage.journal import read_lines
from interp.training import loop, packing
from interp.training.learning import Learner
from interp.training.pipeline import train
from interp.training.run import Run
from interp.training.settings import preset

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="takes a CUDA GPU")]


def on(device: str) -> Model:
    return wrap(make_hf("llama").to(device), make_tokenizer("bytes"))


def test_extraction(debates: list[Transcript]) -> None:
    gpu, cpu = (extract_directions(on(device), debates).directions.vectors for device in (DEVICE, "cpu"))
    torch.testing.assert_close(torch.as_tensor(gpu), torch.as_tensor(cpu), atol=1e-4, rtol=1e-3)


def test_a_model_makes_room_for_its_untrained_one(debates: list[Transcript], monkeypatch: pytest.MonkeyPatch) -> None:
    model = on(DEVICE)
    expected = extract_directions(model, debates, layers=(1,)).directions.facts["evidence"]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 1))  # a full GPU
    again = extract_directions(model, debates, layers=(1,)).directions.facts["evidence"]
    assert again.keys() == expected.keys()
    for name, found in again.items():
        np.testing.assert_allclose(found["reliability"]["mean"], expected[name]["reliability"]["mean"], atol=1e-4)
    assert model.device.type == DEVICE


@pytest.mark.parametrize("way", [{}, {"temperature": 1.0}, {"temperature": 0.8, "top_p": 0.9}])
def test_generation(way: dict[str, float]) -> None:
    """Recorded steps, steps launched one by one and a CPU write the same; rows leave and enter."""
    asked, how = prompts(14), {"max_new_tokens": 40, **way}
    expected = generate(sharp("llama"), asked, **how)
    model = wrap(copy.deepcopy(sharp("llama").hf).to(DEVICE), make_tokenizer("bytes"))
    for batch_size in (1, 5, 14):
        assert generate(model, asked, batch_size=batch_size, **how) == expected
        assert model.seats.recordable
        assert model.seats.recorded
    assert not model.notes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "SEATED", set())
        assert generate(model, asked, batch_size=5, **how) == expected


@pytest.mark.parametrize("what", [*STEERINGS, "mixed"])
def test_steered_generation(what: str) -> None:
    """In one recording, each row under its own steering; a second call takes the recorded steps with other vectors."""
    model = wrap(copy.deepcopy(sharp("llama").hf).to(DEVICE), make_tokenizer("bytes"))
    for scale in (1.0, 1.3):
        first, second = direction(model, 3.0 * scale), direction(model, 4.0 * scale)
        each = [STEERINGS[name](first, second) for name in STEERINGS]
        steering = [each[i % len(each)] for i in range(14)] if what == "mixed" else STEERINGS[what](first, second)
        how = {"max_new_tokens": 40, "steering": steering}
        assert generate(model, prompts(14), batch_size=5, **how) == generate(sharp("llama"), prompts(14), **how)
    assert model.seats.recorded


@pytest.mark.parametrize("what", [*gates.RECORDED, "mixed"])
def test_gated_generation(what: str) -> None:
    """Gates, kept lengths: decided for each row and token inside the recorded step."""
    cpu, asked = gates.sharp(), gates.prompts(14)
    gpu = wrap(copy.deepcopy(cpu.hf).to(DEVICE), make_tokenizer("bytes"))
    each = [gates.STEERINGS[name] for name in gates.RECORDED]
    steering = [each[i % len(each)] for i in range(14)] if what == "mixed" else gates.STEERINGS[what]
    assert gates.tokens(gpu, asked, steering, batch_size=5) == gates.tokens(cpu, asked, steering)
    assert gpu.seats.recorded


def test_what_cannot_be_recorded_is_launched() -> None:
    """A mixture of experts asks the CPU which of them are used."""
    model = wrap(build("mixtral").to(DEVICE), make_tokenizer("bytes"))
    asked = [drawn(n, n) for n in (5, 21, 12)]
    written = generate(model, asked, max_new_tokens=12)
    assert [g.ids for g in written] == [g.ids for g in generate(wrapped("mixtral"), asked, max_new_tokens=12)]
    assert model.seats.recordable or "cannot be recorded" in model.notes[0]


def test_learning_from_packed_completions(tmp_path: Path) -> None:
    """In bf16, what padded ones teach, in one device batch and in several."""
    learner = make_trainer(Learner, tmp_path, "llama", use_cpu=False, bf16=True)
    inputs = {name: x.to(DEVICE) for name, x in make_inputs().items()}
    padded, gradients = learnt(learner, inputs)
    learner.model.set_attn_implementation(packing.NAME)
    for learner.packed, learner.rows in ((True, 8), (True, 3)):
        loss, found = learnt(learner, inputs)
        torch.testing.assert_close(loss, padded, rtol=0.02, atol=2e-3)
        for name, gradient in found.items():
            off = (gradient - gradients[name]).norm() / gradients[name].norm()
            assert off < 0.1, f"{name}: {off}"


def test_both_stages_in_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained and sampled on the GPU; what was written is what was trained, as far as bf16 goes."""
    make_hf("llama", n_layers=2).save_pretrained(tmp_path / "base")
    make_tokenizer("bytes").save_pretrained(tmp_path / "base")
    trained: list[torch.Tensor] = []
    ids = torch.arange(5, 45)[None]

    def spy(run: Run, stage: str, trainer: Any, *rest: Any, _finish: Any = loop.finish) -> Path:
        if stage == "imad":
            with torch.no_grad():
                model = trainer.model.eval()
                assert model.device.type == DEVICE
                assert model.config._attn_implementation == packing.NAME
                given = DataCollatorForLanguageModeling(0, padding_free=True)([{"input_ids": ids[0].tolist()}])
                given = {name: x.to(DEVICE) if isinstance(x, torch.Tensor) else x for name, x in given.items()}
                trained.append(model(**given, use_cache=False).logits.float().cpu())
        return _finish(run, stage, trainer, *rest)

    monkeypatch.setattr(loop, "finish", spy)
    chosen = preset("toy").override({**TOY, "model": str(tmp_path / "base"), "precision": "bf16"})
    made = train(Run(tmp_path / "run", chosen), transcripts=read_embedded("scripted")[:4])
    checkpoint = made.checkpoints[0]["imad"]
    lineage = read_lineage(str(checkpoint))
    assert lineage is not None
    assert {stage.facts["dtype"] for stage in lineage.stages} == {"bfloat16"}
    rebuilt = load_plain(str(checkpoint), dtype="bf16", device=DEVICE)
    with torch.no_grad():
        logits = rebuilt.hf.eval()(input_ids=ids.to(DEVICE), use_cache=False).logits.float().cpu()
    assert (logits - trained[0]).abs().max() < 0.03 * trained[0].abs().max()
    assert all(
        0 < row["loss"] < 20
        for row in read_lines(tmp_path / "run/seed-0/metrics.jsonl")
        if "mean_token_accuracy" in row
    )
    assert made.table is not None
    assert made.table.row("imad").output_tokens > 0
