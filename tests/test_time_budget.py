"""Stages that a time budget ends are saved whole, and the same call makes of them what it would have made at once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_training_stepwise as stepwise
from test_training_stages import TRANSCRIPTS, make_base, stage_two, toy, untimed

from interp.errors import TimeUp, UserError
from interp.models.lineage import read_lineage
from interp.options import duration
from interp.training.run import Run
from interp.training.settings import Preset
from interp.training.sft import train_sft


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    base = make_base(tmp_path_factory.mktemp("base"), tie_word_embeddings=True)
    return stepwise.preset(base, save_every=99).override({"sft.save_every": "99", "grpo.save_every": "99"})


@pytest.fixture(scope="module")
def whole(chosen: Preset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that had the time."""
    run = Run(tmp_path_factory.mktemp("whole"), chosen)
    train_sft(run, TRANSCRIPTS)
    stage_two(run)
    return run


def stopped_at(run: Run, *steps: int) -> Run:
    """The run, whose time is up at these steps of a stage."""

    def progress(stage: str, done: int, *_: Any) -> None:
        object.__setattr__(stopping, "ends", 0.0 if done in steps else math.inf)

    stopping = replace(run, progress=progress, ends=math.inf)
    return stopping


def made(run: Run) -> list[Any]:
    """The adapters of a run, its metrics, and where its schedule ended."""
    lineage = read_lineage(str(run.checkpoint("imad")))
    assert lineage is not None
    adapters = [path.read_bytes() for path in sorted(run.checkpoint("imad").glob("*/*.safetensors"))]
    return [*adapters, untimed(run), lineage.stages[1].facts["schedule"]]


def test_both_stages(chosen: Preset, whole: Run, tmp_path: Path) -> None:
    run = Run(tmp_path, chosen)
    with pytest.raises(TimeUp, match="sft stopped at step 3 of 4"):
        train_sft(stopped_at(run, 3), TRANSCRIPTS)
    with pytest.raises(TimeUp, match="sft not begun"):
        train_sft(replace(run, ends=0.0), TRANSCRIPTS)
    assert [state.name for state in run.kept("sft").glob("checkpoint-*")] == ["checkpoint-3"]
    train_sft(stopped_at(run, 4), TRANSCRIPTS)  # nothing is left to do
    with pytest.raises(TimeUp, match="imad stopped at step 4 of 8"):
        stage_two(stopped_at(run, 3, 4))  # not in the middle of a batch of completions
    with pytest.raises(TimeUp, match="imad stopped at step 6 of 8"):
        stage_two(stopped_at(run, 6))
    stage_two(run)
    assert made(run) == made(whole)
    assert toy(tmp_path).grpo.num_iterations == 2


def test_stepwise(chosen: Preset, whole: Run, tmp_path: Path) -> None:
    first, runs = whole.checkpoint("sft"), [Run(tmp_path / name, chosen) for name in ("whole", "stopped")]
    stepwise.stage_two(runs[0], first)
    for step in (4, 9):  # just after a removal, and between two
        with pytest.raises(TimeUp, match=f"imad stopped at step {step} of 16"):
            stepwise.stage_two(stopped_at(runs[1], step), first)
    stepwise.stage_two(runs[1], first)
    assert made(runs[0]) == made(runs[1])


def test_work_in_a_journal_stops_where_it_is() -> None:
    told: list[Any] = []
    run = Run(Path(), Preset("toy", "toy"), lambda *what: told.append(what), ends=0.0)
    with pytest.raises(TimeUp, match="debates stopped at 3 of 8"):
        run.tell_journalled("debates", 3, 8)
    run.tell_journalled("debates", 8, 8)
    replace(run, ends=None).tell_journalled("debates", 3, 8)
    assert len(told) == 3


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("8m", 480), ("1.5h", 5400), (" 0.5m", 30)])
def test_durations(text: str, seconds: float) -> None:
    assert duration("--time-budget", text) == seconds


@pytest.mark.parametrize("text", ["8", "m", "0s", "-1m", "8 m", "1h30m", "infh", "8M"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UserError, match=f"--time-budget {text}: expected a length of time such as 90s"):
        duration("--time-budget", text)
