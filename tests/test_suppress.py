"""The runner of suppression: what is written and kept, what a kill leaves, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_model

from interp.debate.agents import Sampling
from interp.debate.embedded import read_embedded
from interp.debate.personas import TRAIT_PERSONAS
from interp.debate.protocol import debate
from interp.debate.scripted.malicious import malicious_debaters
from interp.debate.tasks.rivalry import Rivalry
from interp.debate.transcript import Transcript, write_transcripts
from interp.directions.directions import Directions, made_on, question_hash, require_made_on
from interp.directions.pairs import prompt_contrast
from interp.errors import UserError
from interp.evaluation.texts import perplexity
from interp.generation.sampling import generate
from interp.interventions.damage import choices, damage_rows
from interp.interventions.settings import SuppressSettings, TraitSettings
from interp.interventions.suppression import PROMPTS, suppress
from interp.interventions.trait import Elicitation, Trait, parts
from interp.models.model import LazyModel, Model, load_model
from interp.models.tokens import Encoder
from interp.steering.steering import add, gate

EVIL, GUARDIAN = TRAIT_PERSONAS["evil"], TRAIT_PERSONAS["guardian"]
SETTINGS = SuppressSettings(
    layers=(0, 1), coefficients=(-1.0, 2.0), operations=("add", "clamp"), random_controls=3, sampling=Sampling(5, 0.0)
)


class Letters:
    """A score without sense: the share of the letter e."""

    facts: dict[str, Any] = {"kind": "letters"}  # noqa: RUF012
    questions: frozenset[str] = frozenset()

    def __call__(self, questions: Any, texts: Any) -> np.ndarray:
        return np.array([text.count("e") / max(1, len(text)) for text in texts])


@pytest.fixture(scope="module")
def trait() -> Trait:
    debates = debate(Rivalry().questions(4, 9), malicious_debaters("evil", 0), task=Rivalry())
    elicitation, transcripts = Elicitation(EVIL, ("persona", "turn")), (debates[:1], debates[1:])
    questions, accuracy = parts("evil", 2, 2, 3), parts("arithmetic", 0, 2, 2)
    return Trait(elicitation, questions, Letters(), accuracy, transcripts=transcripts)


@pytest.fixture(scope="module")
def written(tiny: Model, trait: Trait, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    out = tmp_path_factory.mktemp("suppress") / "s.jsonl"
    return suppress(out, [tiny], trait, SETTINGS, batch_size=4).records, out


def test_parts_never_meet() -> None:
    for name in ("small-arithmetic", "evil", "arithmetic"):
        drawn = parts(name, 5, 6, 7)
        assert [len(p) for p in (drawn.fit, drawn.validation, drawn.test)] == [5, 6, 7]
        assert len({q.text for p in (drawn.fit, drawn.validation, drawn.test) for q in p}) == 18


def test_every_text_is_there_once(written: Any, trait: Trait) -> None:
    records, out = written
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert [{**k, "perplexity": r["perplexity"]} for k, r in zip(kept, records, strict=True)] == records
    n = Counter((r["split"], r["elicit"], r["remedy"]) for r in records)
    # 2 ways × (2 layers and both) × the negative coefficient in validation; in the test the layers that were chosen
    assert {k: v for k, v in n.items() if k[0] == "validation"} == {
        ("validation", asked, remedy): count * times
        for asked, count in (("persona", 2), ("turn", 1), ("plain", 2))
        for remedy, times in (("none", 1), ("steering", 6))
    }
    for asked, count in (("persona", 3), ("turn", 3)):
        assert [n["test", asked, remedy] for remedy in ("none", "guard", "ablation", "steering", "random")] == [
            count,
            count,
            count,
            4 * count,
            3 * 3 * count,  # three draws, for both ways and the ablation
        ]
    chosen = choices(records, SETTINGS.max_accuracy_loss)
    assert {(r["elicit"], r["layer"]) for r in records if r["split"] == "test" and r["layer"] is not None} >= {
        (asked, choice.layer) for (_, _, asked), choice in chosen.items()
    }
    assert not {r["question"] for r in records if r["split"] == "test"} & {
        r["question"] for r in records if r["split"] == "validation"
    }
    rows = damage_rows(records)
    assert {row.remedy for row in rows} == {"none", "guard", "ablation", "steering", "random"}
    assert all(row.trait.low <= row.trait.mean <= row.trait.high for row in rows)
    drawn = [r for r in records if r["remedy"] == "random"]
    assert {r["draw"] for r in drawn if r["elicit"] == "plain"} == {1}, "what it costs is seen from one"
    by_draw = {
        (r["elicit"], r["source"], r["coefficient"], r["question"], r["draw"]) for r in drawn if r["elicit"] != "plain"
    }
    assert len(by_draw) == 2 * 3 * 3 * 3
    facts = json.loads(out.with_suffix(".json").read_text())
    assert (facts["records"], facts["without_a_score"]) == (len(records), 0)
    assert [row["trait"]["mean"] for row in facts["rows"]] == [row.trait.mean for row in rows]
    assert [row["layer"] for row in facts["chosen"]] == [choice.layer for choice in chosen.values()]
    assert [one["remedy"] for one in facts["verdicts"]] == ["steering"] * 4 + ["ablation"] * 2
    words = {one["lowers"]["words"].partition("; ")[2] for one in facts["verdicts"]}
    assert words == {f"3 random directions are too few to say, {n} would do." for n in (359, 119)}


def test_where_a_gate_says_so(tiny: Model, trait: Trait, tmp_path: Path) -> None:
    few = replace(SETTINGS, layers=(1,), operations=("add",), random_controls=1)
    d = prompt_contrast(tiny, [q.text for q in trait.questions.fit], EVIL, GUARDIAN, layers=(0,))[EVIL.name, 0]
    always, never = gate(d, -1e9), gate(d, 1e9)
    plain, opened, shut = (
        suppress(tmp_path / f"{name}.jsonl", [tiny], trait, few, when=when).records
        for name, when in (("plain", None), ("opened", always), ("shut", never))
    )
    same = [{key: value for key, value in record.items() if key != "when"} for record in opened]
    assert same == plain, "open everywhere, it changes nothing"
    steered = [r for r in opened if r["remedy"] in ("steering", "ablation", "random")]
    assert {str(r.get("when")) for r in steered} == {str(always.facts)}
    assert not any("when" in r for r in opened if r["remedy"] in ("none", "guard"))
    unsteered = {(r["split"], r["elicit"], r["question"]): r["text"] for r in shut if r["remedy"] == "none"}
    for records, changed in ((plain, True), (shut, False)):
        steered = [r for r in records if r["remedy"] not in ("none", "guard")]
        assert any(r["text"] != unsteered[r["split"], r["elicit"], r["question"]] for r in steered) == changed
    with pytest.raises(UserError, match="another above of when"):
        suppress(tmp_path / "shut.jsonl", [tiny], trait, few, when=always)


def test_a_record_is_what_its_steering_gives_alone(written: Any, trait: Trait, tiny: Model) -> None:
    fit = [q.text for q in trait.questions.fit]
    found = prompt_contrast(tiny, fit, EVIL, GUARDIAN)
    [at] = [
        choice.layer
        for (_, source, asked), choice in choices(written[0]).items()
        if (source, asked) == (PROMPTS, "turn")
    ]
    record = next(
        r
        for r in written[0]
        if (r["elicit"], r["layer"], r["coefficient"], r["remedy"]) == ("turn", at, 2.0, "steering")
    )
    [transcript] = [t for part in trait.transcripts for t in part if t.question == record["question"]]
    prompt = Encoder(tiny.tokenizer).up_to_tag(transcript, 1)
    steering = add([found["evil", int(n)] for n in at.split(",")], 2.0, tokens="writing")
    [alone] = generate(tiny, [prompt], max_new_tokens=5, steering=steering)
    assert record["text"] == tiny.tokenizer.decode(alone.ids)


def test_perplexity_is_under_the_plain_question(written: Any, trait: Trait, tiny: Model) -> None:
    record = next(r for r in written[0] if r["elicit"] == "persona" and r["perplexity"] is not None)
    from interp.debate.personas import PLAIN
    from interp.interventions.rows import chat

    prompt = chat(tiny, PLAIN, trait.questions.task, record["question"])
    text = Encoder(tiny.tokenizer).continuation(record["text"].strip())
    assert perplexity(tiny, [prompt], [text])[0] == pytest.approx(record["perplexity"], rel=1e-3)


def test_a_killed_run_goes_on_with_the_same_bytes(written: Any, tiny: Model, trait: Trait, tmp_path: Path) -> None:
    _, whole = written
    out = tmp_path / "s.jsonl"

    def stop(what: str, done: int, total: int) -> None:
        if what.endswith("test") and done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suppress(out, [tiny], trait, SETTINGS, batch_size=4, progress=stop)
    out.write_bytes(out.read_bytes()[:-50])
    again = suppress(out, [tiny], trait, SETTINGS, batch_size=4)
    assert out.read_bytes() == whole.read_bytes()
    assert again.records == written[0]
    facts = json.loads(out.with_suffix(".json").read_text())
    assert [row.trait.mean for row in again.rows] == [row["trait"]["mean"] for row in facts["rows"]]
    assert suppress(out, [tiny], trait, SETTINGS, batch_size=4) == again
    with pytest.raises(UserError, match="another coefficients"):
        suppress(out, [tiny], trait, replace(SETTINGS, coefficients=(-3.0,)), batch_size=4)


def test_several_models_each_with_its_own_and_a_remedy(trait: Trait, tmp_path: Path) -> None:
    models = [make_model(), make_model("qwen2")]
    settings = replace(SETTINGS, layers=(1,), coefficients=(-1.0,), random_controls=0, operations=("add",))
    files = {}
    for model in models:
        model.provenance = {**model.provenance, "hash": f"of {model.name}"}
        made = prompt_contrast(model, ["Is it fair?"], EVIL, GUARDIAN)
        files[f"{model.name}.safetensors"] = made

    class Remedy:
        facts: dict[str, Any] = {}  # noqa: RUF012

        def answers(self) -> list[Any]:
            return []

        def __call__(self, name: str) -> LazyModel:
            return LazyModel(name, {}, lambda: models[1])

    loads: list[str] = []

    def waiting(model: Model) -> LazyModel:
        return LazyModel(model.name, model.provenance, lambda: (loads.append(model.name), model)[1])

    unguarded = replace(trait, guard=None)
    arguments: Any = (tmp_path / "s.jsonl", [waiting(m) for m in models], unguarded, settings)
    given: Any = {"directions": {PROMPTS: None, **files}, "fine_tune": Remedy()}
    records = suppress(*arguments, **given).records
    assert loads == ["tiny-llama", "tiny-qwen2", "tiny-llama"], "one after another, and the base for perplexity"
    assert {(r["model"], r["source"]) for r in records if r["source"]} == {
        (m.name, source) for m in models for source in (PROMPTS, f"{m.name}.safetensors")
    }
    assert sum(r["remedy"] == "fine-tune" for r in records) == 2 * 8
    loads.clear()
    assert suppress(*arguments, **given).records == records
    assert loads == ["tiny-qwen2"], "what is finished is not loaded"


def test_what_does_not_fit_is_refused(tiny: Model, trait: Trait, tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    vectors = np.ones((1, 2, 1, 32), np.float32)
    hook_point, spread = "blocks.{layer}.hook_resid_post", np.ones((1, 1, 32), np.float16)
    other = Directions(("agent 1", "agent 3"), (1,), vectors, np.ones(1, np.float32), hook_point, {}, spread=spread)
    with pytest.raises(UserError, match="extracted from none"):
        suppress(out, [tiny], trait, SETTINGS, directions={"d": other})
    with pytest.raises(UserError, match="agent 1, agent 3, not of evil or agent 2"):
        suppress(out, [tiny], trait, SETTINGS, directions={"d": other}, other_model=True)
    with pytest.raises(UserError, match=r"d: does not say how the activations vary.*extract it again"):
        suppress(out, [tiny], trait, SETTINGS, directions={"d": replace(other, spread=None)}, other_model=True)
    fitted = replace(other, facts={"question_hashes": [question_hash(trait.questions.test[0].text)]})
    with pytest.raises(UserError, match="fitted on 1 of"):
        suppress(out, [tiny], trait, SETTINGS, directions={"d": fitted}, other_model=True)
    with pytest.raises(UserError, match="give each once"):
        suppress(out, [tiny, tiny], trait, SETTINGS)
    silent = Transcript.build("q", [["a"]], "c")
    with pytest.raises(UserError, match="agent 2: does not speak"):
        suppress(tmp_path / "t.jsonl", [tiny], replace(trait, transcripts=([silent], [])), SETTINGS)
    for wrong in ({"units": "metre"}, {"tokens": "x"}, {"coefficients": (0.0,)}, {"coefficients": (float("inf"),)}):
        with pytest.raises(UserError):
            replace(SETTINGS, **wrong)
    question = trait.questions.fit[0].text
    for parted, message in (
        (([replace(silent, question=question)], []), "1 of the 6 questions are also to fit on"),
        (([silent], [silent]), "1 questions are debated both"),
    ):
        with pytest.raises(UserError, match=message):
            suppress(out, [tiny], replace(trait, transcripts=parted), SETTINGS)
    with pytest.raises(UserError, match="elicit x: unknown; choose one of persona, question, turn"):
        TraitSettings(elicit=("x",))  # type: ignore[arg-type]


def test_a_listed_model_knows_its_directions_before_it_is_loaded(model_folder: Path) -> None:
    model = load_model(str(model_folder))
    made = prompt_contrast(model, ["Is it fair?"], EVIL, GUARDIAN)
    one = LazyModel.named(str(model_folder))
    assert made_on(made, one)
    assert not made_on(made, LazyModel.named(str(model_folder), adapters=["some/adapter"]))
    require_made_on(made, one.load())


def test_the_command(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    arguments = ("suppress", "--model", model_folder, "--layers", "1", "--coefficients=-1,1", "--max-new-tokens", 4)
    arguments += (
        "--fit-questions",
        2,
        "--validation-questions",
        2,
        "--questions",
        3,
        "--no-fine-tune",
        "--random-controls",
        2,
    )
    code, said, _ = interp(*arguments, "--out", tmp_path / "s.jsonl")
    assert code == 0
    assert "lowers the trait: cannot tell" in said
    assert "costs less than 5% of accuracy" in said.replace("\n", " ")
    assert "unsteered" in said
    assert "guard" in said
    code, said, wrong = interp(*arguments, "--task", "evil", "--out", tmp_path / "e.jsonl")
    assert code == 0, wrong
    assert json.loads((tmp_path / "e.json").read_text())["made_by"]["trait"]["score"]["kind"] == "classifier"
    two = tmp_path / "two.jsonl"
    write_transcripts(two, read_embedded("organism-evil")[:2])
    for more, message in (
        (("--score", "judge"), "give the judge's model"),
        (("--elicit", "turn"), "go together"),
        (("--elicit", "turn", "--transcripts", two), "2 debates: the first"),
        (("--fit-classifier-on", "organism", "--score", "rule"), "goes with --score classifier"),
        (("--task", "gsm8k", "--persona", "x"), "persona x"),
        (("--coefficients", "a"), "expected comma-separated numbers"),
    ):
        code, _, wrong = interp(*arguments, *more, "--out", tmp_path / "x.jsonl")
        assert (code, message in wrong) == (2, True), wrong
