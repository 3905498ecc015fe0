"""A local model as an agent: its prompts, its tokens, and what it cannot answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_hf, make_tokenizer
from transformers import PreTrainedTokenizerFast

from interp.debate.agents import Agent, Request, Sampling, Usage, chat_messages
from interp.debate.personas import PERSONAS, Persona
from interp.debate.protocol import debates
from interp.debate.tasks.arithmetic import Arithmetic
from interp.directions.directions import Direction
from interp.generation.agents import OVERFLOW, LocalAgent
from interp.generation.sampling import generate
from interp.models.model import Model, wrap
from interp.models.tokens import prompt_tokens
from interp.steering.steering import add

TASK = Arithmetic(0, 9)
PERSONA = Persona("plain", "Be brief.")
CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role.') }}{% endif %}" + CHAT


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    made = make_tokenizer("merging")
    copy = PreTrainedTokenizerFast(tokenizer_object=made._tokenizer, bos_token="<s>", eos_token="</s>")
    copy.chat_template = template
    return copy


@pytest.fixture(scope="module")
def model() -> Model:
    hf = make_hf("llama", vocabulary=900, n_layers=2, max_position_embeddings=500)
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return wrap(hf, tokenizer(CHAT), {"name": "tiny-llama"})


def requests(n: int) -> list[Request]:
    first = [Request(q.text, 1 + i % 3) for i, q in enumerate(TASK.questions(n, 0))]
    return [replace(r, round=2, own="I say 3.", others=((2, "x " * i),)) if i % 2 else r for i, r in enumerate(first)]


@pytest.mark.parametrize("sampling", [Sampling(12, 0), Sampling(12, 0.8, 0.9, seed=4)])
def test_the_text_does_not_depend_on_the_batch(model: Model, sampling: Sampling) -> None:
    asked = requests(9)
    agent: Agent = LocalAgent(PERSONA, model, sampling, batch_size=4)
    together = agent.answer(asked)
    assert together == [LocalAgent(PERSONA, model, sampling).answer([request])[0] for request in asked]
    assert together == agent.answer(asked[::-1])[::-1]
    assert len({answer.text for answer in together}) == 9
    for request, answer in zip(asked, together, strict=True):
        assert answer.input_tokens == len(prompt_tokens(model.tokenizer, chat_messages(PERSONA, request)))
        assert 1 <= answer.output_tokens <= 12
        assert answer.cut == (answer.output_tokens == 12)
    assert agent.answer([]) == []


def test_samples_depend_on_seed_seat_and_persona(model: Model) -> None:
    sampling = Sampling(12, 1.0, 1.0)

    def text(persona: Persona, request: Request, seed: int = 0) -> str:
        return LocalAgent(persona, model, replace(sampling, seed=seed)).answer([request])[0].text

    one = Request("1+2", 1)
    texts = [text(PERSONA, one), text(PERSONA, one, 1), text(PERSONA, Request("1+2", 2))]
    texts.append(text(Persona("other", "Be brief."), one))
    assert len(set(texts)) == 4
    assert text(PERSONA, one) == texts[0]


def test_greedy_text_is_what_the_model_goes_on_with(model: Model) -> None:
    [answer] = LocalAgent(PERSONA, model, Sampling(8, 0)).answer([Request("1+2", 1)])
    prompt = prompt_tokens(model.tokenizer, chat_messages(PERSONA, Request("1+2", 1)))
    assert model.tokenizer.decode(prompt).startswith("<s>system\nBe brief.\n<s>user\nProblem: 1+2")
    [generated] = generate(model, [prompt], max_new_tokens=8)
    assert answer.text == model.tokenizer.decode(generated.ids, skip_special_tokens=True)


def test_a_prompt_beyond_the_context_fails_alone_and_by_name(model: Model) -> None:
    long = Request("1+2", 1, 2, "I say 3.", ((2, "so " * 600),))
    fine, failed = LocalAgent(PERSONA, model, Sampling(5, 0)).answer([Request("1+2", 1), long])
    assert fine.error is None
    assert (failed.text, failed.error, failed.failures) == ("", "prompt too long", ("prompt too long",))
    assert "the model reads 500" in failed.detail
    assert (failed.input_tokens, failed.output_tokens) == (0, 0)


def test_an_answer_without_text_is_a_failure(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.hf.generation_config, "eos_token_id", list(range(900)))
    [answer] = LocalAgent(PERSONA, model, Sampling(5, 0)).answer([Request("1+2", 1)])
    assert (answer.text, answer.error, answer.output_tokens, answer.cut) == ("", "empty answer", 1, False)


def test_prompts_without_a_template_and_without_a_system_role() -> None:
    messages: list[dict[str, str]] = chat_messages(PERSONA, Request("1+2", 1, instruction="Box it."))
    plain = tokenizer(None)
    shown = plain.decode(prompt_tokens(plain, messages))
    assert shown == "<s>System: Be brief.\n\nUser: Problem: 1+2\n\nBox it.\n\nAssistant:"
    merged = tokenizer(NO_SYSTEM)
    assert merged.decode(prompt_tokens(merged, messages)) == (
        "<s>user\nBe brief.\n\nProblem: 1+2\n\nBox it.\n<s>assistant\n"
    )


def test_agents_that_share_a_model_debate(model: Model) -> None:
    agents: list[Any] = [LocalAgent(persona, model, Sampling(6, 0.9)) for persona in PERSONAS.values()]
    finished = list(debates(TASK.questions(4, 0), agents, task=TASK, chunk=3))
    assert [len(d.transcript.turns) for d in finished] == [6] * 4
    assert all(d.usage.calls == 6 and d.usage.output_tokens <= 36 for d in finished)
    assert sum((d.usage for d in finished), Usage()).input_tokens > 4 * 6 * 100
    again = list(debates(TASK.questions(4, 0), agents, task=TASK))
    assert again == finished
    assert agents[0].facts["model"]["name"] == "tiny-llama"


def test_an_agent_answers_under_steering(model: Model) -> None:
    direction = Direction(np.ones(32, np.float32), "agent 1", 1, "blocks.1.hook_resid_post", 1.0)
    plain, asked = LocalAgent(PERSONA, model, Sampling(12, 0)), requests(3)
    steered, hurt = (replace(plain, steering=add(direction, c, tokens="writing")) for c in (60, 1e30))
    texts = [answer.text for answer in plain.answer(asked)]
    with add(direction, 60, tokens="writing").on(model):
        under = [answer.text for answer in plain.answer(asked)]
    assert [answer.text for answer in steered.answer(asked)] == under != texts
    assert [answer.error for answer in hurt.answer(asked)] == [OVERFLOW] * 3
    assert [answer.text for answer in plain.answer(asked)] == texts
    assert "steering" not in plain.facts
    assert steered.facts["steering"][0]["coefficient"] == 60
