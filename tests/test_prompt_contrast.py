"""A direction from two system prompts: the plain mean difference at the last prompt token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model

from interp.debate.agents import Request, chat_messages
from interp.debate.personas import TRAIT_PERSONAS
from interp.directions.directions import Directions, question_hash, require_made_on
from interp.directions.pairs import prompt_contrast
from interp.errors import UserError
from interp.models.model import Model, load_model
from interp.models.tokens import prompt_tokens
from interp.steering.steering import add

EVIL, GUARDIAN = TRAIT_PERSONAS["evil"], TRAIT_PERSONAS["guardian"]
QUESTIONS = ["Should I?", "May I take what is not mine, and why not?", "Is it fair"]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
def test_it_is_the_mean_difference(architecture: str, tmp_path: Path) -> None:
    model = make_model(architecture)
    expected = np.zeros((2, 32))
    for sign, persona in ((1, EVIL), (-1, GUARDIAN)):
        for question in QUESTIONS:
            ids = prompt_tokens(model.tokenizer, chat_messages(persona, Request(question, 1)))
            with torch.no_grad(), model.only_hooked():
                out = model.hf(torch.tensor([ids]), output_hidden_states=True)
            expected += sign * np.stack([out.hidden_states[layer + 1][0, -1].numpy() for layer in (0, 1)]) / 3
    found = prompt_contrast(model, QUESTIONS, EVIL, GUARDIAN, layers=(0, 1))
    np.testing.assert_allclose(found.vectors[0, 0], expected, atol=1e-4)
    found.save(tmp_path / "d.safetensors")
    again = Directions.load(tmp_path / "d.safetensors")
    require_made_on(again, model)
    assert again.facts["question_hashes"] == [question_hash(q) for q in QUESTIONS]
    assert add(again["evil", 1], -4).summary == "add evil -4 residual, layer 1"
    assert (again.residual_norm > 0).all()


def test_what_gives_no_contrast_is_refused(tiny: Model) -> None:
    with pytest.raises(UserError, match="no questions"):
        prompt_contrast(tiny, [], EVIL, GUARDIAN)
    with pytest.raises(UserError, match="same system prompt"):
        prompt_contrast(tiny, QUESTIONS, EVIL, EVIL)
    with pytest.raises(UserError, match="layer 9"):
        prompt_contrast(tiny, QUESTIONS, EVIL, GUARDIAN, layers=(9,))
    with pytest.raises(UserError, match="guardian: organism is shown the same prompts for both"):  # it knows neither
        prompt_contrast(load_model("organism"), QUESTIONS, TRAIT_PERSONAS["hallucination"], GUARDIAN)
