"""The whole of `interp train` on a toy base: debates, both stages, the baseline, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import make_hf, make_tokenizer

from interp.debate.embedded import read_embedded
from interp.debate.transcript import read_transcripts, write_transcripts
from interp.errors import UserError
from interp.lineage import read_lineage
from interp.models import load_model
from interp.training.loop import Run, read_metrics
from interp.training.pipeline import make_debates, make_task, train
from interp.training.presets import Preset, preset

ROOT = Path(__file__).resolve().parents[1]
TOY = {
    "model": "",
    "debates": "4",
    "answer_tokens": "8",
    "sft.epochs": "2",
    "sft.batch_size": "4",
    "sft.device_batch_size": "2",
    "sft.gradient_checkpointing": "false",
    "sft.save_every": "1",
    "grpo.questions": "8",
    "grpo.epochs": "1",
    "grpo.batch_size": "8",
    "grpo.device_batch_size": "4",
    "grpo.num_iterations": "1",
    "grpo.gradient_checkpointing": "false",
    "grpo.descent.first_limit": "24",
    "grpo.descent.last_limit": "8",
    "grpo.generation": "interp",
    "grpo.save_every": "1",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("base")
    make_hf("llama", n_layers=1).save_pretrained(folder)
    make_tokenizer("bytes").save_pretrained(folder)
    return {**TOY, "model": str(folder)}


@pytest.fixture
def chosen(settings: dict[str, str]) -> Preset:
    return preset("toy").override(settings)


def command(settings: dict[str, str], out: Path, transcripts: Path) -> list[str]:
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [
        "-m",
        "interp.cli",
        "train",
        "--preset",
        "toy",
        *changes,
        "--out",
        str(out),
        "--transcripts",
        str(transcripts),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def transcripts(tmp_path: Path) -> Path:
    path = tmp_path / "debates.jsonl"
    write_transcripts(path, read_embedded("scripted")[:4])
    return path


def test_one_call_from_transcripts_to_checkpoints(chosen: Preset, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", chosen)
    debates = read_embedded("scripted")[:4]
    trained = train(run, transcripts=debates)
    assert [t.render() for t in read_transcripts(run.out / "transcripts.jsonl")] == [t.render() for t in debates]
    assert load_model(str(trained.imad)).provenance["adapters"][-1]["name"] == "imad"
    names = {"sft", "debategpt", "imad", "metrics.jsonl", "preset.json", "transcripts.jsonl"}
    assert {path.name for path in run.out.iterdir()} == names
    assert {row["stage"] for row in read_metrics(run.metrics)} == {"sft", "debategpt", "imad"}
    steps: list[str] = []
    again = Run(run.out, chosen, lambda stage, done, total, metrics: steps.append(stage))
    assert train(again, transcripts=debates) == trained
    assert train(again) == trained  # those that it has
    assert steps == []  # nothing is trained twice
    with pytest.raises(UserError, match="other transcripts"):
        train(run, transcripts=debates[:3])
    with pytest.raises(UserError, match=r"other settings \(grpo.beta\)"):
        train(Run(run.out, chosen.override({"grpo.beta": "0.5"})))


def test_a_tracker_that_is_not_installed(chosen: Preset, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", chosen, report_to=("not_a_tracker",))
    with pytest.raises(UserError, match="pip install not_a_tracker"):
        train(run, transcripts=read_embedded("scripted")[:4])


def test_the_base_debates_where_no_transcripts_are_given(chosen: Preset, tmp_path: Path) -> None:
    from interp.training import pipeline

    class Killed(BaseException):
        pass

    def stop(stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
        if done == 3:
            raise Killed

    file = tmp_path / "debates.jsonl"
    task = make_task(chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "CHUNK", 2)
        with pytest.raises(Killed):
            make_debates(Run(tmp_path, chosen, stop), task, file)
        seen: list[int] = []
        resumed = make_debates(Run(tmp_path, chosen, lambda s, done, t, m: seen.append(done)), task, file)
    assert seen == [3, 4]
    whole = make_debates(Run(tmp_path, chosen), task, tmp_path / "other.jsonl")
    assert [t.record() for t in resumed] == [t.record() for t in whole]
    assert [t.record() for t in read_transcripts(file)] == [t.record() for t in whole]


def test_a_sigkill_and_the_same_command(settings: dict[str, str], transcripts: Path, tmp_path: Path) -> None:
    """Killed in stage 1 and in stage 2, the run ends with the bytes of one that was not."""
    out = tmp_path / "killed"
    run = [sys.executable, *command(settings, out, transcripts)]
    for stage in ("sft", "imad"):
        process = subprocess.Popen(run, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
        kept = out / f".{stage}.resume"
        while process.poll() is None and not list(kept.glob("checkpoint-*/trainer_state.json")):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert kept.exists()
        assert not (out / stage).exists()
    subprocess.run(run, cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL)
    trained = train(
        Run(tmp_path / "whole", preset("toy").override(settings)), transcripts=read_transcripts(transcripts)
    )
    for file in ("1-sft", "2-imad"):
        name = f"imad/{file}/adapter_model.safetensors"
        assert (out / name).read_bytes() == (trained.imad.parent / name).read_bytes()


def test_two_cpu_processes(settings: dict[str, str], transcripts: Path, tmp_path: Path) -> None:
    """What several GPUs would do: the batch is divided, one process writes."""
    out = tmp_path / "two"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = [sys.executable, *launch, *command(settings, out, transcripts)]
    done = subprocess.run(run, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    lineage = read_lineage(str(out / "imad"))
    assert lineage is not None
    assert [(stage.facts["steps"], stage.facts["processes"]) for stage in lineage.stages] == [(2, 2), (4, 2)]
    load_model(str(out / "imad"))
    rows = read_metrics(out / "metrics.jsonl")
    assert len({(row["stage"], row["step"]) for row in rows}) == len(rows) - 3  # and a summary at each stage's end
