"""Seats are read as a user writes them, and filled with the agents that were meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import make_hf, make_tokenizer

from interp.debate.agents import Request, Sampling
from interp.debate.personas import PERSONAS, PLAIN, TRAIT_PERSONAS
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.scripted.malicious import ScriptedSide
from interp.debate.server import ServerAgent
from interp.debate.tasks import make_task
from interp.debate.tasks.settings import TaskSettings
from interp.errors import UserError
from interp.evaluation.seats import fill, plan, seats
from interp.evaluation.settings import Answering
from interp.generation.agents import InternalizedAgent, LocalAgent
from interp.generation.sampling import generate
from interp.models.model import Model, wrap

SERVER = "http://127.0.0.1:1/v1"


def nothing(name: str) -> Model:
    raise AssertionError(f"{name} was loaded")


@pytest.mark.parametrize(
    ("given", "model", "task", "method", "expected"),
    [
        ((), "m", "arithmetic", "single", [("plain", "m")]),
        ((), "m", "arithmetic", "model", [("plain", "m")]),
        ((), "scripted", "arithmetic", "single", [("chain-of-thought", "scripted")]),
        ((), "m", "gsm8k", "vote", [(name, "m") for name in PERSONAS]),
        ((), "m", "gsm8k", "debate", [(name, "m") for name in PERSONAS]),
        ((), "m", "evil", "debate", [("guardian", "m"), ("evil", "m"), ("guardian", "m")]),
        ((), "m", "hallucination", "single", [("guardian", "m")]),
        ((), "m", "evil", "model", [("plain", "m")]),
        (("evil", "plain"), "m", "evil", "single", [("evil", "m")]),
        (("plain", "evil=org/model=x"), "m", "math", "vote", [("plain", "m"), ("evil", "org/model=x")]),
    ],
)
def test_seats(given: Any, model: str, task: str, method: str, expected: list[tuple[str, str]]) -> None:
    found = seats(Answering(model, agents=given), task, method)
    assert [(persona.name, model) for persona, model in found] == expected


@pytest.mark.parametrize(
    ("answering", "method", "message"),
    [
        (Answering("m", agents=("pirate=m",)), "debate", "persona pirate: unknown; choose one of plain, chain"),
        (Answering("m", agents=("evil",)), "model", "leave --agent out"),
        (Answering("m", agents=("plain=scripted",), server=SERVER), "vote", "all agents are scripted"),
        (Answering("other", ("a",), agents=("plain=m",)), "vote", "adapter a: no agent is played by other"),
        (Answering("m", ("a",), server=SERVER), "vote", "adapter a: the models are a server's"),
        (Answering("m", server=SERVER), "model", "needs a model in this process"),
        (Answering("scripted"), "model", "needs a model in this process"),
    ],
)
def test_seats_that_cannot_be_filled(answering: Answering, method: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        plan([(TaskSettings(), method, tmp_path / "a.jsonl")], answering, 1, load=nothing)


def test_scripts_and_servers() -> None:
    sampling = Sampling(seed=4)
    given = ("self-critique=scripted", "plain")
    answering = Answering("some-model", agents=given, server=SERVER, retries=2, error_rate=0.5, sampling=sampling)
    [scripted, served] = fill(answering, "arithmetic", "vote", nothing)
    assert scripted == ScriptedAgent(PERSONAS["self-critique"], 0.5, 4)
    assert served == ServerAgent(PLAIN, SERVER, "some-model", sampling, retries=2)
    malicious = fill(Answering("scripted", sampling=Sampling(seed=2)), "evil", "debate", nothing, run=3)
    assert malicious[1] == ScriptedSide(TRAIT_PERSONAS["evil"], "evil", 5)


def test_local_agents_share_a_model_and_internalized_ones_see_the_bare_question() -> None:
    model = wrap(make_hf("llama", vocabulary=900, n_layers=1), make_tokenizer("merging"))
    asked: list[str] = []

    def load(name: str) -> Model:
        asked.append(name)
        return model

    sampling = Sampling(max_new_tokens=5, temperature=0)
    answering = Answering("m", batch_size=3, sampling=sampling)
    [local] = fill(answering, "arithmetic", "single", load)
    assert local == LocalAgent(PLAIN, model, sampling, 3)
    [internalized] = fill(answering, "arithmetic", "model", load)
    assert isinstance(internalized, InternalizedAgent)
    assert internalized.facts == {**local.facts, "kind": "internalized"}
    prompt = model.tokenizer("Problem: 1+2\n\n")["input_ids"]
    assert model.tokenizer.decode(prompt[:1]) == "<s>"  # what opens every text of this tokenizer
    [out] = generate(model, [prompt], max_new_tokens=5)
    [answer] = internalized.answer([Request("1+2", 1)])
    assert (answer.text, answer.input_tokens) == (model.tokenizer.decode(out.ids), len(prompt))
    assert asked == ["m", "m"]
    kept: dict[int, str] = {}
    requests = [Request(f"{n}+2", 1) for n in (1, 333, 22, 4, 5)]
    answers = local.answer(requests, lambda index, answer: kept.update({index: answer.text}))
    assert [kept[i] for i in range(5)] == [answer.text for answer in answers]


def test_make_task() -> None:
    assert make_task("arithmetic", digits=3, terms=None, source=None).provenance()["high"] == 999
    assert make_task("gsm8k", split="train", source="x.jsonl").split == "train"  # type: ignore[attr-defined]
    assert make_task("bbh-web_of_lies", split="test").name == "bbh-web_of_lies"
    with pytest.raises(UserError, match="task chess: unknown; choose one of arithmetic"):
        make_task("chess")
    with pytest.raises(UserError, match="task arithmetic: has no source; it takes digits, terms, form"):
        make_task("arithmetic", source="x")
    with pytest.raises(UserError, match="task evil: has no digits"):
        make_task("evil", digits=2)
