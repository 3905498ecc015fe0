"""Seats are read as a user writes them, and filled with the agents that were meant."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import make_hf, make_tokenizer

from interp.debate.agents import Request, Sampling
from interp.debate.personas import PERSONAS, PLAIN, TRAIT_PERSONAS
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.scripted.malicious import ScriptedSide
from interp.debate.server import ServerAgent
from interp.debate.tasks import make_task
from interp.errors import UserError
from interp.evaluation.seats import Cast, Seat, require_used, seats
from interp.generation.agents import InternalizedAgent, LocalAgent
from interp.generation.sampling import generate
from interp.models.model import Model, wrap


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
    assert [(s.persona.name, s.model) for s in seats(given, model, task, method)] == expected


def test_seats_that_cannot_be_filled() -> None:
    with pytest.raises(UserError, match="no persona 'pirate'; give one of plain, chain"):
        seats(["pirate=m"], "m", "math", "debate")
    with pytest.raises(UserError, match="leave --agent out"):
        seats(["evil"], "m", "math", "model")
    played = seats(["plain", "plain=scripted"], "m", "math", "vote")
    with pytest.raises(UserError, match="no agent is played by it"):
        require_used(played[1:], "m", "http://127.0.0.1:1/v1", ())
    with pytest.raises(UserError, match="adapter a: no agent is played by other"):
        require_used(played, "other", None, ("a",))
    with pytest.raises(UserError, match="adapter a: the models are a server's"):
        require_used(played, "m", "http://127.0.0.1:1/v1", ("a",))
    require_used(played, "m", None, ("a",))
    require_used(played, "m", "http://127.0.0.1:1/v1", ())
    with pytest.raises(UserError, match="takes a model in this process"):
        Cast("math", nothing, "http://127.0.0.1:1/v1").agents([Seat(PLAIN, "m")], Sampling(), internalized=True)
    with pytest.raises(UserError, match="takes a model in this process"):
        Cast("math", nothing).agents([Seat(PLAIN, "scripted")], Sampling(), internalized=True)


def test_scripts_and_servers() -> None:
    [scripted, served] = Cast("arithmetic", nothing, "http://127.0.0.1:1/v1", {"retries": 2}, error_rate=0.5).agents(
        seats(["self-critique=scripted", "plain"], "some-model", "arithmetic", "vote"), Sampling(seed=4)
    )
    assert scripted == ScriptedAgent(PERSONAS["self-critique"], 0.5, 4)
    assert served == ServerAgent(PLAIN, "http://127.0.0.1:1/v1", "some-model", Sampling(seed=4), retries=2)
    malicious = Cast("evil", nothing).agents(seats([], "scripted", "evil", "debate"), Sampling(seed=2))
    assert malicious[1] == ScriptedSide(TRAIT_PERSONAS["evil"], "evil", 2)


def test_local_agents_share_a_model_and_internalized_ones_see_the_bare_question() -> None:
    model = wrap(make_hf("llama", vocabulary=900, n_layers=1), make_tokenizer("merging"))
    asked: list[str] = []

    def load(name: str) -> Model:
        asked.append(name)
        return model

    sampling = Sampling(max_new_tokens=5, temperature=0)
    cast = Cast("arithmetic", load, batch_size=3)
    [local] = cast.agents([Seat(PLAIN, "m")], sampling)
    assert local == LocalAgent(PLAIN, model, sampling, 3)
    [internalized] = cast.agents([Seat(PLAIN, "m")], sampling, internalized=True)
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
    with pytest.raises(UserError, match="task chess: not known; give one of arithmetic"):
        make_task("chess")
    with pytest.raises(UserError, match="task arithmetic: has no source; it takes digits, terms, form"):
        make_task("arithmetic", source="x")
    with pytest.raises(UserError, match="task evil: has no digits"):
        make_task("evil", digits=2)
