"""On interp-engine the same activations and tokens; what it cannot do is refused, also where it is not installed."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_smollm2 import SMOLLM2, loaded

from interp.activations.corpus import Corpus
from interp.activations.reading import POSITIONS, read_last, stream
from interp.debate.embedded import find_transcripts, read_embedded
from interp.directions.directions import Direction
from interp.directions.extract import extract_directions
from interp.directions.settings import ExtractionSettings
from interp.errors import UserError
from interp.generation.sampling import Generated, generate
from interp.models import engine as engines
from interp.models.layers import SITES
from interp.models.model import Model, load_model
from interp.steering.changes import TOKENS, Ranges, WrittenTurns
from interp.steering.steering import Steering, ablate, add, clamp, interchange

BOTH = pytest.mark.parametrize("name", ["organism-sft", SMOLLM2])
PROMPTS = ["Problem: 3+4*2", "Problem: 1+1*2-5", "Problem: 7*8"]


def both(name: str) -> tuple[Model, Model]:
    pytest.importorskip("interp_engine")
    return loaded(name, dtype="fp32"), loaded(name, dtype="fp32", engine="eager")


def directions(model: Model, layers: tuple[int, ...], site: Any = "resid_post") -> list[Direction]:
    rng, made = np.random.default_rng(0), []
    for i, layer in enumerate(layers):
        vector = rng.standard_normal(model.d_model).astype(np.float32)
        made.append(Direction(vector / np.linalg.norm(vector), f"agent {i}", layer, model.hook_name(site, layer), 1.0))
    return made


def same_tokens(own: Model, other: Model, steering: Any, **how: Any) -> list[Generated]:
    mine = generate(own, PROMPTS, max_new_tokens=12, steering=steering, **how)
    assert generate(other, PROMPTS, max_new_tokens=12, steering=steering, **how) == mine
    return mine


@BOTH
def test_the_same_activations_and_tokens(name: str) -> None:
    own, other = both(name)
    corpus = Corpus.build(read_embedded("scripted")[:1], own.tokenizer)
    for site in SITES:
        how: dict[str, Any] = {"site": site, "positions": tuple(POSITIONS), "layers": (0, own.n_layers - 1)}
        for mine, theirs in zip(stream(own, corpus, **how), stream(other, corpus, **how), strict=True):
            assert (mine.rows == theirs.rows).all()
            lengths = np.linalg.norm(mine.values, axis=-1) * np.linalg.norm(theirs.values, axis=-1)
            assert ((mine.values * theirs.values).sum(-1) / lengths).min() >= 0.99999
    middle, small = own.n_layers // 2, own.d_model < 200
    long = 40 if small else 400  # as the residual streams of each
    one, two = directions(own, (middle, middle))
    later, beside = directions(own, (middle + 1,)), directions(own, (middle,), "mlp_out")
    plain = same_tokens(own, other, None)
    for steering in (
        *(add(one, long, units="unit", tokens=tokens) for tokens in (TOKENS if small else ["writing"])),
        *(ablate([one, two], tokens=tokens) for tokens in (TOKENS if small else ["after-first"])),
        add([one, *later], long, units="unit", tokens="everywhere") + ablate(two, tokens="everywhere"),
        clamp(one, long, units="unit", tokens="writing"),
        add(beside, long, units="unit"),
        interchange([one, two], PROMPTS[1]),
    ):
        steered = same_tokens(own, other, steering)
        if {facts["operation"] for facts in steering.facts} & {"add", "clamp"}:
            assert steered != plain or steering.facts[0]["tokens"] in ("last", "prompt"), steering.summary
    rows = same_tokens(own, other, [Steering(), add(one, long, units="unit", tokens="everywhere"), ablate(two)])
    assert rows[0] == plain[0]
    assert rows[1] != plain[1]


def test_ends_limits_and_random_numbers() -> None:
    own, other = both("organism-sft")
    heard: list[int] = []
    texts = generate(other, PROMPTS, max_new_tokens=200, received=lambda i, text: heard.append(i))
    assert texts == generate(own, PROMPTS, max_new_tokens=200)
    assert any(text.ended for text in texts)
    assert sorted(heard) == [0, 1, 2]
    stop: dict[str, Any] = {"max_new_tokens": 9, "until": lambda i, text: i == 1 and len(text) == 2}
    stopped = generate(other, PROMPTS, **stop)
    assert stopped == generate(own, PROMPTS, **stop)
    assert (stopped[1].n_tokens, stopped[1].ended) == (2, True)
    full = [*range(5, 15)] * (own.context_length or 0)
    assert generate(other, [full], max_new_tokens=3)[0].n_tokens == 0
    before = torch.random.get_rng_state()
    drawn = [generate(other, PROMPTS, temperature=1.0, max_new_tokens=12, seeds=seeds) for seeds in ([5, 6, 7],) * 2]
    again = generate(other, PROMPTS[2], temperature=1.0, max_new_tokens=12, seeds=[7])
    assert drawn[0] == drawn[1]
    assert drawn[0][2] == again  # whatever stands beside it
    assert len({tuple(t.ids) for t in generate(other, [PROMPTS[0]] * 6, temperature=1.5, max_new_tokens=12)}) > 1
    assert torch.equal(torch.random.get_rng_state(), before)


def test_directions_are_the_same_and_know_what_read_them() -> None:
    own, other = both("organism")
    debates, settings = find_transcripts("organism")[:10], ExtractionSettings(controls=False)
    mine, theirs = (extract_directions(model, debates, settings=settings).directions for model in (own, other))
    for label in mine.labels:
        assert all(a.cosine(b) >= 0.99999 for a, b in zip(mine[label], theirs[label], strict=True) if a.norm)
    assert "eager" in theirs.facts["provenance"]["model"]["engine"]


# without the library


class Fake(SimpleNamespace):
    """What this package asks of interp-engine, with a model that writes 7, 8, 9 …; it notes how it is steered."""

    def __init__(self) -> None:
        super().__init__(n_layers=3, d_model=32, steered=[], asked=[], AblateSpec=list, AddSpec=lambda *added: added)
        self.SteeringSpec = SimpleNamespace(at=lambda address, *operations: (address, *operations))

    def Address(self, name: str, layer: int) -> Any:  # noqa: N802
        return name, layer

    def load_model(self, folder: str, **how: Any) -> Any:
        given = {"backend": "vllm", "dtype": "bfloat16", "num_gpus": 1, "trust_remote_code": False}
        assert how == given | {"extra_vllm_kwargs": {"revision": None, "load_format": "safetensors"}}
        return self

    async def warmup(self) -> None: ...

    def refuses(self, address: Any) -> str | None:
        return "no such tensor" if address[0] == "attn_out_post" else None

    @contextmanager
    def steer(self, model: Any, specs: Any, **where: Any) -> Iterator[None]:
        self.steered.append((specs, where))
        yield

    async def generate_steps(self, prompt: list[int], **asked: Any) -> AsyncIterator[Any]:
        self.asked.append(asked)
        for token in range(7, 7 + asked["max_tokens"]):
            yield SimpleNamespace(token_id=token, logprobs=[{"logprob": float("nan") if token == 10 else -1.0}])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(sys.modules, "interp_engine", made)
    monkeypatch.setattr(engines, "find_spec", lambda package: package)
    monkeypatch.setattr(engines, "version", lambda package: "0")
    return made


@pytest.fixture
def held(fake: Fake, model_folder: Path) -> Model:
    return load_model(str(model_folder), engine="vllm", device="cuda")


@pytest.mark.parametrize("backend", ["eager", "vllm", "vllm-static"])
def test_an_engine_that_is_not_installed(
    interp: Any, monkeypatch: pytest.MonkeyPatch, backend: str, tmp_path: Path
) -> None:
    missing = "interp_engine" if backend == "eager" else "vllm"
    monkeypatch.setattr(engines, "find_spec", lambda package: None if package == missing else package)
    given = ["--transcripts", "scripted", "--model", "organism", "--engine", backend, "--out", tmp_path / "found"]
    code, _, error = interp("extract-directions", *given)
    assert code == 2
    assert f"--engine {backend}: {missing} is not installed; pip install 'interp[vllm]'" in " ".join(error.split())
    assert not (tmp_path / "found").exists()


def test_what_a_model_elsewhere_is(held: Model, model_folder: Path) -> None:
    assert (held.n_layers, held.d_model, held.chosen_layers(None)) == (3, 32, (0, 1, 2))
    assert held.context_length == load_model(str(model_folder)).context_length
    assert held.provenance["engine"] == "interp-engine 0, vllm"
    with held.only_hooked():
        pass
    for ask in (
        lambda: held.device,
        lambda: held.hf.base_model,
        lambda: add(directions(held, (1,))).on(held).__enter__(),
    ):
        with pytest.raises(UserError, match="debate, evaluate, steer, sweep"):
            ask()


def test_what_an_engine_is_asked(held: Model, fake: Fake) -> None:
    [one], prompt = directions(held, (1,)), [5, 6, 5, 6]
    unit, at = one.vector.tolist(), ("resid_post", 1)
    for steering, expected in {
        add(one, 2, units="unit"): ((at, (pytest.approx([2 * x for x in unit]), 1.0)), [0, 1, 2, 3], True),
        ablate(one, tokens="after-first"): ((at, pytest.approx(unit), ([0.0] * 32, 1.0)), [0], True),
        clamp(one, 2, units="unit", tokens="last"): (
            (at, pytest.approx(unit), (pytest.approx([2 * x for x in unit]), 1.0)),
            [0, 1, 2],
            False,
        ),
    }.items():
        [text] = generate(held, [prompt], max_new_tokens=3, steering=steering, seeds=[-1], temperature=0.5, top_p=0.9)
        assert (text.ids, text.n_tokens, text.ended, text.finite) == ([7, 8, 9], 3, False, True)
        [spec], where = fake.steered.pop()
        if isinstance(spec[1], list) and np.dot(spec[1], unit) < 0:  # a row of a basis has either sign
            spec = (spec[0], [-x for x in spec[1]], *spec[2:])
        assert spec == expected[0]
        assert where == {"prompt_token_ids": prompt, "position_mask": expected[1], "generated": expected[2]}
        known = {"stop_at_eos": False, "n_logprobs": 1, "top_k": 0, "top_p": 0.9, "temperature": 0.5, "max_tokens": 3}
        assert fake.asked.pop() == known | {"seed": 2**63 - 1}
    [text] = generate(held, [prompt], max_new_tokens=9)
    assert (text.ids, text.finite) == ([7, 8, 9], False)  # its numbers overflowed
    assert not fake.steered
    assert generate(held, [prompt, prompt[:2]], max_new_tokens=9, until=lambda i, ids: i == 1)[1].ids == [7]


def test_what_an_engine_cannot_do(held: Model) -> None:
    [one] = directions(held, (1,))
    turns = WrittenTurns(held.tokenizer, 1)
    for steering, why in {
        add(one, tokens=turns): "--engine vllm: cannot steer turns as they are written; name them as one of",
        add(one, tokens=Ranges(((3, 9),))): "--engine vllm: .*written ones all or none",
        add(one) + ablate(one, tokens="everywhere"): "--engine vllm: steers the same tokens at all layers",
        add(directions(held, (1,), "attn_out")): "has no such hook point",
        add(Direction(one.vector, "x", 7, "blocks.7.hook_resid_post", 1.0)): "layers 0 to 2",
        add(Direction(one.vector[:5], "x", 1, one.hook_point, 1.0)): "has width 32",
        add(one, 1e30, units="unit"): "--engine vllm: .*whose square overflows",
    }.items():
        with pytest.raises(UserError, match=why) as refused:
            generate(held, "Problem: 1+1", max_new_tokens=4, steering=steering)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="runs no functions"):
        generate(held, "Problem: 1+1", hooks=[(one.hook_point, lambda value, hook: None)])
    with pytest.raises(UserError, match="2 steerings for 1 prompts"):
        generate(held, ["Problem: 1+1"], steering=[add(one)] * 2)


def test_a_hook_point_that_an_engine_does_not_have(held: Model) -> None:
    with pytest.raises(UserError, match="--engine vllm: cannot read blocks"):
        read_last(held, ["Problem: 1"], layers=[2], site="attn_out")


def test_interchange_of_several_tokens() -> None:
    _, other = both("organism-sft")
    with pytest.raises(UserError, match="--engine eager: interchanges one token"):
        generate(other, "Problem: 1", steering=interchange(directions(other, (1,)), "Problem: 1", tokens="prompt"))


def test_an_untrained_model_is_refused_before_anything_is_read(held: Model) -> None:
    with pytest.raises(UserError, match=r"--engine vllm: .*--no-controls"):
        extract_directions(held, read_embedded("scripted")[:10])


def test_what_an_engine_cannot_load(fake: Fake, model_folder: Path) -> None:
    for name, how in {"organism-sft": {}, str(model_folder): {"device": "cpu"}}.items():
        with pytest.raises(UserError, match="a folder or hub id"):
            load_model(name, engine="vllm", **how)


def test_an_error_of_the_engine_is_told_and_ends_the_other_jobs(held: Model) -> None:
    begun = []

    async def fail() -> None:
        begun.append("fail")
        raise ValueError("no room\nat all")

    async def other() -> None:
        begun.append("other")

    with pytest.raises(UserError, match="--engine vllm: no room"):
        list(held.engine.each([fail, *[other] * 50]))
    assert list(held.engine.each([other])) == [None]
