"""Steering changes what it says, where it says, and nothing else: whatever the batch, cache or padding."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_hf, make_tokenizer
from torch import Tensor

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models.layers import SITES
from interp.models.model import Model, wrap
from interp.steering.changes import Ranges
from interp.steering.hooks import steered
from interp.steering.steering import Steering, ablate, add, clamp

ARCHITECTURES = ("llama", "qwen2", "mistral")
N_NEW = 16


@cache
def sharp(architecture: str = "llama") -> Model:
    """A model with random weights that is as sure of its words as a trained one."""
    changes = {"sliding_window": 24} if architecture == "mistral" else {}
    hf = make_hf(architecture, vocabulary=64, n_layers=3, max_position_embeddings=200, **changes)
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    hf.generation_config.eos_token_id = [1]
    hf.generation_config.pad_token_id = 0
    return wrap(hf, make_tokenizer("bytes"), {"name": architecture})


def fail(as_expected: bool) -> None:
    assert as_expected
    raise RuntimeError("inside")


def until_end(row: list[int]) -> list[int]:
    return [*row, 1][: [*row, 1].index(1)]


def direction(seed: int, layer: int = 1, site: str = "resid_post", length: float = 1.0) -> Direction:
    vector = np.random.default_rng(seed).standard_normal(32)
    vector *= length / np.linalg.norm(vector)
    return Direction(vector.astype(np.float32), f"agent {seed}", layer, SITES[site].format(layer=layer), 1.0)  # type: ignore[index]


def prompts(n: int) -> list[list[int]]:
    rng = random.Random(n)
    return [[rng.randrange(5, 64) for _ in range(rng.randint(2, 40))] for _ in range(n)]


STEERINGS: dict[str, Steering] = {
    "added": add(direction(1), 30),
    "subtracted, two layers": add([direction(1, 0), direction(2, 2)], -40, tokens="writing"),
    "in the prompt": add(direction(3), 60, tokens="prompt"),
    "everywhere, two agents": add(direction(1), 20, tokens="everywhere") + add(direction(2), -30, tokens="everywhere"),
    "ablated": ablate([direction(1), direction(4), direction(2, 2)], tokens="everywhere"),
    "clamped": clamp(direction(5), 40, tokens="writing"),
    "turns": add(direction(6, 0), 90, tokens=Ranges(((1, 3), (6, 9)))),
    "attention": add(direction(7, 1, "attn_out"), 50, tokens="everywhere"),
    "mixed": ablate(direction(1), tokens="everywhere") + add(direction(1), 25) + clamp(direction(8, 2, "mlp_out"), 9),
}


def tokens(model: Model, asked: list[list[int]], steering: Any, **way: Any) -> list[list[int]]:
    return [out.ids for out in generate(model, asked, max_new_tokens=N_NEW, steering=steering, **way)]


def slowly(model: Model, ids: list[int], steering: Steering, *, padding: str = "left", n_pad: int = 0) -> list[int]:
    """One prompt without a cache, on Hugging Face's forward pass."""
    text = list(ids)
    with torch.no_grad(), steering.on(model, n_prompt=[len(ids)]):
        for _ in range(N_NEW):
            pad, own = [3] * n_pad, [1] * len(text)
            row = pad + text if padding == "left" else text + pad
            mask = torch.tensor([[0] * n_pad + own if padding == "left" else own + [0] * n_pad])
            position = (mask.cumsum(1) - 1).clamp(min=0)
            out = model.hf(torch.tensor([row]), attention_mask=mask, position_ids=position, use_cache=False)
            at = -1 if padding == "left" else len(text) - 1
            token = int(out.logits[0, at].argmax())
            if token == 1:
                break
            text.append(token)
    return text[len(ids) :]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", STEERINGS)
def test_batches_cache_and_padding_change_no_token(architecture: str, name: str) -> None:
    model, steering, asked = sharp(architecture), STEERINGS[name], prompts(8)
    alone = [slowly(model, p, steering) for p in asked]
    assert alone != tokens(model, asked, None), "it does something"
    for n in (1, 3, 8):
        assert tokens(model, asked, steering, batch_size=n) == alone
    assert slowly(model, asked[0], steering, n_pad=4) == alone[0]
    if architecture != "mistral":  # its window counts what stands in it, padding included
        assert slowly(model, asked[0], steering, n_pad=4, padding="right") == alone[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_a_mixed_batch_are_steered_as_if_alone(architecture: str) -> None:
    model, asked = sharp(architecture), prompts(3)
    steerings = [*STEERINGS.values(), Steering()]
    pairs = [(p, s) for s in steerings for p in asked]
    alone = [tokens(model, [p], s)[0] for p, s in pairs]
    random.Random(0).shuffle(order := list(range(len(pairs))))
    for batch_size in (4, 30):
        out = tokens(model, [pairs[i][0] for i in order], [pairs[i][1] for i in order], batch_size=batch_size)
        assert out == [alone[i] for i in order]
    ways = {"temperature": 0.7, "top_p": 0.9}
    drawn = [tokens(model, [p], s, seeds=[i], **ways)[0] for i, (p, s) in enumerate(pairs)]
    assert tokens(model, [p for p, _ in pairs], [s for _, s in pairs], **ways) == drawn


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("do", [add, clamp])
def test_coefficient_0_and_the_time_after_change_nothing(architecture: str, do: Any) -> None:
    model, asked = sharp(architecture), prompts(6)
    plain = tokens(model, asked, None)
    if do is add:
        assert tokens(model, asked, add(direction(1), 0, tokens="everywhere")) == plain
    assert tokens(model, asked, do(direction(1), 60, tokens="everywhere")) != plain
    assert tokens(model, asked, None) == plain
    with pytest.raises(RuntimeError, match="inside"), do(direction(1), 60, tokens="everywhere").on(model):
        fail(tokens(model, asked, None) != plain)
    assert tokens(model, asked, None) == plain
    assert model.steered == []
    assert not any(point.fwd_hooks for point in model.bridge.hook_dict.values())
    assert not model.hf.base_model._forward_pre_hooks


def residuals(model: Model, ids: Tensor, names: Sequence[str], **arguments: Any) -> dict[str, Tensor]:
    read: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: Any, name: str) -> None:
        read[name] = value.clone()

    hooks = [(name, partial(keep, name=name)) for name in names]
    with torch.no_grad(), model.bridge.hooks(fwd_hooks=hooks), model.only_hooked():
        model.hf(ids, **arguments)
    return read


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(("at", "meant"), [("generated", range(5, 9)), ("writing", range(4, 9)), ("prompt", range(5))])
def test_the_very_vector_is_added_at_the_very_tokens(
    architecture: str, site: str, at: str, meant: Sequence[int]
) -> None:
    model, ids = sharp(architecture), torch.tensor([prompts(9)[-1][:9]] * 2)
    d = direction(1, 1, site)
    before, there = SITES["resid_post"].format(layer=0), d.hook_point  # type: ignore[index]
    plain = residuals(model, ids, [before, there], use_cache=False)
    steering = add(d, 3, tokens=at)
    with steering.on(model, n_prompt=[5, 5]):
        steered = residuals(model, ids, [before, there], use_cache=False)
    assert torch.equal(steered[before], plain[before])
    expected = plain[there].clone()
    expected[:, list(meant)] += torch.from_numpy(steering.changes[0].offset)
    assert torch.equal(steered[there], expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ablation_leaves_no_projection_and_clamping_leaves_the_value(architecture: str) -> None:
    model, ids = sharp(architecture), torch.tensor(prompts(5)[-1:])
    a, b = direction(1), direction(2)
    name = a.hook_point
    plain = residuals(model, ids, [name])[name]
    span = np.linalg.qr(np.stack([a.vector, b.vector]).T)[0].T.astype(np.float32)
    with ablate([a, b], tokens="everywhere").on(model):
        out = residuals(model, ids, [name])[name]
    assert (plain @ torch.from_numpy(span.T)).abs().mean() > 0.5
    assert (out @ torch.from_numpy(span.T)).abs().max() < 1e-4 * plain.norm(dim=-1).max()
    others = torch.eye(32) - torch.from_numpy(span.T @ span)
    torch.testing.assert_close(out @ others, plain @ others, atol=1e-3, rtol=1e-4)
    with clamp(a, 12.5, tokens="everywhere").on(model):
        out = residuals(model, ids, [name])[name]
    unit = torch.from_numpy(a.unit.vector)
    torch.testing.assert_close(out @ unit, torch.full(ids.shape, 12.5), atol=1e-3, rtol=1e-4)
    rest = torch.eye(32) - unit[:, None] * unit
    torch.testing.assert_close(out @ rest, plain @ rest, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("name", ["added", "everywhere, two agents", "ablated", "turns"])
def test_generation_of_hugging_face_is_steered_the_same(architecture: str, use_cache: bool, name: str) -> None:
    model, steering = sharp(architecture), STEERINGS[name]
    asked = prompts(4) if architecture != "mistral" else [p[:2] for p in prompts(4)]
    expected = tokens(model, asked, steering)
    width = max(map(len, asked))
    ids = torch.tensor([[3] * (width - len(p)) + p for p in asked])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in asked])
    settings = {"max_new_tokens": N_NEW, "do_sample": False, "use_cache": use_cache}
    with steering.on(model), torch.no_grad():
        for _ in range(2):
            out = model.hf.generate(ids, attention_mask=mask, **settings)[:, width:].tolist()
            assert [until_end(row) for row in out] == expected
        one = model.hf.generate(torch.tensor(asked[:1]), **settings)[0, len(asked[0]) :].tolist()
        assert until_end(one) == expected[0], "another batch inside the same context"
    if use_cache:
        each = [steering, Steering(), STEERINGS["clamped"], steering]
        with steered(model, [one.changes for one in each]), torch.no_grad():
            out = model.hf.generate(ids, attention_mask=mask, **settings)[:, width:].tolist()
        assert [until_end(row) for row in out] == tokens(model, asked, each)


def test_transformer_lens_generates_under_steering() -> None:
    model, steering, asked = sharp(), STEERINGS["added"], prompts(2)[0]
    [expected] = tokens(model, [asked], steering)
    with steering.on(model):
        for past in (True, False):
            out = model.bridge.generate(
                torch.tensor([asked]),
                max_new_tokens=N_NEW,
                do_sample=False,
                stop_at_eos=False,
                use_past_kv_cache=past,
                return_type="tokens",
                verbose=False,
            )
            assert out[0, len(asked) :].tolist()[: len(expected)] == expected


def test_contexts_nest_and_add_up() -> None:
    model, asked = sharp(), prompts(5)
    a, b = add(direction(1, 1), 30), add(direction(2, 2), -40, tokens="writing")
    both, alone = tokens(model, asked, a + b), tokens(model, asked, a)
    assert both != alone != tokens(model, asked, b)
    with a.on(model):
        assert tokens(model, asked, None) == alone
        assert tokens(model, asked, b) == both, "what a generation brings comes on top"
        with b.on(model):
            assert tokens(model, asked, None) == both
            with pytest.raises(RuntimeError), add(direction(3, 0), 60, tokens="everywhere").on(model):
                fail(tokens(model, asked, None) != both)
            assert tokens(model, asked, None) == both
            ids = torch.tensor(asked[:1])
            with torch.no_grad():
                out = model.hf.generate(ids, max_new_tokens=N_NEW, do_sample=False)[0, ids.shape[1] :].tolist()
            assert out[: len(both[0])] == both[0]
        assert tokens(model, asked, None) == alone


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("at", "n_read"), [("generated", 1), ("writing", 1), ("everywhere", 11)])
def test_a_sweep_reads_each_prompt_once_where_nothing_in_it_is_steered(architecture: str, at: str, n_read: int) -> None:
    model = sharp(architecture)
    asked = [p[:12] for p in prompts(20) if len(p) >= 12][:2]
    sweep = [add(direction(k), c, tokens=at) for k in (1,) for c in np.linspace(-50, 50, 11)]
    pairs = [(p, s) for s in sweep for p in asked]
    alone = [tokens(model, [p], s)[0] for p, s in pairs]
    read: list[int] = []

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].shape[1] > 2:
            read.append(len(kwargs["input_ids"]))

    handle = model.hf.register_forward_pre_hook(count, with_kwargs=True)
    out = tokens(model, [p for p, _ in pairs], [s for _, s in pairs], batch_size=22)
    handle.remove()
    assert out == alone
    assert len({tuple(row) for row in out[::2]}) > 3
    assert read == [2 * n_read]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_planted_direction_brings_up_its_token(architecture: str) -> None:
    model = sharp(architecture)
    last, token = model.n_layers - 1, 41
    row = model.hf.lm_head.weight[token].detach().numpy()
    planted = Direction(row.copy(), "planted", last, f"blocks.{last}.hook_resid_post", 1.0)
    asked = prompts(4)
    unsteered = [t for ids in tokens(model, asked, None) for t in ids]
    strong = tokens(model, asked, add(planted, 1000, tokens="writing"))
    assert unsteered.count(token) < len(unsteered) / 4
    assert strong == [[token] * N_NEW] * 4
    first = tokens(model, asked, None)
    assert [ids[0] for ids in tokens(model, asked, add(planted, 1000))] == [ids[0] for ids in first]
    assert all(token not in ids for ids in tokens(model, asked, add(planted, -1000, tokens="writing")))


def test_rows_out_of_range_end_and_touch_no_other() -> None:
    model, asked = sharp(), prompts(5)
    fine = add(direction(1), 20, tokens="writing")
    expected = tokens(model, asked, fine)
    for extreme in (1e20, 1e30, -3e38, 1e300):
        hurt = add(direction(1), extreme, tokens="writing")
        out = generate(model, asked, max_new_tokens=N_NEW, steering=[fine, hurt, fine, hurt, fine])
        assert [g.finite for g in out] == [True, False, True, False, True]
        assert [g.ids for g in out] == [expected[0], [], expected[2], [], expected[4]]
        later = generate(model, asked[:1], max_new_tokens=N_NEW, steering=add(direction(1), extreme))
        assert (later[0].finite, later[0].n_tokens) == (False, 1)
    sampled = generate(model, asked, max_new_tokens=4, steering=[hurt] * 5, temperature=1.0, top_p=0.9)
    assert not any(g.finite for g in sampled)


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    model = sharp()
    wide = Direction(np.ones(16, np.float32), "agent 1", 1, "blocks.1.hook_resid_post", 1.0)
    for bad, said in ((wide, "the direction 16"), (direction(1, 7), "layers 0 to 2")):
        with pytest.raises(UserError, match=said):
            generate(model, [[5]], max_new_tokens=1, steering=add(bad, 1))
        with pytest.raises(UserError, match=said), add(bad, 1).on(model):
            pass
    with pytest.raises(UserError, match="2 steerings for 3 prompts"):
        generate(model, [[5]] * 3, max_new_tokens=1, steering=[Steering()] * 2)
    assert model.steered == []
    assert generate(model, [], max_new_tokens=3, steering=add(direction(1), 1)) == []
    far = add(direction(1), 50.0, units="unit")
    alone = [generate(model, [[5]], max_new_tokens=3, steering=one)[0] for one in (None, far)]
    assert generate(model, [[5]] * 2, max_new_tokens=3, steering=[None, far]) == alone


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_hook_is_live_under_steering(architecture: str) -> None:
    """TransformerLens's own reading, a user's hooks before and after, inner hook points and gradients."""
    model, ids = sharp(architecture), torch.tensor([prompts(9)[-1][:9]])
    d = direction(1)
    steering, after = add(d, 3, tokens="everywhere"), "blocks.2.hook_resid_post"
    heard: list[str] = []

    def listen(name: str) -> tuple[str, Any]:
        return name, lambda value, hook: heard.append(name)

    def doubled(value: Tensor, hook: Any) -> Tensor:
        return value * 2

    with torch.no_grad():
        logits, plain = model.bridge.run_with_cache(ids)
        with model.bridge.hooks(fwd_hooks=[(d.hook_point, lambda value, hook: value + 3 * torch.from_numpy(d.vector))]):
            expected, by_hand = model.bridge.run_with_cache(ids)
        with model.bridge.hooks(fwd_hooks=[listen(after)]), steering.on(model):
            steered_logits, cached = model.bridge.run_with_cache(ids)
            assert set(cached) == set(plain)
            assert heard == [after], "hooks from before are live too"
            for name in plain:
                torch.testing.assert_close(cached[name], by_hand[name], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(steered_logits, expected, rtol=1e-4, atol=1e-4)
            inner = ["blocks.1.attn.hook_pattern", "blocks.0.mlp.hook_out", "blocks.1.hook_resid_pre"]
            model.bridge.run_with_hooks(ids, fwd_hooks=[listen(name) for name in inner])
            assert set(heard) == {after, *inner}
            changed = model.bridge.run_with_hooks(ids, fwd_hooks=[(after, doubled)])
            assert not torch.allclose(changed, expected)
            n = len(heard)
            with steering.on(model):  # nested: twice the vector
                twice = model.bridge.run_with_cache(ids)[1][d.hook_point]
            torch.testing.assert_close(twice - cached[d.hook_point], 3 * torch.from_numpy(d.vector).expand_as(twice))
            assert len(heard) == n + 1
        assert torch.equal(model.bridge.run_with_cache(ids)[0], logits)
    grads: list[Tensor] = []
    with steering.on(model), model.bridge.hooks(bwd_hooks=[(after, lambda grad, hook: grads.append(grad))]):
        embedded = model.hf.get_input_embeddings()(ids).detach().requires_grad_()
        model.hf(inputs_embeds=embedded).logits.sum().backward()
    assert len(grads) == 1
