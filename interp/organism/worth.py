"""What explicit debate is worth to a base: accuracy and tokens of each way of answering, on the same questions.

Knows how answers are asked for and compared in pairs; knows nothing about how the base came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp.debate.agents import Answer, Request, Sampling, Usage
from interp.debate.local import LocalAgent
from interp.debate.personas import PERSONAS, Persona
from interp.debate.protocol import consensus, debates
from interp.debate.tasks import Question, Task
from interp.models import Model

PLAIN = Persona("plain", "")
"""Nobody in particular: how a model answers without a persona."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One way of answering a list of questions."""

    right: tuple[bool, ...]
    """For each question."""
    usage: Usage

    @property
    def accuracy(self) -> float:
        return sum(self.right) / len(self.right)

    @property
    def input_tokens(self) -> float:
        """A question, on average."""
        return self.usage.input_tokens / len(self.right)

    @property
    def output_tokens(self) -> float:
        """A question, on average."""
        return self.usage.output_tokens / len(self.right)


def answer_all(
    model: Model,
    questions: Sequence[Question],
    task: Task,
    *,
    personas: Sequence[Persona] = tuple(PERSONAS.values()),
    rounds: int = 2,
    sampling: Sampling | None = None,
    batch_size: int = 64,
) -> dict[str, Answered]:
    """Answer every question plainly, as each persona, by vote and by debate.

    The keys are "single", the personas' names, "vote" (a strict majority of the personas' first
    answers) and "debate". A question without a majority counts as wrong. The votes and the debates
    start from the same first answers.
    """
    sampling = sampling or Sampling(max_new_tokens=96)
    gold = [question.gold_answer for question in questions]

    def alone(persona: Persona, seat: int) -> list[Answer]:
        agent = LocalAgent(persona, model, sampling, batch_size)
        return agent.answer([Request(question.text, seat) for question in questions])

    def graded(answers: Sequence[Answer]) -> Answered:
        return Answered(tuple(task.grade(a.text, g) for a, g in zip(answers, gold, strict=True)), Usage.of(answers))

    first = {persona.name: alone(persona, seat) for seat, persona in enumerate(personas, start=1)}
    voted = [
        consensus([task.answer(answer.text) for answer in answers], task.grade)
        for answers in zip(*first.values(), strict=True)
    ]
    vote = Answered(
        tuple(v is not None and task.grade(v.answer, g) for v, g in zip(voted, gold, strict=True)),
        Usage.of(answer for answers in first.values() for answer in answers),
    )
    agents = [LocalAgent(persona, model, sampling, batch_size) for persona in personas]
    finished = list(debates(questions, agents, task=task, rounds=rounds))
    debated = Answered(
        tuple(task.grade(d.transcript.consensus, g) for d, g in zip(finished, gold, strict=True)),
        sum((d.usage for d in finished), Usage()),
    )
    return {
        "single": graded(alone(PLAIN, 1)),
        **{name: graded(answers) for name, answers in first.items()},
        "vote": vote,
        "debate": debated,
    }


@dataclass(frozen=True, slots=True)
class Paired:
    """Two ways of answering the same questions, by McNemar's exact test."""

    only_first: int
    """Questions that the first alone answers rightly."""
    only_second: int
    p_value: float
    """Two-sided: how likely so uneven a split would be, were both equally good."""


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """The exact test on the questions that only one of two ways of answering gets right."""
    from scipy.stats import binomtest

    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return Paired(only_first, only_second, p_value)


def table(answered: Mapping[str, Answered]) -> list[dict[str, Any]]:
    """A row for each way of answering: accuracy with its 95 % interval (Wilson), mean tokens, debate against it."""
    from scipy.stats import binomtest

    rows = []
    for method, a in answered.items():
        interval = binomtest(sum(a.right), len(a.right)).proportion_ci(method="wilson")
        row = {
            "method": method,
            "accuracy": round(a.accuracy, 4),
            "interval": [round(float(interval.low), 4), round(float(interval.high), 4)],
            "input_tokens": round(a.input_tokens, 2),
            "output_tokens": round(a.output_tokens, 2),
        }
        if method != "debate":
            paired = mcnemar(answered["debate"].right, a.right)
            row |= {"debate_only": paired.only_first, "this_only": paired.only_second, "p_value": paired.p_value}
        rows.append(row)
    return rows
