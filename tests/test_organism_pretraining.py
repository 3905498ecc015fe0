"""Pre-training: rows are packed and labelled as said, runs are repeatable and survive a kill."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from interp.debate.agents import Request
from interp.debate.personas import PLAIN
from interp.errors import TimeUp, UserError
from interp.generation.agents import LocalAgent
from interp.models.model import load_model
from interp.organism.language import BOS, EOS, make_tokenizer
from interp.organism.pretraining import Pretraining, batch, learning_rate, make_model, pretrain

TINY = Pretraining(steps=12, n_layers=2, width=16, n_heads=2, mlp_width=24, rows=2, warm_up=3)
TOKENIZER = make_tokenizer()


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(tmp_path_factory.mktemp("organism") / "base", TINY, log_every=4)


def test_the_default_organism_is_small() -> None:
    model = make_model(Pretraining(), TOKENIZER)
    assert 0.8e6 < sum(p.numel() for p in model.parameters()) < 1e6
    again, other = make_model(TINY, TOKENIZER), make_model(replace(TINY, seed=1), TOKENIZER)
    assert torch.equal(make_model(TINY, TOKENIZER).lm_head.weight, again.lm_head.weight)
    assert not torch.equal(other.lm_head.weight, again.lm_head.weight)


def test_rows_hold_whole_lessons_and_learn_what_is_said() -> None:
    settings = Pretraining(rows=6, drilled=0.5, steps=100)
    ids, labels = batch(settings, TOKENIZER, 0)
    assert ids.shape == labels.shape == (6, 256)
    assert torch.equal(batch(settings, TOKENIZER, 0)[0], ids)
    assert not torch.equal(batch(settings, TOKENIZER, 1)[0], ids)
    assert (ids == TOKENIZER.pad_token_id).float().mean() < 0.1
    texts = TOKENIZER.batch_decode(ids)
    assert all(text.count(BOS) == text.count(EOS) > 0 for text in texts)
    assert [BOS + "Problem" in text or "|>Problem" in text for text in texts] == [False] * 3 + [True] * 3
    assert torch.equal(labels[labels >= 0], ids[labels >= 0])
    for row, text in enumerate(texts[3:], start=3):
        learned = TOKENIZER.decode(ids[row][labels[row] >= 0])
        assert "Problem" not in learned
        assert BOS not in learned
        assert "<|revise|>" not in learned
        assert learned.count("\\boxed{") == text.count("\\boxed{")
        assert learned.count(EOS) == text.count(EOS)
        assert ":\n" not in learned
    answers = batch(replace(settings, learn_shown=False), TOKENIZER, 0)[1]
    assert torch.equal(answers[answers >= 0], ids[answers >= 0])
    assert (answers >= 0).sum() < (labels >= 0).sum()


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(TINY, step) for step in range(12)]
    assert rates[2] == pytest.approx(TINY.learning_rate)
    assert rates[:3] == sorted(rates[:3])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.1 * TINY.learning_rate


def test_a_base_is_an_ordinary_model(base: Path) -> None:
    assert {path.name for path in base.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("chat_template.jinja", "pretraining.json", "metrics.jsonl"),
    }
    model = load_model(str(base))
    [answer] = LocalAgent(PLAIN, model).answer([Request("3+4*5+2-6*7", 1)])
    assert answer.input_tokens == 14
    weights = load_file(base / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert json.loads((base / "pretraining.json").read_text())["steps"] == 12
    lines = [json.loads(line) for line in (base / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert not base.with_name("base.resume").exists()


def test_the_same_seed_gives_the_same_base_a_kill_in_between_or_not(base: Path, tmp_path: Path) -> None:
    def killed(step: int, steps: int, loss: float) -> None:
        if step == 8:
            raise KilledError

    with pytest.raises(KilledError):
        pretrain(tmp_path / "base", TINY, resume_every=3, log_every=4, progress=killed)
    assert not (tmp_path / "base").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["base.resume"]
    with safe_open(tmp_path / "base.resume", framework="numpy") as kept:  # no pickle
        assert json.loads(kept.metadata()["interp"])["step"] == 6
    with pytest.raises(UserError, match=r"base\.resume: made with other settings"):
        pretrain(tmp_path / "base", replace(TINY, seed=1))
    for step in (8, 10):  # out of time where it went on from, and later
        with pytest.raises(TimeUp, match=f"base stopped at step {step} of 12"):
            pretrain(tmp_path / "base", TINY, log_every=2 if step > 8 else 4, stop=lambda: True)
    seen: list[int] = []
    pretrain(tmp_path / "base", TINY, log_every=1, progress=lambda step, steps, loss: seen.append(step))
    assert seen == [11, 12]
    expected, found = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "base"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_finished_base_is_kept_and_another_is_refused(base: Path, tmp_path: Path) -> None:
    before = (base / "model.safetensors").stat().st_mtime_ns
    assert pretrain(base, TINY) == base
    assert (base / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="made with other settings"):
        pretrain(base, replace(TINY, seed=1))
    with pytest.raises(UserError, match="is not an organism"):
        pretrain(tmp_path, TINY)
    with pytest.raises(UserError, match="0 steps"):
        Pretraining(steps=0)
