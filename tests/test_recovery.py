"""The instrument on the shipped planted organism: what is known to be inside is found, swapped and silenced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interp.debate.tasks.median import LIAR, SILENT, Median
from interp.directions.subspaces import principal_angles, span
from interp.interventions.swaps import Swap, obeyed
from interp.models.catalog import local_path
from interp.models.model import Model, load_model
from interp.models.random_weights import untrained
from interp.training.planting import PLANTED_FILE
from probes import interchange
from probes.known import Answering, Known
from probes.recovery import uses, ways
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
    taught = {split: Known(tuple(q.text for q in Median(split).every())) for split in ("train", "validation")}
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
    monkeypatch.setattr(ways, "STEPS", 80)
    hook_point = truth[1][0].hook_point
    measured = {}
    for name in (PLANTED, "untrained"):
        made = material(name)
        monkeypatch.setattr(Known, "agents", property(lambda _: range(1, 2)))
        [found] = ways.find(made, ways.SEARCH, hook_point, 3).values()
        monkeypatch.undo()
        monkeypatch.setattr(ways, "STEPS", 80)
        swapped = Answering(made.model, made.known["test"], hook_point)
        swaps = made.known["test"].swaps(1, 0)
        measured[name] = swaps.obeyed(swapped.swapped(swaps, found[1])).mean()
        if name == PLANTED:
            assert principal_angles(span(found[1]), span(made.truth[1])).max() < 35
    assert measured[PLANTED] > 0.9
    assert measured["untrained"] < 0.2
