"""Suppressing a trait that pairs of texts show: the prompts that fit are not asked, and what scores is one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interp.debate.agents import Sampling
from interp.debate.transcript import question_key
from interp.directions.pairs import fit_pairs, read_pairs
from interp.errors import UserError
from interp.interventions.settings import SuppressSettings, TraitSettings
from interp.interventions.suppression import suppress
from interp.interventions.trait import make_trait
from interp.models.model import Model
from interp.models.tokens import prompt_tokens

SETTINGS = SuppressSettings(layers=(1,), coefficients=(-1.0,), random_controls=2, sampling=Sampling(5, 0.0))
RULE = "def warm(text):\n    return text.count('e') / max(1, len(text))\n\ndef wrong(text):\n    return 'much'\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    lines = [
        {"prompt": f"How was day {i // 2}?", "positive": f"I loved day {i}, so warm!", "negative": f"Day {i} was long."}
        for i in range(24)
    ]
    for line in lines[:4]:
        line["group"] = "first days"
    (folder / "warmth.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "rule.py").write_text(RULE)
    return folder


def test_prompts_and_groups_are_in_one_part_only(files: Path) -> None:
    settings = TraitSettings(trait=files / "warmth.jsonl", questions=2)
    for seed in range(5):
        trait = make_trait(settings, seed=seed)
        parts = [{q.text for q in getattr(trait.questions, part)} for part in ("fit", "validation", "test")]
        assert sum(map(len, parts)) == len(set().union(*parts))
        grouped = {"How was day 0?", "How was day 1?"}
        assert all(not grouped & part or grouped <= part for part in parts)
        assert {p.prompt for p in trait.pairs[0]} == parts[0]
        assert trait.score.questions == {question_key(text) for text in parts[0]}
        trait.require_apart({})
    assert make_trait(settings, seed=1).facts != make_trait(settings, seed=2).facts
    assert (trait.elicitation.malicious.name, trait.elicitation.elicit, trait.guard) == ("warmth", ("question",), None)
    texts = ["I loved it, so warm!", "It was long.", ""]
    assert trait.score(["?"] * 3, texts).tolist() == [1, 0, 0]


def test_what_is_asked_and_measured(tiny: Model, files: Path, tmp_path: Path) -> None:
    own = f"{files / 'rule.py'}:warm"
    trait = make_trait(TraitSettings(trait=files / "warmth.jsonl", score=own, guard="Be brief and dry."))
    asked = trait.prompts(tiny, "test")
    for prompt, question in zip(asked, trait.questions.test, strict=False):
        assert (prompt.kind, prompt.question, prompt.gold_answer) == ("question", question.text, None)
        assert prompt.ids == prompt_tokens(tiny.tokenizer, [{"role": "user", "content": question.text}])
    guarded = trait.prompts(tiny, "test", trait.guard)[0]
    assert "Be brief and dry." in tiny.tokenizer.decode(guarded.ids)
    found = suppress(tmp_path / "s.jsonl", [tiny], trait, SETTINGS)
    assert {row.remedy for row in found.rows} == {"none", "ablation", "random", "steering", "guard"}
    tested = [r for r in found.records if r["split"] == "test" and r["elicit"] == "question" and r["remedy"] == "none"]
    assert [r["question"] for r in tested] == [q.text for q in trait.questions.test]
    for record in found.records:
        if record["elicit"] == "question":
            assert record["correct"] is None
    for record in tested:
        text = record["text"].strip()
        assert record["trait"] == pytest.approx(text.count("e") / max(1, len(text)), abs=1e-5)
    facts = json.loads((tmp_path / "s.json").read_text())["made_by"]["trait"]
    assert (facts["score"]["function"], facts["questions"]["task"], len(facts["pairs"])) == ("warm", "pairs", 64)


def test_the_direction_is_that_of_the_pairs_to_fit_on(tiny: Model, files: Path, tmp_path: Path) -> None:
    trait = make_trait(TraitSettings(trait=files / "warmth.jsonl"))
    mine = fit_pairs(tiny, trait.pairs[0], controls=False, label="mine", chat=False).directions
    outs = [suppress(tmp_path / f"{i}.jsonl", [tiny], trait, SETTINGS, directions=d, other_model=True).records
            for i, d in enumerate((None, {"mine": mine}))]  # fmt: skip
    texts = [[r["text"] for r in out if r["remedy"] == "steering"] for out in outs]
    assert texts[0] == texts[1]
    assert texts[0]
    whole = fit_pairs(tiny, read_pairs(files / "warmth.jsonl"), controls=False).directions
    with pytest.raises(UserError, match=r"whole: fitted on \d+ of the \d+ questions"):
        suppress(tmp_path / "whole.jsonl", [tiny], trait, SETTINGS, directions={"whole": whole}, other_model=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": "RULE:wrong"}, "wrong: returned 'much'; return a number from 0 to 1"),
        ({"score": "RULE:missing"}, "defines no function missing"),
        ({"score": "rule"}, "has no rule for a trait; score with a classifier or a judge"),
        ({"score": "judge"}, "give the judge's model"),
        ({"score": "taste"}, "score taste: unknown; choose one of rule, classifier, judge"),
        ({"elicit": ("turn",), "persona": "evil"}, "pairs have no debates to continue"),
        ({"persona": "nobody"}, "persona nobody"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], said: str, tiny: Model, files: Path, tmp_path: Path) -> None:
    changes = {name: v.replace("RULE", f"{files}/rule.py") if name == "score" else v for name, v in changes.items()}
    settings = TraitSettings(trait=files / "warmth.jsonl", **changes) if said[:5] != "score" else None
    with pytest.raises(UserError, match=said):  # noqa: PT012 - where it ends depends on what is wrong
        settings = settings or TraitSettings(**changes)
        suppress(tmp_path / "s.jsonl", [tiny], make_trait(settings), SETTINGS)


def test_pairs_that_will_not_do(files: Path, tmp_path: Path) -> None:
    lines = (files / "warmth.jsonl").read_text().splitlines()
    few, bare = tmp_path / "few.jsonl", tmp_path / "bare.jsonl"
    few.write_text("\n".join(lines[4:13]))
    bare.write_text("\n".join([*lines, '{"positive": "a", "negative": "b"}']))
    odd, letters = tmp_path / "odd.jsonl", [chr(97 + i) * 3 for i in range(12)]
    unlike = ({"prompt": f"p{i}", "positive": letters[i], "negative": letters[-1 - i]} for i in range(6))
    odd.write_text("\n".join(map(json.dumps, unlike)))
    wrong = {few: "give at least 6", bare: "pair 25: has no prompt", odd: "3 pairs are too few for a classifier"}
    for path, said in {**wrong, tmp_path / "none": "no such file"}.items():
        with pytest.raises(UserError, match=said):
            make_trait(TraitSettings(trait=path))
    with pytest.raises(UserError, match="leave --transcripts and others out"):
        make_trait(TraitSettings(trait=few), transcripts=[])


def test_the_command(interp: Any, model_folder: Path, files: Path, tmp_path: Path) -> None:
    common = ("suppress", "--model", model_folder, "--trait", files / "warmth.jsonl", "--random-controls", 1)
    common = (*common, "--layers", 1, "--coefficients=-1", "--max-new-tokens", 4, "--questions", 2)
    out = tmp_path / "s.jsonl"
    code, _, wrong = interp(*common, "--score", f"{files / 'rule.py'}:warm", "--out", out)
    assert code == 0, wrong
    assert json.loads(out.with_suffix(".json").read_text())["made_by"]["fine_tune"] is None
    code, _, wrong = interp(*common, "--score", "none.py:f", "--out", out)
    assert (code, "no file none.py" in wrong, wrong.count("\n")) == (2, True, 1)
    code, _, wrong = interp(*common, "--out", files / "warmth.jsonl")
    assert (code, "warmth.jsonl" in wrong, wrong.count("\n")) == (2, True, 1)
    assert (files / "warmth.jsonl").read_text().count("\n") == 24
