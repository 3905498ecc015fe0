"""What a completion earns in stage 2.

Knows tags, a task's grader and a schedule; knows nothing about models. Completions are cut to the current limit
*before* anything looks at them, so text past the limit earns nothing (Latent Agents, stage 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from interp.debate.tasks.task import Task
from interp.debate.transcript import CONSENSUS_TAG, END_TAG, all_tags
from interp.training.schedule import Schedule

TAG_WEIGHT = 0.3
CONSENSUS_WEIGHT = 0.5
END_WEIGHT = 0.3
BREVITY_WEIGHT = 0.5
"""What an answer of zero length would earn extra under `gated`; half of it at half the limit."""

Judge = Callable[[str, str], float]
"""(question, clipped text) → 1.0 if the text shows what is wanted, such as a trait, else 0.0."""


def structure(text: str, tags: Sequence[str], coefficient: float) -> float:
    """0.5 for the consensus tag, 0.3 for the end tag, and 0.3 times the coefficient for every other tag present.

    >>> interp.training.structure("<|Consensus|> 4 <|endofdebate|>", ["<|Consensus|>", "<|endofdebate|>"], 1.0)
    0.8
    """
    ends = {CONSENSUS_TAG: CONSENSUS_WEIGHT, END_TAG: END_WEIGHT}
    return sum(ends.get(tag, TAG_WEIGHT * coefficient) for tag in tags if tag in text)


def additive(correct: float, structure: float, length: int, limit: int) -> float:
    """The paper's sum, in which tags alone can earn more than an answer.

    >>> interp.training.additive(correct=0.0, structure=3.2, length=50, limit=100)
    3.2
    """
    return correct + structure


def gated(correct: float, structure: float, length: int, limit: int) -> float:
    """Only right answers earn anything, and the shorter more.

    Rewards are compared among the completions of one question. Once all of them are right and the coefficient
    has decayed, brevity decides, so the length keeps falling below the limit. It is relative to the limit so that
    the pull does not fade as both become small.

    >>> interp.training.gated(correct=1.0, structure=0.8, length=50, limit=100)
    2.05
    """
    return correct * (1.0 + structure + BREVITY_WEIGHT * max(0.0, 1.0 - length / limit))


@dataclass
class Reward:
    """The reward function of TRL's `GRPOTrainer`, called with each batch of completions.

    The dataset has columns `question` and `gold_answer`. After scoring, the schedule observes the batch's accuracy.
    """

    task: Task
    schedule: Schedule
    decode: Callable[[Sequence[int]], str]
    """Token ids → text with its tags."""
    n_agents: int = 3
    n_rounds: int = 2
    combine: Callable[[float, float, int, int], float] = additive
    """`additive`, `gated`, or any function of (correct, structure, length, limit)."""
    use_structure: bool = True
    """Whether tags earn anything."""
    judge: Judge | None = None
    """Replaces the task's grader, for traits."""
    over_processes: Callable[[float], float] = float
    """Mean of a number over all processes, so that their schedules agree."""

    __name__ = "reward"  # TRL's name for it in its metrics

    def correct(self, question: str, text: str, gold: str) -> float:
        """1.0 for a right answer (or what the judge is looking for) in a clipped text, else 0.0."""
        if self.judge:
            return self.judge(question, text)
        answer = self.task.answer(text)
        return float(answer is not None and self.task.grade(answer, gold))

    def __call__(
        self,
        *,
        completion_ids: Sequence[Sequence[int]],
        question: Sequence[str],
        gold_answer: Sequence[str],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        point = self.schedule.at(trainer_state.global_step, trainer_state.max_steps)
        texts = [self.decode(ids[: point.limit]) for ids in completion_ids]
        correct = [self.correct(*each) for each in zip(question, texts, gold_answer, strict=True)]
        tags = all_tags(self.n_agents, self.n_rounds) if self.use_structure else []
        structures = [structure(text, tags, point.coefficient) for text in texts]
        lengths = [len(ids) for ids in completion_ids]
        log_metric("correctness", accuracy := fmean(correct))
        log_metric("structure", fmean(structures))
        log_metric("length", fmean(lengths))
        log_metric("limit", point.limit)
        log_metric("coefficient", point.coefficient)
        self.schedule.observe(self.over_processes(accuracy))
        scored = zip(correct, structures, lengths, strict=True)
        return [self.combine(c, s, min(length, point.limit), point.limit) for c, s, length in scored]
