"""On every architecture that loads: hooks are hidden states, batches change nothing, steering is a plain torch hook."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from architectures import BUILDERS, REFUSED, build
from conftest import make_tokenizer
from torch import Tensor, nn

from interp.activations.reading import read_tokens
from interp.directions.directions import Direction
from interp.directions.tokens import logit_lens
from interp.errors import UserError
from interp.evaluation.texts import perplexity
from interp.generation.cache import Batching
from interp.generation.sampling import Generated, generate
from interp.models.layers import SITES
from interp.models.model import Model, wrap
from interp.models.tokens import token_name
from interp.steering.steering import Steering, add

LOADED = [name for name in BUILDERS if name not in REFUSED]
NO_EMBEDDINGS = ("mamba", "mamba2", "falcon-mamba", "rwkv")
"""Whose hidden states begin with the output of the first layer."""
CACHE_DIFFERS = ("llama-dynamic", "llama-longrope")
"""Where transformers keeps keys in its cache that a pass over the whole text would give other positions."""
N_NEW = 6


def drawn(n: int, seed: int) -> list[int]:
    made: list[int] = torch.randint(2, 500, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return made


ALIKE = [drawn(24, 7) + drawn(n, n) for n in (30, 9, 30, 3)]
UNLIKE = [drawn(n, 50 + n) for n in (5, 21, 40)]


@cache
def wrapped(name: str) -> Model:
    return wrap(build(name), make_tokenizer("bytes"), {"name": name})


def layers(hf: Any, n: int) -> list[nn.Module]:
    """The layers of a plain model."""
    return list(next(m for m in hf.modules() if isinstance(m, nn.ModuleList) and len(m) == n))


def ids_of(generated: list[Generated]) -> list[list[int]]:
    return [g.ids for g in generated]


def until_end(ids: list[int]) -> list[int]:
    return [*ids, 1][: [*ids, 1].index(1)]


def slowly(hf: Any, prompt: list[int]) -> list[int]:
    """The plain model's tokens, the whole text read for each."""
    text = list(prompt)
    with torch.no_grad():
        for _ in range(N_NEW):
            text.append(int(hf(torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
    return until_end(text[len(prompt) :])


def direction(model: Model, length: float) -> Direction:
    vector = np.random.default_rng(1).standard_normal(model.d_model).astype(np.float32)
    return Direction(vector, "any", 1, SITES["resid_post"].format(layer=1), length)


def test_there_are_enough() -> None:
    assert len(LOADED) >= 90
    assert len({BUILDERS[name][0] for name in LOADED}) >= 75, "not counting variants"


@pytest.mark.parametrize("name", LOADED)
def test_hooks_are_hidden_states(name: str) -> None:
    model, plain, ids = wrapped(name), build(name), torch.tensor([UNLIKE[1]])
    read: dict[int, Tensor] = {}
    hooks = [
        (model.hook_name("resid_post", layer), lambda value, hook, layer=layer: read.update({layer: value}))
        for layer in range(model.n_layers)
    ]
    with torch.no_grad():
        states = plain(ids, output_hidden_states=True, use_cache=False).hidden_states
        with model.only_hooked(), model.bridge.hooks(fwd_hooks=hooks):
            model.hf(ids, use_cache=False)
    for layer in range(model.n_layers - 1):  # the last one is normalised
        assert torch.equal(read[layer], states[layer + (name not in NO_EMBEDDINGS)])


@pytest.mark.parametrize("name", LOADED)
def test_batches_change_nothing(name: str) -> None:
    model, plain, prompts = wrapped(name), build(name), [*ALIKE, *UNLIKE]
    expected = [slowly(plain, p) for p in prompts]
    assert len({tuple(ids) for ids in expected}) >= 5
    assert len({token for ids in expected for token in ids}) >= 8
    assert ids_of(generate(model, prompts, max_new_tokens=N_NEW, batch_size=4)) == expected
    assert [generate(model, [p], max_new_tokens=N_NEW)[0].ids for p in prompts] == expected
    with torch.no_grad():
        for prompt, ids in zip(prompts, expected, strict=True):
            settings = {"max_new_tokens": N_NEW, "do_sample": False, "use_cache": name not in CACHE_DIFFERS}
            out = plain.generate(torch.tensor([prompt]), **settings)[0, len(prompt) :].tolist()
            assert until_end(out) == ids


@pytest.mark.parametrize("name", LOADED)
def test_steering_is_a_plain_hook(name: str) -> None:
    model, plain, prompts = wrapped(name), build(name), [ALIKE[1], ALIKE[3], UNLIKE[0]]
    layer, lengths = layers(plain, model.n_layers)[1], []
    with torch.no_grad():
        handle = layer.register_forward_hook(lambda m, a, out: lengths.append(_tensor(out).norm(dim=-1).mean()))
        plain(torch.tensor([prompts[0]]), use_cache=False)
        handle.remove()
    steering = add(direction(model, float(lengths[0])), 0.8, tokens="writing")
    offset = torch.from_numpy(steering.changes[0].offset)
    expected = []
    for prompt in prompts:
        handle = layer.register_forward_hook(partial(_added, offset=offset, start=len(prompt) - 1))
        expected.append(slowly(plain, prompt))
        handle.remove()
    assert expected != [slowly(plain, p) for p in prompts], "it does something"
    assert ids_of(generate(model, prompts, max_new_tokens=N_NEW, steering=steering)) == expected
    pairs = [(p, s) for s in (steering, Steering()) for p in prompts]
    mixed = generate(model, [p for p, _ in pairs], max_new_tokens=N_NEW, steering=[s for _, s in pairs], batch_size=4)
    assert ids_of(mixed)[:3] == expected


@pytest.mark.parametrize("name", LOADED)
def test_the_logit_lens_is_the_models_own_end(name: str) -> None:
    model, plain, sides = wrapped(name), build(name), []
    one = direction(model, 1.0).unit
    for sign in (1, -1):
        state = torch.from_numpy(sign * one.vector) * model.d_model**0.5
        handle = layers(plain, model.n_layers)[-1].register_forward_hook(partial(_put, state=state))
        with torch.no_grad():
            sides.append(plain(torch.tensor([[5]]), use_cache=False).logits[0, -1])
        handle.remove()
    change = (sides[0] - sides[1])[: len(model.tokenizer)]
    (lens,) = logit_lens(model, [one], n_tokens=1)
    ends = (change.argmax(), change.argmin())
    assert [lens["promotes"][0][0], lens["suppresses"][0][0]] == [token_name(model.tokenizer, int(i)) for i in ends]


def _put(module: Any, args: Any, out: Any, *, state: Tensor) -> Any:
    put = state.expand_as(_tensor(out))
    return (put, *out[1:]) if isinstance(out, tuple) else put


def _tensor(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out  # type: ignore[no-any-return]


def _added(module: Any, args: Any, out: Any, offset: Tensor, start: int) -> Any:
    changed = _tensor(out).clone()
    changed[:, start:] += offset
    return (changed, *out[1:]) if isinstance(out, tuple) else changed


BATCHING = {
    "llama": Batching.JOINED,
    "bloom": Batching.JOINED,
    "deepseek-v3": Batching.JOINED,
    "mpt": Batching.PADDED,
    "mistral": Batching.PADDED,
    "gpt-neo": Batching.PADDED,
    "gemma3": Batching.PADDED,
    "qwen3.5": Batching.PADDED,
    "lfm2": Batching.PADDED,
    "llama4-text": Batching.EQUAL,
    "glm-moe-dsa": Batching.ALONE,
    "recurrent-gemma": Batching.UNCACHED,
    "rwkv": Batching.UNCACHED,
}


@pytest.mark.parametrize("name", BATCHING)
def test_the_way_follows_what_the_model_has(name: str) -> None:
    model = wrapped(name)
    generate(model, UNLIKE[:2], max_new_tokens=1)
    assert model.batching == BATCHING[name]
    assert len(model.notes) == (BATCHING[name] is not Batching.JOINED)
    generate(model, UNLIKE[:2], max_new_tokens=1)
    assert len(model.notes) <= 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_wrapped_is_refused_in_one_line(name: str) -> None:
    hf = build(name)
    with pytest.raises(UserError, match=f"^model {type(hf).__name__}: .*{REFUSED[name]}") as refused:
        wrap(hf, make_tokenizer("bytes"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("depends", "batching"),
    [
        (lambda out: out.shape[0] > 1, Batching.ALONE),  # on the number of rows
        (lambda out: out.shape[1] == 1, Batching.UNCACHED),  # on whether there is a cache
    ],
)
def test_the_door_finds_out_what_no_configuration_says(depends: Any, batching: Batching) -> None:
    hf, plain = build("llama"), build("llama")
    hf.model.layers[1].register_forward_hook(lambda module, args, out: out + 9.0 * depends(out) * (out > 0))
    model = wrap(hf, make_tokenizer("bytes"), {"name": "odd"})
    prompts = [*ALIKE, *UNLIKE]
    assert ids_of(generate(model, prompts, max_new_tokens=N_NEW)) == [slowly(plain, p) for p in prompts]
    assert model.batching == batching
    assert len(model.notes) == 1


def test_the_door_leaves_no_trace_in_what_listens() -> None:
    model = wrap(build("llama"), make_tokenizer("bytes"))
    seen: list[tuple[int, ...]] = []
    steering = add(direction(model, 1.0), 3.0, tokens="everywhere")
    hooks = [("blocks.2.hook_resid_post", lambda value, hook: seen.append(tuple(value.shape)))]
    with steering.on(model), model.bridge.hooks(fwd_hooks=hooks):
        [out] = generate(model, [UNLIKE[0]], max_new_tokens=3)
    assert seen == [(1, 5, 32), (1, 1, 32), (1, 1, 32)]
    assert out.ids == generate(model, [UNLIKE[0]], max_new_tokens=3, steering=steering)[0].ids


@pytest.mark.parametrize("name", ["qwen3.5", "jamba", "falcon-h1", "recurrent-gemma", "gemma3"])
def test_generation_of_hugging_face_is_steered_the_same(name: str) -> None:
    model, prompt = wrapped(name), UNLIKE[1]
    steering = add(direction(model, 20.0), 1.0, tokens="generated")
    [expected] = generate(model, [prompt], max_new_tokens=N_NEW, steering=steering)
    with steering.on(model), torch.no_grad():
        out = model.hf.generate(torch.tensor([prompt]), max_new_tokens=N_NEW, do_sample=False)
    assert until_end(out[0, len(prompt) :].tolist()) == expected.ids


@pytest.mark.parametrize("name", ["mamba", "rwkv"])
def test_a_cache_that_does_not_count_is_refused_under_steering(name: str) -> None:
    model = wrapped(name)
    with add(direction(model, 1.0)).on(model), torch.no_grad():
        model.hf(torch.tensor([UNLIKE[0]]), use_cache=False)
        with pytest.raises(UserError, match="use interp"):
            model.hf.generate(torch.tensor([UNLIKE[0]]), max_new_tokens=3, do_sample=False)


@pytest.mark.parametrize("name", ["llama-dynamic", "phi3-longrope", "llama"])
def test_reading_in_batches_changes_no_position(name: str) -> None:
    """Rotary frequencies that depend on the longest text in a batch."""
    model, prompts = wrapped(name), [*ALIKE, *UNLIKE]
    names = [model.hook_name("resid_post", layer) for layer in (0, 2)]
    together = read_tokens(model, names, [(prompt, (len(prompt) - 1,)) for prompt in prompts])
    for prompt, read in zip(prompts, together, strict=True):
        with torch.no_grad():
            states = build(name).model(torch.tensor([prompt]), output_hidden_states=True, use_cache=False).hidden_states
        np.testing.assert_allclose(read[0, 0], states[1][0, -1], rtol=1e-4, atol=1e-3)
    likely = perplexity(model, [p[:3] for p in prompts], [p[3:] for p in prompts])
    alone = [perplexity(model, [p[:3]], [p[3:]])[0] for p in prompts]
    np.testing.assert_allclose(likely, alone, rtol=1e-3)
