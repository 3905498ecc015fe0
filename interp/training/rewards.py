"""What a completion earns in stage 2, to be read in one sitting.

Knows tags, a task's grader and a schedule; knows nothing about models. The completion's token ids are
cut to the current limit *before* anything looks at them, so what stands past the limit earns nothing
(Latent Agents, stage 2).
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
"""What an answer of no length at all would earn on top, under the gate; half of it at half the limit."""

Judge = Callable[[str, str], float]
"""(question, clipped text) → 1.0 where the text shows what is wanted, such as a trait, else 0.0."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one completion earned, part by part."""

    correct: float
    """1.0 for a right answer inside the limit, else 0.0."""
    structure: float
    """Weights of the tags present, all but consensus and end times the coefficient."""
    length: int
    """Tokens before the cut."""
    reward: float


def structure(text: str, tags: Sequence[str], coefficient: float) -> float:
    """0.3 for each tag present, consensus 0.5, end 0.3; all but those two times the coefficient."""
    ends = {CONSENSUS_TAG: CONSENSUS_WEIGHT, END_TAG: END_WEIGHT}
    return sum(ends.get(tag, TAG_WEIGHT * coefficient) for tag in tags if tag in text)


def additive(correct: float, structure: float, length: int, limit: int) -> float:
    """The paper's sum. Tags alone can earn more than an answer does."""
    return correct + structure


def gated(correct: float, structure: float, length: int, limit: int) -> float:
    """All else pays only with a right answer, and among right answers the shorter earns more.

    Rewards are compared within the group of one question. Where all completions of a group are right,
    only structure and brevity tell them apart: as the coefficient decays, brevity decides, so that
    the length goes on falling and not only where the limit cuts. Brevity is relative to the current
    limit, so that the pull does not fade as both become small.
    """
    return correct * (1.0 + structure + BREVITY_WEIGHT * max(0.0, 1.0 - length / limit))


@dataclass
class Reward:
    """The reward function that TRL's `GRPOTrainer` calls with each batch of completions.

    The dataset has columns `question` and `gold_answer`. After scoring it shows the schedule the
    batch's share of right answers.
    """

    task: Task
    schedule: Schedule
    decode: Callable[[Sequence[int]], str]
    """Token ids → text with the tags in it."""
    n_agents: int = 3
    n_rounds: int = 2
    combine: Callable[[float, float, int, int], float] = additive
    """`additive`, `gated`, or any function of (correct, structure, length, limit)."""
    use_structure: bool = True
    """Whether tags earn anything at all."""
    judge: Judge | None = None
    """In the place of the task's grader, for traits."""
    over_processes: Callable[[float], float] = float
    """The mean of a number over all processes, so that their schedules stay together."""

    __name__ = "reward"  # what TRL's own metrics call it

    def score(self, ids: Sequence[int], question: str, gold: str, limit: int, coefficient: float) -> Score:
        """Score one completion, given as token ids."""
        text = self.decode(ids[:limit])
        correct = self.judge(question, text) if self.judge else float(self._right(text, gold))
        tags = all_tags(self.n_agents, self.n_rounds) if self.use_structure else []
        parts = structure(text, tags, coefficient)
        return Score(correct, parts, len(ids), self.combine(correct, parts, min(len(ids), limit), limit))

    def _right(self, text: str, gold: str) -> bool:
        answer = self.task.answer(text)
        return answer is not None and self.task.grade(answer, gold)

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
        scores = [
            self.score(ids, q, gold, point.limit, point.coefficient)
            for ids, q, gold in zip(completion_ids, question, gold_answer, strict=True)
        ]
        accuracy = fmean(s.correct for s in scores)
        log_metric("correctness", accuracy)
        log_metric("structure", fmean(s.structure for s in scores))
        log_metric("length", fmean(s.length for s in scores))
        log_metric("limit", point.limit)
        log_metric("coefficient", point.coefficient)
        self.schedule.observe(self.over_processes(accuracy))
        return [s.reward for s in scores]
