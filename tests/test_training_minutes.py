"""A stage with a limit on its time ends there, whole."""

from __future__ import annotations

from pathlib import Path

from conftest import make_hf, make_tokenizer
from test_training_pipeline import TOY

from interp.debate.embedded import read_embedded
from interp.models.lineage import read_lineage
from interp.models.model import load_model
from interp.storage.journal import read_lines
from interp.training.pipeline import train
from interp.training.run import Run
from interp.training.settings import preset


def test_both_stages_end_whole_after_their_minutes(tmp_path: Path) -> None:
    make_hf("llama", n_layers=1).save_pretrained(tmp_path / "base")
    make_tokenizer("bytes").save_pretrained(tmp_path / "base")
    changes = {"sft.minutes": "1e-6", "debategpt": "{}", "grpo.minutes": "1e-6", "grpo.num_iterations": "2"}
    chosen = preset("toy").override({**TOY, "model": str(tmp_path / "base"), **changes, "grpo.epochs": "2"})
    trained = train(Run(tmp_path / "run", chosen), transcripts=read_embedded("scripted")[:8], table=False)
    ran = {}
    for name, checkpoint in trained.checkpoints[0].items():
        lineage = read_lineage(str(checkpoint))
        assert lineage is not None
        ran[name] = lineage.stages[-1].facts["steps"]
    assert ran == {"sft": 1, "debategpt": 2, "imad": 2}  # stage 2 uses up its completions
    rows = read_lines(tmp_path / "run" / "seed-0" / "metrics.jsonl")
    assert {name: max(r["step"] for r in rows if r["stage"] == name) for name in ran} == ran
    model = load_model(str(trained.checkpoints[0]["imad"]))
    assert [adapter["name"] for adapter in model.provenance["adapters"]] == ["sft", "imad"]
