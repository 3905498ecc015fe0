"""Both ways to internalize debates without a right answer, through the whole of `interp train`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_hf, make_tokenizer
from test_training_pipeline import ROOT, TOY, command, environment

from benchmarks import ablations
from figures import training_dynamics
from interp.debate.embedded import read_embedded
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.task import Question
from interp.debate.transcript import Transcript, read_transcripts, write_transcripts
from interp.errors import UserError
from interp.models.lineage import read_lineage
from interp.models.model import load_model
from interp.storage.journal import read_lines
from interp.training import pipeline
from interp.training.pipeline import rewarded, stage_2_questions, table_task, train
from interp.training.results import TITLES, when_needed
from interp.training.run import Run
from interp.training.settings import Preset, preset

SHORT = {"stepwise.every": "1", "stepwise.after": "1", "stepwise.batch_size": "4", "stepwise.save_every": "1"}
SHORT |= {"stepwise.gradient_checkpointing": "false", "internalize": "stepwise"}
DEBATES = read_embedded("scripted")[:4]


@dataclass(frozen=True)
class Poisoned(Arithmetic):
    """Its right answers are wrong, and cannot even be read."""

    def questions(self, n: int, seed: int) -> list[Question]:
        return [replace(question, gold_answer="unreadable") for question in super().questions(n, seed)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("base")
    make_hf("llama", n_layers=1).save_pretrained(folder)
    make_tokenizer("bytes").save_pretrained(folder)
    return {**TOY, "model": str(folder), "grpo.reward": "consensus", "table_questions": "4"}


@pytest.fixture
def chosen(settings: dict[str, str]) -> Preset:
    return preset("toy").override(settings)


def debated(questions: list[Question], **how: Any) -> list[Transcript]:
    """Debates whose consensus is always 7, of which the first is undecided."""
    made = [Transcript.build(q.text, [["6", "7"]], r"So it is \boxed{7}.", **how) for q in questions]
    return [Transcript.build(made[0].question, [["6", "7"]], None), *made[1:]]


def facts(run: Run, seed: int = 0) -> dict[str, Any]:
    lineage = read_lineage(str(run.out / f"seed-{seed}" / "imad"))
    assert lineage is not None
    return lineage.stages[-1].facts


def test_the_consensus_of_given_debates_is_rewarded(chosen: Preset, tmp_path: Path, monkeypatch: Any) -> None:
    """No right answer decides a weight: with unreadable ones the checkpoint has the same bytes."""
    seen: list[list[Question]] = []
    trained = pipeline.train_grpo
    monkeypatch.setattr(
        pipeline,
        "train_grpo",
        lambda a, b, questions, *c, **d: seen.append(questions) or trained(a, b, questions, *c, **d),
    )
    found = []
    for name, task, gold in (("right", Arithmetic(), "7"), ("poisoned", Poisoned(), "unreadable")):
        run = Run(tmp_path / name, chosen)
        given = debated(Arithmetic().questions(5, 40), gold_answer=gold)
        train(run, transcripts=given, task=task, table=False)
        found.append((run.out / "seed-0/imad/2-imad/adapter_model.safetensors").read_bytes())
        assert seen[-1] == [Question(t.question, "7") for t in given[1:]]
        assert (facts(run)["data"]["reward"], facts(run)["data"]["undecided"]) == ("consensus", 1)
        assert not (run.out / "consensus.jsonl").exists()
    assert found[0] == found[1]
    other = Run(tmp_path / "gold", chosen.override({"grpo.reward": "gold"}))
    train(other, transcripts=debated(Arithmetic().questions(5, 40)), task=Arithmetic(), table=False)
    assert facts(other)["data"]["reward"] == "gold"


def test_the_base_debates_the_questions_of_stage_2(chosen: Preset, tmp_path: Path, monkeypatch: Any) -> None:
    """As it debated those of stage 1: once, for every seed; none of them is in the table."""
    asked: list[tuple[str, int, int]] = []

    def make(run: Run, task: Any, base: Any, file: str, n: int, seed: int) -> None:
        asked.append((file, n, seed))
        write_transcripts(run.out / file, debated(task.questions(n, seed)))
        (run.out / file).with_suffix(".json").write_text(json.dumps({"accuracy": 1}))

    monkeypatch.setattr(pipeline, "make_debates", make)
    run = Run(tmp_path / "run", chosen)
    train(run, seeds=(0, 1), task=Arithmetic(), table=False)
    assert asked == [("transcripts.jsonl", 4, 0), ("consensus.jsonl", 8, 1)]
    assert facts(run, seed=1)["data"]["questions"] == 7
    assert facts(run, seed=1)["data"]["undecided"] == 1
    tested = {q.text for q in table_task(run.out, chosen, Arithmetic()).questions(4, seed=2)}
    assert not tested & {t.question for t in read_transcripts(run.out / "consensus.jsonl")}
    with when_needed("no model is needed") as base:
        questions, undecided = rewarded(run, Arithmetic(), base)
    assert ({q.gold_answer for q in questions}, len(questions), undecided) == ({"7"}, 7, 1)


def test_its_debates_go_on_after_a_kill(settings: dict[str, str], tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def stop(what: str, done: int, total: int, metrics: dict[str, float]) -> None:
        if what == "to learn: arithmetic, debate" and (done, total) == (3, 8):
            raise Killed

    chosen = preset("toy").override(settings)
    task, found = Arithmetic(), []
    for name in ("killed", "whole"):
        run = Run(tmp_path / name, chosen)
        with when_needed(chosen.model) as base:
            pipeline.make_debates(run, task, base, "transcripts.jsonl", 2, 0)
            if name == "killed":
                with pytest.raises(Killed):
                    rewarded(replace(run, progress=stop), task, base)
            with pytest.raises(
                UserError, match=r"^0 of 8 questions of stage 2 have debates with a consensus; a batch "
            ):
                rewarded(run, task, base)  # random weights agree on nothing
        found.append([t.record() for t in read_transcripts(run.out / "consensus.jsonl")])
    assert found[0] == found[1]


def test_of_several_debates_on_a_question_the_most_frequent_consensus_counts(chosen: Preset, tmp_path: Path) -> None:
    def say(question: str, answer: str) -> Transcript:
        return Transcript.build(question, [["a", "b"]], rf"\boxed{{{answer}}}")

    given = [say("1+1", "3"), say("1+1", "2"), say("1 + 1", "2"), say("2+2", "4"), say("2+3", "none")]
    write_transcripts(tmp_path / "transcripts.jsonl", given)
    with when_needed("no model is needed") as base:
        questions, undecided = rewarded(Run(tmp_path, chosen), Arithmetic(), base)
        assert (questions, undecided) == ([Question("1+1", "2"), Question("2+2", "4")], 1)
        fewer = chosen.override({"grpo.batch_size": "12"})
        with pytest.raises(UserError, match=r"2 of 3 questions .*; a batch needs 3: .*--set grpo\.reward=gold$"):
            rewarded(Run(tmp_path, fewer), Arithmetic(), base)


def test_ablations_reward_the_same_consensus(chosen: Preset, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", chosen)
    train(run, transcripts=debated(Arithmetic().questions(5, 40)))
    ablations.ablate(run.out, tmp_path / "ablations", only=["no-sft"])
    lineage = read_lineage(str(tmp_path / "ablations/no-sft/imad"))
    assert lineage is not None
    assert lineage.stages[0].facts["data"] == facts(run)["data"]
    assert facts(run)["data"]["reward"] == "consensus"


def test_stepwise_from_transcripts_to_the_table(
    settings: dict[str, str], tmp_path: Path, interp: Any, monkeypatch: Any
) -> None:
    write_transcripts(tmp_path / "debates.jsonl", DEBATES)
    out = tmp_path / "run"
    arguments = command(settings | SHORT, out, tmp_path / "debates.jsonl")[2:]
    code, said, _ = interp(*arguments)
    assert code == 0
    for line in (*TITLES.values(), f"wrote {out / 'seed-0' / 'imad'}"):
        assert line in said
    assert {path.name for path in (out / "seed-0").iterdir()} == {
        *("sft", "debategpt", "imad", "metrics.jsonl", "results")
    }
    kept = facts(Run(out, preset("toy")))
    assert (kept["kind"], kept["schedule"]["moved"]) == ("stepwise", 6)
    assert kept["steps"] == 6 + 1
    assert [a["name"] for a in load_model(str(out / "seed-0" / "imad")).provenance["adapters"]] == ["sft", "imad"]
    rows = [r for r in read_lines(out / "seed-0" / "metrics.jsonl") if r["stage"] == "imad" and "loss" in r]
    assert [row["removed"] for row in rows] == list(range(7))
    assert {"running", "needed"} <= rows[-1].keys()
    seen = {t.question for t in DEBATES}
    assert not seen & {record["question"] for record in read_lines(out / "seed-0" / "results" / "imad.jsonl")}
    chosen = preset("toy").override(settings | SHORT)
    assert stage_2_questions(chosen, Arithmetic()) == []  # it needs no others
    [drawn] = training_dynamics.draw(out)
    assert "6 units" in drawn.caption
    with pytest.raises(UserError, match=r"run: its stage 2 is stepwise, without the parts to leave out"):
        ablations.ablate(out, tmp_path / "ablations")


def test_stepwise_on_two_processes(settings: dict[str, str], tmp_path: Path) -> None:
    write_transcripts(tmp_path / "debates.jsonl", DEBATES)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = [sys.executable, *launch, *command(settings | SHORT, tmp_path / "two", tmp_path / "debates.jsonl")]
    done = subprocess.run(
        [*run, "--no-table"], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kept = facts(Run(tmp_path / "two", preset("toy")))
    assert (kept["processes"], kept["steps"], kept["schedule"]["moved"]) == (2, 7, 6)
    load_model(str(tmp_path / "two" / "seed-0" / "imad"))


def test_a_dry_run_knows_it(interp: Any) -> None:
    code, said, _ = interp("train", "--preset", "smollm2-135m", "--dry-run", "--set", "internalize=stepwise")
    assert code == 0
    assert "1,100" in next(line for line in said.splitlines() if line.strip().startswith("stepwise"))
    assert not [line for line in said.splitlines() if line.strip().startswith("grpo")]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("internalize", "slowly", "internalize=slowly: expected one of grpo, stepwise"),
        ("grpo.reward", "votes", "grpo.reward=votes: expected one of gold, consensus"),
        ("stepwise.unit", "words", "stepwise.unit=words: expected one of turns, tokens"),
        ("stepwise.jitter", "1", "less than 1"),
        ("stepwise.keep", "1.1", "less than or equal to 1"),
        ("stepwise.epochs", "3", "no such setting; 'epochs' is not one of"),
    ],
)
def test_wrong_settings(name: str, value: str, message: str, interp: Any, tmp_path: Path) -> None:
    code, _, wrong = interp("train", "--preset", "organism", "--set", f"{name}={value}", "--out", tmp_path / "out")
    assert (code, wrong.count("\n")) == (2, 1)
    assert message in wrong
    assert not (tmp_path / "out").exists()


def test_what_stepwise_would_refuse_is_refused_before_anything_is_made(chosen: Preset, tmp_path: Path) -> None:
    wrong = chosen.override({"internalize": "stepwise", "stepwise.lr_schedule": "sometimes"})
    with pytest.raises(UserError, match="SFTConfig: sometimes is not a valid SchedulerType"):
        train(Run(tmp_path / "run", wrong), transcripts=DEBATES)
    assert not (tmp_path / "run").exists()
