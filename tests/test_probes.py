"""The experiments end to end, on a model of random weights and scripted debates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probes
from interp.corpus import Corpus
from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.evaluation.statistics import Interval
from interp.models import Model
from interp.monitoring import Probe
from probes import agent_identity, round_and_revision, silent_agents, trait, truth
from probes.debated import Debated
from probes.experiment import Setting, Turns, untrained
from probes.outcome import FORMAT, Outcome

N = 30


@pytest.fixture(scope="module")
def small(tiny: Model) -> Any:
    def setting(name: str = "scripted", n: int = N, models: tuple[str, ...] = ("tiny",), **settings: Any) -> Setting:
        return Setting(
            models, read_embedded(name)[:n], name, untrained=False, layers="1", load=lambda *_, **__: tiny, **settings
        )

    return setting


def check_layout(outcome: Outcome, path: Path) -> dict[str, Any]:
    """What figures may rely on."""
    kept: dict[str, Any] = json.loads(outcome.write(path).read_text())
    assert kept["format"] == FORMAT
    assert kept["finding"]
    assert kept["made_by"]["transcripts"]["n"] == N
    assert kept["rows"]
    for kept_probe in (path / outcome.experiment).glob("*.safetensors"):
        assert Probe.load(kept_probe).facts["experiment"] == outcome.experiment
    probes = [row for row in kept["rows"] if row["kind"] == "probe" and not row["target"].startswith("fictitious")]
    assert all(-1 <= cosine <= 1 for row in probes for cosine in row["cosines"].values())
    for row in kept["rows"]:
        assert {"model", "target", "position", "kind", "layer", "seed", "classes", "examples", "questions"} <= set(row)
        assert all(set(value) == {"mean", "low", "high"} for value in row["scores"].values())
    assert all({"name", "model", "target", "value"} <= set(test) or "as_each_agent" in test for test in kept["tests"])
    return kept


def test_agent_identity_splits_seat_and_persona(small: Any, tmp_path: Path) -> None:
    kept = check_layout(agent_identity.run(small("scripted-rotated")), tmp_path)
    kinds = {(row["target"], row["kind"]) for row in kept["rows"]}
    assert {("persona", "probe, new seat"), ("seat", "probe, new persona"), ("seat", "probe, new round")} <= kinds
    assert {("seat", k) for k in ("probe", "mass-mean", "shuffled", "control task", "bag of words")} <= kinds
    assert {s["factor"] for s in kept["subspaces"]} == {
        "seat",
        "persona",
        "round",
        "spread of each agent's turns",
    }
    assert {s["layer"] for s in kept["subspaces"]} == {1}


def test_agent_identity_says_that_fixed_seats_are_ambiguous(small: Any) -> None:
    found = agent_identity.run(small())
    assert not any(row["target"] == "persona" for row in found.rows)
    assert not any("new persona" in row["kind"] for row in found.rows)


def test_truth_and_revision(small: Any, tmp_path: Path) -> None:
    for experiment in (truth, round_and_revision):
        kept = check_layout(experiment.run(small()), tmp_path)
        assert any(test["name"] == "probe − bag of words" for test in kept["tests"])


def test_truth_needs_gold_answers(small: Any) -> None:
    setting = small(n=1)
    without = Transcript(setting.transcripts[0].question, setting.transcripts[0].sections)
    with pytest.raises(UserError, match="no gold answer"):
        truth.run(Setting(("tiny",), [without], untrained=False, load=setting.load))


def test_trait_counts_false_alarms(small: Any, tmp_path: Path) -> None:
    setting = small()
    renamed = [
        Transcript(t.question, t.sections, t.gold_answer, ("guardian", "evil", "guardian")) for t in setting.transcripts
    ]
    found = trait.run(Setting(("tiny",), renamed, untrained=False, layers="1", load=setting.load))
    check_layout(found, tmp_path)
    alarms = [test for test in found.tests if test["name"].startswith("false alarms")]
    assert {test["target"] for test in alarms} == {"before its first word", "at the end of its turn"}
    with pytest.raises(UserError, match="no debate has a malicious persona"):
        trait.run(setting)


def test_what_is_read_before_a_turn_knows_nothing_of_it(small: Any, tiny: Model) -> None:
    """Neither the length nor the words of a turn are a baseline for what is read at its tag."""
    transcripts = small().transcripts
    corpus = Corpus.build(transcripts, tiny.tokenizer)
    turns = Turns(transcripts, corpus.turns, corpus.questions)
    later = round_and_revision.targets(turns)[2]
    assert later.position == "tag"
    assert later.examples.surface is not None
    assert later.examples.surface.shape[1] == 2
    own = turns.texts
    assert all(own[row] not in text for row, text in zip(later.rows, later.examples.texts, strict=True))


def test_silent_agents_have_all_their_controls(small: Any, tmp_path: Path) -> None:
    found = silent_agents.run(small("scripted", models=("tiny", "again")))
    kept = check_layout(found, tmp_path)
    kinds = {row["kind"] for row in kept["rows"]}
    assert {"probe", "shuffled", "control task", "operands", "operands and pairs", "operands, boosted"} <= kinds
    assert {row["position"] for row in kept["rows"]} == {"question", "answer"}
    names = {test["name"] for test in kept["tests"]}
    assert {"probe − the first model", "probe − operands, boosted", "right answers at once"} <= names
    assert "gain − fictitious gain" in names
    same = [test["value"] for test in kept["tests"] if test["name"] == "probe − the first model"]
    assert all(value == {"mean": 0, "low": 0, "high": 0} for value in same)  # it is the same model
    assert "is not shown" in kept["finding"][0]


def test_what_agents_would_have_answered_comes_from_round_one() -> None:
    transcripts = read_embedded("scripted")[:N]
    debated = Debated.read(transcripts)
    first = [t.turns[1].text for t in transcripts]
    assert all(debated.gives(text, 2, i) for i, text in enumerate(first))
    assert (debated.errs(2) == (debated.error(2) != 0)).all()
    assert debated.operands is not None
    assert debated.operands.shape == (N, 6)
    assert (debated.agree == [len(t.turns) == 3 for t in transcripts]).all()
    with pytest.raises(UserError, match="personas change seats"):
        Debated.read(read_embedded("scripted-rotated"))


def test_fictitious_agents_err_as_often_by_other_operands() -> None:
    rng = np.random.default_rng(0)
    operands = rng.integers(1, 10, (3000, 6))
    errs = (operands[:, 0] >= 7) & (rng.random(3000) < 0.8)
    never = silent_agents.fictitious(operands, errs, 0).astype(bool)
    assert abs(never.mean() - errs.mean()) < 0.05
    assert never[operands[:, 3] >= 7].mean() > 0.7
    assert never[operands[:, 3] < 7].mean() < 0.1
    assert abs(never[operands[:, 0] >= 7].mean() - never.mean()) < 0.1


def test_an_untrained_model_has_the_same_shape_and_other_weights(tiny: Model) -> None:
    made = untrained(tiny, seed=1)
    assert (made.n_layers, made.d_model) == (tiny.n_layers, tiny.d_model)
    assert made.provenance["name"] == "untrained"
    first, second = (next(m.hf.parameters()) for m in (made, tiny))
    assert (first != second).any()


def test_every_name_is_an_experiment_and_the_command_knows_it(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    for name in probes.NAMES:
        assert callable(__import__(f"probes.{name}", fromlist=["run"]).run)
    arguments = ["--model", model_folder, "--transcripts", "scripted", "--limit", N, "--no-untrained", "--layers", "1"]
    code, out, err = interp("probe", "truth", *arguments, "--out", tmp_path)
    assert code == 0, err
    assert "AUC" in out
    assert len(list((tmp_path / "truth").glob("*.safetensors"))) == 2
    assert (tmp_path / "truth.json").exists()
    code, _, err = interp("probe", "nothing", *arguments)
    assert code == 2
    assert "error: probe nothing: not known; give one of agent_identity" in err


def test_a_finding_averages_seeds() -> None:
    outcome = Outcome("x", "?")
    for seed, mean in ((0, 0.5), (1, 0.7)):
        outcome.test("gain", Interval(mean, mean - 0.1, mean + 0.1), model="m", target="t", seed=seed)
    value = outcome.difference("gain", model="m")
    assert value is not None
    assert value.mean == pytest.approx(0.6)
    assert outcome.difference("gain", model="n") is None
