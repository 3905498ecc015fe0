"""Sweeps: which texts are written, what is measured on them, and what a kill leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import COMMAND, make_model

from interp.debate.agents import Sampling
from interp.debate.embedded import read_embedded
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.transcript import Transcript, before_tags, without_tags, write_transcripts
from interp.directions.directions import Directions, question_hash
from interp.directions.extract import extract_directions
from interp.errors import UserError
from interp.evaluation.texts import PersonaClassifier
from interp.generation.sampling import generate
from interp.interventions.settings import SweepSettings
from interp.interventions.sweeps import sweep
from interp.models.model import LazyModel, Model, load_model
from interp.reports.intervention_tables import _told_apart, count_lines
from interp.steering.steering import add

pytest.importorskip("rouge_score")

DIRECT = Transcript.build("1+1", [], r"\boxed{2}")
SETTINGS = SweepSettings(layers=(1, 2), coefficients=(-40.0, 40.0), random_controls=2, sampling=Sampling(6, 0.0))


def directions(seed: int = 0, **facts: Any) -> Directions:
    vectors = np.random.default_rng(seed).standard_normal((1, 3, 2, 32)).astype(np.float32)
    spread = np.random.default_rng(seed + 1).standard_normal((2, 9, 32)).astype(np.float16)
    labels = ("agent 1", "agent 2", "agent 3")
    return Directions(
        labels,
        (1, 2),
        vectors,
        np.ones(2, np.float32),
        "blocks.{layer}.hook_resid_post",
        {"by": "agent", **facts},
        spread=spread,
    )


@pytest.fixture(scope="module")
def swept(
    tiny: Model, debates: list[Transcript], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, Any]], Path]:
    out = tmp_path_factory.mktemp("sweep") / "s.jsonl"
    known = directions(question_hashes=[question_hash(debates[0].question)])
    classifier = PersonaClassifier().fit(debates[3:])
    given: Any = {"classifier": classifier, "task": Arithmetic(), "other_model": True}
    return sweep(out, [tiny], {"own": known}, debates[:3], SETTINGS, batch_size=4, **given).records, out


def test_every_combination_is_there_once(swept: Any, debates: list[Transcript]) -> None:
    records, out = swept
    assert [json.loads(line) for line in out.read_text().splitlines()] == records
    # two questions; after the bare question and each of three tags; unsteered, or 3 agents at two layers with two
    # coefficients, and two random directions with the positive one
    assert len(records) == 2 * 4 * (1 + 3 * 2 * 2 + 2 * 2)
    assert {r["coefficient"] for r in records if str(r["direction"]).startswith("random")} == {40}
    keys = ("question", "context", "before", "direction", "layer", "coefficient")
    assert set(Counter(tuple(r[k] for k in keys) for r in records).values()) == {1}
    assert {r["question"] for r in records} == {t.question for t in debates[1:3]}
    facts = json.loads(out.with_suffix(".json").read_text())
    assert (facts["records"], facts["questions_that_directions_were_fitted_on"]) == (len(records), 1)
    assert facts["directions_without_question_hashes"] == []
    assert {row["kind"] for row in facts["curves"]} == {"own", "others", "random"}
    assert {row["measure"] for row in facts["curves"]} == {"rougeL", "classifier"}
    assert {len(row["random_areas"]) for row in facts["curves"] if row["kind"] == "random"} == {2}
    words = [one["verdict"]["words"] for one in facts["verdicts"]]
    assert len(words) == 2 * 3 * 2 * 2
    assert all("2 random directions are too few to say, 239 would do" in each for each in words)
    assert facts["made_by"]["classifier"]["questions"] == len({t.question for t in debates[3:]})
    assert {(r["other_model"], r["directions"]) for r in records} == {(False, None), (True, "own")}
    assert all(isinstance(r["correct"], bool) and 0 <= r["repetition"] < 1 for r in records)
    assert all(set(r["rouge"]) == set(r["probability"]) == {"agent 1", "agent 2", "agent 3"} for r in records)
    assert len({r["text"] for r in records}) > 20


def test_direct_answers_are_counted_and_left_out(tiny: Model, debates: list[Transcript], tmp_path: Path) -> None:
    few = replace(SETTINGS, layers=(1,), coefficients=(40.0,), random_controls=1)
    given = {"d": directions()}
    alone = sweep(tmp_path / "a.jsonl", [tiny], given, debates[:1], few, other_model=True)
    beside = sweep(tmp_path / "b.jsonl", [tiny], given, [DIRECT, *debates[:1]], few, other_model=True)
    assert beside.records == alone.records
    assert (alone.counts["direct_answers"], beside.counts["direct_answers"]) == (0, 1)
    assert "transcripts left out because they have no turns: 1" in count_lines(beside.counts)


def test_a_record_is_what_its_steering_gives_alone(swept: Any, tiny: Model, debates: list[Transcript]) -> None:
    record = next(r for r in swept[0] if r["before"] == "agent 2" and r["direction"] == "agent 3" and r["layer"] == 2)
    [transcript] = [t for t in debates if t.question == record["question"]]
    from interp.activations.corpus import Corpus

    corpus = Corpus.build([transcript], tiny.tokenizer)
    prompt = corpus.ids[0][: corpus.turns.tag[1]]
    assert tiny.tokenizer.decode(prompt).rstrip(": ").endswith("<|Agent 2 Solution|>")
    steering = add(directions()["agent 3", 2], record["coefficient"])
    [alone] = generate(tiny, [prompt], max_new_tokens=6, steering=steering)
    assert record["text"] == tiny.tokenizer.decode(alone.ids)


def test_as_many_random_directions_as_the_comparisons_need(
    tiny: Model, debates: list[Transcript], tmp_path: Path
) -> None:
    few = replace(SETTINGS, coefficients=(40.0,), contexts=("question",), random_controls=None)
    few = replace(few, sampling=Sampling(2, 0.0))
    swept = sweep(tmp_path / "s.jsonl", [tiny], {"d": directions()}, debates[:1], few, other_model=True)
    assert len({r["direction"] for r in swept.records} - {None}) == 3 + 119, "20 × 3 agents × 2 layers − 1"
    assert [one.verdict.family for one in swept.verdicts] == [6] * 6
    assert {one.verdict.draws for one in swept.verdicts} == {119}


def test_the_turns_of_a_seat_alone(swept: Any, tiny: Model, debates: list[Transcript], tmp_path: Path) -> None:
    known = {"own": directions(question_hashes=[question_hash(debates[0].question)])}
    seat = replace(SETTINGS, tokens="turns", turns_of=2)
    records = sweep(tmp_path / "s.jsonl", [tiny], known, debates[:3], seat, batch_size=4, other_model=True).records
    assert {r["before"] for r in records} == {None, "agent 2"}
    where = ("question", "direction", "layer", "coefficient")
    everywhere = {tuple(r[k] for k in where): r["text"] for r in swept[0] if r["before"] == "agent 2"}
    turns = {tuple(r[k] for k in where): r["text"] for r in records if r["before"] == "agent 2"}
    assert turns == everywhere, "all that is written there is the turn"
    by_question: dict[str, set[str]] = {}
    for record in records:
        if record["context"] == "question":
            by_question.setdefault(record["question"], set()).add(record["text"])
    assert [len(texts) for texts in by_question.values()] == [1, 1], "without a tag nobody speaks"


def test_a_killed_sweep_goes_on_with_the_same_bytes(
    swept: Any, tiny: Model, debates: list[Transcript], tmp_path: Path
) -> None:
    _, whole = swept
    known = directions(question_hashes=[question_hash(debates[0].question)])
    arguments: Any = ([tiny], {"own": known}, debates[:3], SETTINGS)
    given: Any = {"classifier": PersonaClassifier().fit(debates[3:]), "task": Arithmetic(), "other_model": True}
    out = tmp_path / "s.jsonl"

    def stop(what: str, done: int, total: int) -> None:
        if done >= 48:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(out, *arguments, **given, batch_size=4, progress=stop)
    torn = out.read_bytes()[:-50]  # in the middle of a chunk, and of a line
    out.write_bytes(torn)
    sweep(out, *arguments, **given, batch_size=4)
    assert out.read_bytes() == whole.read_bytes()
    with pytest.raises(UserError, match="started with another"):
        sweep(out, [tiny], {"own": directions(1, provenance={"model": "x"})}, debates[:3], SETTINGS, other_model=True)


def test_models_one_after_another_each_with_its_own(debates: list[Transcript], tmp_path: Path) -> None:
    models, loads = [make_model(), make_model("qwen2")], []
    own = {}
    for seed, model in enumerate(models):
        model.provenance = {**model.provenance, "hash": f"of {model.name}"}
        own[model.name] = directions(seed, provenance={"model": model.provenance})

    def waiting(model: Model) -> LazyModel:
        return LazyModel(model.name, model.provenance, lambda: (loads.append(model.name), model)[1])

    settings = replace(SETTINGS, layers=(1,), contexts=("turn",), random_controls=0)
    arguments: Any = (tmp_path / "s.jsonl", [waiting(m) for m in models], own, debates[:3], settings)
    given: Any = {"task": Arithmetic(), "base": waiting(models[0])}
    swept = sweep(*arguments, **given)
    records = swept.records
    assert loads == ["tiny-llama", "tiny-qwen2", "tiny-llama"]
    assert all(r["directions"] in (None, r["model"]) and not r["other_model"] for r in records)
    text = next(r for r in records if r["text"].strip() and r["model"] == "tiny-qwen2")
    assert text["perplexity"] > 1
    loads.clear()
    assert sweep(*arguments, **given).records == records
    assert loads == ["tiny-qwen2"]
    assert json.loads((tmp_path / "s.json").read_text())["directions_without_question_hashes"] == [*own]
    assert [(g.model, g.base, g.label) for g in swept.gains] == [
        ("tiny-qwen2", "tiny-llama", label) for label in ("agent 1", "agent 2", "agent 3", "mean")
    ]


def test_what_does_not_fit_is_refused(tiny: Model, debates: list[Transcript], tmp_path: Path) -> None:
    out, some = tmp_path / "s.jsonl", debates[:2]
    hashes = [question_hash(t.question) for t in some]
    with pytest.raises(UserError, match="fitted on all 2"):
        sweep(out, [tiny], {"d": directions(question_hashes=hashes)}, some, SETTINGS)
    with pytest.raises(UserError, match="none of the 1 transcripts has turns"):
        sweep(out, [tiny], {"d": directions()}, [DIRECT], SETTINGS)
    with pytest.raises(UserError, match="classifier was fitted"):
        sweep(out, [tiny], {"d": directions()}, some, SETTINGS, classifier=PersonaClassifier().fit(debates))
    with pytest.raises(UserError, match="d: extracted from none of the models"):
        sweep(out, [tiny], {"d": directions()}, some, SETTINGS)
    with pytest.raises(UserError, match="needs the task"):
        sweep(out, [tiny], {"d": directions()}, some, SETTINGS, base=tiny, other_model=True)
    with pytest.raises(UserError, match=r"turns of agent 7: choose one of \(1, 2, 3\)"):
        sweep(out, [tiny], {"d": directions()}, some, replace(SETTINGS, tokens="turns", turns_of=7), other_model=True)
    with pytest.raises(UserError, match="layer 0"):
        sweep(out, [tiny], {"d": directions()}, some, replace(SETTINGS, layers=(0,)), other_model=True)
    with pytest.raises(UserError, match="agent 7"):
        sweep(
            tmp_path / "a.jsonl",
            [tiny],
            {"d": directions()},
            some,
            replace(SETTINGS, direction_of=("7",)),
            other_model=True,
        )
    other = make_model("qwen2")
    tiny_facts = {**tiny.provenance, "hash": "of tiny"}
    waiting = LazyModel(tiny.name, tiny_facts, lambda: tiny)
    with pytest.raises(UserError, match=f"{other.name}: none of the directions was extracted from it"):
        sweep(out, [waiting, other], {"d": directions(provenance={"model": tiny_facts})}, some, SETTINGS)
    assert not list(tmp_path.iterdir()), "what is refused leaves nothing"
    for wrong in (
        {"units": "metre"},
        {"contexts": ("turn", "x")},
        {"coefficients": (0.0,)},
        {"coefficients": (1.0, float("nan"))},
        {"layers": ()},
    ):
        with pytest.raises(UserError):
            replace(SETTINGS, **wrong)
    narrow = make_model(hidden_size=16)
    with pytest.raises(UserError, match="the direction 32"):
        sweep(tmp_path / "w.jsonl", [narrow], {"d": directions()}, some, SETTINGS, other_model=True)


def test_the_command_after_sigkill(interp: Any, model_folder: Path, debates: list[Transcript], tmp_path: Path) -> None:
    file, transcripts = tmp_path / "d.safetensors", tmp_path / "t.jsonl"
    directions(provenance={"model": load_model(str(model_folder)).provenance}).save(file)
    write_transcripts(transcripts, debates[:4])
    arguments = ("sweep", "--model", model_folder, "--directions", file, "--transcripts", transcripts)
    arguments += (
        "--layers",
        "1-2",
        "--coefficients",
        "-30,0,30",
        "--max-new-tokens",
        6,
        "--batch-size",
        2,
        "--random-controls",
        2,
    )
    code, said, wrong = interp(*arguments, "--fit-classifier-on", "scripted", "--out", tmp_path / "whole.jsonl")
    assert (code, "classifier was fitted on 4 of the 4" in wrong) == (2, True)
    code, said, _ = interp(*arguments, "--out", tmp_path / "whole.jsonl")
    assert code == 0
    assert "agent 2" in said
    assert f"{file}: does not say which questions" in said.replace("\n", "")
    assert f"wrote {tmp_path / 'whole.jsonl'}" in said
    out = tmp_path / "killed.jsonl"
    killed = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while killed.poll() is None and (not out.exists() or len(out.read_bytes().splitlines()) < 20):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert interp(*arguments, "--out", out)[0] == 0
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_text_after_a_tag_ends_with_the_next_tag(tmp_path: Path) -> None:
    model, transcripts = load_model("organism-imad"), read_embedded("organism")
    found = extract_directions(model, transcripts[:5], layers=[1]).directions
    how = SweepSettings(layers=(1,), coefficients=(0.1,), random_controls=1, sampling=Sampling(64, 0.0))
    records = sweep(tmp_path / "s.jsonl", [model], {"d": found}, transcripts[5:7], how, batch_size=8).records
    turns = [r for r in records if r["context"] == "turn"]
    for record in turns:
        said = before_tags(record["text"])
        assert without_tags(record["text"]).strip() == said.strip(), "nothing follows the tag"
        assert record["ended"] or said == record["text"]
    assert sum(r["text"] != before_tags(r["text"]) for r in turns) > len(turns) / 2


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("out/run/seed-0/sft", "out/run/seed-0/imad"), ["sft", "imad"]),
        (("found/sft/directions.safetensors", "found/imad/directions.safetensors"), ["sft", "imad"]),
        (("out/a", "out/a/b"), ["a", "a/b"]),
        (("organism", "organism-imad", "out/r/imad"), ["organism", "organism-imad", "out/r/imad"]),
        ((2, 1), ["2", "1"]),
    ],
)
def test_tables_leave_out_the_folders_that_all_names_share(names: tuple[Any, ...], shown: list[str]) -> None:
    assert list(_told_apart([SimpleNamespace(model=name) for name in names], "model").values()) == shown
