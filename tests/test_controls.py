"""An untrained model and the text alone beside directions, and the verdict on what lies beyond both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_model
from transformers import AutoModelForCausalLM

from interp.activations import store as stores
from interp.activations.corpus import Corpus
from interp.activations.reading import Readings
from interp.activations.store import StoreWriter
from interp.debate.embedded import find_transcripts, read_embedded
from interp.debate.transcript import Transcript
from interp.directions.contrast import Contrast, differences
from interp.directions.directions import Directions
from interp.directions.evidence import Design, at_chosen_layer, beyond, evaluate
from interp.directions.extract import Controls, extract_directions, measure
from interp.directions.settings import ExtractionSettings
from interp.directions.text import N_WORDS, text_controls
from interp.errors import UserError
from interp.models.model import Model, load_model
from interp.models.random_weights import untrained
from interp.reports.findings import beyond_controls
from interp.reports.page import write_report
from interp.reports.tables import best_layers_table

LABELS = ("agent 1", "agent 2", "agent 3")


def test_an_untrained_model_has_the_same_shape_and_other_weights(tiny: Model) -> None:
    made = untrained(tiny, seed=1)
    assert (made.n_layers, made.d_model, made.provenance["name"]) == (tiny.n_layers, tiny.d_model, "untrained")
    first, second, again = (next(m.hf.parameters()) for m in (made, tiny, untrained(tiny, seed=1)))
    assert (first != second).any()
    assert (first == again).all()


@pytest.mark.parametrize("position", ["last", "tag"])
def test_the_organism_with_random_weights_shows_nothing_beyond_its_controls(position: str) -> None:
    """Its architecture alone tells the agents apart, almost always."""
    model = untrained(load_model("organism"), seed=7)
    facts = extract_directions(
        model, find_transcripts("organism")[:40], position=position, layers=(0, 1)
    ).directions.facts
    evidence = facts["evidence"]["all"]
    assert np.mean(evidence["chosen_layer"]["mean"]) > 0.85
    assert [verdict["outcome"] for verdict in evidence["beyond_controls"]] == ["cannot tell"] * 3
    assert all("at most 0 was possible" in verdict["words"] for verdict in evidence["beyond_controls"])
    assert facts["provenance"]["untrained"]["seed"] == 0
    assert facts["provenance"]["untrained"]["shape_of"] == facts["provenance"]["model"]


def planted(tmp_path: Path, size: float, in_untrained: float = 0.0) -> dict[str, Any]:
    """Evidence of a store with agents planted in it, of turns whose words and places say nothing of their persona."""
    names = ("a", "b", "c")
    transcripts = [
        Transcript.build(f"{q}+1", [["so be it"] * 3], None, personas=np.roll(names, q).tolist()) for q in range(48)
    ]
    corpus = Corpus.build(transcripts, make_model().tokenizer)
    contrast = Contrast.build(corpus.turns, corpus.questions, "persona")
    rng, held = np.random.default_rng(0), []
    effect = rng.normal(size=(3, 24))
    for name, strength in (("own", size), ("untrained", in_untrained)):
        what: dict[str, Any] = {"layers": (0,), "positions": ("last",), "hook_point": "blocks.{layer}.hook_resid_post"}
        writer = StoreWriter(tmp_path / name, corpus, **what, d_model=24, provenance={"model": {"name": name}})
        who = np.array([names.index(persona) for persona in corpus.turns.persona])
        values = (rng.normal(size=(len(who), 24)) + strength * effect[who]).astype(np.float32)
        writer.append(Readings(np.arange(len(who)), values[:, None, None], tuple(range(48))))
        held.append(writer.finish())
    controls = Controls(held[1], text_controls(corpus, contrast, "last"))
    return dict(measure(held[0], contrast, ExtractionSettings(by="persona"), controls).directions.facts)


def test_what_is_planted_beyond_the_controls_is_shown_and_nothing_else(tmp_path: Path) -> None:
    shown, none, both = (planted(tmp_path / str(i), *sizes) for i, sizes in enumerate(((0.6,), (0.0,), (0.6, 0.6))))
    outcomes = [[v["outcome"] for v in facts["evidence"]["all"]["beyond_controls"]] for facts in (shown, none, both)]
    assert outcomes[0] == ["shown"] * 3
    assert "shown" not in outcomes[1] + outcomes[2]
    text = shown["evidence"]["all"]["controls"]["text"]
    assert np.mean(text["mean"]) < 0.65
    assert beyond_controls(shown)[0] == "Beyond the controls: shown for a, b and c."


def test_a_verdict_is_not_shown_by_noise() -> None:
    """The whole family of three agents, at ten and at forty questions."""
    for n, repeats in ((10, 100), (40, 40)):
        question, shown = np.arange(n), 0
        for seed in range(repeats):
            rng, design = np.random.default_rng([n, seed]), Design.draw(question, 3, seed).bare
            wins = [
                evaluate(differences(rng.normal(size=(n, 3, 16)).astype(np.float32)), design).wins for _ in range(3)
            ]
            found = beyond(LABELS, wins[0], {"one": wins[1], "another": wins[2]})
            shown += any(verdict.outcome == "shown" for verdict in found)
        assert shown / repeats <= 0.07


def test_where_nothing_could_be_better_or_few_questions_speak_nobody_can_tell() -> None:
    perfect, half = np.ones((30, 3)), np.full((30, 3), 0.5)
    found = beyond(LABELS, perfect, {"an untrained model": half, "the text": perfect})
    assert [verdict.outcome for verdict in found] == ["cannot tell"] * 3
    assert "at most 0 was possible" in found[0].in_words()
    few = beyond(LABELS, perfect[:3], {"an untrained model": half[:3]})
    assert [v.outcome for v in few] == ["cannot tell"] * 3
    assert few[0].in_words().endswith("cannot tell; 3 questions are too few to say.")
    unknown = beyond(LABELS, np.full((2, 3), np.nan), {"an untrained model": np.full((2, 3), np.nan)})
    assert unknown[0].in_words().endswith("2 questions are too few to say.")


def test_the_text_s_features_are_its_words_its_end_and_its_length(debates: list[Transcript], tiny: Model) -> None:
    corpus = Corpus.build(debates, tiny.tokenizer)
    contrast = Contrast.build(corpus.turns, corpus.questions)
    words, place, both = text_controls(corpus, contrast, "last")
    groups = np.arange(len(contrast.rows))
    turns, rows = corpus.turns, contrast.rows
    raw = differences(np.stack([turns.stop, turns.stop - turns.start], axis=1).astype(np.float32)[rows])
    scaled = raw / np.sqrt((raw**2).sum(axis=(0, 1)) / len(rows))
    np.testing.assert_allclose(place[groups], scaled, rtol=1e-4)
    np.testing.assert_array_equal(both[groups][..., -2:], place[groups])
    np.testing.assert_array_equal(both[groups][..., :-2], words[groups])
    assert words.shape[-1] <= N_WORDS
    ids = [corpus.ids[turns.transcript[r]][turns.start[r] : turns.stop[r]] for r in range(len(turns))]
    most = max({i for turn in ids for i in turn}, key=lambda i: sum(i in turn for turn in ids))
    expected = differences(np.log1p([turn.count(most) for turn in ids])[rows][..., None])[..., 0]
    [first] = words[groups][..., :1].transpose(2, 0, 1)
    assert abs(np.corrcoef(first.ravel(), expected.ravel())[0, 1]) > 0.999


def test_a_word_of_one_agent_tells_it_apart_and_so_does_its_tag(tiny: Model) -> None:
    said = [Transcript.build(f"{q}+1", [["so be it", "so be it then", "so be it"]], None) for q in range(12)]
    corpus = Corpus.build(said, tiny.tokenizer)
    contrast = Contrast.build(corpus.turns, corpus.questions)
    design = Design.draw(contrast.question, 3, 0).bare
    for position, known in (("last", [1]), ("tag", [0, 1, 2])):
        found = [evaluate(kind, design) for kind in text_controls(corpus, contrast, position)]
        wins, _ = at_chosen_layer(found, design, each=True)
        assert (wins[:, known] == 1).all()


def test_a_reading_of_the_untrained_model_goes_on_where_it_was(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debates, read = read_embedded("scripted")[:8], list[str]()
    plain = stores.stream

    def counted(model: Model, *given: Any, **how: Any) -> Any:
        for readings in plain(model, *given, **how):
            read.append(model.name)
            yield readings

    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == ("reading activations of an untrained model", 3):
            raise KeyboardInterrupt

    monkeypatch.setattr(stores, "stream", counted)
    how: dict[str, Any] = {"layers": (1,), "batch_tokens": 1}
    with pytest.raises(KeyboardInterrupt):
        extract_directions(tiny, debates, tmp_path / "a", **how, progress=stop)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        *("activations.safetensors.part", "untrained.safetensors.part")
    ]
    resumed = extract_directions(tiny, debates, tmp_path / "a", **how).directions
    assert read == [tiny.name] * 8 + ["untrained"] * 8
    assert not list((tmp_path / "a").glob("*.part"))
    whole = extract_directions(tiny, debates, **how).directions
    assert resumed.facts["evidence"] == whole.facts["evidence"]


def test_controls_are_added_to_a_first_look_but_not_lost(tiny: Model, tmp_path: Path) -> None:
    debates = read_embedded("scripted")[:6]
    first = extract_directions(tiny, debates, tmp_path, layers=(1,), controls=False)
    assert beyond_controls(first.directions.facts)[0] == "No controls."
    page = write_report(first, tmp_path).read_text()
    assert ("<b>No controls.</b>" in page, ">untrained<" in page) == (True, False)
    assert "text" not in [column.header for column in best_layers_table(first.directions).columns]
    second = extract_directions(tiny, debates, tmp_path, layers=(1,), keep_activations=True)
    np.testing.assert_array_equal(first.directions.vectors, second.directions.vectors)
    assert Directions.load(tmp_path / "directions.safetensors").facts["provenance"]["untrained"]["seed"] == 0
    assert {"activations.safetensors", "untrained.safetensors"} <= {p.name for p in tmp_path.iterdir()}
    page = write_report(second, tmp_path).read_text()
    assert all(said in page for said in ("<b>Beyond the controls: ", ">untrained<", "random weights of seed 0"))
    columns = {str(column.header): list(column.cells) for column in best_layers_table(second.directions).columns}
    control = second.directions.facts["evidence"]["all"]["controls"]
    assert columns["text"][:3] == [f"{mean:.2f}" for mean in control["text"]["mean"]]
    with pytest.raises(UserError, match=r"other settings \(controls\)"):
        extract_directions(tiny, debates, tmp_path, layers=(1,), controls=False)


def test_a_model_that_cannot_be_built_from_its_configuration_is_named(
    interp: Any, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("no such architecture\nat all")

    monkeypatch.setattr(AutoModelForCausalLM, "from_config", refuse)
    command = ("extract-directions", "--model", model_folder, "--limit", 3, "--out", tmp_path / "out")
    code, _, wrong = interp(*command)
    assert (code, wrong.count("\n")) == (2, 1)
    assert f"{model_folder}: cannot be built with random weights (no such architecture" in wrong
    assert "--no-controls" in wrong
    code, said, _ = interp(*command, "--no-controls")
    assert (code, "No controls." in said) == (0, True)
    assert "controls" not in json.loads((tmp_path / "out" / "directions.json").read_text())["evidence"]["all"]
