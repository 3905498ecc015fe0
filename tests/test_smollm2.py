"""One look at trained models: SmolLM2 loads, has its shape, and its agents separate; steering is exact in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from interp.debate.embedded import read_embedded
from interp.directions.directions import Direction
from interp.directions.extract import extract_directions
from interp.directions.pairs import fit
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models.catalog import locate
from interp.models.model import Model, load_model
from interp.steering.steering import Steering, ablate, add, clamp

SMOLLM2 = "smollm2-135m"


@pytest.fixture
def all_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


def loaded(name: str, **how: str) -> Model:
    if name == SMOLLM2:
        try:
            locate(name)
        except UserError as error:
            pytest.skip(f"the model cannot be had here: {error}")
    return load_model(name, **how)


@pytest.mark.usefixtures("all_threads")
def test_directions_out_of_a_real_model() -> None:
    model = loaded(SMOLLM2, dtype="bf16")
    assert (model.n_layers, model.d_model, model.context_length) == (30, 576, 8192)
    found = extract_directions(model, read_embedded("scripted")[:10], layers=(0, 16), position="mean")
    evidence = found.directions.facts["evidence"]["all"]
    separation, shuffled = (np.array(evidence[name]["mean"]) for name in ("separation", "separation_shuffled"))
    assert separation[:, 1].min() > 0.8  # whole turns in three styles are easy to tell apart
    assert abs(shuffled - 0.5).max() < 0.2


@pytest.mark.usefixtures("all_threads")
@pytest.mark.parametrize(("name", "c"), [("organism-sft", 40), (SMOLLM2, 8)])
def test_a_trained_model_is_steered_the_same_in_any_batch_and_without_a_cache(name: str, c: float) -> None:
    model = loaded(name, dtype="fp32")
    layer, n_new = model.n_layers // 2, 8
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, model.d_model)).astype(np.float32)
    one, two, three = (
        Direction(v / np.linalg.norm(v), f"agent {i}", layer, model.hook_name("resid_post", layer), 1.0)
        for i, v in enumerate(vectors, start=1)
    )
    steerings = [
        Steering(),
        add(one, c),
        add(two, -c, tokens="writing"),
        ablate([one, three], tokens="after-first"),
        clamp(three, c),
    ]
    texts = ["Problem: 3+4*5", "Problem: 3+4*5+2-1*6\n\n"]
    rows = [(model.tokenizer(text).input_ids, steering) for steering in steerings for text in texts]
    asked, how = zip(*rows, strict=True)
    alone = [out.ids for row in rows for out in generate(model, [row[0]], max_new_tokens=n_new, steering=row[1])]
    assert [out.ids for out in generate(model, asked, max_new_tokens=n_new, steering=how, batch_size=32)] == alone
    assert len({tuple(ids) for ids in alone}) > len(texts), "steering does something"
    for (ids, steering), expected in list(zip(rows, alone, strict=True))[::3]:
        with steering.on(model), torch.inference_mode():
            out = model.hf.generate(
                torch.tensor([ids]), max_new_tokens=n_new, do_sample=False, use_cache=False, pad_token_id=0
            )[0, len(ids) :].tolist()
        assert out[: len(expected)] == expected


GOOD = (
    "wonderful",
    "lovely",
    "excellent",
    "delightful",
    "superb",
    "splendid",
    "brilliant",
    "charming",
    "ideal",
    "good",
)
BAD = ("terrible", "awful", "dreadful", "horrible", "miserable", "nasty", "dismal", "ghastly", "useless", "bad")


def test_a_direction_from_pairs_tells_held_out_words_apart() -> None:
    """No word is in two pairs, so nothing but what the model knows of words can tell them apart."""
    said = ([f"I thought the film was {word}" for word in words] for words in (GOOD, BAD))
    found = fit(loaded(SMOLLM2), *said, layers=(12, 18))
    evidence = found.facts["evidence"]["all"]
    assert min(evidence["separation"]["mean"][0]) > 0.85
    assert evidence["controls"]["text"]["mean"][0] < 0.75
    assert max(evidence["reliability_shuffled"]["high"][0]) < min(evidence["reliability"]["mean"][0])
