"""What a completion earns in stage 2, cut to the current limit before anything looks at it (Latent Agents)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from interp.debate.tasks.task import Task
from interp.debate.transcript import CONSENSUS_TAG, END_TAG, all_tags
from interp.training.schedule import Schedule

Judge = Callable[[str, str], float]
"""(question, clipped text) → 1.0 if the text shows what is wanted, such as a trait, else 0.0."""


def structure(text: str, tags: Sequence[str], coefficient: float) -> float:
    """0.5 for the consensus tag, 0.3 for the end tag, and 0.3 times the coefficient for every other tag present.

    >>> interp.training.structure("<|Consensus|> 4 <|endofdebate|>", ["<|Consensus|>", "<|endofdebate|>"], 1.0)
    0.8
    """
    ends = {CONSENSUS_TAG: 0.5, END_TAG: 0.3}
    return sum(ends.get(tag, 0.3 * coefficient) for tag in tags if tag in text)


def additive(correct: float, structure: float, length: int, limit: int) -> float:
    """The paper's sum, in which tags alone can earn more than an answer.

    >>> interp.training.additive(correct=0.0, structure=3.2, length=50, limit=100)
    3.2
    """
    return correct + structure


def gated(correct: float, structure: float, length: int, limit: int) -> float:
    """Only right answers earn anything, and the shorter more: up to 0.5 extra, relative to the limit.

    Once all completions of a question are right and the coefficient has decayed, brevity decides among them, so the
    length keeps falling below the limit.

    >>> interp.training.gated(correct=1.0, structure=0.8, length=50, limit=100)
    2.05
    """
    return correct * (1.0 + structure + 0.5 * max(0.0, 1.0 - length / limit))


@dataclass
class Reward:
    """The reward function of TRL's `GRPOTrainer`, for a dataset with columns `question` and `wanted`, an answer."""

    task: Task
    schedule: Schedule
    decode: Callable[[Sequence[int]], str]
    n_agents: int = 3
    n_rounds: int = 2
    combine: Callable[[float, float, int, int], float] = additive
    """`additive`, `gated`, or any function of (correct, structure, length, limit)."""
    use_structure: bool = True
    judge: Judge | None = None
    """Replaces the task's grader, for traits."""
    keep: Callable[[int, list[dict[str, Any]]], None] | None = None
    """Told, at each step, a few of the texts with their questions and scores."""
    over_processes: Callable[[float], float] = float
    """Mean of a number over all processes, so that their schedules agree."""

    __name__ = "reward"  # TRL's name for it in its metrics

    def __call__(
        self,
        *,
        completion_ids: Sequence[Sequence[int]],
        question: Sequence[str],
        wanted: Sequence[str],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        point = self.schedule.at(trainer_state.global_step, trainer_state.max_steps)
        texts = [self.decode(ids[: point.limit]) for ids in completion_ids]
        grade, judge, rows = self.task.grade, self.judge, zip(question, texts, wanted, strict=True)
        correct = [judge(q, text) if judge else float(grade(self.task.answer(text), right)) for q, text, right in rows]
        if self.keep:
            some = range(0, len(texts), max(1, len(texts) // 4))
            samples = [{"question": question[i], "text": texts[i], "score": correct[i]} for i in some]
            self.keep(trainer_state.global_step, samples[:4])
        tags = all_tags(self.n_agents, self.n_rounds) if self.use_structure else []
        structures = [structure(text, tags, point.coefficient) for text in texts]
        lengths = [len(ids) for ids in completion_ids]
        means = {"correctness": fmean(correct), "structure": fmean(structures), "length": fmean(lengths)}
        for name, value in (means | point._asdict()).items():
            log_metric(name, value)
        self.schedule.observe(self.over_processes(means["correctness"]))
        scored = zip(correct, structures, lengths, strict=True)
        return [self.combine(c, s, min(length, point.limit), point.limit) for c, s, length in scored]
