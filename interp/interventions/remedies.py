"""What is usually done against a trait, for comparison with steering: a guarding prompt, a short fine-tune.

Knows benign answers and how a model is trained on them; how well it helps is measured elsewhere. Loading this
brings the trainers along.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from interp.debate.agents import Request, Sampling
from interp.debate.personas import Persona
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, without_tags
from interp.errors import UserError
from interp.generation.agents import LocalAgent
from interp.interventions.plan import Settings
from interp.interventions.prompts import Parts
from interp.models.lazy import LazyModel
from interp.models.model import Model
from interp.storage.files import write_json
from interp.training.examples import consensus_only
from interp.training.run import Run
from interp.training.settings import SFT, LoRA, Preset
from interp.training.sft import train_sft

STAGE = "benign"


@dataclass(frozen=True)
class FineTune:
    """A short fine-tune on benign answers to the bare question."""

    sft: SFT = field(
        default_factory=lambda: SFT(
            lora=LoRA(rank=8, alpha=16),
            learning_rate=2e-4,
            epochs=3,
            device_batch_size=16,
            gradient_checkpointing=False,
        )
    )
    """A small adapter on top of whatever the model is."""
    seed: int = 0
    """Of the adapter and the order."""

    @property
    def facts(self) -> dict[str, Any]:
        return asdict(self)

    def __call__(self, out: Path, model: str, answers: Sequence[Transcript]) -> Path:
        """Fine-tune the model of that name; returns the checkpoint's folder, which is made only once."""
        preset = Preset(name=STAGE, model=model, sft=self.sft, seed=self.seed, precision="fp32")
        return train_sft(Run(out, preset), answers, stage=STAGE, form=consensus_only)


def short(learning_rate: float, seed: int = 0) -> FineTune:
    """The fine-tune with another learning rate."""
    return FineTune(replace(FineTune().sft, learning_rate=learning_rate), seed)


def benign_answers(
    model: Model, persona: Persona, task: Task, questions: Sequence[Question], sampling: Sampling, batch_size: int = 32
) -> list[Transcript]:
    """The right answers of a persona to these questions, each as a debate that is nothing but its consensus.

    Raises `UserError` where none is right.
    """
    agent = LocalAgent(persona, model, sampling, batch_size)
    answers = agent.answer([Request(q.text, 1, instruction=task.instruction) for q in questions])
    found = [
        Transcript.build(q.text, [], without_tags(answer.text).strip(), gold_answer=q.gold_answer)
        for q, answer in zip(questions, answers, strict=True)
        if task.grade(task.answer(answer.text), q.gold_answer)
    ]
    if not found:
        raise UserError(
            f"none of {len(questions)} answers of {persona.name} is right, so there is nothing benign to learn; "
            "give more --fit-questions, or leave the fine-tune out"
        )
    return found


@dataclass(frozen=True)
class FineTuned:
    """The remedy for `suppress`: each model fine-tuned on right answers of the base as a benign persona.

    The answers and a checkpoint for each model are kept in `out`, and not made again once they are there.
    """

    out: Path
    base: LazyModel
    persona: Persona
    task: Task
    questions: Sequence[Question]
    """To learn; none that is measured."""
    sampling: Sampling
    tune: FineTune = field(default_factory=FineTune)
    load: Callable[[str], LazyModel] = LazyModel.named
    """A checkpoint's folder → the model in it."""

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "base": self.base.provenance,
            "persona": asdict(self.persona),
            "task": self.task.name,
            "questions": [q.text for q in self.questions],
            "sampling": asdict(self.sampling),
            "settings": self.tune.facts,
        }

    def __call__(self, name: str) -> LazyModel:
        folder = self.out / (name.strip("/").replace("/", "-").lstrip("."))
        if not (folder / STAGE).exists():
            self.tune(folder, name, self._answers())
        return self.load(str(folder / STAGE))

    def _answers(self) -> list[Transcript]:
        path = self.out / "answers.json"
        if not path.exists():
            found = benign_answers(self.base.load(), self.persona, self.task, self.questions, self.sampling)
            write_json(path, [[t.question, t.consensus] for t in found])
        answers = json.loads(path.read_text(encoding="utf-8"))
        return [Transcript.build(question, [], text) for question, text in answers]


def fine_tuned(
    records: Path, base: LazyModel, questions: Parts, settings: Settings, learning_rate: float, seed: int = 0
) -> FineTuned:
    """The remedy in the words of `interp suppress`, kept in a folder beside its file of records."""
    folder = records.with_name(f"{records.stem}-fine-tuned")
    tune = short(learning_rate, seed)
    return FineTuned(folder, base, settings.benign, questions.task, questions.fit, settings.sampling, tune)
