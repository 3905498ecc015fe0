"""Alignment search against subspaces that are known: swaps expect what the model itself says when they are swapped."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_hf, make_tokenizer

from interp.directions.directions import Direction
from interp.directions.subspaces import principal_angles, random_subspace, span
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.interventions.alignment import Runs, search, swapped
from interp.interventions.swaps import Swap, obeyed
from interp.models.model import Model, wrap
from interp.steering.changes import Ranges
from interp.steering.steering import interchange
from probes.readable import readable, used_rank

RANK = 2
QUICK: Any = {"steps": 250, "batch_size": 128, "learning_rate": 0.3}


@cache
def toy(architecture: str = "llama", kind: str = "bytes", dtype: torch.dtype = torch.float32) -> Model:
    """Random weights that are sure of what they say, one of sixteen words."""
    hf, tokenizer = make_hf(architecture, n_layers=2), make_tokenizer(kind)
    torch.manual_seed(1)
    for weights in hf.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.2)
    spelled = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    words = [i for i, text in enumerate(spelled) if len(text) > 3 and text[0] in "Ġ▁" and text[1:].isalpha()][:16]
    certain = torch.zeros(len(hf.lm_head.weight), 1)
    certain[words] = 10
    hf.lm_head.weight.data *= certain
    return wrap(hf.to(dtype), tokenizer, {"name": "toy"})


def known(model: Model, layer: int = 0) -> list[Direction]:
    basis = torch.linalg.qr(torch.randn(model.d_model, RANK, generator=torch.Generator().manual_seed(5))).Q.T
    return [Direction(row, "truth", layer, f"blocks.{layer}.hook_resid_post") for row in basis.numpy()]


TEXTS = [f"{a} + {b} {c}" for a in range(20) for b in range(20) for c in ("x", "y z", "u")]
random.Random(0).shuffle(TEXTS)


def swaps(model: Model, truth: list[Direction], texts: list[str], n: int, n_tokens: int = 1) -> list[Swap]:
    """Swaps that the truth obeys and that ask for another answer than without them."""
    draw = random.Random(1)
    pairs = [draw.sample(texts, 2) for _ in range(n)]
    steering = [interchange(truth, source) for _, source in pairs]
    out = generate(model, [p for p, _ in pairs], max_new_tokens=n_tokens, batch_size=512, steering=steering)
    made = [Swap(*pair, written.text) for pair, written in zip(pairs, out, strict=True) if written.text]
    kept = obeyed(model, made, truth) & ~obeyed(model, made, [])
    return [swap for swap, keep in zip(made, kept, strict=True) if keep]


def share(model: Model, judged: list[Swap], directions: list[Direction]) -> float:
    return float(obeyed(model, judged, directions).mean())


def angles(a: list[Direction], b: list[Direction]) -> np.ndarray:
    return principal_angles(span(a), span(b))


def test_a_planted_subspace_is_found_and_permuted_answers_find_nothing() -> None:
    model = toy()
    truth = known(model)
    fitted, judged = swaps(model, truth, TEXTS[:1000], 4000), swaps(model, truth, TEXTS[1000:], 600)
    assert len(judged) > 100
    found = search(model, fitted, layer=0, rank=RANK, **QUICK)
    assert share(model, judged, found) >= 0.9
    assert angles(found, truth).max() < 12
    assert share(model, judged, readable(model, judged, found)) >= 0.85
    drawn = [share(model, judged, random_subspace(found[0], RANK, seed)) for seed in range(5)]
    assert max(drawn) < 0.4
    answers = [swap.expected for swap in fitted]
    random.Random(2).shuffle(answers)
    permuted = [replace(swap, expected=answer) for swap, answer in zip(fitted, answers, strict=True)]
    wrong = search(model, permuted, layer=0, rank=RANK, **QUICK)
    assert share(model, judged, wrong) <= max(drawn) + 0.1
    assert angles(wrong, truth).max() > 30


@pytest.mark.parametrize(
    ("architecture", "kind", "dtype", "n_tokens"),
    [("qwen2", "merging", torch.bfloat16, 1), ("mistral", "bytes", torch.float32, 2)],
    ids=["Qwen 2 in bf16", "Mistral, answers of two tokens"],
)
def test_on_other_architectures(architecture: str, kind: str, dtype: torch.dtype, n_tokens: int) -> None:
    model = toy(architecture, kind, dtype)
    truth = known(model)
    fitted, judged = (
        swaps(model, truth, texts, n, n_tokens) for texts, n in ((TEXTS[:1000], 2500), (TEXTS[1000:], 400))
    )
    before = share(model, judged, search(model, fitted, layer=0, rank=RANK, steps=1))
    found = search(model, fitted, layer=0, rank=RANK, **QUICK)
    assert share(model, judged, found) > max(0.7, before + 0.3)
    assert angles(found, truth).max() < 30


def test_the_same_seed_gives_the_same_subspace_and_an_orthonormal_one() -> None:
    model = toy()
    fitted = swaps(model, known(model), TEXTS, 200)
    once, again, other = (search(model, fitted, layer=0, rank=3, steps=3, seed=s, label="agent 1") for s in (0, 0, 1))
    assert all(np.array_equal(a.vector, b.vector) for a, b in zip(once, again, strict=True))
    assert angles(once, other).max() > 1
    basis = np.stack([d.vector for d in once])
    assert np.allclose(basis @ basis.T, np.eye(3), atol=1e-5)
    assert {(d.label, d.layer, d.hook_point) for d in once} == {("agent 1", 0, "blocks.0.hook_resid_post")}
    assert once[0].residual_norm > 0
    assert len(random_subspace(once[0], 3)) == 3  # it knows how the activations vary


@pytest.mark.parametrize("tokens", ["last", "prompt", "after-first", Ranges(((1, 3),))], ids=str)
def test_what_is_learnt_from_are_the_logits_of_the_interchange(tokens: str | Ranges) -> None:
    """With prompts of unequal length, and both where their beginnings are kept and where whole texts are read."""
    model = toy()
    truth = known(model)
    texts = ["1 + 2 x", "3 + 4 y z", "5 + 6 u", "7 + 8 y z"]
    pairs = [(a, b) for a in texts for b in texts if a != b and (tokens != "prompt" or len(a) == len(b))]
    asked = [Swap(a, b, "12 x") for a, b in pairs]
    basis = torch.from_numpy(np.stack([d.vector for d in truth]))
    with torch.no_grad(), model.only_hooked():
        runs = Runs(model, asked, truth[0].hook_point, tokens)
        logits, labels = runs.read(torch.arange(len(asked)), swapped(basis))
    assert bool(runs.kept) == (tokens != "prompt")
    said = model.tokenizer("12 x")["input_ids"]
    for swap, own, label in zip(asked, logits, labels, strict=True):
        ids = torch.tensor([model.tokenizer(swap.prompt)["input_ids"] + said[:-1]])
        n = ids.shape[1] - len(said) + 1
        with torch.no_grad(), interchange(truth, swap.source, tokens=tokens).on(model, n_prompt=[n]):
            expected = model.hf(ids).logits[0, n - 1 :]
        assert label[label >= 0].tolist() == said
        assert torch.allclose(own[label >= 0], expected, atol=1e-3)


def test_wrong_uses_are_errors_of_one_line() -> None:
    model = toy()
    asked = swaps(model, known(model), TEXTS, 60)
    same = [replace(swap, expected=generate(model, swap.prompt, max_new_tokens=1).text) for swap in asked[:1]]
    wrong = [
        ({"layer": 2}, asked, "layer 2: toy has layers 0 to 1"),
        ({"rank": 33}, asked, "rank 33: toy has width 32"),
        ({"rank": 0}, asked, "rank 0"),
        ({"steps": 0}, asked, "0 steps"),
        ({}, [], "0 swaps: none expects another answer"),
        ({}, [replace(asked[0], expected="")], "swap 1: expects nothing"),
        ({"tokens": "generated"}, asked, "tokens"),
        ({"tokens": "nowhere"}, asked, "tokens nowhere"),
        ({}, same, "1 swaps: none expects another answer"),
    ]
    for changes, given, message in wrong:
        with pytest.raises(UserError, match=message) as raised:
            search(model, given, **{"layer": 0, "rank": 2, "steps": 1, **changes})
        assert "\n" not in str(raised.value)


def test_the_rank_that_is_used_is_the_smallest_as_good_as_the_best() -> None:
    assert used_rank({1: 0.46, 2: 0.59, 3: 0.67, 4: 0.86, 6: 0.95, 8: 0.98}) == 6
    assert used_rank({8: 0.98, 4: 0.94, 2: 0.92}) == 4
    assert used_rank({1: 0.0}) == 1
