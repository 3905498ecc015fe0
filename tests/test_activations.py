from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PUBLISHED, make_model, make_tokenizer

from interp.activations.corpus import Corpus
from interp.activations.reading import POSITIONS, Readings, stream, tokens_at_once
from interp.debate.personas import PERSONAS
from interp.debate.transcript import Transcript, read_transcripts
from interp.directions.settings import parse_batch_tokens
from interp.errors import UserError
from interp.models.layers import parse_layers
from interp.models.model import Model

ALL_POSITIONS = tuple(POSITIONS)


def collect(model: Model, corpus: Corpus, **options: object) -> np.ndarray:
    """All readings as one array [turn, position, layer, d_model] in the order of the turn table."""
    batches: list[Readings] = list(stream(model, corpus, **options))  # type: ignore[arg-type]
    rows = np.concatenate([b.rows for b in batches])
    assert sorted(rows.tolist()) == list(range(len(corpus.turns)))
    return np.concatenate([b.values for b in batches])[np.argsort(rows)]


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def debate_of(n_agents: int, n_rounds: int) -> Transcript:
    """A scripted debate that goes on for all its rounds, with endings that tokenizers merge."""
    from interp.debate.protocol import debate
    from interp.debate.scripted.agent import ScriptedAgent
    from interp.debate.tasks.arithmetic import Arithmetic

    personas = list(PERSONAS.values())
    agents = [ScriptedAgent(personas[i % 3], error_rate=0.9, seed=i) for i in range(n_agents)]
    transcripts = debate(Arithmetic().questions(20, seed=3), agents, task=Arithmetic(), rounds=n_rounds)
    return next(t for t in transcripts if t.n_rounds == n_rounds)


@pytest.mark.parametrize(
    ("architecture", "kind"), [("llama", "merging"), ("qwen2", "merging"), ("mistral", "metaspace"), ("llama", "bytes")]
)
def test_full_pass_equals_prefix_pass(architecture: str, kind: str) -> None:
    """Reading a turn from the whole transcript is reading it at the end of its own prefix."""
    model = make_model(architecture, kind)
    transcripts = [
        *(read_transcripts(PUBLISHED) if PUBLISHED.exists() else []),
        *(debate_of(a, r) for a in (2, 3, 5) for r in (1, 2, 3)),
    ]
    corpus = Corpus.build(transcripts, model.tokenizer)
    full = collect(model, corpus, positions=("last",))[:, 0]
    for row in range(len(corpus.turns)):
        ids = corpus.ids[corpus.turns.transcript[row]][: corpus.turns.stop[row]]
        at_end: list[np.ndarray] = []
        names = [model.hook_name("resid_post", layer) for layer in range(model.n_layers)]
        keep = [(name, lambda value, hook, at_end=at_end: at_end.append(value[0, -1].numpy())) for name in names]
        with torch.no_grad(), model.bridge.hooks(fwd_hooks=keep):
            model.hf(torch.tensor([ids]))
        assert cosine(full[row], np.stack(at_end)).min() >= 0.99999


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("site", ["resid_post", "attn_out", "mlp_out"])
def test_batching_changes_nothing(architecture: str, site: str, debates: list[Transcript]) -> None:
    model = make_model(architecture)
    corpus = Corpus.build(debates, model.tokenizer)
    options = {"site": site, "positions": ALL_POSITIONS}
    alone = collect(model, corpus, batch_tokens=1, **options)
    batched = collect(model, corpus, batch_tokens=10_000, **options)  # shorter transcripts are padded
    assert cosine(alone, batched).min() >= 0.99999
    np.testing.assert_allclose(alone, batched, atol=2e-4 * np.abs(alone).max())


@pytest.mark.parametrize("site", ["resid_post", "attn_out", "mlp_out"])
def test_readings_are_what_the_whole_bridge_gives(tiny: Model, site: str, debates: list[Transcript]) -> None:
    """The quick path (plain attention, live hooks only) against TransformerLens's own cache."""
    corpus = Corpus.build(debates[:1], tiny.tokenizer)
    read = collect(tiny, corpus, site=site, positions=ALL_POSITIONS)
    _, cache = tiny.bridge.run_with_cache(torch.tensor([corpus.ids[0]]))
    turns = corpus.turns
    for layer in range(tiny.n_layers):
        value = cache[tiny.hook_name(site, layer)][0].numpy()  # type: ignore[arg-type]
        for row in range(len(turns)):
            start, stop, tag = turns.start[row], turns.stop[row], turns.tag[row]
            expected = np.stack([value[stop - 1], value[start:stop].mean(0), value[tag - 1]])
            np.testing.assert_allclose(read[row, :, layer], expected, atol=1e-4)


def test_chosen_layers_and_early_stop(tiny: Model, debates: list[Transcript]) -> None:
    corpus = Corpus.build(debates[:3], tiny.tokenizer)
    everything, some = collect(tiny, corpus), collect(tiny, corpus, layers=(1, 0))
    np.testing.assert_array_equal(everything[:, :, [1, 0]], some)
    for layers in ((), (1, 1)):
        with pytest.raises(UserError, match="each once"):
            list(stream(tiny, corpus, layers=layers))
    reached: list[str] = []
    last = tiny.hook_name("resid_post", 2)
    with tiny.bridge.hooks(fwd_hooks=[(last, lambda value, hook: reached.append(hook.name))]):
        list(stream(tiny, corpus, layers=(0,)))
    assert not reached


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_full(dtype: torch.dtype, debates: list[Transcript]) -> None:
    from conftest import make_hf

    from interp.models.model import wrap

    model = wrap(make_hf("llama").to(dtype), make_tokenizer("bytes"))
    corpus = Corpus.build(debates[:3], model.tokenizer)
    full, half = collect(make_model(), corpus), collect(model, corpus)
    assert half.dtype == np.float32
    assert cosine(full, half).min() > 0.999


def test_done_transcripts_are_left_out(tiny: Model, debates: list[Transcript]) -> None:
    corpus = Corpus.build(debates, tiny.tokenizer)
    seen = [t for batch in stream(tiny, corpus, done={0, 5}, batch_tokens=2000) for t in batch.transcripts]
    assert sorted(seen) == [t for t in range(12) if t not in (0, 5)]


def test_a_turn_without_text_is_nan_but_has_a_tag(tiny: Model) -> None:
    corpus = Corpus.build([Transcript.build("1+1", [["", "\\boxed{2}"]], None)], tiny.tokenizer)
    read = collect(tiny, corpus, positions=ALL_POSITIONS)
    assert np.isnan(read[0, :2]).all()
    assert np.isfinite(read[0, 2]).all()
    assert np.isfinite(read[1]).all()


def test_hooks_are_gone_afterwards(tiny: Model, debates: list[Transcript]) -> None:
    ids = torch.arange(20)[None]
    before = tiny.hf(ids).logits
    stream_ = stream(tiny, Corpus.build(debates[:2], tiny.tokenizer), batch_tokens=1)
    next(stream_)
    stream_.close()  # abandoned half-way
    assert torch.equal(tiny.hf(ids).logits, before)
    assert not any(point.fwd_hooks for point in tiny.bridge.hook_dict.values())
    _, cache = tiny.bridge.run_with_cache(ids)
    assert "blocks.0.attn.hook_pattern" in cache


@pytest.mark.parametrize(("text", "layers"), [("all", None), ("2", (2,)), ("3,0-1,1", (0, 1, 3))])
def test_layers_are_parsed(text: str, layers: tuple[int, ...] | None) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["0-99999999999", "3-1", "x", "", "-1", "1,,2"])
def test_layers_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError, match=r"no model has|give all, or numbers"):
        parse_layers(text)


def test_on_a_gpu_batches_are_what_its_memory_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total_memory = 80 * 2**30

    weight = torch.zeros(1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    for width, free, expected in ((576, 80, 32768), (4096, 80, 32768), (8192, 80, 16384), (8192, 4, 2048)):
        Card.total_memory = free * 2**30
        model: Any = SimpleNamespace(device=torch.device("cuda"), d_model=width, dtype=torch.bfloat16)
        model.hf = SimpleNamespace(parameters=lambda: [weight])
        assert tokens_at_once(model) == expected
    model.device = torch.device("cpu")
    assert tokens_at_once(model) == 2048


def test_batch_tokens_as_text() -> None:
    assert (parse_batch_tokens("auto"), parse_batch_tokens("4096")) == (None, 4096)
    for wrong in ("0", "-1", "many", "1e4", ""):
        with pytest.raises(UserError, match="give auto, or a number of tokens"):
            parse_batch_tokens(wrong)
