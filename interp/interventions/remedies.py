"""A short fine-tune on benign answers, to compare with steering. Only training itself needs the extra `train`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interp.debate.agents import Request, Sampling
from interp.debate.personas import Persona
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, without_tags
from interp.errors import UserError
from interp.generation.agents import LocalAgent
from interp.interventions.trait import Trait
from interp.models.lazy import LazyModel
from interp.models.model import Model
from interp.storage.files import write_json
from interp.training.examples import consensus_only
from interp.training.run import Run, require_trainers
from interp.training.settings import SFT, LoRA, Preset
from interp.training.sft import train_sft

STAGE = "benign"


@dataclass(frozen=True)
class FineTuned:
    """The remedy for `suppress`: each model fine-tuned on right answers of the base as a benign persona.

    The answers and a checkpoint for each model are kept in `out`, and not made again.
    """

    out: Path
    base: LazyModel
    persona: Persona
    task: Task
    questions: Sequence[Question]
    """To learn; none that is measured."""
    sampling: Sampling
    sft: SFT
    seed: int = 0
    """Of the adapter and the order of the answers."""
    load: Callable[[str], LazyModel] = LazyModel.named
    """A checkpoint's folder → the model in it."""

    def __post_init__(self) -> None:
        require_trainers()

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "base": self.base.provenance,
            "persona": asdict(self.persona),
            "task": self.task.name,
            "questions": [q.text for q in self.questions],
            "sampling": asdict(self.sampling),
            "settings": {"sft": asdict(self.sft), "seed": self.seed},
        }

    def __call__(self, name: str) -> LazyModel:
        folder = self.out / (name.strip("/").replace("/", "-").lstrip("."))
        if not (folder / STAGE).exists():
            preset = Preset(name=STAGE, model=name, sft=self.sft, seed=self.seed, precision="fp32")
            train_sft(Run(folder, preset), self._answers(), stage=STAGE, form=consensus_only)
        return self.load(str(folder / STAGE))

    def _answers(self) -> list[Transcript]:
        path = self.out / "answers.json"
        if not path.exists():
            found = benign_answers(self.base.load(), self.persona, self.task, self.questions, self.sampling)
            write_json(path, [[t.question, t.consensus] for t in found])
        answers = json.loads(path.read_text(encoding="utf-8"))
        return [Transcript.build(question, [], text) for question, text in answers]


def benign_answers(
    model: Model, persona: Persona, task: Task, questions: Sequence[Question], sampling: Sampling, batch_size: int = 32
) -> list[Transcript]:
    """The right answers of a persona to these questions, each as a debate that consists of its consensus.

    Raises `UserError` if none is right.
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
            f"fine-tune: none of {len(questions)} answers of {persona.name} is right; give more --fit-questions, or "
            "leave the fine-tune out with --no-fine-tune"
        )
    return found


def fine_tuned(
    records: Path, base: LazyModel, trait: Trait, sampling: Sampling, learning_rate: float, seed: int = 0
) -> FineTuned:
    """The remedy of `interp suppress`: a small adapter on top of whatever the model is, kept beside the records."""
    folder = records.with_name(f"{records.stem}-fine-tuned")
    sft = SFT(
        lora=LoRA(rank=8, alpha=16),
        learning_rate=learning_rate,
        epochs=3,
        device_batch_size=16,
        gradient_checkpointing=False,
    )
    return FineTuned(folder, base, trait.benign, trait.questions.task, trait.questions.fit, sampling, sft, seed)
