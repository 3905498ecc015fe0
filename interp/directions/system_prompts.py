"""A trait's direction from the same questions under two system prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from interp.activations.reading import read_last
from interp.debate.agents import Request, chat_messages
from interp.debate.personas import Persona
from interp.directions.directions import Directions, question_hash
from interp.errors import UserError
from interp.models.layers import SITES, Site
from interp.models.model import Model
from interp.models.tokens import prompt_tokens
from interp.storage.provenance import package_versions


def prompt_contrast(
    model: Model,
    questions: Sequence[str],
    malicious: Persona,
    benign: Persona,
    *,
    layers: Sequence[int] | None = None,
    site: Site = "resid_post",
    batch_size: int = 16,
) -> Directions:
    """One direction per layer: the mean difference at the last prompt token (Latent Agents, suppression).

    Raises `UserError` without questions, and for personas with the same prompt.

    >>> from interp.debate.personas import TRAIT_PERSONAS
    >>> evil, guardian = TRAIT_PERSONAS["evil"], TRAIT_PERSONAS["guardian"]
    >>> interp.directions.prompt_contrast(model, ["1+1=?", "2+3=?"], evil, guardian).labels
    ('evil',)
    """
    if not questions:
        raise UserError("no questions given; a contrast of prompts needs at least one")
    if malicious.system_prompt == benign.system_prompt:
        raise UserError(f"{malicious.name} and {benign.name}: the same system prompt; give different ones")
    chosen = model.chosen_layers(layers)
    sides = []
    for persona in (malicious, benign):
        messages = (chat_messages(persona, Request(question, 1)) for question in questions)
        prompts = [prompt_tokens(model.tokenizer, each) for each in messages]
        sides.append(read_last(model, prompts, layers=chosen, site=site, batch_size=batch_size))
    vectors = (sides[0] - sides[1]).mean(axis=0, dtype=np.float64).astype(np.float32)
    norms = np.linalg.norm(np.concatenate(sides), axis=-1).mean(axis=0).astype(np.float32)
    facts: dict[str, Any] = {
        "by": "persona",
        "position": "last prompt token",
        "contrast": [asdict(malicious), asdict(benign)],
        "questions": len(questions),
        "question_hashes": [question_hash(question) for question in questions],
        "provenance": {"model": model.provenance, "versions": package_versions()},
    }
    return Directions((malicious.name,), chosen, vectors[None, None], norms, SITES[site], facts)
