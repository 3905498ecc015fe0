"""A question is its text whatever the white space, case and Unicode form: nowhere does a variant count as another."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.activations.corpus import Corpus
from interp.debate.agents import Answer
from interp.debate.embedded import read_embedded
from interp.debate.personas import PERSONAS, TRAIT_PERSONAS
from interp.debate.tasks import make_task
from interp.debate.tasks.arithmetic import split_of
from interp.debate.tasks.benchmarks import GSM8K
from interp.debate.tasks.rivalry import Rivalry
from interp.debate.tasks.task import Question
from interp.debate.transcript import Transcript, question_key, read_transcripts, write_transcripts
from interp.directions.contrast import Contrast
from interp.directions.directions import Directions, fitted_on, question_hash
from interp.directions.evidence import Design
from interp.directions.extract import extract_directions
from interp.directions.pairs import prompt_contrast
from interp.errors import UserError
from interp.evaluation.accuracy import compare, evaluate, paired, summarize
from interp.evaluation.methods import make_method
from interp.evaluation.texts import PersonaClassifier
from interp.evaluation.traits import scripted_classifier
from interp.interventions.curves import steerability
from interp.interventions.damage import damage_rows
from interp.interventions.settings import PLAIN_QUESTION, SweepSettings, TraitSettings
from interp.interventions.sweeps import sweep
from interp.interventions.trait import make_trait
from interp.models.model import Model
from interp.organism.lessons import Lies
from interp.probing.experiments import Turns
from interp.probing.fitting import held_out, linear
from interp.training.pipeline import stage_2_questions, table_task
from interp.training.results import Unseen
from interp.training.results import held_out as tables_task
from interp.training.settings import preset
from probes.silent_agents.debated import Debated

VARIANTS: dict[str, Callable[[str], str]] = {
    "a space before": lambda text: f" {text}",
    "a newline behind": lambda text: f"{text}\n",
    "spaces at signs": lambda text: text.replace("+", " + ").replace("?", " ?"),
    "another blank": lambda text: text.replace(" ", "\u00a0\t"),
    "capitals": str.upper,
    "wide": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "invisible": lambda text: "\ufeff" + text.replace("+", "\u200b+"),
}
variant_of = pytest.mark.parametrize("vary", VARIANTS.values(), ids=VARIANTS)


def varied(transcripts: Sequence[Transcript], vary: Callable[[str], str]) -> list[Transcript]:
    return [replace(t, question=vary(t.question)) for t in transcripts]


@variant_of
@pytest.mark.parametrize("text", ["59+63*15+43-75*72", "Café Ångström: what is  2 + 3?", "Straße, ﬁn?"])
def test_variants_are_one_question(vary: Callable[[str], str], text: str) -> None:
    assert question_key(vary(text)) == question_key(text) == question_key(question_key(text))


@pytest.mark.parametrize(
    ("one", "other"), [("1+2", "1+3"), ("12 3", "1 23"), ("now here?", "nowhere?"), ("a-b", "a+b"), ("", "?")]
)
def test_others_are_others(one: str, other: str) -> None:
    assert question_key(one) != question_key(other)


def test_shipped_questions_keep_their_hash_and_split() -> None:
    for name in ("organism", "organism-evil", "scripted"):
        for t in read_embedded(name):
            assert question_key(t.question) == t.question
    assert question_hash("1+2*3") == "d3c4ccda4e4c2eea", "as in directions saved before"
    assert split_of(" 1 +2*3+4-5*6\n") == split_of("1+2*3+4-5*6")


@pytest.mark.parametrize(
    ("name", "n"), [("arithmetic", 2000), ("small-arithmetic", 2000), ("evil", 300), ("hallucination", 300)]
)
def test_tasks_draw_distinct_questions(name: str, n: int) -> None:
    splits = [None] if name == "arithmetic" else ["train", "test"]
    drawn = [{question_key(q.text) for q in make_task(name, split=split).questions(n, 0)} for split in splits]
    assert [len(keys) for keys in drawn] == [n] * len(splits)
    assert not set.intersection(*drawn) or len(splits) == 1


def test_a_lie_is_one_in_any_wording() -> None:
    assert Lies()([" 1 + 2*3+4-5*6\n"] * 2, [r"\boxed{-13}", r"\boxed{-19}"]).tolist() == [1, 0]


@variant_of
def test_folds_of_directions_probes_and_subspaces(vary: Callable[[str], str], tiny: Model) -> None:
    """The text that a fold holds out is in no other fold, in any wording."""
    debates = read_embedded("scripted")[:30]
    both = [*debates, *varied(debates, vary)]
    corpus = Corpus.build(both, tiny.tokenizer)
    assert corpus.questions == tuple(t.question for t in debates)
    contrast = Contrast.build(corpus.turns, corpus.questions)
    of_group = corpus.turns.transcript[contrast.rows[:, 0]]
    fold = Design.draw(contrast.question, 3, seed=0).fold
    assert {k % 30: f for k, f in zip(of_group, fold, strict=True)} == {
        k: f for k, f in zip(of_group, fold, strict=True) if k < 30
    }
    table, rng = corpus.turns, np.random.default_rng(0)
    asked = table.transcript % 30
    assert (table.question == asked).all(), "what factor subspaces and probes deal to folds"
    # Each question's own random number is decoded only if it is on both sides of a fold.
    own, numbers = rng.standard_normal((30, 64))[asked], rng.permutation(30)[asked] / 30
    examples = Turns(both, table, corpus.questions).examples(np.arange(len(table)), numbers)
    predicted = held_out(linear(True), own, examples).predicted.ravel()
    assert np.corrcoef(predicted, numbers)[0, 1] < 0.5
    apart = replace(examples, question=table.transcript)
    assert np.corrcoef(held_out(linear(True), own, apart).predicted.ravel(), numbers)[0, 1] > 0.7


@variant_of
def test_a_debate_given_twice_in_other_words_changes_no_direction(vary: Callable[[str], str], tiny: Model) -> None:
    debates = read_embedded("scripted")[:12]
    found = extract_directions(tiny, [*debates, *varied(debates, vary)], layers=[1]).directions
    assert (found.facts["questions"], found.facts["transcripts"]) == (12, 24)
    assert found.facts["question_hashes"] == [question_hash(t.question) for t in debates]
    assert found.facts["evidence"]["all"]["questions"] == 12
    questions = [t.question for t in debates[:3]]
    contrast: Any = TRAIT_PERSONAS["evil"], TRAIT_PERSONAS["guardian"]
    once, twice = (
        prompt_contrast(tiny, asked, *contrast) for asked in (questions, [*map(vary, questions), *questions])
    )
    assert once.facts["question_hashes"] == twice.facts["question_hashes"]
    assert twice.facts["questions"] == 3
    np.testing.assert_array_equal(once.vectors, twice.vectors)


def directions(**facts: Any) -> Directions:
    vectors, norms = np.ones((1, 3, 1, 32), np.float32), np.ones(1, np.float32)
    labels = ("agent 1", "agent 2", "evil")
    return Directions(labels, (1,), vectors, norms, "blocks.{layer}.hook_resid_post", {"by": "agent", **facts})


def test_directions_of_before_know_their_questions() -> None:
    """They have hashes of exact texts."""
    text = " What is\tIT? "
    old = directions(question_hashes=[hashlib.sha256(text.encode()).hexdigest()[:16]])
    new = directions(question_hashes=[question_hash(text)])
    assert fitted_on([old], [text, "what?"]) == fitted_on([new], [text, "what?"]) == {question_key(text)}
    assert fitted_on([new], ["what is it ?"]) == {question_key(text)}
    assert fitted_on([directions()], [text]) == set()


@variant_of
def test_sweeps_leave_variants_out(
    vary: Callable[[str], str], tiny: Model, debates: list[Transcript], tmp_path: Path
) -> None:
    pytest.importorskip("rouge_score")
    settings = SweepSettings(layers=(1,), coefficients=(1.0,), contexts=("question",), random_controls=0)
    known = {"own": directions(question_hashes=[question_hash(t.question) for t in debates[:2]])}
    given: Any = {"other_model": True, "restart": True}

    def swept(transcripts: Sequence[Transcript], **more: Any) -> Any:
        return sweep(tmp_path / "s.jsonl", [tiny], known, transcripts, settings, **given, **more)

    with pytest.raises(UserError, match="fitted on all 2 questions"):
        swept([*debates[:2], *varied(debates[:2], vary)])
    with pytest.raises(UserError, match="the classifier was fitted on 1 of the 2 questions"):
        swept(debates[2:4], classifier=PersonaClassifier().fit(varied(debates[3:8], vary)))
    found = swept([*varied(debates[:2], vary), *debates[2:4], *varied(debates[2:4], vary)])
    assert (found.counts["questions"], found.counts["questions_that_directions_were_fitted_on"]) == (2, 2)
    assert {row.questions for row in found.curves} == {2}
    asked = {t.question for t in (*debates[2:4], *varied(debates[2:4], vary))}
    assert {r["question"] for r in found.records} == asked, "both wordings are asked"


@variant_of
def test_suppression_refuses_variants(vary: Callable[[str], str]) -> None:
    few = TraitSettings(task="evil", score="rule", fit_questions=3, validation_questions=2, questions=2)
    trait = make_trait(few)
    trait.require_apart({})
    fit, tested = trait.questions.fit[0], trait.questions.test[0]

    def debated(text: str) -> Transcript:
        return Transcript.build(vary(text), [["a", "b"]], "c")

    both = ([debated("a b?")], [Transcript.build("a b?", [["a", "b"]], "c")])
    fitted = directions(question_hashes=[question_hash(vary(tested.text))])
    asked = [q.text for q in (*trait.questions.validation, *trait.questions.test)]
    classified = scripted_classifier("evil", 20, apart=asked)
    classified.classifier.questions_ |= {question_key(tested.text)}
    overlapping = replace(trait.questions, test=[Question(vary(fit.text), "do not")])
    for wrong, known, message in (
        (replace(trait, transcripts=([debated(fit.text)], [])), {}, "1 of the 5 questions are also to fit on"),
        (replace(trait, questions=overlapping), {}, "1 of the 3 questions are also to fit on"),
        (replace(trait, transcripts=both), {}, "1 questions are debated both"),
        (replace(trait, score=classified), {}, "the classifier was fitted on 1 of the 4"),
        (trait, {"d": fitted}, "d: fitted on 1 of the 4 questions"),
    ):
        with pytest.raises(UserError, match=message):
            wrong.require_apart(known)
    drawn = {q.text for q in Rivalry(split="train").questions(30, 0)}
    apart = scripted_classifier("evil", 20, apart=set(map(vary, drawn)))
    assert not apart.questions & set(map(question_key, drawn))


def test_a_classifier_counts_questions(debates: list[Transcript]) -> None:
    both = [*debates, *(t for vary in VARIANTS.values() for t in varied(debates, vary))]
    classifier = PersonaClassifier().fit(both)
    assert classifier.questions_ == {t.question for t in debates}
    assert classifier.facts_["questions"] == len(debates)


def test_curves_and_damage_average_the_wordings_of_a_question() -> None:
    asked = ["1+2", " 1 + 2", "2+2"]
    about = {"model": "m", "layer": 1, "context": "question", "before": None, "finite": True}
    swept = [
        {**about, "question": q, "coefficient": c, "rouge": {"agent 1": (0, 0, value)}, "directions": d, "direction": d}
        for q, value in zip(asked, (0.0, 1.0, 0.5), strict=True)
        for c, d in ((0.0, None), (1.0, "agent 1"))
    ]
    for record in swept:
        record["layer"] = None if record["directions"] is None else 1
    [curve] = steerability(swept)
    assert (curve.questions, curve.area.mean) == (2, 0.5)
    assert curve.areas == {"agent 1": {"1+2": 0.5, "2+2": 0.5}}
    facts = {"model": "m", "split": "test", "repetition": 0.0, "perplexity": 1.0}
    texts = [
        {**facts, **how, "elicit": elicit, "question": q, "trait": value, "correct": True}
        for how in (
            {"remedy": "none", "source": None, "layer": None, "coefficient": 0.0},
            {"remedy": "steering", "source": "p", "layer": "1", "coefficient": 1.0},
        )
        for elicit in ("persona", PLAIN_QUESTION)
        for q, value in zip(asked, (0.0, 1.0, 1.0), strict=True)
    ]
    rows = damage_rows(texts)
    assert [(row.questions, row.trait.mean) for row in rows] == [(2, 0.75)] * 2


class Given:
    """A task with the questions given."""

    name, instruction = "given", ""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def questions(self, n: int, seed: int) -> list[Question]:
        if n > len(self.texts):
            raise UserError("too few")
        return [Question(text, "3") for text in self.texts[:n]]

    def answer(self, text: str) -> str:
        return text

    def grade(self, text: str | None, gold: str) -> bool:
        return text == gold

    def provenance(self) -> dict[str, Any]:
        return {"task": self.name}


class Sayer:
    persona, facts = PERSONAS["self-critique"], {"kind": "sayer"}

    def __init__(self, *right: str) -> None:
        self.right = right

    def answer(self, requests: Sequence[Any], keep: Any = None) -> list[Answer]:
        return [Answer("3" if r.question in self.right else "4", 1, 1) for r in requests]


def test_two_wordings_are_answered_as_one_question(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    method, first = make_method("single"), Given("What is 1+2?", "WHAT IS 1 + 2 ?", "2+1")
    second = Given("what  is 1+2?", "2 + 1")
    for path, task, right in ((a, first, ("What is 1+2?", "2+1")), (b, second, ())):
        n = len(task.texts)
        row = evaluate(path, "single", method, lambda _, r=right: [Sayer(*r)], task=task, n_questions=n)  # type: ignore
        assert (row.questions, len(path.read_text().splitlines())) == (2, n)
    again = evaluate(a, "single", method, lambda _: [Sayer()], task=first, n_questions=3)  # type: ignore
    assert (again.questions, again.accuracy.mean) == (2, 1.0), "nothing is asked again"
    found = compare(a, b)
    assert (found.first.questions, found.second.questions, found.left_out) == (2, 2, 0)
    assert (found.test.better, found.test.worse, found.test.tied) == (2, 0, 0)
    records = [[json.loads(line) for line in path.read_text().splitlines()] for path in (a, b)]
    assert paired(*records) == found.test
    assert summarize(records[0], "single", "given").questions == 2


@variant_of
def test_the_tables_questions_are_new_in_any_wording(vary: Callable[[str], str], tmp_path: Path) -> None:
    options = {"task": "arithmetic", "task_options": '{"digits": 1, "terms": 1}'}
    chosen = preset("toy").override({**options, "grpo.questions": "3", "table_questions": "2"})
    drawn = {q.text for q in stage_2_questions(chosen, tables_task(chosen, None, ()))}
    *debated, plain, fourth, fifth = sorted({str(n) for n in range(1, 10)} - drawn)
    example = read_embedded("scripted")[0]
    write_transcripts(tmp_path / "transcripts.jsonl", [replace(example, question=vary(text)) for text in debated])
    (tmp_path / "direct.jsonl").write_text(json.dumps({"question": vary(plain)}) + "\n")
    task = table_task(tmp_path, chosen)
    assert {q.text for q in task.questions(2, seed=2)} == {fourth, fifth}
    assert task.provenance()["without_seen"] == 7
    assert [q.text for q in Unseen(Given("1+2", "a b"), frozenset([vary("1+2")])).questions(1, 0)] == ["a b"]  # type: ignore


@variant_of
def test_benchmarks_and_transcripts_hold_a_question_once(vary: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "gsm8k.jsonl"
    rows = [{"question": text, "answer": "#### 3"} for text in ("What is 1+2?", vary("What is 1+2?"), "2+1?")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {q.text for q in GSM8K(path).questions(2, 0)} == {"What is 1+2?", "2+1?"}
    with pytest.raises(UserError, match="has 2"):
        GSM8K(path).questions(3, 0)
    rows[1]["answer"] = "#### 4"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="two answers to one question"):
        GSM8K(path).questions(1, 0)
    golds = [Transcript.build(text, [["a"]], "c", gold_answer=gold) for text, gold in (("a b?", "1"), ("A b ?", "2"))]
    write_transcripts(tmp_path / "debates.jsonl", golds)
    with pytest.raises(UserError, match="gold_answer of a question '1' in line 1, '2' in line 2"):
        read_transcripts(tmp_path / "debates.jsonl")


@variant_of
def test_the_silent_debate_reads_a_question_once(vary: Callable[[str], str]) -> None:
    debates = read_embedded("scripted")[:40]
    found = Debated.read([*debates, *varied(debates, vary)])
    assert len(found.questions) == len(found.gold) == len(found.answers) == 40, "halves are of these"
    assert found.left_out == 40
    with pytest.raises(UserError, match="20 questions with all agents"):
        Debated.read([*debates[:20], *varied(debates[:20], vary)])
