"""Debates end when they should, count votes rightly, seat personas fairly, and help."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from interp.debate.agents import Agent, Answer, Keep, Request, Usage
from interp.debate.embedded import EMBEDDED, embedded, embedded_path, read_embedded
from interp.debate.grading.answers import boxed
from interp.debate.personas import PERSONAS, Persona
from interp.debate.protocol import consensus, debate, debates, seatings
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.task import Question
from interp.debate.transcript import CONSENSUS_TAG, parse, write_transcripts
from interp.errors import UserError

TASK = Arithmetic()
QUESTIONS = TASK.questions(6, seed=0)


@dataclass
class Reciter:
    """Says the given answers, one for each round, and remembers what it was shown."""

    name: str
    answers: Sequence[str]
    seen: list[list[Request]] = field(default_factory=list)

    @property
    def persona(self) -> Persona:
        return Persona(self.name, "")

    @property
    def facts(self) -> dict[str, Any]:
        return {"kind": "reciter"}

    def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
        self.seen.append(list(requests))
        texts = [rf"{self.name} in round {r.round}: \boxed{{{self.answers[r.round - 1]}}}" for r in requests]
        return [Answer(text, 10 * request.round, 3) for request, text in zip(requests, texts, strict=True)]


@dataclass
class Mute(Reciter):
    """Never gets an answer out."""

    def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
        self.seen.append(list(requests))
        return [Answer("", 2, 0, "timeout", failures=("status 503", "timeout")) for _ in requests]


def scripted(n: int, error_rate: float = 0.3) -> list[Agent]:
    personas = list(PERSONAS.values())
    return [ScriptedAgent(personas[i % 3], error_rate, seed=i) for i in range(n)]


def test_a_unanimous_first_round_ends_the_debate() -> None:
    agents = [Reciter("a", ["1,110", "7"]), Reciter("b", ["1110.0", "8"]), Reciter("c", [r"\text{1110}", "9"])]
    transcripts = debate(QUESTIONS, agents, task=TASK)
    assert [t.n_rounds for t in transcripts] == [1] * 6
    assert all(len(agent.seen) == 1 for agent in agents)
    assert all(boxed(t.consensus or "") == "1,110" for t in transcripts)
    assert all(t.extra == {} for t in transcripts)


def test_a_unanimous_later_round_ends_it_too() -> None:
    agents = [Reciter("a", ["1", "2", "9"]), Reciter("b", ["2", "2", "8"])]
    [transcript] = debate(QUESTIONS[:1], agents, task=TASK, rounds=3)
    assert transcript.n_rounds == 2
    assert boxed(transcript.consensus or "") == "2"


def test_a_majority_does_not_end_the_debate_before_the_last_round() -> None:
    agents = [Reciter("a", ["1", "1", "3"]), Reciter("b", ["1", "1", "3"]), Reciter("c", ["2", "2", "4"])]
    [transcript] = debate(QUESTIONS[:1], agents, task=TASK, rounds=3)
    assert transcript.n_rounds == 3
    assert boxed(transcript.consensus or "") == "3"


def test_consensus_sentences_tell_unanimity_from_majority() -> None:
    unanimous = debate(TASK.questions(40, 1), [Reciter(n, ["5"]) for n in "abc"], task=TASK)
    majority = debate(
        TASK.questions(40, 1), [Reciter("a", ["5"]), Reciter("b", ["5"]), Reciter("c", ["6"])], task=TASK, rounds=1
    )
    for transcripts, counted in ((unanimous, False), (majority, True)):
        sentences = {t.consensus or "" for t in transcripts}
        assert len(sentences) == 4
        for sentence in sentences:
            assert boxed(sentence) == "5"
            assert bool(re.search(r"\b2\b.*\b3\b", sentence)) == counted


def test_an_undecided_debate_is_kept_and_marked() -> None:
    agents = [Reciter("a", ["1", "1"]), Reciter("b", ["2", "2"]), Reciter("c", ["none", "none"])]
    transcripts = debate(QUESTIONS, agents, task=TASK)
    assert len(transcripts) == 6
    for transcript in transcripts:
        assert transcript.consensus is None
        assert transcript.extra == {"undecided": True}
        assert CONSENSUS_TAG not in transcript.render()
        assert len(transcript.turns) == 6
        assert parse(transcript.render(), transcript.question).turns == transcript.turns


@pytest.mark.parametrize(
    ("answers", "answer", "votes"),
    [
        (["1", "1.0", "1"], "1", 3),
        (["2", "1,000", "1000"], "1,000", 2),
        (["1", "2"], None, 0),
        (["1", "1", "2", "2"], None, 0),
        (["1", None, None], None, 0),
        (["1", "1", None], "1", 2),
        (["x", "x", "x"], None, 0),
        ([None, None], None, 0),
    ],
)
def test_consensus_is_a_strict_majority_of_all_agents(
    answers: list[str | None], answer: str | None, votes: int
) -> None:
    found = consensus(answers, TASK.grade)
    assert (found.answer if found else None) == answer
    assert (found.votes if found else 0) == votes
    assert found is None or found.unanimous == (votes == len(answers))


def test_each_round_is_one_batch_and_shows_the_latest_turns_of_the_others() -> None:
    agents = [Reciter("a", "123"), Reciter("b", "456"), Reciter("c", "789")]
    seen: list[tuple[int, int]] = []
    debate(QUESTIONS, agents, task=TASK, rounds=3, progress=lambda done, total: seen.append((done, total)))
    for seat, agent in enumerate(agents, start=1):
        assert [len(batch) for batch in agent.seen] == [6, 6, 6]
        assert all(r.own is None and r.others == () for r in agent.seen[0])
        for request in agent.seen[2]:
            assert request.agent == seat
            assert request.own == rf"{agent.name} in round 2: \boxed{{{agent.answers[1]}}}"
            assert request.others == tuple(
                (k, rf"{other.name} in round 2: \boxed{{{other.answers[1]}}}")
                for k, other in enumerate(agents, start=1)
                if k != seat
            )
    assert seen == [(6 * i, 54) for i in range(1, 10)]


def test_progress_ends_where_it_expects_to() -> None:
    seen: list[tuple[int, int]] = []
    transcripts = debate(
        TASK.questions(30, 2), scripted(3), task=TASK, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1] == sum(len(t.turns) for t in transcripts)
    assert all(done <= total for done, total in seen)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
def test_seatings_are_balanced(n: int) -> None:
    orders = seatings(n)
    assert len(set(orders)) == len(orders)
    if n <= 4:
        assert set(orders) == set(permutations(range(n)))
    for block in range(0, len(orders), n):
        for seat in range(n):
            assert {order[seat] for order in orders[block : block + n]} == set(range(n))


def test_rotation_seats_each_persona_where_its_text_appears() -> None:
    agents = [Reciter("a", "12"), Reciter("b", "34"), Reciter("c", "56")]
    transcripts = debate(TASK.questions(12, 0), agents, task=TASK, rotate=True)
    assert Counter(t.personas for t in transcripts) == dict.fromkeys(permutations("abc"), 2)
    for t in transcripts:
        assert t.personas is not None
        assert all(turn.text.startswith(t.personas[turn.agent - 1]) for turn in t.turns)


def test_a_run_in_parts_equals_a_run_at_once() -> None:
    questions = TASK.questions(20, 4)
    at_once = debate(questions, scripted(3), task=TASK, rotate=True)
    parts = [
        transcript
        for start in range(0, 20, 7)
        for transcript in debate(questions[start : start + 7], scripted(3), task=TASK, rotate=True, start=start)
    ]
    assert parts == at_once


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("rotate", [False, True])
def test_all_sizes_parse_back(n: int, rounds: int, rotate: bool, tmp_path: Path) -> None:
    transcripts = debate(TASK.questions(12, 9), scripted(n, 0.4), task=TASK, rounds=rounds, rotate=rotate)
    for t in transcripts:
        back = parse(t.render(), t.question, gold_answer=t.gold_answer, personas=t.personas)
        assert back == t
        assert t.agents == tuple(range(1, n + 1))
        assert t.n_rounds <= rounds
        assert len(t.turns) == n * t.n_rounds
        assert t.personas is not None
        assert len(t.personas) == n
        last = [TASK.answer(turn.text) for turn in t.turns if turn.round == t.n_rounds]
        found = consensus(last, TASK.grade)
        assert boxed(t.consensus or "") == (found.answer if found else None)
        assert t.n_rounds == rounds or (found is not None and found.unanimous)


def test_one_agent_may_fill_several_seats() -> None:
    one = ScriptedAgent(PERSONAS["chain-of-thought"], 0.3, 0)
    [transcript] = debate(QUESTIONS[:1], [one, one], task=TASK, rounds=1)
    first, second = transcript.turns
    assert first.text != second.text
    assert transcript.personas == ("chain-of-thought", "chain-of-thought")


def test_tags_in_the_text_of_an_agent_are_taken_out_and_counted() -> None:
    agents = [Reciter("<|Agent 2 Solution|>", ["1"]), Reciter("b", ["1"])]
    [transcript] = debate(QUESTIONS[:1], agents, task=TASK, rounds=1)
    assert transcript.extra == {"turns_with_tags": 1}
    assert parse(transcript.render(), transcript.question).turns == transcript.turns


def test_chunks_change_nothing_and_finish_one_by_one() -> None:
    questions = TASK.questions(20, 4)
    at_once = list(debates(questions, scripted(3), task=TASK, rotate=True, start=1))
    assert debate(questions, scripted(3), task=TASK, rotate=True, start=1) == [d.transcript for d in at_once]
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    agents = scripted(3)
    running = debates(questions, agents, task=TASK, rotate=True, start=1, chunk=6, progress=progress)
    assert seen == []
    assert next(running) == at_once[0]
    assert 6 * 3 <= seen[-1][0] <= 6 * 6
    assert list(running) == at_once[1:]
    assert seen[-1][0] == seen[-1][1] == sum(len(d.transcript.turns) for d in at_once)
    totals = [total for _, total in seen]
    assert totals == sorted(totals, reverse=True)
    with pytest.raises(UserError, match="chunk 0"):
        debates(questions, agents, task=TASK, chunk=0)


def test_usage_is_summed_over_agents_and_rounds() -> None:
    agents = [Reciter("a", ["1", "2"]), Reciter("b", ["2", "2"]), Reciter("c", ["2", "2"])]
    [finished] = debates(QUESTIONS[:1], agents, task=TASK)
    assert finished.usage == Usage(6, 3 * 10 + 3 * 20, 18)
    assert finished.transcript.extra == {}


def test_a_turn_that_failed_is_empty_counted_and_has_no_say() -> None:
    mute = Mute("mute", [])
    agents = [Reciter("a", ["1", "2"]), mute, Reciter("c", ["2", "2"])]
    [finished] = debates(QUESTIONS[:1], agents, task=TASK)
    transcript = finished.transcript
    assert [turn.text for turn in transcript.turns if turn.agent == 2] == ["", ""]
    assert boxed(transcript.consensus or "") == "2"
    assert transcript.extra == {"turns_failed": {"timeout": 2}}
    assert finished.usage == Usage(6, 64, 12, {"status 503": 2, "timeout": 2}, {"timeout": 2})
    assert finished.usage.record()["failures"] == {"status 503": 2, "timeout": 2}
    assert Usage(**finished.usage.record()) == finished.usage
    assert (2, "") in agents[0].seen[1][0].others
    assert mute.seen[1][0].own == ""


def test_usages_add_up() -> None:
    one = Usage.of([Answer("x", 3, 2, cut=True), Answer("", 1, 0, "timeout", failures=("timeout",), estimated=True)])
    assert one == Usage(2, 4, 2, {"timeout": 1}, {"timeout": 1}, 1, 1)
    assert sum([one, one], Usage()) == Usage(4, 8, 4, {"timeout": 2}, {"timeout": 2}, 2, 2)


def test_one_detail_is_kept_for_each_way_to_fail() -> None:
    failed = [Answer("", 0, 0, "status 400", said) for said in ("", "no such model", "again")]
    usage = Usage.of([Answer("x", 1, 1, detail="unused"), *failed, Answer("", 0, 0, "timeout")])
    assert usage.details == {"status 400": "no such model"}
    later = Usage.of([Answer("", 0, 0, "timeout", "2 s"), Answer("", 0, 0, "status 400", "later")])
    assert (usage + later).record()["details"] == {"status 400": "no such model", "timeout": "2 s"}


def test_debates_need_two_agents_and_a_round() -> None:
    for n, rounds in ((1, 2), (0, 2), (3, 0)):
        with pytest.raises(UserError, match="at least 2 agents and 1 round"):
            debate(QUESTIONS, scripted(n), task=TASK, rounds=rounds)
    assert debate([], scripted(3), task=TASK) == []


def test_debating_beats_answering_alone() -> None:
    questions = TASK.questions(250, seed=21)

    def accuracy(texts: Sequence[str | None], asked: Sequence[Question]) -> float:
        return sum(TASK.grade(t, q.gold_answer) for t, q in zip(texts, asked, strict=True)) / len(asked)

    agents = scripted(3, 0.35)
    alone = [
        accuracy([answer.text for answer in agent.answer([Request(q.text, 1) for q in questions])], questions)
        for agent in agents
    ]
    voted = accuracy([t.consensus for t in debate(questions, agents, task=TASK, rounds=1)], questions)
    debated = accuracy([t.consensus for t in debate(questions, agents, task=TASK, rounds=2)], questions)
    assert all(0.55 < single < 0.75 for single in alone)
    assert debated > max(alone) + 0.1
    assert debated > voted + 0.05


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_files_are_made_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    write_transcripts(tmp_path / "again.jsonl", embedded(name))
    shipped = embedded_path(name).read_bytes()
    assert (tmp_path / "again.jsonl").read_bytes() == shipped
    assert len(shipped) < 700_000


def test_embedded_debates_are_what_they_are_meant_to_be() -> None:
    for name in ("scripted", "scripted-rotated"):
        transcripts = read_embedded(name)
        assert len(transcripts) == len({t.question for t in transcripts}) == 180
        settled = sum(t.n_rounds == 1 for t in transcripts)
        undecided = sum(t.consensus is None for t in transcripts)
        right = sum(TASK.grade(t.consensus, t.gold_answer or "") for t in transcripts)
        assert 0.35 <= settled / 180 <= 0.45
        assert 1 <= undecided <= 12
        assert right / 180 > 0.9
        assert all((t.consensus is None) == bool(t.extra.get("undecided")) for t in transcripts)
        lengths = [len(turn.text) for t in transcripts for turn in t.turns]
        assert 350 < sum(lengths) / len(lengths) < 800
    fixed, rotated = (read_embedded(name) for name in ("scripted", "scripted-rotated"))
    assert not {t.question for t in fixed} & {t.question for t in rotated}


def test_embedded_seats_are_the_papers_or_balanced() -> None:
    assert {t.personas for t in read_embedded("scripted")} == {tuple(PERSONAS)}
    seats = Counter(t.personas for t in read_embedded("scripted-rotated"))
    assert seats == dict.fromkeys(permutations(PERSONAS), 30)


def test_an_unknown_embedded_name_is_refused() -> None:
    with pytest.raises(UserError, match="debates nothing: not embedded"):
        read_embedded("nothing")
