"""Scripted agents: true where they do not err, honest about others, the same however they are asked."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.debate.agents import Agent, Answer, Request, Sampling, chat_messages
from interp.debate.personas import PERSONAS, Persona
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.scripted.notation import read_steps
from interp.debate.scripted.wording import STYLES
from interp.debate.scripted.working import find_fault, parse_expression, solve
from interp.debate.tasks.arithmetic import Arithmetic
from interp.errors import UserError

TASK = Arithmetic()
QUESTIONS = TASK.questions(120, seed=5)
BLAMED = "(?:put|took|slipped|wrote|mishandled|lost|got the sign|added|treated|joined|combined|multiplied)"
EQUATION = re.compile(r"(?<![\w.])(?<![-+*] )(?<![-+*])(-?\d+) ?([-+*]) ?(\d+) ?= ?(-?\d+)(?! ?[-+*] ?\d)(?![\d.]*\d)")


def texts_of(agent: Agent, requests: list[Request]) -> list[str]:
    return [answer.text for answer in agent.answer(requests)]


def first_round(persona: str, error_rate: float, seed: int = 0, agent: int = 1) -> list[str]:
    scripted = ScriptedAgent(PERSONAS[persona], error_rate, seed)
    return texts_of(scripted, [Request(q.text, agent) for q in QUESTIONS])


def second_round(persona: str, error_rate: float, seed: int = 0) -> list[tuple[Request, str]]:
    """Revisions of an agent in seat 2 among two others that err often."""
    own, left, right = (
        first_round(name, 0.5, seed=s, agent=k)
        for name, s, k in ((persona, 1, 2), ("chain-of-thought", 2, 1), ("program-of-thought", 3, 3))
    )
    requests = [
        Request(q.text, 2, 2, mine, ((1, one), (3, three)))
        for q, mine, one, three in zip(QUESTIONS, own, left, right, strict=True)
    ]
    return list(zip(requests, texts_of(ScriptedAgent(PERSONAS[persona], error_rate, seed), requests), strict=True))


def plain(text: str) -> str:
    return re.sub(r"\\[()]|[$`]", "", re.sub(r"\\times|\\cdot|×", "*", text))


@pytest.mark.parametrize("persona", PERSONAS)
def test_without_errors_every_answer_and_every_statement_is_true(persona: str) -> None:
    n_statements = 0
    for question, text in zip(QUESTIONS, first_round(persona, 0.0), strict=True):
        assert TASK.grade(text, question.gold_answer)
        for x, op, y, z in EQUATION.findall(plain(text)):
            assert eval(f"{x}{op}{y}") == int(z), text
            n_statements += 1
        steps = read_steps(text)
        assert len(steps) == 5, text
        assert all(step.result == step.truth for step in steps)
        assert find_fault(parse_expression(question.text), steps) is None
    assert n_statements > 100 or persona == "program-of-thought"


@pytest.mark.parametrize("persona", PERSONAS)
def test_errors_come_at_the_rate_asked_for_and_show_in_the_working(persona: str) -> None:
    kinds: Counter[str] = Counter()
    for question, text in zip(QUESTIONS, first_round(persona, 0.5), strict=True):
        steps = read_steps(text)
        fault = find_fault(parse_expression(question.text), steps)
        assert (fault is None) == TASK.grade(text, question.gold_answer), text
        assert TASK.grade(text, str(steps[-1].result))
        kinds[fault.kind if fault else "none"] += 1
    assert 40 <= kinds["none"] <= 80
    assert set(kinds) == {"none", "product", "sum", "sign", "order"}


@given(st.integers(0, 10**6), st.sampled_from(list(STYLES)), st.sampled_from([10, 100]))
def test_a_working_reads_back_from_its_text(seed: int, style: str, low: int) -> None:
    question = Arithmetic(low, 10 * low - 1).questions(1, seed)[0]
    terms = parse_expression(question.text)
    working = solve(terms, random.Random(seed), 0.5)
    text = STYLES[style](terms, working, random.Random(seed + 1))
    read = read_steps(text)
    # In a chain such as 12+12+12 = 24+12 nobody can tell which two terms were joined.
    assert [step.result for step in read] == [step.result for step in working.steps]
    assert (find_fault(terms, read) is None) == (str(working.answer) == question.gold_answer)


@pytest.mark.parametrize("expression", ["7", "-7", "2*3*4", "5-2*3*4+1", "-5*3+2", " 1 + 2 ", "9-9", "3*0"])
@pytest.mark.parametrize("error_rate", [0.0, 1.0])
def test_other_sums_of_products(expression: str, error_rate: float) -> None:
    for persona in PERSONAS.values():
        [text] = texts_of(ScriptedAgent(persona, error_rate, 0), [Request(expression, 1)])
        slipped = error_rate == 1.0 and not expression.lstrip("-").isdigit()
        assert TASK.grade(text, str(eval(expression))) != slipped


@pytest.mark.parametrize("expression", ["", "x+1", "2**3", "(1+2)*3", "1/2", "__import__('os')", "1+", "What is 1+1?"])
def test_other_questions_are_refused(expression: str) -> None:
    with pytest.raises(UserError, match="not a sum of products"):
        ScriptedAgent(PERSONAS["self-critique"], 0.1, 0).answer([Request(expression, 1)])


def test_unknown_personas_and_impossible_rates_are_refused() -> None:
    with pytest.raises(UserError, match="persona poet: has no script"):
        ScriptedAgent(Persona("poet", ""), 0.1, 0)
    with pytest.raises(UserError, match="not a probability"):
        ScriptedAgent(PERSONAS["self-critique"], 1.1, 0)


def test_the_three_styles_show() -> None:
    numbered = re.compile(r"^(?:\*\*)?(?:Step )?[(\[]?1[)\].: ]", re.MULTILINE)
    for number_of_rounds in (1, 2):
        texts = {
            name: first_round(name, 0.3) if number_of_rounds == 1 else [t for _, t in second_round(name, 0.3)]
            for name in PERSONAS
        }
        for name, written in texts.items():
            for text in written:
                assert bool(numbered.search(text)) == (name == "chain-of-thought"), text
                assert ("SELF-CRITIQUE" in text) == (name == "self-critique")
                assert ("//" in text) == (name == "program-of-thought")
    for text in first_round("chain-of-thought", 0.3):
        opening = text.split("\n")[0].lower()
        assert re.search(r"order of operations|product|multipl|precedence", opening)


@pytest.mark.parametrize("persona", PERSONAS)
def test_the_wording_varies(persona: str) -> None:
    texts = first_round(persona, 0.3)
    shapes = {re.sub(r"-?\d+", "0", text) for text in texts}
    assert len(shapes) > 0.95 * len(texts)
    for form in (r"\(\boxed{", r"$\boxed{"):
        assert 0.15 < sum(form in text for text in texts) / len(texts) < 0.6
    if persona != "program-of-thought":
        for sign in ("*", "×", r"\times", r"\cdot"):
            assert 2 < sum(sign in text for text in texts) < len(texts)


@pytest.mark.parametrize("persona", PERSONAS)
def test_every_turn_ends_with_its_box(persona: str) -> None:
    texts = first_round(persona, 0.3) + [text for _, text in second_round(persona, 0.3)]
    for text in texts:
        assert re.fullmatch(r".*\\boxed\{-?\d+\}(?:\$|\\\))?\.?", text.split("\n")[-1]), text
        assert text.count(r"\boxed") == 1


@pytest.mark.parametrize("persona", PERSONAS)
def test_revisions_name_the_others_with_the_answers_they_gave(persona: str) -> None:
    for request, text in second_round(persona, 0.3):
        head = text.split("\n\n")[0] if persona != "program-of-thought" else text
        for agent, other in request.others:
            answer = TASK.answer(other)
            assert answer is not None
            assert re.search(rf"Agents? (?:\d, )*(?:\d and )?{agent}\b[^.;]*?(?<![\d-]){re.escape(answer)}\b", head), (
                text
            )
        said = [int(k) for k in re.findall(r"Agents? (\d)", text)]
        assert set(said) <= {1, 3}, "an agent speaks of others only"


@pytest.mark.parametrize("persona", PERSONAS)
def test_revisions_say_truthfully_what_they_did(persona: str) -> None:
    n_kept = n_changed = n_faults = 0
    for request, text in second_round(persona, 0.3):
        final, own = TASK.answer(text), TASK.answer(request.own or "")
        answers = {agent: TASK.answer(other) for agent, other in request.others}
        backers = {agent for agent, answer in answers.items() if answer == final}
        alone = re.search(r"No other agent has this|alone with it|Nobody else has come", text)
        if alone:
            assert not backers, text
        for who in re.findall(
            r"(?:also the answer of|It matches) (Agents? [^.]*)\.|(Agents? [^.]*) had the same value", text
        ):
            assert set(map(int, re.findall(r"\d", "".join(who)))) == backers, text
        if re.search(r"withdraw|give up|replace|change my answer", text):
            assert final != own, text
            n_changed += 1
        if re.search(r"keep|stays?\b|hold on|remains\.|stands\.", text):
            assert final == own, text
            n_kept += 1
        for agent, working in ((1, answers[1]), (3, answers[3])):
            blamed = re.search(
                rf"Agent {agent} (?:put|multiplied|took|slipped|wrote|mishandled|lost|added|joined)", text
            )
            if blamed:
                assert not TASK.grade(working, _gold(request)), text
                n_faults += 1
    assert n_kept > 10
    assert n_changed > 10
    assert n_faults > 10


@pytest.mark.parametrize("persona", PERSONAS)
def test_the_working_of_a_revision_leads_to_its_answer(persona: str) -> None:
    shown = 0
    for request, text in second_round(persona, 0.3):
        steps = read_steps(text)
        shown += bool(steps)
        assert TASK.grade(text, str(steps[-1].result)), text
        assert (find_fault(parse_expression(request.question), steps) is None) == TASK.grade(text, _gold(request))
    assert shown == len(QUESTIONS)


def test_an_agent_without_errors_corrects_itself_and_finds_the_slips_of_others() -> None:
    for persona in PERSONAS:
        pairs = second_round(persona, 0.0)
        stubborn = 0
        for request, text in pairs:
            wrong = not TASK.grade(text, _gold(request))
            stubborn += wrong
            if wrong:
                assert TASK.grade(request.own, TASK.answer(text) or ""), "only what it had before can be wrong"
            for agent, other in request.others:
                if not TASK.grade(other, _gold(request)):
                    assert re.search(rf"Agent {agent}(?:'s| {BLAMED})", text), text
        assert stubborn < 0.15 * len(pairs)


def test_texts_that_say_nothing_are_called_so() -> None:
    question = QUESTIONS[0]
    request = Request(question.text, 1, 2, "hm", ((2, "I pass."), (3, r"\boxed{3.5}"), (4, r"\boxed{3.50}")))
    [text] = texts_of(ScriptedAgent(PERSONAS["self-critique"], 0.0, 0), [request])
    assert re.search(r"Agent 2 stated no answer|read an answer from Agent 2", text)
    assert re.search(r"Agents 3 and 4 [^.]*7/2", text)
    assert re.search(r"had no answer yet|had stated none", text)
    assert TASK.grade(text, question.gold_answer) or TASK.grade(text, "7/2")


def test_the_text_depends_on_the_request_and_the_seed_alone() -> None:
    for persona in PERSONAS.values():
        agent: Agent = ScriptedAgent(persona, 0.3, 7)
        requests = [request for request, _ in second_round(persona.name, 0.3)][:30]
        requests += [Request(q.text, 1 + i % 3) for i, q in enumerate(QUESTIONS[:30])]
        together = agent.answer(requests)
        assert [answer for request in requests for answer in agent.answer([request])] == together
        order = random.Random(0).sample(range(len(requests)), len(requests))
        shuffled = ScriptedAgent(persona, 0.3, 7).answer([requests[i] for i in order])
        assert shuffled == [together[i] for i in order]
        assert sum(a != b for a, b in zip(ScriptedAgent(persona, 0.3, 8).answer(requests), together, strict=True)) > 55
        moved = agent.answer([replace(request, agent=9) for request in requests])
        assert sum(a != b for a, b in zip(moved, together, strict=True)) > 55


def test_scripted_answers_say_what_they_cost() -> None:
    agent = ScriptedAgent(Persona("self-critique", "Be brief."), 0.0, 0)
    [answer] = agent.answer([Request("1+2", 1, instruction="Box it.")])
    assert answer == Answer(answer.text, 3 + 5 + 3, len(re.findall(r"\w+|[^\w\s]", answer.text)))
    assert agent.facts["persona"] == {"name": "self-critique", "system_prompt": "Be brief."}


PROBLEM = {"role": "user", "content": "Problem: 1+2\n\nBox it."}
SYSTEM = {"role": "system", "content": "Be brief."}


def test_a_first_request_as_messages() -> None:
    request = Request("1+2", 1, instruction="Box it.")
    assert chat_messages(Persona("x", "Be brief."), request) == [SYSTEM, PROBLEM]
    assert chat_messages(Persona("x", ""), request) == [PROBLEM]


def test_a_later_request_shows_the_own_text_and_those_of_the_others_by_number() -> None:
    request = Request("1+2", 2, 2, "It is 3.", ((1, "I say 4."), (3, "")), "Box it.")
    *earlier, last = chat_messages(Persona("x", "Be brief."), request)
    assert earlier == [SYSTEM, PROBLEM, {"role": "assistant", "content": "It is 3."}]
    assert last["role"] == "user"
    assert last["content"].startswith("Agent 1 wrote:\n\nI say 4.\n\nAgent 3 gave no answer.\n\n")
    assert last["content"].endswith("Box it.")
    assert "1+2" not in last["content"]


def test_an_agent_that_had_no_answer_is_shown_the_problem_again() -> None:
    system, user = chat_messages(Persona("x", "Be brief."), Request("1+2", 2, 2, "", ((1, "I say 4."),), "Box it."))
    assert system == SYSTEM
    assert user["content"].startswith("Problem: 1+2\n\nAgent 1 wrote:")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens 0: out of range"),
        ({"temperature": -0.1}, "give 0"),
        ({"temperature": float("nan")}, "give 0"),
        ({"temperature": 1e-300}, "give 0"),
        ({"top_p": 0.0}, "more than 0"),
        ({"seed": -1}, "from 0 to"),
        ({"seed": 10**23}, "from 0 to"),
        ({"top_p": 1.1}, "at most 1"),
    ],
)
def test_sampling_out_of_range_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Sampling(**change)


def _gold(request: Request) -> str:
    return str(eval(request.question))
