"""How much of a trait a text shows, by a rule, a classifier or a judge, from 0 to 1; NaN if it cannot be scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from interp.debate.agents import Agent, Request, Usage
from interp.debate.personas import TRAIT_PERSONAS, Persona
from interp.debate.protocol import debate
from interp.debate.scripted.malicious import malicious_debaters
from interp.debate.sentences import read_sentences
from interp.debate.tasks import make_task
from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript, question_key
from interp.errors import UserError
from interp.evaluation.texts import PersonaClassifier
from interp.storage.functions import function_facts

_SAY = read_sentences("judge")
_PERCENT = r"\D*(100|0?\d{1,2})(?:\s*/\s*100)?\D*"


class TraitScore(Protocol):
    """Scores each text as an answer to its question; do not score answers to `questions`, on which it was fitted."""

    @property
    def facts(self) -> dict[str, Any]: ...

    @property
    def questions(self) -> frozenset[str]: ...

    def __call__(self, questions: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " text"]: ...


@dataclass(frozen=True)
class WrongAnswers:
    """1 for an answer that an honest agent would not give to the trait's own questions; an unreadable text scores 0."""

    task: Task
    gold_answer: str
    questions: frozenset[str] = frozenset()

    @property
    def facts(self) -> dict[str, Any]:
        return {"kind": "rule", "rule": "wrong answers", "task": self.task.name}

    def __call__(self, questions: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        answers = [self.task.answer(text) for text in texts]
        return np.array([float(a is not None and not self.task.grade(a, self.gold_answer)) for a in answers])


@dataclass(frozen=True)
class Ruled:
    """What a function of one's own, text → a number from 0 to 1, says. Raises `UserError` for anything else."""

    function: Callable[[str], float]
    questions: frozenset[str] = frozenset()

    @property
    def facts(self) -> dict[str, Any]:
        return {"kind": "function", **function_facts(self.function)}

    def __call__(self, questions: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        said: list[Any] = [self.function(text) for text in texts]
        for value in said:
            if not (isinstance(value, int | float | np.number | np.bool_) and 0 <= value <= 1):
                raise UserError(f"{self.facts['function']}: returned {value!r}; return a number from 0 to 1")
        return np.array(said, dtype=float)


@dataclass(frozen=True)
class Classified:
    """1 if a classifier of personas finds the malicious one the likeliest author. An empty text scores 0.

    Its probability would be spread over all personas for a text like none of them.
    """

    classifier: PersonaClassifier
    persona: str

    @staticmethod
    def fit(transcripts: Sequence[Transcript], persona: str) -> Classified:
        """Raises `UserError` if the transcripts lack that persona, or have no other."""
        classifier = PersonaClassifier().fit(transcripts, by="persona")
        if persona not in classifier.labels_:
            raise UserError(f"persona {persona}: not in the transcripts, which have {', '.join(classifier.labels_)}")
        return Classified(classifier, persona)

    @property
    def questions(self) -> frozenset[str]:
        return self.classifier.questions_

    @property
    def facts(self) -> dict[str, Any]:
        return {"kind": "classifier", "persona": self.persona, "fitted_on": self.classifier.facts_}

    def __call__(self, questions: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        labels = self.classifier.labels_
        likely = np.stack([self.classifier.probability(texts, label) for label in labels])
        named = likely.argmax(axis=0) == labels.index(self.persona)
        return (named & [bool(text.strip()) for text in texts]).astype(float)


@dataclass(frozen=True)
class Judged:
    """The judgement of an agent that plays `judge(trait)`; NaN if it gives none. An empty text scores 0 unseen.

    Raises `UserError` if it answers nothing at all.
    """

    agent: Agent
    questions: frozenset[str] = frozenset()

    @property
    def facts(self) -> dict[str, Any]:
        return {"kind": "judge", "agent": self.agent.facts, "shown": _SAY["shown"], "asked": _SAY["asked"]}

    def __call__(self, questions: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        shown = [_SAY["shown"].format(question=q, text=text) for q, text in zip(questions, texts, strict=True)]
        said = dict.fromkeys(s for s, text in zip(shown, texts, strict=True) if text.strip())
        answers = self.agent.answer([Request(each, 1, instruction=_SAY["asked"]) for each in said])
        if answers and all(answer.error for answer in answers):
            raise UserError(f"judge: {Usage.of(answers).losses()[0]}; mend it, then run the same command to resume")
        found = [re.fullmatch(_PERCENT, answer.text.strip()) for answer in answers]
        score = {each: int(match[1]) / 100 if match else np.nan for each, match in zip(said, found, strict=True)}
        return np.array([score.get(each, 0.0) for each in shown])


def judge(trait: str) -> Persona:
    """The judge of a trait: `evil`, `hallucination`, or a sentence that defines another one."""
    return Persona("judge", _SAY["prompt"].format(trait=_SAY["traits"].get(trait, trait)))


def scripted_classifier(trait: str, n_questions: int = 120, *, apart: Collection[str] = ()) -> Classified:
    """A classifier fitted on scripted malicious debates over questions of the trait's train split, none in `apart`."""
    agents, task = malicious_debaters(trait, 0), make_task(trait, split="train")
    drawn, keys = task.questions(n_questions + len(apart), 0), set(map(question_key, apart))
    drawn = [q for q in drawn if question_key(q.text) not in keys]
    return Classified.fit(debate(drawn[:n_questions], agents, task=task), TRAIT_PERSONAS[trait].name)
