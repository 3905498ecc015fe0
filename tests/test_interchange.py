"""Interchange is what a plain loop does by hand: read the source, project, replace, take the next token, again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from architectures import build
from conftest import make_tokenizer
from test_smollm2 import SMOLLM2, all_threads, loaded
from torch import Tensor, nn

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models.loading import load_plain
from interp.models.model import Model, load_model, wrap
from interp.steering.changes import Positions, Ranges, WrittenTurns
from interp.steering.hooks import steered
from interp.steering.steering import Steering, ablate, add, interchange

__all__ = ["all_threads"]
N_NEW = 6
Edit = tuple[int, Callable[[Tensor, int], None]]
"""A layer, and what is done there to a text [token, d_model] with so many prompt tokens."""
Ids = Sequence[int]


def layers(hf: Any) -> list[nn.Module]:
    n = hf.config.get_text_config().num_hidden_layers
    return list(next(m for m in hf.modules() if isinstance(m, nn.ModuleList) and len(m) == n))


def stream(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out  # type: ignore[no-any-return]


def edited(module: Any, args: Any, out: Any, edit: Callable[[Tensor, int], None], n_prompt: int) -> Any:
    new = stream(out).clone()
    edit(new[0], n_prompt)
    return (new, *out[1:]) if isinstance(out, tuple) else new


def logits(hf: Any, text: Ids, n_prompt: int, edits: Sequence[Edit]) -> Tensor:
    """Of the plain model, all tokens at once, without a cache."""
    hooks = [(at, partial(edited, edit=edit, n_prompt=n_prompt)) for at, edit in edits]
    handles = [layers(hf)[at].register_forward_hook(hook) for at, hook in hooks]
    with torch.no_grad():
        out = hf(torch.tensor([list(text)]), use_cache=False).logits[0].float()
    for handle in handles:
        handle.remove()
    return out


def follows(hf: Any, prompt: Ids, edits: Sequence[Edit], written: Ids, tie: float) -> bool:
    """Whether the plain loop writes these tokens; of those within `tie` of the largest logit it takes the one given."""
    text = list(prompt)
    for token in written:
        found = logits(hf, text, len(prompt), edits)[-1]
        if found[token] < found.max() - tie * found.abs().max():
            return False
        text.append(token)
    return True


def states(hf: Any, text: Ids, layer: int) -> Tensor:
    found: list[Tensor] = []
    logits(hf, text, 0, [(layer, lambda x, n: found.append(x.float().clone()))])
    return found[0]


def projector(vectors: np.ndarray) -> Tensor:
    basis = torch.linalg.qr(torch.from_numpy(vectors).double().T)[0]
    return (basis @ basis.T).float()


def swapping(hf: Any, vectors: np.ndarray, layer: int, source: Ids, pairs: Callable[[int], Any]) -> Edit:
    """`pairs` (number of prompt tokens) → (token of the text, token of the source)."""
    onto, theirs = projector(vectors), states(hf, source, layer)

    def edit(x: Tensor, n_prompt: int) -> None:
        for own, other in pairs(n_prompt):
            if own < len(x):
                x[own] = (x[own].float() + (theirs[other] - x[own].float()) @ onto).to(x.dtype)

    return layer, edit


def removing(vectors: np.ndarray, layer: int, start: int) -> Edit:
    onto = projector(vectors)

    def edit(x: Tensor, n_prompt: int) -> None:
        x[start:] = (x[start:].float() - x[start:].float() @ onto).to(x.dtype)

    return layer, edit


def adding(vector: np.ndarray, layer: int) -> Edit:
    def edit(x: Tensor, n_prompt: int) -> None:
        x[n_prompt - 1 :] = (x[n_prompt - 1 :].float() + torch.from_numpy(vector)).to(x.dtype)

    return layer, edit


def drawn(width: int, rank: int, seed: int, length: float = 1.0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rank, width))
    return (vectors * length / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def at(vectors: np.ndarray, layer: int) -> list[Direction]:
    return [Direction(v, "agent 1", layer, f"blocks.{layer}.hook_resid_post", 1.0) for v in vectors]


def cases(
    hf: Any, draw: Callable[[int], list[int]], length: float
) -> list[tuple[str, list[int], Steering, list[Edit]]]:
    """What is asked, how it is steered, and the same by hand; the length is of a vector that changes what is said."""
    width, n = hf.config.get_text_config().hidden_size, hf.config.get_text_config().num_hidden_layers
    half, deep = n // 2, n - 2
    few, most, whole = drawn(width, 3, 1), drawn(width, width // 2, 2), drawn(width, width, 3)
    one, two = drawn(width, 2, 4, length)
    a, b, c, twin, text, more = map(draw, (9, 14, 5, 9, 12, 7))

    def last(n_source: int) -> Callable[[int], Any]:
        return lambda n_prompt: [(n_prompt - 1, n_source - 1)]

    swap, cut, plus = (
        interchange(at(most, half), b),
        ablate(at(few, half), tokens="after-first"),
        add(at(one[None], half), 1, units="raw", tokens="writing"),
    )
    by_hand = swapping(hf, most, half, b, last(14)), removing(few, half, 1), adding(one, half)
    written = {"tokens": "generated", "source_tokens": Ranges(((3, 7), (9, 11)))}
    spans = {"tokens": Ranges(((1, 4), (6, 8))), "source_tokens": Ranges(((9, 11), (0, 3)))}
    return [
        ("last", a, swap, [by_hand[0]]),
        ("few", a, interchange(at(few, half), b), [swapping(hf, few, half, b, last(14))]),
        ("whole stream", a, interchange(at(whole, half), b), [swapping(hf, whole, half, b, last(14))]),
        (
            "layers",
            b,
            interchange([*at(few, 0), *at(most, half)], c),
            [swapping(hf, few, 0, c, last(5)), swapping(hf, most, half, c, last(5))],
        ),
        (
            "prompt",
            a,
            interchange(at(most, half), twin, tokens="prompt"),
            [swapping(hf, most, half, twin, lambda n: [(i, i) for i in range(n)])],
        ),
        (
            "ranges",
            a,
            interchange(at(whole, half), text, **spans),
            [swapping(hf, whole, half, text, lambda n: [(1, 9), (2, 10), (3, 0), (6, 1), (7, 2)])],
        ),
        (
            "writing",
            c,
            interchange(at(most, half), (a, more), tokens="writing"),
            [swapping(hf, most, half, [*a, *more], lambda n: [(n - 1 + i, 8 + i) for i in range(8)])],
        ),
        (
            "generated",
            b,
            interchange(at(whole, deep), (a, twin), **written),
            [
                swapping(
                    hf, whole, deep, [*a, *twin], lambda n: list(zip(range(n, n + 6), [3, 4, 5, 6, 9, 10], strict=True))
                )
            ],
        ),
        ("after add", a, plus + swap, [by_hand[2], by_hand[0]]),
        ("before add", a, swap + plus, [by_hand[0], by_hand[2]]),
        ("between", a, cut + swap + plus, [by_hand[1], by_hand[0], by_hand[2]]),
        (
            "twice",
            a,
            swap + interchange(at(few, half), c) + add(at(two[None], 0), 1, units="raw", tokens="writing"),
            [by_hand[0], swapping(hf, few, half, c, last(5)), adding(two, 0)],
        ),
        ("nothing", text, Steering(), []),
    ]


def drawing(tokens: Sequence[int]) -> Callable[[int], list[int]]:
    rng = random.Random(0)
    return lambda n: [rng.choice(tokens) for _ in range(n)]


def compared(
    model: Model,
    hf: Any,
    draw: Callable[[int], list[int]],
    *,
    n_new: int = N_NEW,
    tie: float = 1e-5,
    of: Sequence[str] = (),
) -> None:
    """Batches of all sizes, and scoring, against the plain model by hand."""
    length = float(states(hf, draw(9), model.n_layers // 2).norm(dim=-1).median())
    each = [case for case in cases(hf, draw, length) if case[0] in of or not of]
    random.Random(0).shuffle(each)
    names, prompts, steerings, edits = zip(*each, strict=True)
    how: dict[str, Any] = {"max_new_tokens": n_new}
    plain, seen = [o.ids for o in generate(model, prompts, **how)], set()
    for batch_size in (1, 4, 32) if not of else (1, 32):
        out = generate(model, prompts, steering=steerings, batch_size=batch_size, **how)
        for name, prompt, edit, o in zip(names, prompts, edits, out, strict=True):
            whole = (*o.ids, *([o.end] if o.ended else []))
            assert len(whole) == n_new or o.ended
            assert (name, whole) in seen or follows(hf, prompt, edit, whole, tie), (name, batch_size)
            seen.add((name, whole))
    assert len(seen) == len(each) or tie > 1e-4, "every batch the same"
    written = [o.ids for o in out]
    assert sum(a != b for a, b in zip(written, plain, strict=True)) >= len(each) - 3 - (not of), "it does something"
    for prompt, steering, ids, edit in zip(prompts, steerings, written, edits, strict=True):
        text = [*prompt, *ids]
        with steering.on(model, n_prompt=[len(prompt)]), torch.no_grad():
            read = model.hf(torch.tensor([text]), use_cache=False).logits[0].float()
        expected = logits(hf, text, len(prompt), edit)
        assert (read - expected).abs().max() <= max(tie, 1e-4) * expected.abs().max()


@cache
def wrapped(name: str) -> Model:
    return wrap(build(name), make_tokenizer("bytes"), {"name": name})


KINDS = ("llama", "qwen2", "mistral", "gemma2", "mixtral", "llama4-text", "glm-moe-dsa", "recurrent-gemma", "mamba")
"""Among them models that batch only texts of one length, that read every text alone, and those without a cache."""


@pytest.mark.parametrize("name", KINDS)
def test_interchange_is_the_plain_loop_on_every_architecture(name: str) -> None:
    compared(wrapped(name), build(name), drawing(range(2, 500)))


@pytest.mark.parametrize("name", ["organism-sft", "organism-imad"])
def test_interchange_is_the_plain_loop_on_the_organism(name: str) -> None:
    model = load_model(name)
    text = model.tokenizer("Problem: 3+4*5-7*2\n\n<|Consensus|>\n1 2 3 4 5 6 7 8 9 + - *").input_ids
    compared(model, load_plain(name).hf, drawing(text[1:]))


@pytest.mark.usefixtures("all_threads")
@pytest.mark.parametrize(("dtype", "tie"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_interchange_is_the_plain_loop_on_a_real_model(dtype: str, tie: float) -> None:
    model = loaded(SMOLLM2, dtype=dtype)
    text = model.tokenizer("The capital of France is Paris, and the river that runs through it is the Seine.").input_ids
    of = ("layers", "generated", "between", "nothing")
    compared(model, load_plain(SMOLLM2, dtype=dtype).hf, drawing(text), n_new=3, tie=tie, of=of)


PROMPT, SOURCE = [5, 60, 9, 71, 30], [8, 200, 33, 4, 90, 17, 56]


def read(model: Model, steering: Steering, text: Ids, layer: int, **how: Any) -> Tensor:
    """The residual stream [token, d_model] after a layer."""
    found: list[Tensor] = []
    hooks = [(model.hook_name("resid_post", layer), lambda value, hook: found.append(value[0].clone()))]
    with steering.on(model, **how), model.bridge.hooks(fwd_hooks=hooks), torch.no_grad():
        model.hf(torch.tensor([list(text)]), use_cache=False)
    return found[0]


def test_the_part_in_the_subspace_is_the_sources_and_the_rest_stays() -> None:
    model = wrapped("llama")
    vectors = drawn(32, 4, 9)
    onto, plain, theirs = projector(vectors), read(model, Steering(), PROMPT, 1), read(model, Steering(), SOURCE, 1)
    out = read(model, interchange(at(vectors, 1), SOURCE), PROMPT, 1)
    assert torch.equal(out[:-1], plain[:-1]), "what is not steered stays to the bit"
    scale = float(plain.norm(dim=-1).max())
    assert ((out[-1] - theirs[-1]) @ onto).abs().max() < 1e-5 * scale
    assert ((out - plain)[-1] - (out - plain)[-1] @ onto).abs().max() < 1e-5 * scale
    whole = read(model, interchange(at(drawn(32, 40, 9), 1), SOURCE), PROMPT, 1)
    torch.testing.assert_close(whole[-1], theirs[-1], atol=1e-5 * scale, rtol=1e-5)
    deeper = [
        read(model, s, t, 2)[-1]
        for s, t in ((Steering(), SOURCE), (interchange(at(drawn(32, 32, 9), 2), SOURCE), PROMPT))
    ]
    torch.testing.assert_close(*deeper, atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("tokens", ["last", "prompt", "everywhere", "writing"])
@pytest.mark.parametrize("rank", [1, 8, 32])
def test_a_text_interchanged_with_itself_is_as_it_was(tokens: str, rank: int) -> None:
    model = wrapped("llama")
    plain = generate(model, [PROMPT, SOURCE], max_new_tokens=N_NEW)
    same = [interchange(at(drawn(32, rank, 3), 1), p, tokens=tokens) for p in (PROMPT, SOURCE)]
    assert generate(model, [PROMPT, SOURCE], max_new_tokens=N_NEW, steering=same) == plain
    torch.testing.assert_close(
        read(model, same[0], PROMPT, 2), read(model, Steering(), PROMPT, 2), atol=1e-3, rtol=1e-4
    )


def test_the_source_is_read_without_any_steering_and_once() -> None:
    model = wrapped("llama")
    swap, around = (
        interchange(at(drawn(32, 9, 3), 1), SOURCE),
        add(at(drawn(32, 1, 5), 0), 40, units="raw", tokens="everywhere"),
    )
    together = generate(model, [PROMPT], max_new_tokens=N_NEW, steering=around + swap)
    read_so: list[int] = []
    counting = model.hf.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: read_so.append(len(kwargs["input_ids"][0])), with_kwargs=True
    )
    with around.on(model), swap.on(model):
        assert generate(model, [PROMPT], max_new_tokens=N_NEW) == together, "in nested contexts as in one steering"
    with around.on(model):
        assert generate(model, [PROMPT] * 3, max_new_tokens=N_NEW, steering=swap) == together * 3
        with swap.on(model), torch.no_grad():
            nested = model.hf(input_ids=torch.tensor([PROMPT])).logits
    counting.remove()
    assert read_so.count(len(SOURCE)) == 3, "for each context and generation"
    with (around + swap).on(model), torch.no_grad():
        assert torch.equal(model.hf(torch.tensor([PROMPT])).logits, nested)
    assert model.steered == []


def test_rows_have_their_own_sources_under_scoring() -> None:
    model = wrapped("llama")
    each = [
        interchange(at(drawn(32, 9, 3), 1), s, tokens=t)
        for s, t in ((SOURCE, "last"), (PROMPT, "prompt"), (SOURCE[:5], "everywhere"))
    ]
    text = torch.tensor([SOURCE[:5]])
    with torch.no_grad():
        with steered(model, [s.changes for s in each]):
            together = model.hf(text.expand(3, -1)).logits
        for steering, row in zip(each, together, strict=True):
            with steering.on(model):
                torch.testing.assert_close(model.hf(text).logits[0], row, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"tokens": "prompt"}, "interchange of 5 tokens with 7 of the source; give ranges of the same length"),
        ({"tokens": Ranges(((0, 2), (3, 4))), "source_tokens": "last"}, "interchange of 3 tokens with 1 of the source"),
        ({"source_tokens": "prompt"}, "interchange of 1 tokens with 7 of the source"),
        ({"tokens": "generated"}, "source .*: has 7 tokens, not 7 to 7; name tokens that it has"),
        ({"source_tokens": Ranges(((5, 9),))}, "has 7 tokens, not 5 to 9"),
        ({"source_tokens": lambda n: [(n - 9, n)]}, "has 7 tokens, not -2 to 7"),
    ],
)
def test_tokens_that_cannot_be_paired_are_refused(how: dict[str, Any], said: str) -> None:
    model, swap = wrapped("llama"), interchange(at(drawn(32, 3, 3), 1), SOURCE, **how)
    with pytest.raises(UserError, match=said):
        generate(model, [PROMPT], max_new_tokens=2, steering=swap)
    with pytest.raises(UserError, match=said), swap.on(model), torch.no_grad():
        model.hf(torch.tensor([PROMPT]))
    assert model.steered == []
    assert not any(point.fwd_hooks for point in model.bridge.hook_dict.values())


def test_wrong_interchanges_are_refused() -> None:
    model, turns = wrapped("llama"), WrittenTurns(wrapped("llama").tokenizer, 1)
    few = at(drawn(32, 2, 3), 1)
    assert interchange([], SOURCE) == Steering()
    for empty in ("", [], ("", "x"), ([], [5])):
        with pytest.raises(UserError, match="source: empty; give a text"):
            interchange(few, empty)  # type: ignore[arg-type]
    for name in ({"tokens": "nowhere"}, {"source_tokens": "nowhere"}):
        with pytest.raises(UserError, match=f"{next(iter(name))} nowhere: unknown; choose one of generated, "):
            interchange(few, SOURCE, **name)
    places: list[dict[str, Positions]] = [{"tokens": turns}, {"source_tokens": turns}]
    for place in places:
        with pytest.raises(UserError, match="turns cannot be paired before they are written"):
            interchange(few, SOURCE, **place)
    for wrong, said in (
        (at(drawn(16, 2, 3), 1), "has width 32, the direction 16"),
        (at(drawn(32, 2, 3), 9), "layers 0 to 2"),
    ):
        with pytest.raises(UserError, match=said):
            generate(model, [PROMPT], max_new_tokens=1, steering=interchange(wrong, SOURCE))
    with pytest.raises(UserError, match="text of 350 tokens: llama reads 256; shorten it"):
        generate(model, [PROMPT], max_new_tokens=1, steering=interchange(few, SOURCE * 50))


def test_what_it_says() -> None:
    swap = interchange(at(drawn(32, 2, 3), 1), ("one", "two"), tokens="generated", source_tokens=Ranges(((3, 5),)))
    [facts] = swap.facts
    assert (facts["operation"], facts["source"], facts["source_tokens"]) == ("interchange", ["one", "two"], [[3, 5]])
    assert interchange(at(drawn(32, 2, 3), 1), "one").facts != interchange(at(drawn(32, 2, 3), 1), "two").facts
    assert interchange(at(drawn(32, 2, 3), 1), np.array(SOURCE)).facts[0]["source"] == SOURCE  # type: ignore[arg-type]
    assert interchange(at(drawn(32, 2, 3), 1), "one").summary == "interchange agent 1 with 'one', layer 1"
    basis = [replace(row, label=f"agent 1 ({k})") for k, row in enumerate(at(drawn(32, 2, 3), 1), start=1)]
    assert interchange(basis, "one").summary == "interchange agent 1 with 'one', layer 1"
