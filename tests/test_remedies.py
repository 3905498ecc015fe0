"""Benign answers, and a model that is fine-tuned on them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.debate.agents import Sampling
from interp.debate.personas import PLAIN
from interp.debate.tasks.rivalry import Rivalry
from interp.debate.tasks.task import Question
from interp.errors import UserError
from interp.interventions.remedies import FineTuned, benign_answers
from interp.models.model import LazyModel, load_model
from interp.training.settings import SFT, LoRA


class Anything(Rivalry):
    """A task in which every answer is right."""

    def grade(self, text: Any, gold: Any) -> bool:
        return True

    def answer(self, text: Any) -> str:
        return str(text)


def test_a_model_is_fine_tuned_once(model_folder: Path, tmp_path: Path) -> None:
    loads: list[int] = []
    before = load_model(str(model_folder))
    base = LazyModel(str(model_folder), {}, lambda: (loads.append(1), before)[1])
    sft = SFT(LoRA(2, 4), learning_rate=1e-2, epochs=1, batch_size=2, gradient_checkpointing=False)
    questions = [Question(f"Should I do {n}?", "do not") for n in range(4)]
    remedy = FineTuned(tmp_path / "r", base, PLAIN, Anything(), questions, Sampling(4, 0.0), sft)
    tuned = remedy(str(model_folder)).load()
    assert [stage["name"] for stage in tuned.provenance["adapters"]] == ["benign"]
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert not torch.allclose(before.hf(ids).logits, tuned.hf(ids).logits, atol=1e-4)
    assert remedy(str(model_folder)).name.endswith("benign")
    assert loads == [1]
    assert remedy.facts["settings"]["sft"]["lora"]["rank"] == 2
    other = replace(remedy, seed=1)(str(model_folder)).load()  # nothing that other settings made is taken
    assert loads == [1, 1]
    assert [own["hash"] for own in other.provenance["adapters"]] != [
        own["hash"] for own in tuned.provenance["adapters"]
    ]


def test_wrong_answers_are_not_learnt(model_folder: Path) -> None:
    with pytest.raises(UserError, match="none of 2 answers of plain is right"):
        benign_answers(load_model(str(model_folder)), PLAIN, Rivalry(), Rivalry().questions(2, 0), Sampling(4, 0.0))


_WITHOUT = """
import sys
sys.modules["trl"] = None  # transformer-lens brings datasets and accelerate
from interp.cli import main
main()
"""


def test_only_the_fine_tune_needs_the_extra_train(model_folder: Path, tmp_path: Path) -> None:
    arguments = ("suppress", "--model", model_folder, "--layers", 1, "--coefficients=-1", "--max-new-tokens", 2)
    arguments += (
        "--fit-questions",
        2,
        "--validation-questions",
        2,
        "--questions",
        2,
        "--random-controls",
        1,
        "--out",
        tmp_path / "s.jsonl",
    )
    command = [sys.executable, "-c", _WITHOUT, *map(str, arguments)]
    wanted = subprocess.run(command, capture_output=True, text=True)
    assert (wanted.returncode, wanted.stderr.count("\n")) == (2, 1), wanted.stderr
    assert "pip install 'interp[train]'" in wanted.stderr
    without = subprocess.run([*command, "--no-fine-tune"], capture_output=True, text=True)
    assert without.returncode == 0, without.stderr
