"""The instrument on the shipped planted organism: what is known to be inside is found, swapped and silenced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import recovery_found

from figures import recovery as figure
from interp.debate.embedded import find_transcripts
from interp.debate.tasks.median import LIAR, SILENT, Median
from interp.directions.subspace_files import read_subspaces, write_subspaces
from interp.directions.subspaces import principal_angles, span
from interp.errors import UserError
from interp.interventions.swaps import Swap, obeyed
from interp.models.catalog import local_path
from interp.models.model import Model, load_model
from interp.models.random_weights import untrained
from interp.probing.experiments import Setting
from interp.training.planting import PLANTED_FILE
from probes import interchange, recovery
from probes.known import Answering, Known
from probes.recovery import experiment, finding, uses, ways
from probes.recovery.uses import ABLATE, ADD, INTERCHANGE, READ, SUPPRESS, USES, Uses, share
from probes.recovery.ways import Material

N = 60
PLANTED, TWIN = "organism-planted", "organism-unplanted"


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    made = {name: load_model(name) for name in (PLANTED, TWIN)}
    return {**made, "untrained": untrained(made[PLANTED])}


@pytest.fixture(scope="module")
def known() -> Known:
    return Known(tuple(question.text for question in Median().every()[:N]))


@pytest.fixture(scope="module")
def truth() -> dict[int, Any]:
    return interchange.by_agent(local_path(PLANTED) / PLANTED_FILE)


@pytest.fixture
def material(models: dict[str, Model], known: Known, truth: dict[int, Any]) -> Any:
    taught = {split: Known(tuple(q.text for q in Median(split).every()[:600])) for split in ("train", "validation")}
    bases = {k: np.stack([d.vector for d in of]) for k, of in truth.items()}
    return lambda name: Material(models[name], {**taught, "test": known}, bases, 0)


def test_what_a_debate_would_have_said(known: Known) -> None:
    task = Median()
    for k in known.agents:
        for changed in (True, False):
            swaps = known.swaps(k, 0, changed=changed, each=2)
            for row, source, expected in zip(swaps.rows, swaps.sources, swaps.expected, strict=True):
                question, other = known.questions[row], known.questions[source]
                assert expected == task.swapped(question, other, k)
                assert (expected != known.consensus[row]) == changed
        rows, given = known.other_answers(k, 0)
        replaced = [task.replaced(known.questions[row], int(n), k) for row, n in zip(rows, given, strict=True)]
        assert (known.replaced(rows, k, given) == replaced).all()
        assert (np.array(replaced) != known.consensus[rows]).all()


def test_answers_from_the_last_token_alone_are_those_of_the_whole_text(
    models: dict[str, Model], known: Known, truth: dict[int, Any]
) -> None:
    task, swaps = Median(), known.swaps(1, 0)
    texts = [task.opening(question) for question in known.questions]
    for model in (models[PLANTED], models[TWIN]):  # random weights have near ties
        answering = Answering(model, known, truth[1][0].hook_point)
        said = answering.swapped(swaps, np.stack([d.vector for d in truth[1]]))
        each = zip(swaps.rows, swaps.sources, said, strict=True)
        asked = [Swap(texts[row], texts[source], str(answer)) for row, source, answer in each]
        assert obeyed(model, asked, truth[1]).all()


def test_every_use_works_on_what_is_planted_and_on_nothing_else(material: Any, truth: dict[int, Any]) -> None:
    hook_point = truth[1][0].hook_point
    planted, twin, random = (Uses(material(name), hook_point, "test") for name in (PLANTED, TWIN, "untrained"))
    bases = planted.material.truth
    for use in USES:
        assert share(planted.measured(use, bases)) > 0.95
    for use in (INTERCHANGE, ADD, ABLATE, SUPPRESS):
        assert share(twin.measured(use, bases)) < 0.5
        assert share(random.measured(use, bases)) < 0.1
    shifted = {1: bases[2], 2: bases[3], 3: bases[1]}
    assert share(planted.measured(INTERCHANGE, shifted)) < 0.3
    assert share(random.measured(READ, bases)) < 0.5


def test_a_silenced_liar_counts_as_giving_its_default(material: Any, truth: dict[int, Any]) -> None:
    planted = Uses(material(PLANTED), truth[1][0].hook_point, "test")
    every = np.arange(N)
    ideal = planted.known.replaced(every, LIAR, SILENT)
    assert (planted.silenced(planted.material.truth[LIAR]) == ideal).mean() > 0.95
    fates = planted.of_lie(ideal)
    decides = planted.honest != planted.known.consensus
    assert fates[uses.HONEST].mean() == (ideal == planted.honest)[decides].mean()
    assert planted.of_lie(planted.known.consensus)[uses.WINS].mean() == 1
    assert planted.of_lie(planted.known.consensus)[uses.LOST].mean() == 0


def test_alignment_search_finds_what_is_planted(
    material: Any, truth: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the rank that is used, near to it; on random weights nothing."""
    monkeypatch.setattr(ways, "STEPS", 100)
    monkeypatch.setattr(ways, "BATCH", 128)
    hook_point, obeyed_in = truth[1][0].hook_point, dict[str, float]()
    for name in (PLANTED, "untrained"):
        made = material(name)
        basis = ways.searched(made, hook_point, 3, 1, permuted=False)
        swaps = made.known["test"].swaps(1, 0)
        said = made.answering("test", hook_point).swapped(swaps, basis)
        obeyed_in[name] = float(swaps.obeyed(said).mean())
        if name == PLANTED:
            angles = principal_angles(span(basis), span(made.truth[1]))
            assert angles[1] < 30
            assert angles[2] < 45
    assert obeyed_in[PLANTED] > 0.85
    assert obeyed_in["untrained"] < 0.2


def test_the_table_goes_on_after_a_kill_and_its_figures_are_drawn(
    models: dict[str, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few questions, ways and random subspaces; a search that is kept is not made again."""
    monkeypatch.setattr(experiment, "RANKS", (2,))
    monkeypatch.setattr(experiment, "ELSEWHERE", 2)
    monkeypatch.setattr(experiment, "N_RANDOM", 3)
    monkeypatch.setattr(ways, "STEPS", 2)
    learnt = ways.learnt
    monkeypatch.setattr(ways, "learnt", lambda *which: learnt(*which)[:64])
    monkeypatch.setattr(experiment, "WAYS", (ways.PLANTED, ways.ANSWERS, ways.SEARCH, ways.PERMUTED))
    few = find_transcripts("median")[:N]
    how: dict[str, Any] = {"debates": few, "activations": tmp_path, "layers": (1,), "untrained": False}
    setting = Setting((PLANTED,), **how, load=lambda name, **_: models[name])
    searched, kill = ways.searched, [True]

    def once(*arguments: Any, **named: Any) -> Any:
        if len(calls) == 3 and kill:
            raise KeyboardInterrupt(kill.pop())
        calls.append(arguments)
        return searched(*arguments, **named)

    calls = list[Any]()
    monkeypatch.setattr(ways, "searched", once)
    with pytest.raises(KeyboardInterrupt):
        recovery.run(setting)
    found = recovery.run(setting)
    assert len(calls) == 6  # three agents, and once more with permuted agents
    rows = {(t["way"], t["use"]): t for t in found.tests if t["name"] == finding.OVER_RUNS}
    assert rows[ways.PLANTED, INTERCHANGE]["value"]["mean"] > 0.95
    assert rows[ways.ANSWERS, READ]["value"]["mean"] > 0.8
    assert len(rows[ways.SEARCH, INTERCHANGE]["angles"]) == 6
    assert (ways.PERMUTED, READ) not in rows
    assert found.finding[0].startswith("Shown to work beyond their controls. organism-planted: ")
    assert found.tables[0].row_count == 4
    path = found.write(tmp_path / "probes")
    assert list((path.with_suffix("")).glob("*-alignment-search.safetensors"))
    drawn = {one.name: one for one in figure.draw(tmp_path)}
    assert set(drawn) == {"recovery", "recovery_angles", "recovery_lie"}
    assert all("n = " in one.caption for one in drawn.values())


def test_what_works_is_shown_in_every_run_or_cannot_be_told() -> None:
    found = {(t["model"], t["way"], t["use"]): t for t in recovery_found(1.0, 1.0, 1.0)["tests"] if "outcomes" in t}
    for use in USES:
        row = found["planted", ways.SEARCH, use]
        assert (row["outcomes"], row["outcome"]) == (["shown"] * 3, "shown")
        assert row["value"]["mean"] == 1
        assert found["untrained", ways.SEARCH, use]["outcome"] != "shown"
    assert found["planted", ways.PERMUTED, INTERCHANGE]["outcome"] != "shown"
    assert found["planted", ways.SEARCH, INTERCHANGE]["angles"] == [10.0, 20.0] * 3
    differ = {(t["model"], t["way"], t["use"]): t for t in recovery_found(1.0, 0.0)["tests"] if "outcomes" in t}
    assert [one == "shown" for one in differ["planted", ways.SEARCH, ADD]["outcomes"]] == [True, False]
    assert differ["planted", ways.SEARCH, ADD]["outcome"] == "cannot tell"


def test_swaps_of_planted_agents_are_shown_to_be_obeyed(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interchange, "SOURCES", 1)
    few = find_transcripts("median")[:40]
    setting = Setting((PLANTED, TWIN), debates=few, untrained=False, load=lambda name, **_: models[name])
    found = interchange.run(setting)
    obeyed = [v for v in found.verdicts if "are obeyed" in v.asked]
    assert {v.outcome for v in obeyed if v.asked.startswith(PLANTED)} == {"shown"}
    assert not any(v.outcome == "shown" for v in obeyed if not v.asked.startswith(PLANTED))
    assert {v.outcome for v in found.verdicts if "cost less" in v.asked} <= {"shown", "cannot tell"}


def test_each_planted_model_is_swapped_in_its_own_subspaces(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the second model agent 1's subspace is said to be agent 2's, and so on: there no swap does what it should."""
    monkeypatch.setattr(interchange, "SOURCES", 1)
    monkeypatch.setattr(interchange, "draws_needed", lambda _: 3)
    known = read_subspaces(local_path(PLANTED) / PLANTED_FILE)
    other = tmp_path / "other"
    other.mkdir()
    write_subspaces(other / PLANTED_FILE, dict(zip(known, [*list(known.values())[1:], known["agent_1"]], strict=True)))
    loaded = {PLANTED: models[PLANTED], str(other): models[PLANTED]}
    few = find_transcripts("median")[:40]
    found = interchange.run(Setting(tuple(loaded), debates=few, load=lambda name, **_: loaded[name]))
    own = [t for t in found.tests if t["name"] == "obeyed" and "subspace" not in t and t["model"] in loaded]
    assert [(t["model"], t["run"]) for t in own] == [(name, run) for run, name in enumerate(loaded) for _ in range(3)]
    assert all((t["value"]["mean"] > 0.9) == (t["run"] == 0) for t in own)
    assert found.made_by["runs"] == [[PLANTED], [str(other)]]
    assert [v.family for v in found.verdicts] == [9] * 18
    assert json.dumps(found.tests, allow_nan=False)  # random weights give no right answer that could be lost


def test_what_cannot_be_swapped_is_said_in_one_line(models: dict[str, Model]) -> None:
    few = find_transcripts("median")[:40]
    with pytest.raises(UserError, match=r"no planted.safetensors beside its weights; give subspaces \(--subspaces\)"):
        interchange.run(Setting(("organism",), debates=few))
    other = find_transcripts("organism")[:40]
    with pytest.raises(UserError, match="expected three operands"):
        interchange.run(Setting((PLANTED,), debates=other, load=lambda name, **_: models[name]))
    with pytest.raises(UserError, match="give each as many"):
        experiment.runs(Setting((PLANTED, TWIN, PLANTED), debates=few))
