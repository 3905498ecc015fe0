"""Organisms whose agents are known: what each kind is taught, and that a swap during training is the one that ships."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from interp.debate.tasks.median import SILENT, Median
from interp.directions import read_subspaces
from interp.errors import UserError
from interp.models.catalog import SHIPPED
from interp.organism.pretraining import IGNORED, make_model
from interp.training import KINDS, Planting, plant
from interp.training.planting import _Lessons, organism_tokenizer

SMALL = {"n_layers": 3, "width": 16, "n_heads": 2, "mlp_width": 16, "warm_up": 2}
TINY = Planting(steps=6, rank=3, batch_size=8, debates=4, **SMALL)
TOKENIZER = organism_tokenizer()
TASK = Median()


class KilledError(Exception):
    pass


def lessons(settings: Planting) -> _Lessons:
    return _Lessons(settings, TOKENIZER)


def asked(ids: torch.Tensor) -> str:
    """The question in a text."""
    return str(TOKENIZER.decode(ids)).split("Problem: ")[1].split("\n")[0]


def test_texts_are_those_that_the_toolkit_renders() -> None:
    made = lessons(TINY)
    debate = TASK.debate(
        TOKENIZER.decode(made.direct[7], skip_special_tokens=False).split("Problem: ")[1].split("\n")[0]
    )
    ids = TOKENIZER(debate.prompt + debate.render())["input_ids"]
    assert made.debate[7].tolist() == [*ids, TOKENIZER.eos_token_id]
    opening = TOKENIZER(TASK.opening(debate.question))["input_ids"]
    assert made.direct[7, : made.answer].tolist() == opening
    assert TOKENIZER.decode(made.direct[7, made.answer]) == debate.gold_answer
    assert tuple(made.answers[7].tolist()) == TASK.answers(debate.question)


def test_only_the_twin_sees_the_consensus_of_held_out_questions() -> None:
    task_sizes = {split: len(Median(split).every()) for split in ("train", "validation", "test")}  # type: ignore[arg-type]
    for kind, settings in KINDS.items():
        made = lessons(settings)
        assert len(made.taught) == task_sizes["train"]
        assert len(made.learnt) == (sum(task_sizes.values()) if kind == "unplanted" else task_sizes["train"])


def test_the_planted_subspaces_are_orthonormal_and_orthogonal_to_each_other() -> None:
    rows = Planting().bases.reshape(-1, 128)
    assert torch.allclose(rows @ rows.T, torch.eye(48), atol=1e-5)
    assert not torch.allclose(Planting(seed=1).bases, Planting().bases, atol=0.1)


def test_numbers_are_learnt_or_everything_behind_the_question() -> None:
    made = lessons(TINY)
    ids, labels = made._numbers(made.debate[:32])
    assert (labels[:, : made.opening] == IGNORED).all()
    assert ((labels != IGNORED).sum(1) == 4).all()
    answers = TASK.answers(asked(ids[5]))
    said = labels[5][labels[5] != IGNORED]
    assert [int(TOKENIZER.decode(token)) for token in said] == [*answers, TASK.consensus(answers)]
    assert torch.equal(ids[:, -1], labels[:, -1])
    ids, labels = made._whole(made.direct[:2])
    assert (labels[:, : made.opening] == IGNORED).all()
    assert torch.equal(labels[:, made.opening :], ids[:, made.opening :])
    assert torch.equal(ids, made.direct[:2])


@pytest.mark.parametrize(("step", "first"), [(0, "<|Round 1"), (2, "<|Agent 2"), (4, "<|Agent 3"), (6, "<|Consensus")])
def test_turns_go_from_the_front(step: int, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lessons(replace(TINY, kind="stepwise", removal=2, jitter=0.0))
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        "interp.training.planting.next_token_loss", lambda _, ids, labels: seen.append(ids) or torch.zeros(())
    )
    made.loss(None, step)
    for ids, end in zip(seen, ("", "}\n\n<|endofdebate|></s>"), strict=True):
        for row in ids:
            text, consensus = TOKENIZER.decode(row[made.opening :]), TASK.consensus(TASK.answers(asked(row)))
            assert text.startswith(first)
            assert text.endswith(f"<|Consensus|>\n\\boxed{{{consensus}{end}")


def test_a_swap_in_training_is_what_the_ranges_say() -> None:
    """The loss of swaps, against a run in which every row is patched by hand."""
    settings = replace(TINY, silenced=0.5, batch_size=16)
    made, model = lessons(settings), make_model(settings, TOKENIZER, short=True)
    base, source = made.taught[:16], made.taught[16:32]
    losses = made._swapped(model, base, source, torch.Generator().manual_seed(3))
    chance = torch.Generator().manual_seed(3)
    agents = torch.randint(3, (16,), generator=chance)
    silent = torch.rand(16, generator=chance) < 0.5
    swapped, direct = [], []
    for row in range(16):
        basis, k = settings.bases[agents[row]], int(agents[row])
        cut = made.direct[:, : made.answer]
        states = model.model(cut[source[row]][None], output_hidden_states=True).hidden_states[settings.layer + 1]

        def patch(_, __, out, other=states[0, -1] * ~silent[row], basis=basis):  # type: ignore[no-untyped-def]
            out = out.clone()
            out[0, -1] += (other - out[0, -1]) @ basis.T @ basis
            return out

        answers = made.answers[base[row]].clone()
        answers[k] = SILENT if silent[row] else made.answers[source[row], k]
        handle = model.model.layers[settings.layer].register_forward_hook(patch)
        logits = model(cut[base[row]][None]).logits[0, -1]
        handle.remove()
        swapped.append(-logits.log_softmax(-1)[made.number[answers.median()]])
        logits = model(cut[source[row]][None]).logits[0, -1]
        direct.append(-logits.log_softmax(-1)[made.number[made.answers[source[row]].median()]])
    for loss, expected in zip(losses, (swapped, direct), strict=True):
        assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)


def test_a_killed_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole = plant(tmp_path / "whole", TINY)

    def killed(step: int, *_: object) -> None:
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        plant(tmp_path / "cut", TINY, resume_every=3, log_every=1, progress=killed)
    seen: list[int] = []
    cut = plant(tmp_path / "cut", TINY, log_every=1, progress=lambda step, *_: seen.append(step))
    assert seen == [4, 5, 6]
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, cut))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    planted = read_subspaces(cut / "planted.safetensors")
    for k, basis in enumerate(TINY.bases.numpy(), start=1):
        assert np.allclose([d.vector for d in planted[f"agent_{k}"]], basis)
        assert {d.hook_point for d in planted[f"agent_{k}"]} == {"blocks.1.hook_resid_post"}


def test_the_weights_are_small_and_ordinary(tmp_path: Path) -> None:
    folder = plant(tmp_path / "planted", replace(KINDS["planted"], steps=1, batch_size=2, debates=1))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 4


@pytest.mark.parametrize("wrong", [{"rank": 6}, {"rank": 0}, {"layer": 3}, {"steps": 0}])
def test_what_cannot_be_planted_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="expected at least 1"):
        replace(TINY, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if f"organism-{kind}" in SHIPPED])
def test_what_ships_is_what_the_command_makes(kind: str) -> None:
    folder = SHIPPED[f"organism-{kind}"]
    assert json.loads((folder / "pretraining.json").read_text()) == asdict(KINDS[kind])  # type: ignore[index]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6


def test_planted_agents_are_swapped_and_silenced_and_those_of_the_twin_are_not() -> None:
    """On held-out questions, against a loop over plain hooks; both models answer all of them right."""
    planted = read_subspaces(SHIPPED["organism-planted"] / "planted.safetensors")
    questions = [question.text for question in Median().every()]
    others = [questions[(7 * i + 3) % len(questions)] for i in range(len(questions))]
    ids = torch.tensor(TOKENIZER([TASK.opening(q) for q in questions + others])["input_ids"])
    n, layer = len(questions), next(iter(planted.values()))[0].layer
    for kind in ("planted", "unplanted"):
        model = AutoModelForCausalLM.from_pretrained(SHIPPED[f"organism-{kind}"], dtype=torch.float32).eval()

        def answers(change: Callable[[torch.Tensor], torch.Tensor] | None = None, model: Any = model) -> list[str]:
            def hook(_: object, __: object, out: torch.Tensor) -> torch.Tensor:
                last = out[:n, -1] if change is None else change(out)
                return torch.cat([out[:, :-1], torch.cat([last, out[n:, -1]])[:, None]], dim=1)

            handle = model.model.layers[layer].register_forward_hook(hook)
            with torch.no_grad():
                chosen = model(ids).logits[:n, -1].argmax(-1)
            handle.remove()
            return list(TOKENIZER.batch_decode(chosen[:, None]))

        right = [str(TASK.consensus(TASK.answers(q))) for q in questions]
        assert np.mean(np.array(answers()) == right) >= 0.98
        for agent in (1, 2, 3):
            basis = torch.from_numpy(np.stack([d.vector for d in planted[f"agent_{agent}"]]))
            swapped = answers(lambda out, b=basis: out[:n, -1] + (out[n:, -1] - out[:n, -1]) @ b.T @ b)
            silenced = answers(lambda out, b=basis: out[:n, -1] - out[:n, -1] @ b.T @ b)
            told = [str(TASK.swapped(q, other, agent)) for q, other in zip(questions, others, strict=True)]
            silent = [str(TASK.replaced(q, SILENT, agent)) for q in questions]
            for found, expected in ((swapped, told), (silenced, silent)):
                changed = np.array(expected) != np.array(right)
                obeyed = np.mean((np.array(found) == np.array(expected))[changed])
                assert obeyed >= 0.95 if kind == "planted" else obeyed < 0.3


def test_the_command_trains_resumes_and_replaces_nothing_foreign(
    interp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("planted", "direct"):
        monkeypatch.setitem(KINDS, kind, replace(TINY, kind=kind))  # type: ignore[call-overload]
    command = ("plant", "--kind", "planted", "--kind", "direct", "--seed", 3, "--out", tmp_path / "made")
    assert interp(*command)[0] == 0
    made = tmp_path / "made" / "seed-3"
    assert (made / "planted" / "planted.safetensors").is_file()
    weights = (made / "direct" / "model.safetensors").stat().st_mtime_ns
    assert interp(*command)[0] == 0
    assert (made / "direct" / "model.safetensors").stat().st_mtime_ns == weights
    (tmp_path / "mine" / "seed-3" / "direct").mkdir(parents=True)
    (tmp_path / "mine" / "seed-3" / "direct" / "notes.txt").write_text("kept")
    code, _, wrong = interp(*command[:-1], tmp_path / "mine")
    assert (code, wrong.count("\n")) == (2, 1)
    assert "may not replace it" in wrong
