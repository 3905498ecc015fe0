"""The direction of a trait, from the same questions under two system prompts.

Knows personas and a model; knows nothing about debates. The mean difference between the activations at the
last prompt token under a malicious and under a benign system prompt (Latent Agents, suppression). The other
way to such a direction, from the malicious seat's own turns, is `interp.directions.extract` with `by="persona"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

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
    """One direction, labelled with the malicious persona's name, at each layer (all where none is given).

    Raises `UserError` without questions, for personas with the same prompt, and for a layer that the model lacks.
    """
    if not questions:
        raise UserError("no questions given; a contrast of prompts takes at least one")
    if malicious.system_prompt == benign.system_prompt:
        raise UserError(f"{malicious.name} and {benign.name} have the same system prompt: there is no difference")
    chosen = model.chosen_layers(layers)
    names = [model.hook_name(site, layer) for layer in chosen]
    sides = []
    for persona in (malicious, benign):
        messages = [chat_messages(persona, Request(question, 1)) for question in questions]
        prompts = [prompt_tokens(model.tokenizer, each) for each in messages]
        sides.append(_last_tokens(model, names, prompts, batch_size))
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


def _last_tokens(
    model: Model, names: Sequence[str], prompts: Sequence[Sequence[int]], batch_size: int
) -> Float[np.ndarray, "prompt layer d_model"]:
    """The activations at each prompt's last token, in float32."""
    read: dict[str, Tensor] = {}
    rows: list[np.ndarray] = []

    def keep(value: Tensor, hook: Any, name: str, last: Tensor) -> None:
        read[name] = value[torch.arange(len(last), device=value.device), last].float()

    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        width = max(map(len, batch))
        # padded on the right: nothing attends to what comes after it
        ids = torch.tensor([[*p, *[0] * (width - len(p))] for p in batch], device=model.device)
        last = torch.tensor([len(p) - 1 for p in batch], device=model.device)
        hooks = [(name, partial(keep, name=name, last=last)) for name in names]
        with torch.inference_mode(), model.bridge.hooks(fwd_hooks=hooks), model.only_hooks(names):
            model.hf.base_model(input_ids=ids, use_cache=False)
        rows.append(torch.stack([read[name] for name in names], dim=1).cpu().numpy())
    return np.concatenate(rows)
