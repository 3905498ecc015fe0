"""The whole of `interp train` on a toy base: debates, both stages, the baseline, kills."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_hf, make_tokenizer

from interp.debate.embedded import read_embedded
from interp.debate.tasks import make_task
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.transcript import read_transcripts, write_transcripts
from interp.errors import UserError
from interp.evaluation.accuracy import compare
from interp.models.lineage import read_lineage
from interp.models.model import Model, load_model
from interp.organism.pretraining import Pretraining
from interp.storage.journal import read_lines
from interp.training import results
from interp.training.pipeline import make_debates, stage_2_questions, table_task, train
from interp.training.results import TITLES, Unseen, held_out, when_needed
from interp.training.run import Run
from interp.training.settings import Preset, preset

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
    "table_questions": "6",
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


def test_one_call_from_transcripts_to_the_table(chosen: Preset, tmp_path: Path) -> None:
    chosen = chosen.override({"sft.direct_share": "0.25", "sft.practice": "0.5"})
    run = Run(tmp_path / "run", chosen)
    debates = read_embedded("scripted")[:4]
    trained = train(run, transcripts=debates)
    checkpoints = trained.checkpoints[0]
    assert [t.render() for t in read_transcripts(run.out / "transcripts.jsonl")] == [t.render() for t in debates]
    assert load_model(str(checkpoints["imad"])).provenance["adapters"][-1]["name"] == "imad"
    names = {"preset.json", "transcripts.jsonl", "direct.jsonl", "direct.json", "results", "table.json", "seed-0"}
    assert {path.name for path in run.out.iterdir()} == names
    one = run.out / "seed-0"
    files = {"metrics.jsonl", "samples.json", "results"}
    assert {path.name for path in one.iterdir()} == {"sft", "debategpt", "imad", *files}
    assert {row["stage"] for row in read_lines(one / "metrics.jsonl")} == {"sft", "debategpt", "imad"}

    table = trained.table
    assert table is not None
    assert [row.method for row in table.rows] == list(TITLES)
    assert {(row.questions, row.runs) for row in table.rows} == {(6, 1)}
    seen = {t.question for t in debates} | {q.text for q in make_task(chosen.task).questions(8, seed=1)}
    seen |= {record["question"] for record in read_lines(run.out / "direct.jsonl")}
    assert not seen & {record["question"] for record in read_lines(one / "results" / "imad.jsonl")}
    written = json.loads((run.out / "table.json").read_text())
    assert [row["accuracy"]["mean"] for row in written["rows"]] == [row.accuracy.mean for row in table.rows]
    debate, imad = table.row("debate"), table.row("imad")
    assert debate.calls >= 3
    assert imad.calls == 1
    assert written["rows"][5]["of_debate_output"] == imad.output_tokens / debate.output_tokens
    assert written["made_by"]["sampling"] == {"max_new_tokens": 8, "temperature": 0.7, "top_p": 0.9, "seed": 0}
    lineage = read_lineage(str(checkpoints["imad"]))
    assert lineage is not None
    learnt = lineage.stages[0].facts["data"]
    assert (learnt["transcripts"], learnt["direct"]) == (4, 2)
    hashes = {stage.name: stage.hash for stage in lineage.stages}
    assert written["made_by"]["checkpoints"]["0"]["imad"] == hashes
    assert str(tmp_path) not in (run.out / "table.json").read_text()
    by_file = compare(one / "results" / "imad.jsonl", run.out / "results" / "debate.jsonl").test
    assert table.tests["imad", "debate"] == by_file

    steps: list[str] = []
    again = Run(run.out, chosen, lambda stage, done, total, metrics: steps.append(stage))
    assert train(again, transcripts=debates) == trained
    assert train(again) == trained  # those that it has
    assert not {"sft", "debategpt", "imad"} & set(steps)  # nothing is trained twice
    assert not [step for step in steps if step.startswith("texts")]  # nothing is asked twice
    with pytest.raises(UserError, match="other transcripts"):
        train(run, transcripts=debates[:3])
    with pytest.raises(UserError, match=r"other settings \(grpo.beta\)"):
        train(Run(run.out, chosen.override({"grpo.beta": "0.5"})))


def test_the_command(settings: dict[str, str], transcripts: Path, tmp_path: Path, interp: Any) -> None:
    arguments = command(settings, tmp_path / "run", transcripts)[2:]
    code, out, _ = interp(*arguments, "--seed", "4", "--time-budget", "0.001s")
    assert (code, out.strip()) == (0, "time is up: no stage finished, sft not begun; the same command goes on")
    code, out, _ = interp(*arguments, "--seed", "4", "--no-table")
    assert code == 0
    assert f"wrote {tmp_path / 'run' / 'seed-4' / 'imad'}" in out
    assert not (tmp_path / "run" / "table.json").exists()
    code, out, _ = interp(*arguments, "--seed", "4", "--seed", "5")
    assert code == 0
    assert "6 questions that no stage has seen; mean of seeds 4, 5" in out
    for line in (*TITLES.values(), "IMAD − Debate: ", f"wrote {tmp_path / 'run' / 'table.json'}"):
        assert line in out
    code, out, _ = interp(*arguments, "--seed", "4", "--seed", "6", "--time-budget", "0.001s")
    assert "seed-4/debategpt, seed-4/imad, seed-4/sft, seed-5/debategpt" in out
    assert "seed-5/sft finished, sft not begun" in out
    code, _, err = interp(*arguments, "--time-budget", "8 apples")
    assert (code, err) == (2, "error: --time-budget 8 apples: expected a length of time such as 90s, 8m or 1.5h\n")
    code, _, err = interp(*arguments, "--from-scratch", "--out", str(tmp_path / "other"))
    assert code == 2
    assert "trains the organism's base only" in err


def test_the_base_is_loaded_once_before_the_stages_and_once_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str) -> Model:
        loaded.append(Path(name).name)
        return load_model(name)

    monkeypatch.setattr(results, "load_model", load)
    changes = {name: value for name, value in TOY.items() if name not in ("model", "answer_tokens")}
    train(Run(tmp_path / "run", preset("organism").override({**changes, "sft.max_length": "1000"})))
    assert loaded == ["organism", "organism", "debategpt", "sft", "imad"]


def test_further_seeds_share_the_base_and_are_pooled(chosen: Preset, tmp_path: Path) -> None:
    debates = read_embedded("scripted")[:4]
    told: list[str] = []
    run = Run(tmp_path / "run", chosen, lambda what, *_: told.append(what))
    first = train(run, transcripts=debates).checkpoints[0]["imad"] / "lineage.json"
    before = first.stat().st_mtime_ns
    told.clear()
    both = train(run, seeds=(0, 1))
    assert first.stat().st_mtime_ns == before
    assert {"sft, seed 1", "imad, seed 1", "arithmetic, imad, seed 1"} <= set(told)
    assert not {"sft, seed 0", "imad, seed 0"} & set(told)
    weights = [(both.checkpoints[seed]["imad"] / "2-imad/adapter_model.safetensors").read_bytes() for seed in (0, 1)]
    assert weights[0] != weights[1]
    table = both.table
    assert table is not None
    assert [row.runs for row in table.rows] == [1, 1, 1, 2, 2, 2]
    imad, alone = table.row("imad"), table.by_seed["imad"]
    assert list(alone) == [0, 1]
    assert imad.accuracy.mean == pytest.approx(sum(row.accuracy.mean for row in alone.values()) / 2)
    assert imad.output_tokens == pytest.approx(sum(row.output_tokens for row in alone.values()) / 2)
    with pytest.raises(UserError, match=r"other settings \(seed\)"):
        train(Run(run.out, chosen.override({"seed": "1"})), seeds=(1, 0))
    shutil.copytree(both.checkpoints[0]["imad"], both.checkpoints[1]["imad"], dirs_exist_ok=True)  # as if trained anew
    with pytest.raises(
        UserError, match=r"seed-1/results/imad\.jsonl: started with another hash of .*delete imad\.jsonl"
    ):
        train(run, seeds=(0, 1))
    (run.out / "seed-1" / "results" / "imad.jsonl").unlink()
    assert train(run, seeds=(0, 1)).checkpoints == both.checkpoints


def test_a_table_that_was_killed_asks_only_what_is_left(chosen: Preset, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def stop(what: str, done: int, total: int, metrics: dict[str, float]) -> None:
        if what == "arithmetic, vote" and done == 4:
            raise Killed

    train(Run(tmp_path / "run", chosen), transcripts=read_embedded("scripted")[:4], table=False)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    with pytest.raises(Killed):
        train(Run(tmp_path / "run", chosen, stop))
    assert not (tmp_path / "run" / "table.json").exists()
    assert train(Run(tmp_path / "run", chosen)).table == train(Run(tmp_path / "whole", chosen)).table


def test_the_tables_questions_are_new() -> None:
    task = Arithmetic(0, 9, "a+b")
    asked = {q.text for q in task.questions(95, seed=3)}
    fresh = Unseen(task, frozenset(asked)).questions(5, seed=7)
    assert len({q.text for q in fresh} - asked) == 5
    with pytest.raises(UserError, match="widen the range"):
        Unseen(task, frozenset(asked)).questions(6, seed=7)
    organism = preset("organism")
    assert held_out(organism, None, set()).provenance()["split"] == "test"
    nine = organism.override(
        {"task": "arithmetic", "task_options": '{"digits": 1, "terms": 1}', "table_questions": "5"}
    )
    everything = {str(n) for n in range(1, 10)}
    left = everything - {"1", "2", "3", "4", "5"}
    assert {q.text for q in held_out(nine, None, left).questions(5, seed=2)} == everything - left
    with pytest.raises(UserError, match="ask for fewer"):
        held_out(nine, None, everything)


def test_plain_answers_are_seen_as_well(tmp_path: Path) -> None:
    changes = {"task": "arithmetic", "task_options": '{"digits": 1, "terms": 1}'}
    chosen = preset("toy").override({**TOY, **changes, "grpo.questions": "3", "table_questions": "2"})
    stage_2 = [q.text for q in stage_2_questions(chosen, Arithmetic.sized(1, 1))]
    example = read_embedded("scripted")[0]
    *debated, plain, fourth, fifth = sorted({str(n) for n in range(1, 10)} - set(stage_2))
    write_transcripts(tmp_path / "transcripts.jsonl", [replace(example, question=text) for text in debated])
    before = table_task(tmp_path, chosen).questions(3, seed=2)
    assert {q.text for q in before} == {plain, fourth, fifth}
    (tmp_path / "direct.jsonl").write_text(json.dumps({"question": plain}) + "\n")
    assert {q.text for q in table_task(tmp_path, chosen).questions(2, seed=2)} == {fourth, fifth}


def test_from_scratch(chosen: Preset, tmp_path: Path) -> None:
    tiny = Pretraining(steps=4, n_layers=1, width=16, n_heads=2, mlp_width=24, rows=2, warm_up=1)
    changes = {name: value for name, value in TOY.items() if name != "model"}
    organism = preset("organism").override({**changes, "grpo.stop_at_limit": "true", "sft.max_length": "1000"})
    told: list[str] = []
    run = Run(tmp_path / "run", organism, lambda what, *_: told.append(what))
    debates = read_embedded("scripted")[:4]
    trained = train(run, transcripts=debates, pretraining=tiny)
    assert told[0] == "base"
    assert trained.table is not None
    assert trained.table.row("imad").task == "small-arithmetic"
    lineage = read_lineage(str(trained.checkpoints[0]["imad"]))
    assert lineage is not None
    assert (lineage.base.name, lineage.base.folder) == ("base", "../../base")
    told.clear()
    assert train(run, pretraining=tiny) == trained
    assert "base" not in told
    with pytest.raises(UserError, match=r"other settings \(pretraining\)"):
        train(run)
    with pytest.raises(UserError, match="trains the organism's base only"):
        train(Run(tmp_path / "other", chosen), pretraining=tiny)


def test_a_tracker_that_is_not_installed(chosen: Preset, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", chosen, report_to=("not_a_tracker",))
    with pytest.raises(UserError, match="pip install not_a_tracker"):
        train(run, transcripts=read_embedded("scripted")[:4])
    assert not run.out.exists(), "nothing is made before that"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("grpo.num_generations", "3", "multiple of num_generations"),
        ("grpo.num_generations", "1", "GRPOConfig: GRPO requires at least 2 generations"),
        ("grpo.lr_schedule", "sometimes", "GRPOConfig: sometimes is not a valid SchedulerType"),
        ("sft.lr_schedule", "sometimes", "SFTConfig: sometimes is not a valid SchedulerType"),
    ],
)
def test_what_a_stage_would_refuse_is_refused_before_anything_is_made(
    name: str, value: str, message: str, chosen: Preset, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run", chosen.override({name: value}))
    with pytest.raises(UserError, match=message):
        train(run, transcripts=read_embedded("scripted")[:4])
    assert not run.out.exists()


def test_the_base_debates_where_no_transcripts_are_given(chosen: Preset, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def stop(what: str, done: int, total: int, metrics: dict[str, float]) -> None:
        if what == "to learn: arithmetic, debate" and done == 3:
            raise Killed

    task, asked = make_task(chosen.task, **chosen.task_options), ("transcripts.jsonl", chosen.debates, chosen.seed)
    told: list[tuple[str, int]] = []
    with when_needed(chosen.model) as base:
        with pytest.raises(Killed):
            make_debates(Run(tmp_path / "killed", chosen, stop), task, base, *asked)
        make_debates(
            Run(tmp_path / "killed", chosen, lambda what, done, *_: told.append((what, done))), task, base, *asked
        )
        assert ("to learn: arithmetic, debate", 3) in told
        make_debates(Run(tmp_path / "whole", chosen), task, base, *asked)
    resumed, whole = (read_transcripts(tmp_path / name / "transcripts.jsonl") for name in ("killed", "whole"))
    assert [t.record() for t in resumed] == [t.record() for t in whole]
    assert [t.question for t in whole] == [q.text for q in task.questions(4, chosen.seed)]
    assert whole[0].personas == ("chain-of-thought", "self-critique", "program-of-thought")
    facts = json.loads((tmp_path / "whole" / "transcripts.json").read_text())
    assert facts["made_by"]["rounds"] == 2


def test_a_sigkill_and_the_same_command(settings: dict[str, str], transcripts: Path, tmp_path: Path) -> None:
    """Killed in stage 1 and in stage 2, the run ends with the bytes of one that was not."""
    out = tmp_path / "killed"
    run = [sys.executable, *command(settings, out, transcripts)]
    for stage in ("sft", "imad"):
        process = subprocess.Popen(run, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
        kept = out / "seed-0" / f".{stage}.resume"
        while process.poll() is None and not list(kept.glob("checkpoint-*/trainer_state.json")):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert kept.exists()
        assert not (out / "seed-0" / stage).exists()
    subprocess.run(run, cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL)
    whole = train(Run(tmp_path / "whole", preset("toy").override(settings)), transcripts=read_transcripts(transcripts))
    for file in ("1-sft", "2-imad"):
        name = f"imad/{file}/adapter_model.safetensors"
        assert (out / "seed-0" / name).read_bytes() == (tmp_path / "whole" / "seed-0" / name).read_bytes()
    table = json.loads((out / "table.json").read_text())
    assert whole.table is not None
    assert table["rows"] == whole.table.record()["rows"]


def test_two_cpu_processes(settings: dict[str, str], transcripts: Path, tmp_path: Path) -> None:
    """What several GPUs would do: the batch is divided, one process writes."""
    out = tmp_path / "two"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = [sys.executable, *launch, *command(settings, out, transcripts)]
    done = subprocess.run(run, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    lineage = read_lineage(str(out / "seed-0" / "imad"))
    assert lineage is not None
    examples = lineage.stages[0].facts["data"]["examples"]  # of which two epochs are read in batches of four
    steps = [math.ceil(2 * examples / 4), 4]
    assert [(stage.facts["steps"], stage.facts["processes"]) for stage in lineage.stages] == [(n, 2) for n in steps]
    load_model(str(out / "seed-0" / "imad"))
    rows = read_lines(out / "seed-0" / "metrics.jsonl")
    assert len({(row["stage"], row["step"]) for row in rows}) == len(rows) - 3  # and a summary at each stage's end
    assert len(json.loads((out / "table.json").read_text())["rows"]) == 6  # one process measured
