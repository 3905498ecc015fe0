"""Lengths kept, steering gated by a probe and rules of one's own: the values and tokens of a loop over tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from test_architectures import wrapped
from test_seats import in_seats
from test_steered import N_NEW, direction, prompts, residuals, sharp, slowly, tokens
from torch import Tensor

from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models.model import Model
from interp.probing.probe import Probe
from interp.steering.changes import Change, Gate
from interp.steering.hooks import steered
from interp.steering.steering import Steering, ablate, add, clamp, custom, gate
from interp.storage.functions import load_function

MODELS = ("llama", "qwen2", "mistral", "gpt2")
HOOK = "blocks.{}.hook_resid_post"


def model_of(name: str) -> Model:
    return wrapped("gpt2") if name == "gpt2" else sharp(name)


def probe_at(layer: int, n_classes: int = 2, seed: int = 0) -> Probe:
    rng, n = np.random.default_rng(seed), max(1, n_classes - (n_classes == 2))
    weights = rng.standard_normal((n, 32)).astype(np.float32)
    classes = ("calm", "evil", "third")[:n_classes]
    bias = rng.standard_normal(n).astype(np.float32) / 100
    return Probe(weights, bias, weights, classes, layer, HOOK.format(layer), 1.0)


def reflect(values: Tensor, directions: Tensor, coefficient: float) -> Tensor:
    return values - coefficient * (values @ directions.T) @ directions


EVIL, EARLY = probe_at(1), probe_at(0)
STEERINGS: dict[str, Steering] = {
    "added, length kept": add(direction(1), 40, keep_norm=True),
    "ablated, length kept": ablate([direction(1), direction(4)], tokens="everywhere", keep_norm=True),
    "where a probe says so": add(direction(1), 40, tokens="everywhere", when=EVIL > 0.6),
    "where a probe says no": add(direction(2), 30, tokens="writing", when=EVIL < 0.4),
    "a probe of an earlier layer": add([direction(1), direction(2, 2)], 40, tokens="everywhere", when=EARLY > 0.5),
    "of three classes": clamp(direction(3), 30, tokens="everywhere", when=probe_at(1, 3).above(0.3, "calm")),
    "a number": add(direction(3), 40, keep_norm=True, when=probe_at(0, 0) > 0.1),
    "a projection": add(direction(5), 40, tokens="prompt", when=gate(direction(6), 0.0)),
    "several": add(direction(1), 30, tokens="everywhere")
    + add(direction(2), -30, tokens="everywhere", when=EVIL > 0.5)
    + ablate(direction(3, 2), tokens="everywhere", when=EVIL < 0.5, keep_norm=True),
    "a rule": custom([direction(1), direction(2)], reflect, 2, tokens="everywhere"),
    "a rule in places": custom(direction(1, 2), reflect, 3, keep_norm=True, when=EVIL > 0.5)
    + add(direction(2), 30, when=EARLY < 0.5),
}
RECORDED = [name for name in STEERINGS if "rule" not in name]


def score(gate: Gate, x: np.ndarray) -> float:
    own, *others = (float(w @ x + b) for w, b in zip(gate.weights.astype(float), gate.bias, strict=True))
    return own - float(logsumexp(others)) if others else own


def by_token(model: Model, ids: Sequence[int], changes: Sequence[Change], n_prompt: int) -> dict[str, np.ndarray]:
    """The values that leave each hook point of a text, changed one token at a time, in double precision."""
    open_at: dict[tuple[Gate, int], bool] = {}
    left: dict[str, np.ndarray] = {}

    def act(value: Tensor, hook: Any, name: str) -> Tensor:
        rows = value[0].double().numpy().copy()
        for token, x in enumerate(rows):
            for change in changes:
                asked = change.gate
                if asked is not None and asked.hook_point == name and (asked, token) not in open_at:
                    open_at[asked, token] = (score(asked, x) > asked.limit) is not asked.below
                inside = any(start <= token < stop for start, stop in change.tokens(n_prompt))
                if change.hook_point != name or not inside or not (asked is None or open_at[asked, token]):
                    continue
                basis, was = change.basis.astype(float), np.linalg.norm(x)
                if change.rule:
                    function, by = change.rule
                    x = function(torch.from_numpy(x)[None], torch.from_numpy(basis), by)[0].numpy()
                else:
                    x = x - (x @ basis.T) @ basis + change.offset
                x = x * was / np.linalg.norm(x) if change.keep_norm else x
            rows[token] = x
        left[name] = rows
        return torch.from_numpy(rows)[None].to(value.dtype)

    names = {n for c in changes for n in (c.hook_point, c.gate.hook_point if c.gate is not None else c.hook_point)}
    with (
        torch.no_grad(),
        model.only_hooked(),
        model.bridge.hooks(fwd_hooks=[(name, partial(act, name=name)) for name in names]),
    ):
        left["logits"] = model.hf(torch.tensor([list(ids)]), use_cache=False).logits[0].numpy()
    return left


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("name", STEERINGS)
def test_values_are_those_of_a_loop_over_tokens(architecture: str, name: str) -> None:
    model, changes, ids = model_of(architecture), STEERINGS[name].changes, prompts(9)[-2][:28]
    expected = by_token(model, ids, changes, 8)
    plain = by_token(model, ids, (), 8)
    assert np.abs(expected["logits"] - plain["logits"]).max() > 0.01, "it does something"
    with STEERINGS[name].on(model, n_prompt=[8]):
        for hook_point in expected.keys() - {"logits"}:
            out = residuals(model, torch.tensor([ids]), [hook_point], use_cache=False)[hook_point][0].numpy()
            np.testing.assert_allclose(out, expected[hook_point], atol=2e-4 * np.abs(expected[hook_point]).max())


@pytest.mark.parametrize("architecture", MODELS[:2])
@pytest.mark.parametrize("name", STEERINGS)
def test_batches_cache_padding_and_seats_change_no_token(architecture: str, name: str) -> None:
    model, steering, asked = sharp(architecture), STEERINGS[name], prompts(8)
    alone = [slowly(model, p, steering) for p in asked]
    assert alone != tokens(model, asked, None), "it does something"
    for prompt, written in zip(asked[:3], alone, strict=False):
        text = prompt + written[:1]  # as the reference continues it
        if written:
            logits = by_token(model, text, steering.changes, len(prompt))["logits"]
            assert int(logits[len(prompt) - 1].argmax()) == written[0]
            assert len(written) < 2 or int(logits[-1].argmax()) == written[1]
    for n in (1, 3, 8):
        assert tokens(model, asked, steering, batch_size=n) == alone
        out = in_seats(model, asked, max_new_tokens=N_NEW, batch_size=n, steering=steering)
        assert [each.ids for each in out] == alone
    assert slowly(model, asked[0], steering, n_pad=4) == alone[0]
    with steering.on(model), torch.no_grad():
        one = model.hf.generate(torch.tensor(asked[:1]), max_new_tokens=N_NEW, do_sample=False)[0, len(asked[0]) :]
    assert alone[0] == one.tolist()[: len(alone[0])]


@pytest.mark.parametrize("architecture", MODELS[:2])
def test_rows_with_and_without_come_and_go(architecture: str) -> None:
    model, asked = sharp(architecture), prompts(4)
    each = [*STEERINGS.values(), Steering(), add(direction(9), 30)]
    for some in (each, [each[list(STEERINGS).index(name)] for name in RECORDED] + each[-2:]):
        pairs = [(p, s) for s in some for p in asked]
        alone = [tokens(model, [p], s)[0] for p, s in pairs]
        random.Random(0).shuffle(order := list(range(len(pairs))))
        texts, how = [pairs[i][0] for i in order], [pairs[i][1] for i in order]
        for batch_size in (5, 40):
            assert tokens(model, texts, how, batch_size=batch_size) == [alone[i] for i in order]
            out = in_seats(model, texts, max_new_tokens=N_NEW, batch_size=batch_size, steering=how)
            assert [one.ids for one in out] == [alone[i] for i in order]


def test_around_each_other() -> None:
    """Contexts add up as in one steering, also with one gate in both; rows of a batch keep their own gates."""
    model, asked, evil = sharp(), prompts(6), EVIL > 0.5
    outer, inner = add(direction(1), 40, tokens="everywhere", when=evil), add(direction(2), 30, when=evil)
    with outer.on(model):
        expected = [slowly(model, p, inner) for p in asked]
        assert tokens(model, asked, inner, batch_size=4) == expected
        assert [g.ids for g in in_seats(model, asked, max_new_tokens=N_NEW, steering=inner)] == expected
    ids = torch.tensor([asked[-1]] * 3)
    each = [outer, Steering(), STEERINGS["several"]]
    with steered(model, [s.changes for s in each], n_prompt=[2] * 3), torch.no_grad():
        together = model.hf(ids, use_cache=False).logits
    for row, steering in enumerate(each):
        np.testing.assert_allclose(together[row], by_token(model, asked[-1], steering.changes, 2)["logits"], atol=0.02)


def test_seats_are_kept_for_steerings_of_one_shape() -> None:
    model, asked, how = sharp(), prompts(5), {"max_new_tokens": 8, "batch_size": 3}
    kept = None
    for limit in (0.4, 0.6):
        steering = add(direction(1), 40, when=limit < EVIL)
        assert in_seats(model, asked, steering=steering, **how) == generate(model, asked, steering=steering, **how)
        assert kept in (None, model.seats)
        kept = model.seats
    in_seats(model, asked, steering=add(direction(1), 40), **how)
    assert model.seats is not kept
    kept = model.seats
    in_seats(model, asked, steering=custom(direction(1), reflect), **how)
    assert model.seats is kept, "which a user's own function does without"


def test_lengths_are_kept_at_any_size() -> None:
    model, ids = sharp(), torch.tensor(prompts(5)[-1:])
    name = direction(1).hook_point
    plain = residuals(model, ids, [name])[name]
    for length in (0, 3, 1e30, -1e30):
        with add(direction(1), length, units="unit", tokens="everywhere", keep_norm=True).on(model) as live:
            out = residuals(model, ids, [name])[name]
        torch.testing.assert_close(out.norm(dim=-1), plain.norm(dim=-1), rtol=1e-5, atol=0)
        assert not live.overflowed.any()
        if not length:
            torch.testing.assert_close(out, plain)
        if abs(length) > 3:
            unit = torch.from_numpy(direction(1).unit.vector)
            torch.testing.assert_close(out @ unit, plain.norm(dim=-1) * np.sign(length), rtol=1e-5, atol=1e-5)


def test_a_gate_is_the_probability_of_its_class() -> None:
    x = np.random.default_rng(0).standard_normal((200, 32)) * 4
    for n in (2, 3):
        probe = probe_at(1, n)
        for column, label in enumerate(probe.classes):
            shown, hidden = probe.above(0.3, label), probe.above(0.3, label, below=True)
            assert [score(shown, row) > shown.limit for row in x] == (probe.score(x)[:, column] > 0.3).tolist()
            assert (hidden.limit, hidden.below, shown.below) == (shown.limit, True, False)
    both = probe_at(1)
    assert (both > 0.8).facts == both.above(0.8, "evil").facts == (both > 0.8).facts
    assert (both > 0.8).facts != (both > 0.7).facts
    assert {**(both < 0.8).facts, "above": 0.8} == {**(both > 0.8).facts, "below": 0.8}
    assert str(both > 0.8) == "evil at layer 1 > 0.8"


def test_what_is_said_of_it() -> None:
    plain, kept = add(direction(1), 2), add(direction(1), 2, keep_norm=True)
    gated = add(direction(1), 2, when=EVIL > 0.8)
    assert kept.facts == [{**plain.facts[0], "keep_norm": True}]
    assert gated.facts == [{**plain.facts[0], "when": (EVIL > 0.8).facts}]
    assert set((EVIL > 0.8).facts) == {"score", "above", "hook_point", "sha256"}
    assert (kept + gated).summary.startswith(
        "add agent 1 +2 residual, norm kept, layer 1; add agent 1 +2 residual when"
    )
    [facts] = custom(direction(1), reflect, 2).facts
    assert (facts["operation"], facts["function"], len(facts["function_sha256"])) == ("custom", "reflect", 64)
    assert custom(direction(1), np.sin).facts[0]["function"] == "sin"  # type: ignore[arg-type]


def test_gates_that_cannot_be_read_are_refused() -> None:
    d, model = direction(1), sharp()
    for wrong, said in (
        (lambda: add(d, when=probe_at(2) > 0.5), "when evil at layer 2 > 0.5: read after layer 1 is changed"),
        (lambda: add(d, when=EVIL), "when Probe: not a gate"),
        (lambda: probe_at(1, 3) > 0.5, "class : unknown; choose one of calm, evil, third"),
        (lambda: EVIL.above(0.5, "good"), "class good: unknown"),
        (lambda: EVIL > 3, "when evil, 3: a probe gives a probability"),
        (lambda: 0.2 < EVIL < 0.8, "neither true nor false"),
        (lambda: probe_at(1, 0) > float("nan"), "a gate needs finite numbers"),
        (lambda: gate(d, float("inf")), "a gate needs finite numbers"),
    ):
        with pytest.raises(UserError, match=said):
            wrong()
    later = gate(direction(2, 1), 0)
    asked = add(direction(1, 1, "attn_out"), when=later)
    with pytest.raises(UserError, match=r"computes it before .*, where the gate's score is read"):
        tokens(model, prompts(2), asked)
    narrow = replace(EVIL > 0.5, weights=np.zeros((1, 8), np.float32))
    with pytest.raises(UserError, match="the direction 8"):
        tokens(model, prompts(2), add(d, when=narrow))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda x, d, c: x[:, :3], r"returned torch.float32 \[1, 3\]; return torch.float32 \[1, 32\], as it was given"),
        (lambda x, d, c: x.double(), r"returned torch.float64 \[1, 32\]; return torch.float32"),
        (lambda x, d, c: None, r"returned NoneType \[\]"),
        (lambda x, d, c: x.numpy(), r"returned float32 \[1, 32\]"),
        (lambda x, d, c: x * float("nan"), "returned NaN; return numbers"),
    ],
)
def test_what_a_rule_may_not_return(rule: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        tokens(sharp(), prompts(2), custom(direction(1), rule))


def test_a_rule_is_given_what_it_may_change() -> None:
    """It gets copies, and a coefficient in the space of the activations; huge values end the row."""
    model, seen = sharp(), list[Any]()

    def careless(values: Tensor, directions: Tensor, coefficient: float) -> Tensor:
        seen.append((len(values), directions.clone(), coefficient))
        directions.zero_()
        return values.zero_()

    two = [replace(direction(1), residual_norm=3.0), replace(direction(2), residual_norm=3.0)]
    tokens(model, prompts(2), custom(two, careless, 0.5))
    assert {n for n, *_ in seen} == {1}
    assert all(by == 1.5 and torch.equal(d, seen[0][1]) for _, d, by in seen)
    torch.testing.assert_close(seen[0][1], torch.from_numpy(np.stack([d.unit.vector for d in two])))
    out = generate(model, prompts(2), max_new_tokens=9, steering=custom(two, lambda x, d, c: x + 1e30))
    assert not any(each.finite for each in out)


def test_functions_from_files(tmp_path: Path) -> None:
    (tmp_path / "rule.py").write_text("def double(x, d, c):\n    return 2 * x\n\nnumber = 3\n")
    function = load_function("--operation", f"{tmp_path}/rule.py:double")
    assert function(4, 0, 0) == 8
    [facts] = custom(direction(1), function).facts
    (tmp_path / "other.py").write_text((tmp_path / "rule.py").read_text() + "\nHELPER = 1\n")
    [other] = custom(direction(1), load_function("--operation", f"{tmp_path}/other.py:double")).facts
    assert facts["function_sha256"] != other["function_sha256"]
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "lacking.py").write_text("import not_installed_anywhere\n")
    for named, said in (
        ("rule.py", "no file"),
        ("rule.txt:f", "no file"),
        ("none.py:f", "no file"),
        ("rule.py:missing", "defines no function missing"),
        ("rule.py:number", "defines no function number"),
        ("broken.py:f", "cannot be run"),
        ("lacking.py:f", "No module named 'not_installed_anywhere'"),
    ):
        with pytest.raises(UserError, match=said):
            load_function("--operation", f"{tmp_path}/{named}")
