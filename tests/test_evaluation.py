"""Methods answer as they say, evaluations count what they should, and killed ones go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.debate.agents import Agent, Answer, Keep, Request, Usage
from interp.debate.personas import PERSONAS, PLAIN, Persona
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.transcript import read_transcripts
from interp.errors import UserError
from interp.evaluation.accuracy import EvaluationRow, compare, evaluate, summarize
from interp.evaluation.methods import make_method
from interp.statistics import mean_interval, seeds_interval

TASK = Arithmetic(0, 9, "a+b")
QUESTIONS = TASK.questions(10, seed=0)


@dataclass
class Adder:
    """Adds, and is off by `off` in the questions whose index is in `wrong`; None in `silent` says nothing."""

    wrong: Sequence[int] = ()
    off: int = 1
    silent: Sequence[int] = ()
    persona: Persona = PLAIN

    @property
    def facts(self) -> dict[str, Any]:
        return {"wrong": list(self.wrong), "off": self.off}

    def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        index = [q.text for q in QUESTIONS].index(request.question)
        assert request.instruction == TASK.instruction
        if index in self.silent:
            return Answer("", 7, 0, "timeout", failures=("timeout",))
        value = eval(request.question) + self.off * (index in self.wrong)
        return Answer(rf"\boxed{{{value}}}", 7, 2 * request.round)


def run(out: Path, name: str, agents: Sequence[Agent], n: int = 10, **options: Any) -> EvaluationRow:
    method = make_method(name, chunk=options.pop("chunk", 3))
    return evaluate(out, name, method, lambda run: agents, task=TASK, n_questions=n, **options)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_several_runs_are_about_the_model_and_several_seeds_about_the_procedure() -> None:
    right = np.array([[True] * 6 + [False] * 4, [True] * 9 + [False], [True] * 3 + [False] * 7] * 4)
    cells = [(run, q, bool(right[run, q])) for run in range(3) for q in range(10)]
    made = [{"question": str(q), "run": run, "correct": ok, "answer": "2", "usage": {}} for run, q, ok in cells]
    model, procedure = (summarize(made, "imad", "a+b", seeds=seeds).accuracy for seeds in (False, True))
    assert model == mean_interval(right[:3].mean(axis=0))
    assert procedure == seeds_interval(right[:3].astype(float))
    assert procedure.low < model.low < model.high < procedure.high, "seeds differ, too"


def test_single(tmp_path: Path) -> None:
    row = run(tmp_path / "a.jsonl", "single", [Adder(wrong=(0, 3), silent=(5,))])
    assert row.accuracy == mean_interval(np.array([float(i not in (0, 3, 5)) for i in range(10)]))
    assert (row.questions, row.runs, row.undecided, row.calls) == (10, 1, 1, 1.0)
    assert (row.input_tokens, row.output_tokens, row.tokens) == (7, 1.8, 8.8)
    assert row.usage == Usage(10, 70, 18, {"timeout": 1}, {"timeout": 1})
    kept = records(tmp_path / "a.jsonl")
    assert [r["question"] for r in kept] == [q.text for q in QUESTIONS]
    assert [r["correct"] for r in kept] == [i not in (0, 3, 5) for i in range(10)]
    assert kept[0]["texts"] == [rf"\boxed{{{int(QUESTIONS[0].gold_answer) + 1}}}"]
    assert (kept[5]["answer"], kept[5]["usage"]["unanswered"]) == (None, {"timeout": 1})
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["accuracy"]["mean"] == 0.7
    assert facts["made_by"]["agents"] == [{"wrong": [0, 3], "off": 1}]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.jsonl"]


def test_vote_takes_most_votes_and_of_several_the_first(tmp_path: Path) -> None:
    agents = [Adder(), Adder(wrong=(0, 1, 2)), Adder(wrong=(0, 2), off=5), Adder(wrong=(0,), silent=(1,))]
    row = run(tmp_path / "a.jsonl", "vote", agents)
    # 0: two answers with one vote, one with two (both off by 1); 1: right, wrong, right; 2: right, wrong, off 5, right
    kept = records(tmp_path / "a.jsonl")
    assert [r["correct"] for r in kept] == [False, *[True] * 9]
    assert row.calls == 4
    tied = run(tmp_path / "b.jsonl", "vote", [Adder(wrong=(4,)), Adder()])
    assert tied.accuracy.mean == 0.9  # one against one: the first's answer


def test_debate_keeps_transcripts_and_rounds(tmp_path: Path) -> None:
    agents = [Adder(), Adder(wrong=(2, 4)), Adder(wrong=(4,), off=9)]
    row = run(tmp_path / "a.jsonl", "debate", agents)
    assert dict(row.rounds) == {"1": 8, "2": 2}
    assert row.accuracy.mean == 0.9
    assert row.undecided == 1
    assert row.calls == (8 * 3 + 2 * 6) / 10
    assert row.output_tokens == (10 * 3 * 2 + 2 * 3 * 4) / 10
    transcripts = read_transcripts(tmp_path / "a.jsonl")
    assert [t.n_rounds for t in transcripts] == [1, 1, 2, 1, 2, 1, 1, 1, 1, 1]
    assert [t.consensus is None for t in transcripts] == [i == 4 for i in range(10)]
    assert records(tmp_path / "a.jsonl")[4]["undecided"] is True


def test_chunks_change_nothing(tmp_path: Path) -> None:
    agents = [ScriptedAgent(p, 0.3, 0) for p in PERSONAS.values()]
    for name in ("vote", "debate"):
        kept = []
        for chunk in (1, 4, 99):
            out = tmp_path / f"{name}-{chunk}.jsonl"
            method = make_method(name, chunk=chunk, rotate=True)
            evaluate(out, name, method, lambda _: agents, task=Arithmetic(), n_questions=10)
            kept.append(out.read_bytes())
        assert kept[0] == kept[1] == kept[2]


def test_more_questions_and_runs_add_to_what_is_there(tmp_path: Path) -> None:
    def agents(run: int) -> list[Agent]:
        return [ScriptedAgent(p, 0.3, run) for p in PERSONAS.values()]

    def go(out: str, n: int, runs: int) -> EvaluationRow:
        method = make_method("debate", rotate=True, chunk=2)
        return evaluate(tmp_path / out, "debate", method, agents, task=Arithmetic(), n_questions=n, runs=runs)

    go("grown.jsonl", 3, 1)
    two = go("grown.jsonl", 3, 2)
    grown, whole = go("grown.jsonl", 7, 3), go("whole.jsonl", 7, 3)
    assert (two.questions, two.runs, grown.runs) == (3, 2, 3)
    assert grown == whole
    key = lambda r: (r["run"], r["question"])  # noqa: E731
    kept = records(tmp_path / "grown.jsonl")
    assert sorted(kept, key=key) == sorted(records(tmp_path / "whole.jsonl"), key=key)
    assert len({key(r) for r in kept}) == len(kept) == 21
    assert len({r["debate_trace"] for r in kept}) == 21  # each run has its own seed
    before = (tmp_path / "grown.jsonl").read_bytes()
    for n, runs in ((6, 3), (7, 2)):
        with pytest.raises(UserError, match="ask for at least as many as before"):
            go("grown.jsonl", n, runs)
    assert (tmp_path / "grown.jsonl").read_bytes() == before


def test_a_line_taken_out_is_answered_again_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    agents = [ScriptedAgent(p, 0.3, 0) for p in PERSONAS.values()]

    def go() -> EvaluationRow:
        method = make_method("debate", rotate=True)
        return evaluate(out, "debate", method, lambda _: agents, task=Arithmetic(), n_questions=8)

    whole, lines = go(), out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[i] for i in (0, 3, 4, 4, 7)))  # and one is there twice
    assert go() == whole
    assert sorted(out.read_bytes().splitlines(keepends=True)) == sorted(lines)


def test_another_setting_is_another_evaluation(tmp_path: Path) -> None:
    run(tmp_path / "a.jsonl", "single", [Adder()])
    for changed in ({"name": "vote"}, {"agents": [Adder(wrong=(1,))]}, {"seed": 4}):
        given = {"name": "single", "agents": [Adder()], **changed}
        with pytest.raises(UserError, match="started with another"):
            run(tmp_path / "a.jsonl", **given)
    assert run(tmp_path / "a.jsonl", "single", [Adder(wrong=(1,))], restart=True).accuracy.mean == 0.9
    with pytest.raises(UserError, match="give at least 1 of each"):
        run(tmp_path / "b.jsonl", "single", [Adder()], runs=0)
    with pytest.raises(UserError, match="choose one of single"):
        make_method("magic")
    with pytest.raises(UserError, match="give at least 1"):
        make_method("vote", chunk=0)


def test_compare(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run(a, "debate", [Adder(), Adder(wrong=(2, 4)), Adder(wrong=(4,), off=9)])
    run(b, "single", [Adder(wrong=(0, 1, 2))], n=8)
    found = compare(a, b)
    assert (found.first.questions, found.second.questions, found.left_out) == (8, 8, 2)
    assert (found.first.method, found.second.method) == ("debate", "single")
    assert (found.first.accuracy.mean, found.second.accuracy.mean) == (7 / 8, 5 / 8)
    assert (found.test.better, found.test.worse, found.test.tied) == (3, 1, 4)
    assert found.test.p == pytest.approx(10 / 16)
    assert found.second.tokens == 9
    # the order of the lines does not matter
    lines = b.read_text().splitlines(keepends=True)
    b.write_text("".join(reversed(lines)))
    assert compare(a, b).test == found.test


def test_compare_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run(a, "single", [Adder()])
    with pytest.raises(UserError, match=r"b\.jsonl: no such file"):
        compare(a, b)
    other = make_method("single")
    questions = Arithmetic().questions(3, 0)
    scripted = [ScriptedAgent(PERSONAS["self-critique"], 0, 0)]
    evaluate(b, "single", other, lambda _: scripted, task=Arithmetic(), n_questions=len(questions))
    with pytest.raises(UserError, match="two evaluations of one task"):
        compare(a, b)
    whole = json.loads(a.read_text().splitlines()[0])
    for wrong in ({"usage": None}, {"usage": {"x": 1}}, {"question": ["q"]}, {"run": "first"}, {"correct": "yes"}):
        b.write_text(json.dumps(whole | wrong) + "\n")
        with pytest.raises(UserError, match=r"b\.jsonl, line 1: not a record of an evaluation"):
            compare(a, b)
    b.write_text('{"question": "1+2"}\n')
    with pytest.raises(UserError, match="gold_answer: Field required"):
        compare(a, b)
    c = tmp_path / "c.jsonl"
    run(c, "single", [Adder()], n=2, seed=0)
    there = c.read_text()
    c.write_text(there.replace(QUESTIONS[0].text, "9+99").replace(QUESTIONS[1].text, "99+9"))
    with pytest.raises(UserError, match="no question in common"):
        compare(a, c)
    c.write_text(there.replace('"gold_answer": "', '"gold_answer": "1'))
    with pytest.raises(UserError, match="different gold answers"):
        compare(a, c)
    with pytest.raises(UserError, match=r"give a \.jsonl file"):
        compare(a.with_suffix(".json"), b)


def test_incomplete_runs_are_refused() -> None:
    def record(question: str, run: int) -> dict[str, Any]:
        usage = Usage(1, 2, 3).record()
        return {"question": question, "run": run, "correct": True, "answer": "1", "usage": usage}

    complete = [record(q, r) for q in "ab" for r in (0, 1)]
    assert summarize(complete, "single", "t").questions == 2
    with pytest.raises(UserError, match="1 of the answers to 2 questions in 2 runs are missing"):
        summarize(complete[:-1], "single", "t")


def test_what_failed_is_asked_again_on_request(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    before = run(out, "vote", [Adder(), Adder(silent=(5, 7))])
    assert sum(before.usage.unanswered.values()) == 2
    assert run(out, "vote", [Adder(), Adder()]) == before  # not unasked
    mended = run(out, "vote", [Adder(), Adder()], retry_failed=True)
    assert (mended.accuracy.mean, mended.usage.unanswered) == (1.0, {})
    assert mended.usage.calls == 20
    kept = records(out)
    assert len(kept) == len({r["question"] for r in kept}) == 10
