"""What agents said first in explicit debates, question by question: the labels of the silent debate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import gcd
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from interp.debate.grading.answers import number
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.median import MODULUS, RULES, Median
from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript, question_key
from interp.errors import UserError
from interp.models.tokens import Encoder

FEWEST = 30
"""Fewest questions to decode from; with fewer, a fold could lack errors or right answers."""
MOST_VALUES, OF_EACH = 32, 5
"""Answers are decoded themselves where there are at most so many, each to so many questions on average."""


@dataclass(frozen=True)
class Debated:
    """The questions that were debated, with what each agent said first."""

    questions: tuple[str, ...]
    gold: tuple[str, ...]
    answers: tuple[tuple[str | None, ...], ...]
    """By question and agent; None if it stated none."""
    task: Task = field(default_factory=Arithmetic)
    left_out: int = 0
    """Debates that lack an agent or repeat a question."""

    @staticmethod
    def read(transcripts: Sequence[Transcript], task: Task | None = None) -> Debated:
        """One debate per question, with all agents and the same personas in the same seats.

        Raises `UserError` for debates without gold answers, for rotating personas, and for fewer than `FEWEST`.
        """
        task, kept = task or Arithmetic(), dict[str, tuple[str, str, tuple[str | None, ...]]]()
        debates = [t for t in transcripts if t.turns]
        if len({t.personas for t in debates}) > 1:
            raise UserError("the personas change seats: silent_agents needs debates with fixed seats")
        n_agents = max((len(t.agents) for t in debates), default=0)
        for t in debates:
            said_first = {turn.agent: _answer(task, turn.text) for turn in t.turns if turn.round == 1}
            if t.gold_answer is None:
                raise UserError("a debate has no gold answer: silent_agents needs one for each question")
            if len(said_first) == n_agents:
                said = tuple(said_first[k] for k in sorted(said_first))
                kept[question_key(t.question)] = (t.question, t.gold_answer, said)
        if len(kept) < FEWEST:
            raise UserError(
                f"{len(kept)} questions with all agents: silent_agents needs at least {FEWEST}, better 200; "
                "make more debates with interp debate"
            )
        questions, gold, answers = zip(*kept.values(), strict=True)
        return Debated(questions, gold, answers, task, len(transcripts) - len(kept))

    @property
    def n_agents(self) -> int:
        return len(self.answers[0])

    def errs(self, agent: int) -> np.ndarray:
        """Whether an agent (from 1) does not give the gold answer, by question."""
        return np.array([not self.task.grade(a[agent - 1], g) for a, g in zip(self.answers, self.gold, strict=True)])

    def gives(self, text: str, agent: int, place: int) -> bool:
        """Whether a text states what an agent said to the question in this place."""
        answer = self.answers[place][agent - 1]
        return answer is not None and self.task.grade(text, answer)

    def error(self, agent: int) -> Float[np.ndarray, " question"]:
        """An agent's answer minus the gold answer, clipped to ±20; 0 if either is not a number."""
        pairs = [(number(a[agent - 1] or ""), number(gold)) for a, gold in zip(self.answers, self.gold, strict=True)]
        off = [float(said - right) if said is not None and right is not None else 0.0 for said, right in pairs]
        return np.clip(off, -20, 20)

    def values(self, agent: int) -> tuple[str, ...]:
        """An agent's different answers in order, if they are few enough to be decoded; else none."""
        known = {answer for by_agent in self.answers if (answer := by_agent[agent - 1]) is not None}
        if isinstance(self.task, Median):
            known |= set(map(str, range(MODULUS)))
        few = len(known) <= min(MOST_VALUES, len(self.questions) // OF_EACH)
        complete = all(by_agent[agent - 1] is not None for by_agent in self.answers)
        return tuple(sorted(known, key=lambda v: (number(v) or 0, v))) if few and complete else ()

    def valued(self, agent: int) -> Int[np.ndarray, " question"]:
        """An agent's answers, as places in its `values`."""
        places = {value: place for place, value in enumerate(self.values(agent))}
        return np.array([places[by_agent[agent - 1] or ""] for by_agent in self.answers])

    def other_rules(self, n: int, seed: int) -> list[Int[np.ndarray, " question"]]:
        """What fictitious agents of `Median` answer, as `valued`: by other rules over two operands, drawn at random.

        Over all questions their answers are independent of those of each agent, of which nothing follows for them.
        """
        assert self.operands is not None
        rules = np.random.default_rng(seed).permutation(independent_rules())[:n]
        return list((self.operands @ rules.T % MODULUS).T)

    def opened(self, tokenizer: Any, places: Sequence[int]) -> list[tuple[list[int], int]]:
        """Questions as a model continues them, and how many tokens belong to the bare question.

        A question of `Median` is followed by a direct answer up to its number: its models also write whole debates.
        """
        encode, made = Encoder(tokenizer), list[tuple[list[int], int]]()
        for question in (self.questions[place] for place in places):
            bare = encode.prompt(Transcript(question, ()).prompt)
            opened = encode.prompt(self.task.opening(question)) if isinstance(self.task, Median) else bare
            made.append((opened, len(bare)))
        return made

    @property
    def agree(self) -> np.ndarray:
        """Whether all agents give the same answer, by question."""
        same = self.task.grade
        return np.array([a[0] is not None and all(same(other, a[0]) for other in a[1:]) for a in self.answers])

    @property
    def operands(self) -> Int[np.ndarray, "question operand"] | None:
        """The numbers in the questions, if all questions have as many."""
        found = [[int(n) for n in re.findall(r"\d+", question)] for question in self.questions]
        return np.array(found) if found[0] and len({len(f) for f in found}) == 1 else None


def independent_rules() -> list[tuple[int, ...]]:
    """Weights of two operands for answers that no answer of an agent of `Median` tells anything about."""
    n, units = len(RULES[0]), [u for u in range(MODULUS) if gcd(u, MODULUS) == 1]
    every = np.array(list(product(range(MODULUS), repeat=n)))
    agents, found, disguised = (every @ np.array(RULES).T % MODULUS).T, list[tuple[int, ...]](), set[tuple[int, ...]]()
    for rule in map(tuple, every[(every > 0).sum(axis=1) == 2].tolist()):
        answers = every @ np.array(rule) % MODULUS
        pairs = [np.bincount(answers * MODULUS + of, minlength=MODULUS**2) for of in agents]
        if rule not in disguised and all(np.ptp(each) == 0 for each in pairs):
            found.append(rule)
            disguised |= {tuple(u * weight % MODULUS for weight in rule) for u in units}
    return found


def _answer(task: Task, text: str) -> str | None:
    """The answer that a turn states, or is."""
    return task.answer(text) or (text.strip() if task.read(text.strip()) is not None else None)
