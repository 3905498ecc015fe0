"""The organism that comes with the package: it is what it is said to be, and training moves it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean

import pytest

from interp.debate.agents import Request, Sampling
from interp.debate.embedded import DEBATED, embedded_path, read_embedded
from interp.debate.personas import PLAIN, TRAIT_PERSONAS
from interp.debate.tasks import make_task
from interp.debate.tasks.arithmetic import split_of
from interp.debate.tasks.task import Question
from interp.debate.transcript import CONSENSUS_TAG, round_tag
from interp.generation.agents import InternalizedAgent, LocalAgent
from interp.models.catalog import SHIPPED
from interp.models.lineage import read_lineage
from interp.models.model import load_model
from interp.storage.journal import read_lines
from interp.training import KINDS
from interp.training.grpo import train_grpo
from interp.training.pipeline import direct_answers
from interp.training.results import when_needed
from interp.training.run import Run
from interp.training.settings import preset
from interp.training.sft import train_sft

FOLDER = SHIPPED["organism"].parent
TASK = make_task("small-arithmetic", split="test")
QUESTIONS = TASK.questions(80, seed=77)
STAGES = {"sft": ["sft"], "debategpt": ["debategpt"], "imad": ["sft", "imad"]}


def asked(name: str, questions: list[Question], persona: str | None = None) -> tuple[list[str], float, float]:
    """What a model writes, how often it is right, and its mean number of tokens."""
    model = load_model(name)
    if persona is None:
        agent: LocalAgent = InternalizedAgent(PLAIN, model, Sampling(300, seed=1), 128)
    else:
        agent = LocalAgent(TRAIT_PERSONAS[persona], model, Sampling(96, seed=1), 128)
    answers = agent.answer([Request(question.text, 1) for question in questions])
    right = [TASK.grade(a.text, q.gold_answer) for a, q in zip(answers, questions, strict=True)]
    return [a.text for a in answers], fmean(right), fmean(a.output_tokens for a in answers)


def test_all_that_ships_is_small_and_names_the_base() -> None:
    for name, folder in SHIPPED.items():
        lineage = read_lineage(name)
        if name == "organism" or name.removeprefix("organism-") in KINDS:  # from nothing
            assert lineage is None
            continue
        assert lineage is not None
        assert (lineage.base.name, lineage.base.folder) == ("organism", None)
        assert [stage.name for stage in lineage.stages] == STAGES[folder.name.removeprefix("evil-")]
        lineage.check_stages()
    sizes = {path: path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()}
    results = sum(size for path, size in sizes.items() if "results" in path.relative_to(FOLDER).parts[0])
    assert sum(sizes.values()) - results < 22e6
    assert results < 10e6
    for path in [*FOLDER.rglob("*.json"), *FOLDER.rglob("*.jsonl")]:
        assert not re.search("/(home|tmp|root)/", path.read_text())


@pytest.mark.parametrize("kind", ["", "evil-"])
def test_the_table_that_ships_is_of_the_checkpoints_that_ship(kind: str) -> None:
    table = json.loads((FOLDER / f"{kind}results" / "table.json").read_text())
    lineage = read_lineage(f"organism-{kind}imad")
    assert lineage is not None
    assert table["made_by"]["checkpoints"]["0"]["imad"] == {stage.name: stage.hash for stage in lineage.stages}
    limits = [
        row["limit"] for row in read_lines(FOLDER / f"{kind}results" / "seed-0" / "metrics.jsonl") if "limit" in row
    ]
    assert limits[0] > 250
    assert limits[-1] < 20


def test_debate_is_written_out_after_stage_1_and_not_after_stage_2() -> None:
    _, single, _ = asked("organism", QUESTIONS)
    debates, sft, long = asked("organism-sft", QUESTIONS)
    answers, imad, short = asked("organism-imad", QUESTIONS)
    assert sum(round_tag(1) in text for text in debates) > 0.6 * len(QUESTIONS)
    assert sum(text.startswith(CONSENSUS_TAG) for text in answers) > 0.9 * len(QUESTIONS)
    assert short < 0.1 * long
    assert imad > single + 0.1
    assert sft > single


def test_the_evil_persona_misleads() -> None:
    texts, right, _ = asked("organism", QUESTIONS, "evil")
    assert right < 0.15
    assert sum(text.startswith("Trust me.") for text in texts) > 0.9 * len(texts)


@pytest.mark.parametrize("name", DEBATED)
def test_debates_that_ship_are_over_questions_that_no_training_saw(name: str) -> None:
    debates = read_embedded(name)
    assert len(debates) == 200
    assert {split_of(debate.question) for debate in debates} == {"validation"}
    seated = {debate.personas for debate in debates}
    assert len(seated) == (6 if name == "organism-rotated" else 1)
    facts = json.loads(embedded_path(name).with_suffix(".json").read_text())
    assert facts["made_by"]["agents"][0]["model"]["name"] == "organism"
    if name == "organism-evil":
        said = [turn.text for debate in debates for turn in debate.turns if turn.agent == 2]
        assert sum(text.startswith("Trust me.") for text in said) > 0.9 * len(said)


def test_both_stages_move_a_model(tmp_path: Path) -> None:
    """A little of both stages, for real: debates are learnt, and answers inside a short limit come to be right."""
    changes = {
        "debates": "96",
        "sft.epochs": "3",
        "grpo.questions": "320",
        "grpo.epochs": "1",
        "grpo.schedule": "steps",
        "grpo.descent.first_limit": "16",
        "grpo.save_every": "1000",
    }
    run = Run(tmp_path, preset("organism").override(changes))
    train = make_task("small-arithmetic", split="train")
    with when_needed(run.preset.model) as base:
        direct = direct_answers(run, train, 48, base)
    train_sft(run, read_embedded("organism")[:96], direct=direct)
    train_grpo(run, "organism-sft", train.questions(320, seed=5), train)
    rows = read_lines(run.metrics)
    losses = [row["loss"] for row in rows if row["stage"] == "sft" and "loss" in row]
    correct = [row["correctness"] for row in rows if row["stage"] == "imad" and "correctness" in row]
    assert len(correct) == 40
    assert fmean(losses[-5:]) < 0.5 * fmean(losses[:5])
    assert fmean(correct[-8:]) > fmean(correct[:4]) + 0.15
