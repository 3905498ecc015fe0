"""The experiment on organisms that need their debates: its parts on planted truth, and all of it on tiny models."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import stepwise_found, stepwise_records

from figures import stepwise as figure
from interp.debate.embedded import find_transcripts
from interp.debate.tasks.median import Median
from interp.errors import UserError
from interp.models.random_weights import UNTRAINED
from interp.probing.experiments import Setting
from interp.statistics import judge
from interp.training import Planting, plant
from probes.known import Known
from probes.stepwise import experiment, organism
from probes.stepwise.experiment import concluded
from probes.stepwise.finding import KINDS, over_seeds, seeds_test

SMALL = {"n_layers": 2, "width": 16, "n_heads": 2, "mlp_width": 16, "warm_up": 2, "batch_size": 4, "rank": 2}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as `interp plant` leaves them, of two seeds."""
    folder = tmp_path_factory.mktemp("planted")
    for seed in (0, 1):
        for kind in KINDS:
            (folder / f"seed-{seed}").mkdir(exist_ok=True)
            plant(folder / f"seed-{seed}" / kind, Planting(kind=kind, steps=1, seed=seed, **SMALL))  # type: ignore[arg-type]
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    class One(Known):
        agents = range(1, 2)

    def few(_: Setting) -> dict[str, Known]:
        sizes = {"train": 40, "validation": 20, "test": 20}
        return {s: One(tuple(q.text for q in Median(s).every()[:n])) for s, n in sizes.items()}  # type: ignore[arg-type]

    monkeypatch.setattr(experiment, "questions", few)
    monkeypatch.setattr(organism, "SEARCH", {"steps": 2, "batch_size": 4})
    monkeypatch.setattr(organism, "RANK", 2)


def test_a_killed_run_ends_in_the_same_findings(planted: Path, small: None, tmp_path: Path) -> None:
    one = str(planted / "seed-1")
    whole = experiment.stepwise(Setting((one,)))
    seen: list[int] = []

    def killed(_: str, done: int, of: int, *__: object) -> None:
        seen.append(done)
        if done == 5:
            raise KeyboardInterrupt

    setting = Setting((one,), activations=tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        experiment.stepwise(replace(setting, progress=killed))
    seen.clear()
    again = experiment.stepwise(replace(setting, progress=lambda _, done, *__: seen.append(done)))
    assert seen[0] == 5
    assert [v.record() for v in again.verdicts] == [v.record() for v in whole.verdicts]
    assert again.tests == whole.tests
    assert again.finding == whole.finding
    content = json.loads(again.write(tmp_path).read_text())
    assert {len(test["by_seed"]) for test in content["tests"]} == {1}
    assert {test["model"] for test in content["tests"]} == {*KINDS, UNTRAINED, None}
    assert not any(verdict["outcome"] == "shown" for verdict in content["verdicts"])
    assert content["verdicts"][0]["words"].endswith("each control: cannot tell; 1 seed is too few to say.")


def outcomes(asked: Any) -> list[str]:
    return [v.outcome for v in judge([one.test for one in asked], headroom=[one.headroom for one in asked])]


def test_what_is_planted_in_five_seeds_is_shown_and_nothing_else() -> None:
    found = stepwise_records(0.2, 0.2, 0.2)
    assert outcomes(found.answers()) == ["shown"]
    assert outcomes(found.swaps()) == ["shown"] * 3 + ["not shown"] * 6 + ["shown"] * 3
    assert outcomes(found.decoded()) == ["shown"] * 3 + ["not shown"] * 6 + ["shown"] * 3
    nothing = stepwise_records(0, 0, 0)
    for asked in (nothing.answers(), nothing.swaps(), nothing.decoded()):
        assert set(outcomes(asked)) == {"not shown"}


def test_a_test_over_five_seeds_is_as_good_as_it_says() -> None:
    """False positives and power, on normal differences."""
    rng = np.random.default_rng(0)
    none = [seeds_test("", 0.02 * rng.standard_normal(5)) for _ in range(2000)]
    assert np.mean([test.p <= 0.05 for test in none]) <= 0.06
    reach = float(np.median([test.detectable(0.05, 0.8) for test in none]))
    assert 0.75 < np.mean([seeds_test("", reach + 0.02 * rng.standard_normal(5)).p <= 0.05 for _ in range(2000)]) < 0.92
    covered = [over_seeds(0.5 + 0.02 * rng.standard_normal(5)) for _ in range(2000)]
    assert 0.93 < np.mean([one.low <= 0.5 <= one.high for one in covered]) < 0.99


def test_a_seed_without_a_value_does_not_count() -> None:
    assert seeds_test("", np.array([0.1, np.nan, 0.2])).questions == 2
    assert np.isnan(over_seeds(np.array([np.nan])).mean)
    [verdict] = judge([seeds_test("so", np.array([np.nan]))])
    assert verdict.in_words() == "so: cannot tell; 0 seeds are too few to say."
    found = stepwise_records(0.2, 0.2, 0.0)
    for record in found.records:
        if record["kind"] == "untrained" and record["agent"]:
            record["alignment search"]["obeyed of right"] = None  # it answers no question right
    facts = concluded(found).tests
    assert json.dumps(facts, allow_nan=False)
    assert len(facts) == len(concluded(stepwise_records(0.2, 0.2, 0.0)).tests) - 3


def test_models_are_paired_by_seed(planted: Path, tmp_path: Path) -> None:
    named = experiment.organisms([str(planted)])
    assert named == {s: {k: str(planted / f"seed-{s}" / k) for k in KINDS} for s in (0, 1)}
    each = [str(planted / "seed-1" / kind) for kind in reversed(KINDS)]
    assert experiment.organisms(each) == {1: named[1]}
    with pytest.raises(UserError, match="seed 1: no stepwise or direct model"):
        experiment.organisms(each[1:2])
    copied = tmp_path / "direct"
    shutil.copytree(planted / "seed-1" / "direct", copied)
    with pytest.raises(UserError, match="seed 1 has another direct model"):
        experiment.organisms([*each, str(copied)])
    with pytest.raises(UserError, match="no such file; make it with interp plant"):
        experiment.organisms([str(tmp_path / "nothing")])
    other = plant(tmp_path / "other", Planting(kind="planted", steps=1, debates=1, **SMALL))
    with pytest.raises(UserError, match="of kind planted; give organisms of the kinds stepwise"):
        experiment.organisms([str(other)])


def test_only_questions_of_no_training_are_judged() -> None:
    assert len(experiment.questions(Setting(debates=find_transcripts("median")))["test"].questions) == 166
    trained = Median("train").questions(1, 0)[0].text
    with pytest.raises(UserError, match="not in the test split"):
        experiment.questions(Setting(debates=[Median().debate(trained)]))


def test_the_figure_shows_every_seed(tmp_path: Path) -> None:
    (tmp_path / "probes").mkdir()
    content = stepwise_found()
    (tmp_path / "probes" / "stepwise.json").write_text(json.dumps(content))
    [drawn] = figure.draw(tmp_path)
    marks = [trace for trace in drawn.figure.data if trace.name == "stepwise"]
    assert [len(trace.y) for trace in marks] == [1] * (3 + 2 * 2 * 3 + 3)
    assert sum(trace.showlegend for trace in drawn.figure.data) == 3
    [at_once] = [t for t in content["tests"] if t["model"] == "stepwise" and t.get("questions") == "held out"]
    assert marks[0].y[0] == at_once["value"]["mean"] == pytest.approx(np.mean(at_once["by_seed"]))
    assert list(drawn.figure.data[1].y) == at_once["by_seed"]
    assert "n = 5 seeds" in drawn.caption
    del content["tests"][0]["questions"]
    (tmp_path / "probes" / "stepwise.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="right answers lack their model or questions"):
        figure.draw(tmp_path)
