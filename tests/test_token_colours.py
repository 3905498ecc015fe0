"""What directions say of tokens, against the plain computation of it."""

from __future__ import annotations

from typing import Any

import architectures
import numpy as np
import pytest
import torch
from conftest import make_tokenizer

from interp.directions.directions import Direction
from interp.directions.tokens import logit_lens, project_tokens
from interp.models.model import Model, wrap
from interp.models.tokens import Encoder, spelled, token_name

TEXT = "Problem: 3+4*2\n\nnaïve 🙂 字, done"


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2", "cohere"])
def model(request: Any) -> Model:
    hf = architectures.build(request.param).eval()
    torch.manual_seed(1)
    for name, weight in hf.named_parameters():
        if "norm" in name or "ln_" in name:  # norms that do something
            weight.data += 0.3 * torch.randn_like(weight)
    tokenizer = make_tokenizer("bytes")
    hf.resize_token_embeddings(len(tokenizer))
    return wrap(hf, tokenizer, {"name": request.param})


def directions(model: Model, *layers: int, spread: bool = False) -> list[Direction]:
    rng = np.random.default_rng(0)
    varying = rng.standard_normal((5, model.d_model)).astype(np.float16) if spread else None
    return [
        Direction(
            rng.standard_normal(model.d_model).astype(np.float32),
            label,
            layer,
            model.hook_name("resid_post", layer),
            1.0,
            varying,
        )
        for label in ("agent 1", "agent 2")
        for layer in layers
    ]


def test_projections_are_those_of_every_token_computed_one_by_one(model: Model) -> None:
    given = directions(model, 0, 1, 2, spread=True)
    found = project_tokens(model, [TEXT, "Problem"], given, layers=[0, 2])
    for text, one in zip((TEXT, "Problem"), found, strict=True):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            _, cache = model.bridge.run_with_cache(ids)
        expected = [
            [
                [float(cache[d.hook_point][0, t].numpy() @ d.vector) / d.norm for d in (given[k], given[k + 2])]
                for k in (0, 3)
            ]
            for t in range(ids.shape[1])
        ]
        np.testing.assert_allclose(one.values, expected, rtol=1e-4, atol=1e-4)
        assert one.labels == ("agent 1", "agent 2")
        assert one.layers == (0, 2)
        assert one.covariance
        assert "".join(one.tokens) == text
        within = np.abs(one.random) <= one.bounds
        np.testing.assert_allclose(within.mean(axis=(0, 1)), 0.95, atol=0.01)
        np.testing.assert_allclose(np.median(one.centred.values, axis=0), 0, atol=1e-5)


def test_the_lens_is_what_a_little_of_the_direction_does_to_logits(model: Model) -> None:
    """Added to a residual stream that it is orthogonal to, so that the norm's length stays as it is."""
    one = directions(model, 2)[0]
    rng, v, step = np.random.default_rng(1), one.unit.vector.astype(np.float64), 1e-2
    centred = v - v.mean()
    rest = rng.standard_normal(len(v))
    rest -= rest.mean()
    rest -= centred * (rest @ centred) / (centred @ centred)
    rest -= v * (rest @ v)
    cap = getattr(model.hf.config, "final_logit_softcapping", None)

    def logits(state: np.ndarray) -> np.ndarray:
        put = [(one.hook_point, lambda value, hook: torch.tensor(state).to(value).expand_as(value))]
        with torch.no_grad(), model.bridge.hooks(fwd_hooks=put):
            out = model.hf(torch.tensor([[5]])).logits[0, 0].double().numpy()
        return cap * np.arctanh(out / cap) if cap else out

    model.hf.double()
    try:
        change = (logits(rest + step * v) - logits(rest - step * v))[: len(model.tokenizer)]
    finally:
        model.hf.float()
    change = change - change.mean()
    (lens,) = logit_lens(model, [one], n_tokens=len(change))
    order = np.argsort(-change)
    names = [token_name(model.tokenizer, int(i)) for i in order]
    gains = [x for _, x in lens.promotes]
    assert [t for t, _ in lens.promotes[:5]] == names[:5]
    assert [t for t, _ in lens.suppresses[:5]] == names[:-6:-1]
    ratio = change[order[:20]] / gains[:20]
    np.testing.assert_allclose(ratio, ratio[0], rtol=2e-3)  # one scale for all tokens
    assert logit_lens(model, [-one], n_tokens=3)[0].promotes == [
        [t, pytest.approx(-x, abs=2e-4)] for t, x in lens.suppresses[:3]
    ]
    if cap:
        assert model.hf.config.final_logit_softcapping == cap


@pytest.mark.parametrize("kind", ["bytes", "merging", "metaspace"])
@pytest.mark.parametrize("text", [TEXT, "  🙂🙂", "字", "a"])
def test_pieces_together_are_the_text_and_a_character_stands_at_its_last_token(kind: str, text: str) -> None:
    tokenizer = make_tokenizer(kind)
    ids, strings = Encoder(tokenizer).pieces(text)
    n_opening = int(kind != "bytes")
    assert strings[:n_opening] == ["<s>"] * n_opening
    assert "".join(strings[n_opening:]) == text
    assert ids == tokenizer(text)["input_ids"]
    assert [s for s in spelled(tokenizer, ids) if "🙂" in s or "字" in s] == [s for s in strings if s in "🙂字" and s]
    named = [token_name(tokenizer, i) for i in ids]
    assert ("字" in text) == ("<0xE5>" in named)
    assert "<0xE5>" not in strings
