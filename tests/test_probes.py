"""The experiments end to end, on a model of random weights and scripted debates."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import probes
from interp.activations import store as extraction
from interp.activations.corpus import Corpus
from interp.activations.reading import stream
from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.models.model import Model
from interp.probing.decoding import ProbeRow
from interp.probing.experiments import FORMAT, Outcome, Setting, Target, Turns, read_turns
from interp.probing.fitting import HeldOut, ProbeExamples
from interp.probing.probe import Probe
from interp.probing.scores import Measured, measure
from interp.probing.settings import ProbeSettings
from interp.statistics import judge
from interp.steering.steering import Steering
from probes import agent_identity, round_and_revision, trait, truth
from probes import verdicts as verdicts_of
from probes.silent_agents import experiment as silent_agents
from probes.silent_agents import toward
from probes.silent_agents.debated import Debated
from probes.silent_agents.finding import beyond_fictitious
from probes.start import start

N = 30


@pytest.fixture(scope="module")
def small(tiny: Model) -> Any:
    def setting(name: str = "scripted", n: int = N, models: tuple[str, ...] = ("tiny",), **settings: Any) -> Setting:
        debates = read_embedded(name)[:n]
        made = Setting(models, transcripts=(name,), debates=debates, untrained=False, layers=(1,), **settings)
        return replace(made, load=lambda *_, **__: tiny)

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
        assert {"model", "target", "position", "kind", "layer", "seeds", "classes", "examples", "questions"} <= set(row)
        assert all(set(value) == {"mean", "low", "high"} for value in row["scores"].values())
    assert all({"name", "model", "target", "value"} <= set(test) or "as_each_agent" in test for test in kept["tests"])
    return kept


def test_agent_identity_splits_seat_and_persona(small: Any, tmp_path: Path) -> None:
    kept = check_layout(agent_identity.run(small("scripted-rotated")), tmp_path)
    kinds = {(row["target"], row["kind"]) for row in kept["rows"]}
    assert {("persona", "probe, new seat"), ("seat", "probe, new persona"), ("seat", "probe, new round")} <= kinds
    assert {("seat", k) for k in ("probe", "mass-mean", "shuffled", "control task", "bag of words")} <= kinds
    assert {s["factor"] for s in kept["subspaces"]} == {"seat", "persona", "round", "spread of each agent's turns"}
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
    without = Transcript(setting.debates[0].question, setting.debates[0].sections)
    with pytest.raises(UserError, match="no gold answer"):
        truth.run(Setting(("tiny",), debates=[without], untrained=False, load=setting.load))


def test_trait_counts_false_alarms(small: Any, tmp_path: Path) -> None:
    setting = small()
    renamed = [
        Transcript(t.question, t.sections, t.gold_answer, ("guardian", "evil", "guardian")) for t in setting.debates
    ]
    found = trait.run(Setting(("tiny",), debates=renamed, untrained=False, layers=(1,), load=setting.load))
    check_layout(found, tmp_path)
    alarms = [test for test in found.tests if test["name"].startswith("false alarms")]
    assert {test["target"] for test in alarms} == {"before its first word", "at the end of its turn"}
    with pytest.raises(UserError, match="no debate has a malicious persona"):
        trait.run(setting)


def test_what_is_read_before_a_turn_knows_nothing_of_it(small: Any, tiny: Model) -> None:
    """Neither the length nor the words of a turn are a baseline for what is read at its tag."""
    transcripts = small().debates
    corpus = Corpus.build(transcripts, tiny.tokenizer)
    turns = Turns(transcripts, corpus.turns, corpus.questions)
    later = round_and_revision.targets(turns)[2]
    assert later.position == "tag"
    assert later.examples.surface is not None
    assert later.examples.surface.shape[1] == 2
    own = turns.texts
    assert all(own[row] not in text for row, text in zip(later.rows, later.examples.texts, strict=True))


def test_silent_agents_have_all_their_controls(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_agents, "N_RANDOM", 3)
    found = silent_agents.run(small("scripted", models=("tiny", "again")))
    kept = check_layout(found, tmp_path)
    kinds = {row["kind"] for row in kept["rows"]}
    assert {"probe", "shuffled", "control task", "operands", "operands and pairs", "operands, boosted"} <= kinds
    assert {row["position"] for row in kept["rows"]} == {"question", "answer"}
    names = {test["name"] for test in kept["tests"]}
    assert {"probe − tiny", "probe − operands, boosted", "right answers at once"} <= names
    assert "gain − fictitious gain" in names
    same = [test["value"] for test in kept["tests"] if test["name"] == "probe − tiny"]
    assert all(value["mean"] == 0 for value in same)  # it is the same model
    assert kept["finding"][0].startswith("The internal debate: ")
    assert ": shown" not in kept["finding"][0]
    sentences = zip(kept["verdicts"], kept["finding"][1:], strict=False)
    assert all(sentence.startswith(verdict["words"]) for verdict, sentence in sentences)
    assert not any(verdict["outcome"] == "shown" for verdict in kept["verdicts"])


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
    permutations = silent_agents.other_roles(6, 1)
    assert len({tuple(roles) for roles in permutations}) == silent_agents.PERMUTATIONS
    assert all((roles != np.arange(6)).all() and sorted(roles) == list(range(6)) for roles in permutations)
    assert len(silent_agents.other_roles(2, 1)) == 1
    roles = permutations[0]
    never = silent_agents.fictitious(operands, errs, operands[:, roles], 0).astype(bool)
    stands_in = operands[:, roles[0]] >= 7
    assert abs(never.mean() - errs.mean()) < 0.05
    assert never[stands_in].mean() > 0.7
    assert never[~stands_in].mean() < 0.1
    assert abs(never[operands[:, 0] >= 7].mean() - never.mean()) < 0.1


def test_every_name_is_an_experiment_and_the_command_knows_it(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    for name in probes.NAMES:
        assert callable(__import__(f"probes.{name}", fromlist=["run"]).run)
    arguments = ["--model", model_folder, "--transcripts", "scripted", "--limit", N, "--no-untrained", "--layers", "1"]
    code, out, err = interp("probe", "truth", *arguments, "--out", tmp_path)
    assert code == 0, err
    assert "AUC" in out
    assert "decoded*" in out
    assert len(list((tmp_path / "truth").glob("*.safetensors"))) == 2
    assert (tmp_path / "truth.json").exists()
    assert not list(tmp_path.glob("*-activations"))
    code, _, err = interp("probe", "nothing", *arguments)
    assert code == 2
    assert "error: probe nothing: unknown; choose one of agent_identity" in err


def test_all_experiments_read_a_model_once_and_say_what_they_left_out(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(*arguments: Any, **settings: Any) -> Any:
        for readings in stream(*arguments, **settings):
            read.extend(readings.transcripts)
            yield readings

    monkeypatch.setattr(extraction, "stream", counted)
    setting = small("scripted-rotated")
    settings = ProbeSettings(("tiny",), transcripts=("scripted-rotated",), limit=N, untrained=False, layers=(1,))
    found = {
        outcome.experiment: (outcome, path) for outcome, path in start("all", settings, tmp_path, load=setting.load)
    }
    assert set(found) == set(probes.SURVEYS)
    assert sorted(read) == list(range(N))
    left_out = [name for name, (outcome, _) in found.items() if "left out" in outcome.finding[0]]
    assert left_out == ["silent_agents", "trait"]
    assert "the personas change seats" in found["silent_agents"][0].finding[0]
    assert {path.name for path in tmp_path.glob("*.json")} == {
        f"{name}.json" for name in probes.SURVEYS if name not in left_out
    }
    assert not list(tmp_path.glob("*-activations"))


def test_a_killed_experiment_reads_on_where_it_was(
    small: Any, tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = replace(small(), activations=tmp_path, batch_tokens=1)
    whole = read_turns(replace(setting, activations=None), tiny)[1]

    def killed(*arguments: Any, **settings: Any) -> Any:
        for i, readings in enumerate(stream(*arguments, **settings)):
            if i == 10:
                raise KeyboardInterrupt
            yield readings

    monkeypatch.setattr(extraction, "stream", killed)
    with pytest.raises(KeyboardInterrupt):
        read_turns(setting, tiny)
    left: list[int] = []

    def counted(*arguments: Any, **settings: Any) -> Any:
        left.append(N - len(settings["done"]))
        return stream(*arguments, **settings)

    monkeypatch.setattr(extraction, "stream", counted)
    again = read_turns(setting, tiny)[1]
    assert left == [N - 10]
    assert (again["tag"][1] == whole["tag"][1]).all()


SILENT = ("base", "debategpt", "imad")


@dataclass(frozen=True)
class Planted:
    """Models whose residual streams hold what is put there, and which answer by where they are moved."""

    operands: np.ndarray
    debated: Debated
    streams: dict[str, np.ndarray]
    turns_to: np.ndarray
    """By agent the direction along which the last model's answer becomes the agent's."""


def planted_debates(agents_in: bool, seed: int = 0, n: int = 240) -> Planted:
    """Agents that err where an operand is large, mostly. All models hold the operands, the last one more clearly.

    With `agents_in` it also holds whether each agent errs, along a direction that is used when it answers.
    """
    rng = np.random.default_rng(seed)
    operands = rng.integers(1, 10, (n, 6))
    gold = [str(a + b * c + d - e * f) for a, b, c, d, e, f in operands]
    errs = np.stack([(operands[:, k] >= 6) & (rng.random(n) < 0.75) for k in range(3)], axis=1)
    answers = tuple(
        tuple(str(int(g) + 10 * (k + 1) * e) for k, e in enumerate(row)) for g, row in zip(gold, errs, strict=True)
    )
    questions = tuple("{}+{}*{}+{}-{}*{}".format(*row) for row in operands)
    one_hot = np.concatenate([np.eye(9)[operands[:, i] - 1] for i in range(6)], axis=1)
    frame = np.linalg.qr(rng.standard_normal((64, 64)))[0]
    streams = {
        name: one_hot @ frame[:54] + noise * rng.standard_normal((n, 64))
        for name, noise in zip(SILENT, (0.35, 0.3, 0.25), strict=True)
    }
    if agents_in:
        streams["imad"] += 2 * errs @ frame[54:57]
    return Planted(operands, Debated(questions, tuple(gold), answers), streams, frame[54:57])


def silently(
    planted: Planted, agents_in: bool, monkeypatch: pytest.MonkeyPatch, models: tuple[str, ...] = SILENT
) -> Outcome:
    """The whole experiment on planted models; moved along an agent's direction, the one with agents answers so."""
    debated = planted.debated

    def read(model: Any, *_: Any) -> Any:
        values = planted.streams[model.provenance["name"]]
        return {"question": {0: values}}, [rf"\boxed{{{gold}}}" for gold in debated.gold]

    def answers(model: Any, _: Any, rows: list[int], steerings: list[Steering]) -> list[list[str]]:
        texts = []
        for steering in steerings:
            moved = steering.changes[0].offset if steering.changes else np.zeros(64)
            along = planted.turns_to @ moved
            k = int(along.argmax())
            as_agent = agents_in and model.provenance["name"] == "imad" and along[k] > 0.6 * np.linalg.norm(moved) > 0
            said = [debated.answers[i][k] if as_agent else debated.gold[i] for i in rows]
            texts.append([rf"\boxed{{{answer}}}" for answer in said])
        return texts

    monkeypatch.setattr(silent_agents.Debated, "read", lambda *_: debated)
    monkeypatch.setattr(silent_agents, "read_silently", read)
    monkeypatch.setattr(toward, "_answers", answers)
    monkeypatch.setattr(silent_agents, "POSITIONS", {"question": "tag"})
    made = {name: SimpleNamespace(provenance={"name": name}, n_layers=1) for name in models}
    return silent_agents.run(Setting(models, untrained=False, load=lambda name, **_: made[name]))


def test_agents_that_are_in_a_model_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = silently(planted_debates(True), True, monkeypatch)
    assert found.finding[0].startswith(
        "The internal debate: shown. The errors of 3 of 3 agents are shown to be decoded"
    )
    assert "the directions of 3 of 3 agents is shown to move its answer" in found.finding[0]
    moved = [verdict for verdict in found.verdicts if "direction moves" in verdict.asked]
    assert {verdict.family for verdict in moved} == {6}
    assert {verdict.outcome for verdict in moved if "1 along" in verdict.asked} == {"shown"}


def test_a_model_that_only_reads_questions_better_has_no_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    found = silently(planted_debates(False), False, monkeypatch, SILENT[::2])
    assert "The errors of 0 of 3 agents are shown" in found.finding[0]
    assert "the directions of 0 of 3 agents is shown" in found.finding[0]
    assert not any(verdict.outcome == "shown" for verdict in found.verdicts)
    gains = [test for test in found.tests if test["name"] == "gain − fictitious gain"]
    assert {test["how"] for test in gains} == {*(f"permutation {i}" for i in range(1, 6)), "operands turned round"}


def test_a_measure_over_seeds_is_about_these_seeds() -> None:
    """Two seeds of the same 50 questions are not 100 questions: the mean has the interval of the mean contributions."""
    rng = np.random.default_rng(0)
    right = (rng.random((2, 50)) < 0.7).astype(float)
    outcome = Outcome("x", "?")
    target = Target("t", ProbeExamples(np.arange(50) % 2, np.arange(50), ("a", "b")), np.arange(50))
    for seed, values in enumerate(right):
        outcome.add_row("m", target, seed, ProbeRow("chosen layer", None, {"accuracy": Measured(values, 50)}))
    [row] = outcome.rows
    assert row["seeds"] == [0, 1]
    mean = right.mean(axis=0)
    both = Measured(mean, 50).interval
    assert row["scores"]["accuracy"] == {"mean": both.mean, "low": both.low, "high": both.high}
    assert both.mean == pytest.approx(right.mean())
    value = outcome.measured("accuracy", model="m", target="t")
    assert value is not None
    assert value.interval == both
    assert outcome.measured("accuracy", model="n") is None


def test_permutations_that_disagree_show_less_than_those_that_agree() -> None:
    """0.43, 0.41 and 0.03 were averaged into 0.29 [0.15, 0.45]."""
    noise = 0.5 * np.random.default_rng(0).standard_normal(200)
    noise -= noise.mean()
    disagree, agree = (
        beyond_fictitious("gain", [Measured(mean + noise, 60, (-2.0, 2.0)) for mean in means])
        for means in ((0.43, 0.41, 0.03), (0.29, 0.30, 0.28))
    )
    assert disagree.estimate.mean == pytest.approx(agree.estimate.mean)
    assert agree.p < 0.001
    assert disagree.p > 0.05
    assert disagree.estimate.low < 0 < agree.estimate.low
    alone = beyond_fictitious("gain", [Measured(0.43 + noise, 60, (-2.0, 2.0))])
    assert judge([alone], smallest=0.05)[0].outcome == "cannot tell"


@pytest.mark.parametrize(("size", "expected"), [(0.0, 0), (3.0, 2)])
def test_a_verdict_needs_both_texts_and_the_untrained_model(size: float, expected: int) -> None:
    """The models and targets are one family; what a text also knows is not shown beyond it."""
    rng = np.random.default_rng(0)
    labels, question = rng.integers(0, 2, 200), np.arange(200)
    examples = ProbeExamples(labels, question, ("a", "b"))
    target = Target("t", examples, question)
    outcome = Outcome("x", "?")

    def row(kind: str, effect: float) -> ProbeRow:
        chance = 1 / (1 + np.exp(-(effect * (2 * labels - 1) + rng.standard_normal(200))))
        held = HeldOut(np.stack([1 - chance, chance], axis=1), np.zeros(200, int), np.zeros(1))
        return ProbeRow(kind, None, measure(held, examples))

    for model in ("one", "two"):
        outcome.add_row(model, target, 0, row("chosen layer", size))
    outcome.add_row(None, target, 0, row("bag of words", 0.3))
    outcome.add_row("untrained", target, 0, row("chosen layer", 0.0))
    verdicts = verdicts_of.judge(outcome, verdicts_of.beyond_text(outcome, ("one", "two"), ("t",)))
    assert [verdict.family for verdict in verdicts] == [2, 2]
    assert sum(verdict.outcome == "shown" for verdict in verdicts) == expected
    assert len(outcome.finding) == 2
    assert "bag of words, untrained" in outcome.finding[0]
    assert "length and position" not in outcome.finding[0], "it was not measured"
