"""A short fine-tune on benign answers, to compare with steering. Only training itself needs the extra `train`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from interp.debate.agents import Request, Sampling
from interp.debate.personas import Persona
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, without_tags
from interp.errors import UserError
from interp.generation.agents import LocalAgent
from interp.interventions.trait import Trait
from interp.models.model import LazyModel, Model
from interp.processes import once
from interp.storage.files import read_json, write_json
from interp.training.run import Run, require_trainers
from interp.training.settings import SFT, LoRA, Preset
from interp.training.sft import consensus_only, train_sft


class _Answers(TypedDict):
    made_by: dict[str, Any]
    answers: list[tuple[str, str]]


@dataclass(frozen=True)
class FineTuned:
    """The remedy for `suppress`: a model's name → that model, fine-tuned on right answers of the base as `persona`.

    The answers and a checkpoint for each model are kept in `out`, and not made again with the same settings.
    """

    out: Path
    base: LazyModel
    persona: Persona
    task: Task
    questions: Sequence[Question]
    sampling: Sampling
    sft: SFT
    seed: int = 0
    """Of the adapter and the order of the answers."""

    def __post_init__(self) -> None:
        require_trainers()

    @property
    def facts(self) -> dict[str, Any]:
        settings = {"sft": asdict(self.sft), "seed": self.seed}
        answers = {"persona": asdict(self.persona), "sampling": asdict(self.sampling), "task": self.task.name}
        questions = [q.text for q in self.questions]
        return {"base": self.base.provenance, **answers, "questions": questions, "settings": settings}

    def answers(self) -> list[Transcript]:
        """What is trained on, made at the first call. Raises `UserError` if no answer is right."""
        return once(self._answers)

    def _answers(self) -> list[Transcript]:
        path, made_by = self.out / "answers.json", json.loads(json.dumps(self.facts))
        kept = read_json(path, _Answers, "answers", "interp suppress") if path.exists() else None
        if kept is None or kept["made_by"] != made_by:
            found = benign_answers(self.base.load(), self.persona, self.task, self.questions, self.sampling)
            if kept is not None:
                shutil.rmtree(self.out)  # with what was trained on other answers
            kept = {"made_by": made_by, "answers": [(t.question, t.consensus or "") for t in found]}
            write_json(path, kept)
        return [Transcript.build(question, [], text) for question, text in kept["answers"]]

    def __call__(self, name: str) -> LazyModel:
        folder = self.out / name.strip("/").replace("/", "-").lstrip(".")
        preset = Preset(name="benign", model=name, sft=self.sft, seed=self.seed, precision="fp32")
        train_sft(Run(folder, preset), self.answers(), stage="benign", form=consensus_only)
        return LazyModel.named(str(folder / "benign"))


def benign_answers(
    model: Model, persona: Persona, task: Task, questions: Sequence[Question], sampling: Sampling
) -> list[Transcript]:
    """The right answers of a persona, each as a debate of its consensus alone. Raises `UserError` if none is right."""
    asked = [Request(q.text, 1, instruction=task.instruction) for q in questions]
    answers = LocalAgent(persona, model, sampling, batch_size=32).answer(asked)
    found = [
        Transcript.build(q.text, [], without_tags(answer.text).strip(), gold_answer=q.gold_answer)
        for q, answer in zip(questions, answers, strict=True)
        if task.grade(task.answer(answer.text), q.gold_answer)
    ]
    if not found:
        remedy = "give more --fit-questions, or leave the fine-tune out with --no-fine-tune"
        raise UserError(f"fine-tune: none of {len(questions)} answers of {persona.name} is right; {remedy}")
    return found


def fine_tuned(records: Path, base: LazyModel, trait: Trait, sampling: Sampling, learning_rate: float) -> FineTuned:
    """The remedy of `interp suppress`: a small adapter on top of whatever the model is, kept beside the records."""
    sft = SFT(LoRA(rank=8, alpha=16), learning_rate, epochs=3, device_batch_size=16, gradient_checkpointing=False)
    folder = records.with_name(f"{records.stem}-fine-tuned")
    return FineTuned(
        folder, base, trait.benign, trait.questions.task, trait.questions.fit, sampling, sft, sampling.seed
    )
