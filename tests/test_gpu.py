"""What a GPU must do as a CPU does: extraction, generation, and both stages in bf16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_hf, make_tokenizer
from test_training_pipeline import TOY

from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript
from interp.directions.extract import extract_directions
from interp.generation.sampling import generate
from interp.models.lineage import read_lineage
from interp.models.loading import load_plain
from interp.models.model import Model, wrap
from interp.storage.journal import read_lines
from interp.training import loop
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
    assert extract_directions(model, debates, layers=(1,)).directions.facts["evidence"] == expected
    assert model.device.type == DEVICE


def test_generation(debates: list[Transcript]) -> None:
    tokenizer = make_tokenizer("bytes")
    prompts = [tokenizer(t.prompt + t.render()[: 40 * i])["input_ids"] for i, t in enumerate(debates[:6])]
    expected = generate(on("cpu"), prompts, max_new_tokens=24)
    model = on(DEVICE)
    assert generate(model, prompts, max_new_tokens=24) == expected
    assert generate(model, prompts, max_new_tokens=24, batch_size=1) == expected
    sampled = [generate(model, prompts, max_new_tokens=24, temperature=1.0, batch_size=n) for n in (6, 2)]
    assert sampled[0] == sampled[1]


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
                trained.append(model(input_ids=ids.to(DEVICE), use_cache=False).logits.float().cpu())
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
