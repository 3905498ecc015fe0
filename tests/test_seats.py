"""Rows written in seats, as a GPU records them, get the tokens of the plain loop; here nothing records the steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import make_tokenizer
from test_architectures import LOADED, direction, drawn, wrapped
from test_generation import prompts, sharp
from test_written_turns import Debating

from interp.generation import sampling, seats
from interp.generation.cache import Batching
from interp.generation.drawing import Drawing, _least_likely, _nucleus, keys_of
from interp.generation.sampling import Generated, generate
from interp.models.model import Model, wrap
from interp.steering.changes import Ranges, WrittenTurns
from interp.steering.steering import Steering, ablate, add, clamp, interchange

FALL_BACK = ("bloom", "llama-dynamic", "llama-longrope", "phi3-longrope")
"""Read with padding anywhere, and yet not in seats."""


def in_seats(model: Model, *args: Any, **options: Any) -> list[Generated]:
    """What `generate` gives on a device that records steps; the model's notes stay those of the other way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "SEATED", {"cpu", "cuda"})
        patch.setattr(model, "notes", list(model.notes))
        written = generate(model, *args, **options)
        assert isinstance(written, list)
        assert bool(model.sits) != ("no step of its writing can be recorded and replayed on a GPU" in model.notes)
    return written


@pytest.mark.parametrize("name", LOADED[: LOADED.index("qwen2-window")])
def test_every_architecture_gets_the_same_tokens_or_falls_back(name: str) -> None:
    model = wrapped(name)
    model.sits = None
    asked = [drawn(n, 90 + n) for n in (5, 21, 12, 5, 30, 9)]
    steering = [add(direction(model, 0.5)) if i % 2 else Steering() for i in range(len(asked))]
    how: dict[str, Any] = {"max_new_tokens": 16, "batch_size": 4, "steering": steering, "temperature": 1.0}
    assert in_seats(model, asked, **how) == generate(model, asked, **how)
    assert model.sits == (model.batching is Batching.JOINED and name not in FALL_BACK)


STEERINGS: dict[str, Any] = {
    "add": lambda d, e: add(d, 0.8),
    "subtract the prompt's last on": lambda d, e: add(d, -0.8, tokens="writing"),
    "ablate two": lambda d, e: ablate([d, e], tokens="everywhere"),
    "clamp": lambda d, e: clamp(d, 0.5, tokens="generated"),
    "clamp and add": lambda d, e: clamp(d, 0.5, tokens="after-first") + add(e, 0.4),
    "swap": lambda d, e: interchange([d, e], [7, 9, 11, 13, 15]),
    "ranges": lambda d, e: add(d, 2.0, tokens=Ranges(((3, 5), (8, 70), (74, 80)))),
    "turns": lambda d, e: add(d, 2.0, tokens=WrittenTurns(Debating(), 2)),
}


@pytest.mark.parametrize("way", [{}, {"temperature": 0.8, "top_p": 0.9}])
@pytest.mark.parametrize("what", [*STEERINGS, "mixed"])
def test_steered_in_every_way(what: str, way: dict[str, float]) -> None:
    """With more prompts than seats, so that rows leave, move and enter."""
    model, asked = sharp("llama"), prompts(14)
    first, second = direction(model, 3.0), direction(model, 4.0)
    each = [STEERINGS[name](first, second) for name in STEERINGS]
    steering = [each[i % len(each)] for i in range(len(asked))] if what == "mixed" else STEERINGS[what](first, second)
    how = {"max_new_tokens": 40, "steering": steering, "seeds": range(14), **way}
    plain = generate(model, asked, **{**how, "steering": None})
    expected = generate(model, asked, batch_size=5, **how)
    assert expected != plain
    assert len({g.n_tokens for g in expected}) > (3 if what == "mixed" else 1), "they leave at different times"
    for batch_size in (1, 5, 14):
        assert in_seats(model, asked, batch_size=batch_size, **how) == expected
    if what != "mixed":
        with steering.on(model):
            assert in_seats(model, asked, batch_size=5, **{**how, "steering": None}) == expected


def test_seats_are_taken_again_by_other_calls() -> None:
    model, asked = sharp("llama"), prompts(9)
    how: dict[str, Any] = {"max_new_tokens": 24, "batch_size": 4}
    in_seats(model, asked, **how)
    kept = model.seats
    for temperature in (0.0, 0.0):
        assert in_seats(model, asked[::-1], **how, temperature=temperature) == generate(model, asked[::-1], **how)
        assert model.seats is kept
    for length in (3.0, 6.0):
        steering = add(direction(model, length))
        assert in_seats(model, asked, **how, steering=steering) == generate(model, asked, **how, steering=steering)
        assert model.seats is not kept
    kept = model.seats
    with torch.no_grad():  # as stage 2 does between its steps
        for weight in model.hf.parameters():
            weight.mul_(1.1)
    try:
        again = in_seats(model, asked, **how, steering=steering)
        assert again == generate(model, asked, **how, steering=steering)
        assert model.seats is kept
    finally:
        with torch.no_grad():
            for weight in model.hf.parameters():
                weight.div_(1.1)


def test_seats_of_moved_weights_are_left() -> None:
    model = wrap(sharp("llama", n_layers=1).hf, make_tokenizer("bytes"))
    in_seats(model, prompts(3), max_new_tokens=4)
    kept = model.seats
    weight = model.hf.get_output_embeddings().weight
    weight.data = -weight.data
    expected = generate(model, prompts(3), max_new_tokens=4)
    assert in_seats(model, prompts(3), max_new_tokens=4) == expected
    assert model.seats is not kept


def test_texts_that_are_stopped_and_texts_out_of_range() -> None:
    model, asked = sharp("llama"), prompts(8)
    steering = [add(direction(model, 3.0), 1e30 if i % 3 == 1 else 1.0) for i in range(8)]
    how: dict[str, Any] = {"max_new_tokens": 30, "batch_size": 3, "steering": steering}
    how["until"] = lambda i, text: text[-1] % 5 == i % 5
    expected = generate(model, asked, **how)
    assert {i for i, g in enumerate(expected) if not g.finite} in ({4, 7}, {1, 4, 7})
    assert any(g.ended and g.end is None for g in expected)
    assert in_seats(model, asked, **how) == expected


def test_few_looks_and_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU waits for the program once every eight tokens, and records a handful of steps."""
    model, shapes, looks = sharp("llama"), set[tuple[int, int]](), list[int]()
    write = seats.Seats.write

    def spy(self: seats.Seats, n: int, width: int, turns: int) -> list[list[int]]:
        written = write(self, n, width, turns)
        shapes.add(self.used)
        looks.append(turns)
        return written

    monkeypatch.setattr(seats.Seats, "write", spy)
    model.hf.generation_config.eos_token_id, ends = None, model.hf.generation_config.eos_token_id
    try:
        in_seats(model, [p[:20] for p in prompts(20)], max_new_tokens=100, batch_size=20)
    finally:
        model.hf.generation_config.eos_token_id = ends
    assert sum(looks) == 99
    assert len(looks) == 13
    assert shapes == {(20, 64), (20, 128)}
    assert [seats._width(n) for n in (1, 64, 65, 200, 256, 257, 700, 5000)] == [64, 64, 128, 256, 256, 320, 768, 5120]
    assert seats.sizes(20) == [1, 4, 16, 20]


def test_draws_follow_the_probabilities_and_the_seed_alone() -> None:
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -torch.inf])
    expected = logits.softmax(-1) * 40_000
    same = keys_of([3], torch.device("cpu"))
    rows = {
        "seeds": (keys_of(range(40_000), same.device), torch.zeros(40_000, dtype=torch.long)),
        "steps": (same.expand(40_000, 2), torch.arange(40_000)),
    }
    draw = Drawing(1.0, 1.0)
    for keys, written in rows.values():
        seen = draw(logits.expand(40_000, 6), keys, written).bincount(minlength=6)
        assert seen[5] == 0
        chi_square = ((seen - expected)[:5] ** 2 / expected[:5]).sum()
        assert chi_square < 18.5, "p < 0.001 with four degrees of freedom"
    keys, written = rows["seeds"]
    together = draw(logits.expand(9, 6), keys[:9], written[:9] + 7)
    assert torch.equal(together[5:6], draw(logits[None], keys[5:6], written[:1] + 7))
    assert (Drawing(1.0, 0.7)(logits.expand(9_000, 6), keys[:9_000], written[:9_000]) <= 1).all(), "0.57 + 0.21 ≥ 0.7"
    assert (keys_of([-1, 2**63, 5], same.device) != keys_of([5, 0, -1], same.device)).any(1).all()


def test_the_nucleus_with_and_without_sorting() -> None:
    probabilities = torch.randn(64, 300, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1)
    probabilities[1] = 1 / 300
    assert not _nucleus(torch.full((2, 5), torch.nan), 0.9).any(), "of rows that overflowed nothing is likely"
    for top_p in (0.05, 0.5, 0.9, 0.9999):
        kept = _nucleus(probabilities, top_p)
        assert torch.equal(kept, probabilities >= _least_likely(probabilities, top_p))
        mass = torch.where(kept, probabilities, 0)
        assert (mass.sum(-1) >= top_p - 1e-6).all()
        least = torch.where(kept, probabilities, 2).min(-1, keepdim=True).values
        assert (torch.where(probabilities > least, probabilities, 0).sum(-1) < top_p).all(), "none of them is idle"


def test_normalisations_that_are_fused_are_those_that_are_the_same() -> None:
    for name, fused in (("llama", 7), ("gemma", 0), ("gpt2", 0)):  # Gemma's scales by 1 + weight
        model = wrapped(name)
        assert in_seats(model, [drawn(5, 1)], max_new_tokens=2)
        assert len(model.seats._fused) == fused
        assert not any("forward" in vars(module) for module in model.seats._fused)
