"""Both stages on toy models; what they leave behind is what was trained."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_hf, make_tokenizer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from interp.debate.embedded import read_embedded
from interp.debate.tasks import TASKS
from interp.errors import UserError
from interp.models.lineage import read_lineage
from interp.models.loading import export_merged, load_plain
from interp.models.model import load_model
from interp.models.tokens import tokenized_as
from interp.storage.journal import read_lines
from interp.training import grpo, loop, sft
from interp.training.run import Run
from interp.training.schedule import Descent
from interp.training.settings import GRPO, SFT, LoRA, Preset
from interp.training.sft import consensus_only

IDS = torch.arange(5, 45)[None]
TASK = TASKS["arithmetic"](low=1, high=9)
TRANSCRIPTS = read_embedded("scripted")[:8]


class Killed(BaseException):
    """As good as a SIGKILL: nothing after it runs."""


def make_base(folder: Path, architecture: str = "llama", kind: str = "bytes", **changes: Any) -> Path:
    make_hf(architecture, n_layers=2, **changes).save_pretrained(folder)
    make_tokenizer(kind).save_pretrained(folder)
    return folder


def toy(base: Path, **changes: Any) -> Preset:
    settings: dict[str, Any] = {
        "sft": SFT(
            lora=LoRA(rank=4, alpha=4),
            learning_rate=1e-2,
            epochs=2,
            batch_size=4,
            device_batch_size=2,
            gradient_checkpointing=False,
            save_every=1,
        ),
        "grpo": GRPO(
            lora=LoRA(rank=4, alpha=8, dropout=0.1),
            learning_rate=1e-3,
            num_generations=4,
            num_iterations=2,
            epochs=2,
            batch_size=8,
            device_batch_size=4,
            temperature=1.0,
            schedule="waiting",
            descent=Descent(24, 8),
            generation="interp",
            gradient_checkpointing=False,
            save_every=2,
        ),
        **changes,
    }
    return Preset("toy", str(base), **settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), tie_word_embeddings=True)


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was not killed."""
    run = Run(tmp_path_factory.mktemp("whole"), toy(base))
    sft.train_sft(run, TRANSCRIPTS)
    stage_two(run)
    return run


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The trainers at the end of each stage."""
    seen: list[Any] = []
    finish = loop.finish

    def spy(run: Run, stage: str, trainer: Any, *rest: Any) -> Path:
        seen.append(trainer)
        trainer.model.set_attn_implementation("sdpa")  # it may have learnt from packed rows, which tests do not give it
        return finish(run, stage, trainer, *rest)

    monkeypatch.setattr(loop, "finish", spy)
    return seen


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def stage_two(run: Run, **settings: Any) -> Path:
    changed = replace(run.preset.grpo, **settings)
    return grpo.train_grpo(run, str(run.checkpoint("sft")), TASK.questions(4, seed=0), TASK, settings=changed)


def untimed(run: Run) -> list[dict[str, Any]]:
    """A run's metrics without those of time."""
    timed = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second", "tokens_per_second")
    timed += tuple(f"{part}_{unit}" for part in ("sampling", "learning") for unit in ("seconds", "share"))
    return [{name: row[name] for name in row if name not in timed} for row in read_lines(run.metrics)]


def killed_at(step: int) -> Callable[..., None]:
    def progress(stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
        if done == step:
            raise Killed

    return progress


@pytest.mark.parametrize(
    ("architecture", "kind", "tied", "generation"),
    [
        ("llama", "merging", False, "interp"),
        ("qwen2", "merging", True, "trl"),
        ("mistral", "metaspace", False, "interp"),
        ("llama", "bytes", True, "interp"),
    ],
)
def test_both_stages_and_the_model_that_comes_back(
    architecture: str, kind: str, tied: bool, generation: str, tmp_path: Path, trainers: list[Any]
) -> None:
    folder = make_base(tmp_path / "base", architecture, kind, tie_word_embeddings=tied)
    run = Run(tmp_path / "run", toy(folder))
    first = sft.train_sft(run, TRANSCRIPTS)
    second = stage_two(run, generation=generation)
    for checkpoint, trainer in zip((first, second), trainers, strict=True):
        rebuilt = load_plain(str(checkpoint))
        unmerged = logits(trainer.model)
        torch.testing.assert_close(logits(rebuilt.hf), unmerged, atol=1e-5, rtol=1e-5)
        assert torch.equal(logits(rebuilt.hf), logits(trainer.model.merge_and_unload()))  # to the bit
    assert not torch.equal(logits(load_plain(str(first)).hf), logits(load_plain(str(second)).hf))

    # Beside the adapted maps, nothing but the rows of the tags has changed.
    before, after = (dict(load_plain(str(f)).hf.named_parameters()) for f in (folder, first))
    tags = load_plain(str(first)).tokenizer.convert_tokens_to_ids([t for t, _ in TRANSCRIPTS[0].sections])
    for name, weight in after.items():
        n = min(len(before[name]), len(weight))
        changed = (before[name][:n] != weight[:n]).flatten(1).any(1) if weight.dim() > 1 else before[name] != weight
        if "embed_tokens" in name or "lm_head" in name:
            assert set(changed.nonzero().flatten().tolist()) <= {i for i in range(n) if i >= min(tags)}
        else:
            assert changed.any() == name.endswith("_proj.weight")

    lineage = read_lineage(str(second))
    assert lineage is not None
    assert [(s.name, s.facts["kind"]) for s in lineage.stages] == [("sft", "sft"), ("imad", "grpo")]
    assert [s.facts["tokenized"] for s in lineage.stages] == ["text", "text"]
    assert lineage.tokenized == "text"
    model = load_model(str(second))
    assert model.provenance["lineage"]["base"]["name"] == "base"
    assert [a["name"] for a in model.provenance["adapters"]] == ["sft", "imad"]
    assert str(tmp_path) not in (second / "lineage.json").read_text()
    for config in second.glob("*/adapter_config.json"):
        assert str(tmp_path) not in config.read_text()
    assert {p.suffix for p in second.rglob("*") if p.is_file()} <= {".json", ".safetensors", ".jinja"}
    kept = load_file(first / "1-sft" / "adapter_model.safetensors")
    assert not [name for name in kept if name.endswith(("embed_tokens.weight", "lm_head.weight"))]
    rows = [row for row in read_lines(run.metrics) if row["stage"] == "imad" and "reward" in row]
    assert {"correctness", "structure", "length", "limit", "coefficient", "reward"} <= rows[0].keys()
    steps = [row for row in read_lines(run.metrics) if "step_time" in row]
    assert [row["sampling_seconds"] > 0 for row in steps] == 4 * [True, False]  # two steps on each batch of completions
    for row in steps:
        assert row["learning_seconds"] > 0
        assert row["sampling_share"] + row["learning_share"] == pytest.approx(1)
        assert row["sampling_seconds"] + row["learning_seconds"] == pytest.approx(row["step_time"])


@pytest.mark.parametrize("tied", [True, False])
def test_trls_fused_loss_sees_the_trained_rows(tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of TRL's fused output embedding is the plain model's, and so are the gradients of the rows."""
    seen: list[Any] = []

    def stop(run: Run, stage: str, trainer: Any, *_: Any) -> int:
        seen.append(trainer)
        raise Killed

    monkeypatch.setattr(loop, "fit", stop)
    run = Run(tmp_path / "run", toy(make_base(tmp_path / "base", tie_word_embeddings=tied)))
    with pytest.raises(Killed):
        sft.train_sft(run, TRANSCRIPTS)
    trainer = seen[0]
    batch = next(iter(trainer.get_train_dataloader()))
    example = trainer.train_dataset[0]
    assert set(example["labels"]) - {-100} <= set(example["input_ids"])
    n_prompt = next(i for i, label in enumerate(example["labels"]) if label != -100)
    assert trainer.processing_class.decode(example["input_ids"][:n_prompt]) in {t.prompt for t in TRANSCRIPTS}
    model = trainer.model.eval()
    rows = {n: p for n, p in model.named_parameters() if "trainable_tokens" in n}
    assert len(rows) == (1 if tied else 2)
    found = []
    for fused in (True, False):
        model.zero_grad()
        out = model(**batch, use_cache=False, **({"fused_lm_head": True} if fused else {}))
        out.loss.backward()
        found.append((out.loss.detach(), {n: p.grad.clone() for n, p in rows.items()}))
    (loss, gradients), (plain, expected) = found
    torch.testing.assert_close(loss, plain)
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def test_the_same_seed_gives_the_same_bytes(base: Path, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = Run(tmp_path / name, replace(toy(base), seed=seed))
        sft.train_sft(run, TRANSCRIPTS)
        folder = stage_two(run)
        weights.append([path.read_bytes() for path in sorted(folder.glob("*/*.safetensors"))])
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_a_killed_stage_goes_on_and_a_finished_one_is_left(base: Path, whole: Run, tmp_path: Path) -> None:
    run = Run(tmp_path, toy(base))
    with pytest.raises(Killed):
        sft.train_sft(replace(run, progress=killed_at(3)), TRANSCRIPTS)
    assert not run.checkpoint("sft").exists()
    steps: list[int] = []
    watched = replace(run, progress=lambda stage, done, total, metrics: steps.append(done))
    sft.train_sft(watched, TRANSCRIPTS)
    assert steps == [3, 4]  # the state of step 2 was the last one kept
    with pytest.raises(Killed):
        stage_two(replace(run, progress=killed_at(5)))
    steps.clear()
    stage_two(watched)
    assert steps == [5, 6, 7, 8]
    for left in run.out.iterdir():
        assert left.name in ("sft", "imad", "metrics.jsonl", "samples.json")
    for stage in ("1-sft", "2-imad"):
        name = "adapter_model.safetensors"
        resumed, through = ((r.checkpoint("imad") / stage / name).read_bytes() for r in (run, whole))
        assert resumed == through
    assert untimed(run) == untimed(whole)
    assert len(untimed(run)) == 4 + 1 + 8 + 1  # every step of both stages, and what each adds up to
    schedules = []
    for r in (run, whole):
        lineage = read_lineage(str(r.checkpoint("imad")))
        assert lineage is not None
        schedules.append(lineage.stages[1].facts["schedule"])
    assert schedules[0] == schedules[1]
    assert schedules[0]["seen"] == 4
    steps.clear()
    sft.train_sft(watched, TRANSCRIPTS)
    stage_two(watched)
    assert steps == []


def test_what_a_kill_left_of_a_kept_state_is_passed_over(base: Path, whole: Run, tmp_path: Path) -> None:
    run = Run(tmp_path, toy(base))
    with pytest.raises(Killed):
        sft.train_sft(replace(run, progress=killed_at(3)), TRANSCRIPTS)
    (run.kept("sft") / "checkpoint-3").mkdir()
    with run.metrics.open("a") as file:
        file.write('{"stage": "sft", "st')
    sft.train_sft(run, TRANSCRIPTS)
    assert untimed(run) == untimed(whole)[: 4 + 1]


@pytest.mark.parametrize("file", ["optimizer.pt", "trainer_state.json", "sha256.json"])
def test_a_damaged_state_is_not_resumed_from(file: str, base: Path, whole: Run, tmp_path: Path) -> None:
    run = Run(tmp_path, toy(base))
    with pytest.raises(Killed):
        sft.train_sft(replace(run, progress=killed_at(3)), TRANSCRIPTS)
    path = run.kept("sft") / "checkpoint-2" / file
    os.truncate(path, path.stat().st_size - 9)
    steps: list[int] = []
    sft.train_sft(replace(run, progress=lambda stage, done, *_: steps.append(done)), TRANSCRIPTS)
    assert steps == [1, 2, 3, 4]
    assert untimed(run) == untimed(whole)[: 4 + 1]


def killed(*_: Any, **__: Any) -> None:
    raise Killed


def test_a_kill_between_the_last_step_and_the_checkpoint(
    base: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, toy(base))
    for module, name in ((loop, "write_checkpoint"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, killed)
        with pytest.raises(Killed):
            sft.train_sft(run, TRANSCRIPTS)
        monkeypatch.undo()
        assert run.kept("sft").exists()
    assert run.checkpoint("sft").exists()
    sft.train_sft(run, TRANSCRIPTS)
    assert {path.name for path in run.out.iterdir()} == {"sft", "metrics.jsonl"}
    assert untimed(run) == untimed(whole)[: 4 + 1]


def test_debategpt_learns_the_consensus_only_and_gets_no_tags(base: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, toy(base))
    folder = sft.train_sft(run, TRANSCRIPTS, stage="debategpt", form=consensus_only)
    loaded = load_plain(str(folder))
    assert len(loaded.tokenizer) == len(make_tokenizer("bytes"))
    lineage = read_lineage(str(folder))
    assert lineage is not None
    assert lineage.stages[0].facts["learnt"] == "consensus_only"
    assert lineage.tokenized == tokenized_as(load_model(str(folder)).tokenizer) == "text"


def test_training_all_weights(base: Path, tmp_path: Path, trainers: list[Any]) -> None:
    preset = toy(base)
    run = Run(tmp_path, replace(preset, sft=replace(preset.sft, lora=None)))
    folder = sft.train_sft(run, TRANSCRIPTS)
    assert torch.equal(logits(load_plain(str(folder)).hf), logits(trainers[0].model))
    stage_two(run)


def test_adapters_rounded_to_half_are_what_the_next_stage_starts_from(base: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, replace(toy(base), adapter_dtype="fp16"))
    first = sft.train_sft(run, TRANSCRIPTS)
    weights = load_file(first / "1-sft" / "adapter_model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float16}
    second = stage_two(run)
    assert (second / "1-sft" / "adapter_model.safetensors").read_bytes() == (
        first / "1-sft" / "adapter_model.safetensors"
    ).read_bytes()


def test_a_changed_base_or_stage_is_refused(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    run = Run(tmp_path / "run", toy(folder))
    checkpoint = sft.train_sft(run, TRANSCRIPTS)
    make_base(folder, intermediate_size=64)
    with pytest.raises(UserError):
        load_model(str(checkpoint))
    make_base(folder, rms_norm_eps=1e-3)  # fits, and is another model
    with pytest.raises(UserError, match=r"its base base has the hash .* restore that base"):
        load_model(str(checkpoint))
    make_base(folder)
    load_model(str(checkpoint))
    path = checkpoint / "1-sft" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"lora_alpha": 8}))
    with pytest.raises(UserError, match="stage sft do not match their hash"):
        load_model(str(checkpoint))


def test_merged_export(base: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", toy(base))
    checkpoint = sft.train_sft(run, TRANSCRIPTS)
    export_merged(str(checkpoint), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert torch.equal(logits(merged), logits(load_plain(str(checkpoint)).hf))
    assert "<|endofdebate|>" in AutoTokenizer.from_pretrained(tmp_path / "merged").get_vocab()
    with pytest.raises(UserError, match="exists; give a new folder"):
        export_merged(str(checkpoint), tmp_path / "merged")


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"[]",
        b'{"format": 1, "base": {"name": 5, "revision": null, "hash": null}, "stages": []}',
        b'{"format": 1, "base": {"name": "x", "revision": null, "hash": null, "folder": 7}, "stages": []}',
    ],
)
def test_a_lineage_of_another_shape_is_refused(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "lineage.json").write_bytes(text)
    with pytest.raises(UserError, match="not a lineage that this version of interp reads"):
        read_lineage(str(tmp_path))
