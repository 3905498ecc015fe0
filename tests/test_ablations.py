"""Each ablation changes one thing, is trained once, and stands beside the full procedure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import make_hf, make_tokenizer
from test_training_pipeline import TOY

from benchmarks import ablations
from interp.debate.embedded import read_embedded
from interp.errors import UserError
from interp.models.lineage import Lineage, read_lineage
from interp.storage.journal import read_lines
from interp.training.pipeline import train
from interp.training.run import Run
from interp.training.settings import PRESETS, kept_preset, preset


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablated")
    base = folder / "base"
    make_hf("llama", n_layers=1).save_pretrained(base)
    make_tokenizer("bytes").save_pretrained(base)
    chosen = preset("toy").override({**TOY, "model": str(base)})
    train(Run(folder / "run", chosen), transcripts=read_embedded("scripted")[:4])
    return folder / "run"


def lineage(checkpoint: Path) -> Lineage:
    found = read_lineage(str(checkpoint))
    assert found is not None
    return found


def test_one_row_each(finished: Path, tmp_path: Path) -> None:
    results = ablations.ablate(finished, tmp_path)
    names = ["no-sft", "no-clipping", "no-structure", "fixed-structure", "gated", "smooth", "waiting", "consensus"]
    assert [result.name for result in results] == [ablations.FULL, *names]
    assert {result.row.questions for result in results} == {6}
    own = {record["question"] for record in read_lines(finished / "seed-0" / "results" / "imad.jsonl")}
    found = {name: lineage(tmp_path / name / "imad") for name in names}
    rows = {name: [row for row in read_lines(tmp_path / name / "metrics.jsonl") if "limit" in row] for name in names}
    for name in names:
        assert {record["question"] for record in read_lines(tmp_path / name / "results" / f"{name}.jsonl")} == own
        stages = [stage.name for stage in found[name].stages]
        assert stages == (["imad"] if name == "no-sft" else ["sft", "imad"])
    assert {row["limit"] for row in rows["no-clipping"]} == {24}
    assert {row["structure"] for row in rows["no-structure"]} == {0}
    assert {row["coefficient"] for row in rows["fixed-structure"]} == {1}
    assert rows["gated"][-1]["coefficient"] < 0.1
    kinds = {name: each.stages[-1].facts["data"]["reward"] for name, each in found.items()}
    assert kinds == dict.fromkeys(names, "gold") | {"consensus": "consensus"}
    assert [r.limit for r in results[:3]] == [8, 8, 24]
    written = json.loads((tmp_path / "ablations.json").read_text())
    assert written["rows"][0]["against_full"] is None
    assert written["variants"]["smooth"]["changes"] == {"grpo.schedule": "smooth"}
    assert results[1].against_full is not None
    assert written["rows"][1]["against_full"]["p"] == results[1].against_full.p
    told: list[str] = []
    again = ablations.ablate(finished, tmp_path, only=["smooth"], progress=lambda what, *_: told.append(what))
    assert again == results
    assert not [what for what in told if what.endswith(": imad") or "texts" in what]


def test_only_some(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablations.main([str(finished), "--out", str(tmp_path), "--only", "no-structure"])
    assert {path.name for path in tmp_path.iterdir()} == {"no-structure", "preset.json", "ablations.json"}
    assert "no-structure" in capsys.readouterr().out
    with pytest.raises(UserError, match="--only gated-rewards: unknown; choose one of no-sft"):
        ablations.ablate(finished, tmp_path, only=["gated-rewards"])
    with pytest.raises(UserError, match="seed-3/sft is not finished"):
        ablations.ablate(finished, tmp_path, seed=3)
    with pytest.raises(UserError, match=r"preset\.json: no such file"):
        ablations.ablate(tmp_path / "nowhere", tmp_path)


def test_what_is_ablated_depends_on_the_preset() -> None:
    organism = {variant.name for variant in ablations.variants(PRESETS["organism"])}
    assert {"no-sft", "no-clipping", "no-structure", "fixed-structure"} < organism
    assert len(organism) == 7


@pytest.mark.parametrize("name", PRESETS)
def test_settings_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    chosen = PRESETS[name].override({"sft.lora": "null"})
    (tmp_path / "preset.json").write_text(json.dumps(chosen.record()))
    assert kept_preset(tmp_path) == chosen


def test_settings_of_an_older_version_are_refused(tmp_path: Path) -> None:
    record = PRESETS["organism"].record()
    del record["sft"]["practice"]
    (tmp_path / "preset.json").write_text(json.dumps(record))
    with pytest.raises(
        UserError, match=r"preset\.json: written by another version .* differ in sft\.practice; .*another --out"
    ):
        kept_preset(tmp_path)
