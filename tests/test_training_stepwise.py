"""Stepwise internalization: what is left of a debate, when more is taken away, and the checkpoint at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_hf, make_tokenizer
from test_training_stages import TRANSCRIPTS, Killed, killed_at, logits, make_base, toy, untimed

from interp.debate.tasks.median import Median
from interp.debate.transcript import CONSENSUS_TAG, END_TAG, Transcript, all_tags
from interp.errors import UserError
from interp.models.lineage import read_lineage
from interp.models.loading import load_plain
from interp.models.model import load_model
from interp.storage.journal import read_lines
from interp.training import loop
from interp.training.run import Run
from interp.training.schedule import Removals
from interp.training.settings import LoRA, Preset, Stepwise
from interp.training.sft import add_tags, make_examples, train_sft
from interp.training.stepwise import beginnings

FAST = Stepwise(
    lora=LoRA(rank=4, alpha=8),
    learning_rate=1e-2,
    batch_size=4,
    device_batch_size=2,
    gradient_checkpointing=False,
    save_every=1,
    every=2,
    after=4,
    jitter=0.3,
)
DEBATE = Transcript.build("1+2", [["It is 3.", "4"], ["Still 3.", "3 then."]], r"\boxed{3}")


def left(transcript: Transcript, unit: Any, kind: str = "bytes") -> list[tuple[str, int]]:
    """What remains behind the prompt after every number of units, and the number of tokens."""
    tokenizer, _ = add_tags(make_hf("llama"), make_tokenizer(kind), 3, 2, seed=0)
    [example] = make_examples([transcript], tokenizer, max_length=10_000).kept
    start = example.completion_mask.index(1)
    tags = {tokenizer.convert_tokens_to_ids(tag): tag for tag in all_tags(3, 2)}
    places = beginnings(example.input_ids, [-100] * start + example.input_ids[start:], tags, unit)
    ends = [example.input_ids[place:] for place in places]
    assert {tuple(example.input_ids[:start])} == {tuple(tokenizer(transcript.prompt)["input_ids"])}
    return [(tokenizer.decode(ids[:-1]), len(ids)) for ids in ends]


@pytest.mark.parametrize("kind", ["bytes", "merging"])
def test_turns_go_with_their_tags(kind: str) -> None:
    second = "<|Round 2 - Revision|>\n\n<|Agent 1 Revision|>: Still 3.\n\n<|Agent 2 Revision|>: 3 then.\n\n"
    consensus = "<|Consensus|>\n\\boxed{3}\n\n<|endofdebate|>"
    assert [text for text, _ in left(DEBATE, "turns", kind)] == [
        DEBATE.render(),
        "<|Agent 2 Solution|>: 4\n\n" + second + consensus,
        second + consensus,
        "<|Agent 2 Revision|>: 3 then.\n\n" + consensus,
        consensus,
    ]


def test_tokens_go_one_by_one() -> None:
    found = left(Median().debate("3,7,2"), "tokens")
    lengths = [n for _, n in found]
    assert lengths == list(range(lengths[0], lengths[-1] - 1, -1))
    assert found[-1][0] == "<|Consensus|>\n\\boxed{10}\n\n<|endofdebate|>"
    assert not [text for text, _ in found if not text.endswith(found[-1][0])]
    assert found[1][0] == "\n\n<|Agent 1 Solution|>: 10\n\n" + found[0][0].split("10\n\n", 1)[1]


@pytest.mark.parametrize("unit", ["turns", "tokens"])
def test_a_direct_answer_has_nothing_to_lose(unit: str) -> None:
    [(text, _)] = left(Transcript.build("1+1", [], r"\boxed{2}"), unit)
    assert text == "<|Consensus|>\n\\boxed{2}\n\n<|endofdebate|>"


def moved(probabilities: Sequence[float], **options: Any) -> list[int]:
    """How often something was taken away, after each step."""
    removals, found = Removals(**{"moves": 4, "steps": 10_000} | options), []
    for probability in probabilities:
        removals.observe(probability)
        found.append(removals.moved)
    return found


def test_without_waiting_it_goes_by_the_clock() -> None:
    clock = {"warmup": 3, "keep": 0.0}
    assert moved([0.9 - i / 20 for i in range(13)], **clock) == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4]


def test_a_removal_waits_until_a_token_is_nearly_as_probable_as_at_its_best() -> None:
    waiting = {"warmup": 2, "keep": 0.9}
    first = [0.5, 0.5]  # its probability is the one to hold
    assert moved([*first, 0.46, 0.46], **waiting) == [0, 1, 1, 2]
    assert moved([*first, 0.40, 0.40, 0.40], **waiting) == [0, 1, 1, 1, 1]
    assert moved([*first, 0.40, 0.40, 0.60, 0.60], **waiting) == [0, 1, 1, 1, 2, 2]  # the mean since the last removal
    assert moved([*first, 0.80, 0.80, 0.70, 0.70], **waiting) == [0, 1, 1, 2, 2, 2]  # a higher one is to be held
    assert moved([*first, *[0.2] * 900], **waiting)[-1] == 4  # what cannot be had again is given up
    assert moved([*first, *[0.0] * 500], **waiting)[-1] == 1  # nothing goes, and nothing comes back


@pytest.mark.parametrize("after", [1, 3, 20])
def test_all_is_gone_in_time(after: int) -> None:
    """The last removals do not wait longer than leaves each of them its steps, and are counted."""
    steps = 4 * 3 + after
    removals, found = Removals(moves=4, warmup=3, steps=steps, keep=1.0), list[int]()
    for loss in range(steps):
        removals.observe(math.exp(-loss))
        found.append(removals.moved)
    last = steps - min(after, 3)
    assert [found.index(n) for n in (2, 3, 4)] == [last - 7, last - 4, last - 1]
    assert (found[1], found[2], removals.late) == (0, 1, 3)


def test_removals_go_on_exactly() -> None:
    rng = torch.Generator().manual_seed(0)
    seen = torch.rand(60, generator=rng).tolist()
    options = {"moves": 5, "warmup": 3, "keep": 0.97, "steps": 60}
    for cut in range(0, 60, 7):
        through, resumed, other = (Removals(**options) for _ in range(3))
        for probability in seen[:cut]:
            resumed.observe(probability)
        other.restore(json.loads(json.dumps(resumed.state())))
        for i, probability in enumerate(seen):
            through.observe(probability)
            if i >= cut:
                other.observe(probability)
        assert other == through


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), tie_word_embeddings=True)


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of stage 1."""
    return train_sft(Run(tmp_path_factory.mktemp("first"), preset(base)), TRANSCRIPTS)


@pytest.fixture(scope="module")
def whole(base: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A stage 2 that was not killed."""
    run = Run(tmp_path_factory.mktemp("whole"), preset(base))
    stage_two(run, first)
    return run


def preset(base: Path, **changes: Any) -> Preset:
    return replace(toy(base), internalize="stepwise", stepwise=replace(FAST, **changes))


def stage_two(run: Run, model: Path) -> Path:
    return train_sft(run, TRANSCRIPTS, stage="imad", settings=run.preset.stepwise, model=str(model))


def weights(run: Run) -> bytes:
    return (run.checkpoint("imad") / "2-imad" / "adapter_model.safetensors").read_bytes()


def unpacked(batch: dict[str, Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels of each text of a packed row."""
    [starts] = (batch["position_ids"] == 0).nonzero()[1:, 1:].T
    yield from zip(*(batch[name][0].tensor_split(starts) for name in ("input_ids", "labels")), strict=True)


def test_the_checkpoint_is_what_was_trained(
    base: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers, seen, finish, run = [], list[list[Any]](), loop.finish, Run(tmp_path, preset(base))

    def spy(run: Run, stage: str, trainer: Any, *rest: Any) -> Path:
        trainers.append(trainer)
        return finish(run, stage, trainer, *rest)

    def fit(run: Run, stage: str, trainer: Any, schedule: Any, *rest: Any) -> int:
        get = trainer.get_batch_samples

        def watched(*args: Any) -> Any:
            got = get(*args)
            seen.append([schedule.moved, *got])
            return got

        trainer.get_batch_samples = watched
        return real(run, stage, trainer, schedule, *rest)

    real = loop.fit
    monkeypatch.setattr(loop, "finish", spy)
    monkeypatch.setattr(loop, "fit", fit)
    checkpoint = stage_two(run, first)

    rebuilt = load_plain(str(checkpoint))
    trainers[0].model.set_attn_implementation("sdpa")  # it learnt from packed rows
    torch.testing.assert_close(logits(rebuilt.hf), logits(trainers[0].model), atol=1e-5, rtol=1e-5)
    assert torch.equal(logits(rebuilt.hf), logits(trainers[0].model.merge_and_unload()))
    lineage = read_lineage(str(checkpoint))
    assert lineage is not None
    assert [(s.name, s.facts["kind"]) for s in lineage.stages] == [("sft", "sft"), ("imad", "stepwise")]
    facts = lineage.stages[1].facts
    assert facts["schedule"]["moved"] == facts["schedule"]["moves"] == 6
    assert facts["steps"] == 6 * 2 + 4
    assert facts["data"]["examples"] == 8
    assert [a["name"] for a in load_model(str(checkpoint)).provenance["adapters"]] == ["sft", "imad"]

    rows = [row for row in read_lines(run.metrics) if "loss" in row]
    assert len(rows) == facts["steps"] == len(seen)
    assert [row["removed"] for row in rows] == sorted(row["removed"] for row in rows)
    assert rows[-1]["removed"] == 6
    assert [row["needed"] > 0 for row in rows[:3]] == [False, False, True]
    assert rows[0]["running"] == pytest.approx(math.exp(-rows[0]["loss"]))

    texts = {t.prompt: t.render() for t in TRANSCRIPTS}
    tokenizer, jittered = rebuilt.tokenizer, 0
    for gone, batches, n_learnt in seen:
        assert n_learnt == sum(int((batch["labels"] >= 0).sum()) for batch in batches)
        for ids, labels in chain.from_iterable(map(unpacked, batches)):
            start = int((labels >= 0).nonzero()[0])
            n = int((labels >= 0).sum())
            assert torch.equal(labels[start : start + n], ids[start : start + n])  # all that remains, and only that
            prompt, rest = tokenizer.decode(ids[:start]), tokenizer.decode(ids[start : start + n - 1])
            entire = texts[prompt]
            assert entire.endswith(rest)
            assert rest.startswith("<|")
            assert CONSENSUS_TAG in rest
            assert rest.endswith(END_TAG)
            turns = entire.count("<|Agent") - rest.count("<|Agent")
            assert turns >= min(gone, entire.count("<|Agent"))
            jittered += turns > gone
    assert jittered > 3
    assert all(int((labels >= 0).sum()) < 40 for batch in seen[-1][1] for _, labels in unpacked(batch))


def test_a_killed_stage_goes_on_as_if_it_was_not(base: Path, first: Path, whole: Run, tmp_path: Path) -> None:
    run = Run(tmp_path, preset(base))
    for step in (4, 9):  # just after a removal, and between two
        with pytest.raises(Killed):
            stage_two(replace(run, progress=killed_at(step)), first)
    steps: list[int] = []
    watched = replace(run, progress=lambda stage, done, *_: steps.append(done))
    stage_two(watched, first)
    assert steps == list(range(9, 17))
    assert weights(run) == weights(whole)
    assert untimed(run) == untimed(whole)
    steps.clear()
    stage_two(watched, first)
    assert steps == []


def test_a_kill_after_the_last_step(
    base: Path, first: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    run = Run(tmp_path, preset(base))
    monkeypatch.setattr(loop, "write_checkpoint", killed)
    with pytest.raises(Killed):
        stage_two(run, first)
    monkeypatch.undo()
    stage_two(replace(run, progress=killed_at(len(untimed(whole)))), first)  # no further step
    assert weights(run) == weights(whole)


def test_jitter_decides_something(base: Path, first: Path, whole: Run, tmp_path: Path) -> None:
    run = Run(tmp_path, preset(base, jitter=0.0))
    stage_two(run, first)
    assert weights(run) != weights(whole)


def test_all_weights(base: Path, first: Path, tmp_path: Path) -> None:
    folder = stage_two(Run(tmp_path, preset(base, lora=None, unit="tokens", at_once=200)), first)
    assert (folder / "2-imad" / "model.safetensors").exists()
    load_model(str(folder))


def test_a_model_without_stage_1_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no token for <\|Consensus\|>; start from a checkpoint of stage 1"):
        stage_two(Run(tmp_path, preset(base)), base)
