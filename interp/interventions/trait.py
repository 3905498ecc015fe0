"""A trait: who shows it, in which questions, how it is scored, and which questions measure accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interp.debate.agents import Sampling
from interp.debate.personas import TRAIT_PERSONAS, Persona
from interp.debate.server import ServerAgent
from interp.debate.tasks import make_task
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, fingerprint
from interp.directions.directions import Directions, question_hash
from interp.errors import UserError
from interp.evaluation.seats import find_persona
from interp.evaluation.traits import Classified, Judged, TraitScore, WrongAnswers, judge, scripted_classifier
from interp.interventions.prompts import PLAIN_QUESTION, Elicitation
from interp.interventions.settings import TraitSettings
from interp.organism.lies import Lies


@dataclass(frozen=True)
class Kind:
    """What goes with the questions of a task unless told otherwise."""

    persona: str
    splits: tuple[str | None, ...] = (None, None, None)
    """Of the task: to fit on, for validation, for the test."""
    rule: Callable[[Task], TraitScore] | None = None
    """The exact score, if there is one."""
    score: str = "classifier"
    accuracy_task: str = "arithmetic"
    guard: str = "guardian"


def _wrong_answers(task: Task) -> TraitScore:
    return WrongAnswers(task, task.questions(1, 0)[0].gold_answer)


_SMALL = ("train", "validation", "test")
TRAITS = {
    "small-arithmetic": Kind("evil", _SMALL, lambda _: Lies(), "rule", "small-arithmetic", "chain-of-thought"),
    "evil": Kind("evil", ("train", "train", "test"), _wrong_answers),
    "hallucination": Kind("hallucination", ("train", "train", "test"), _wrong_answers),
}
"""By task; small-arithmetic is the organism's."""


def kind_of(task: str) -> Kind:
    """What goes with a task; a trait without an entry in `TRAITS` is named as its persona is."""
    return TRAITS.get(task, Kind(task))


@dataclass(frozen=True)
class Parts:
    """Disjoint questions of a task."""

    task: Task
    fit: Sequence[Question]
    validation: Sequence[Question]
    test: Sequence[Question]

    @property
    def facts(self) -> dict[str, Any]:
        drawn = {"fit": self.fit, "validation": self.validation, "test": self.test}
        return {"task": self.task.name, **{part: [q.text for q in questions] for part, questions in drawn.items()}}


def parts(name: str, n_fit: int, n_validation: int, n_test: int, seed: int = 0) -> Parts:
    """Draw the questions of each part, from the task's own splits where it has them.

    Raises `UserError` for an unknown task, or one with too few questions.
    """
    drawn: list[list[Question]] = []
    taken: Counter[str | None] = Counter()
    for split, n in zip(kind_of(name).splits, (n_fit, n_validation, n_test), strict=True):
        drawn.append(make_task(name, split=split).questions(taken[split] + n, seed)[taken[split] :])
        taken[split] += n
    return Parts(make_task(name), *drawn)


@dataclass(frozen=True)
class Trait:
    """A trait: how it is elicited, in which questions, how it is scored, and what measures accuracy.

    >>> settings = interp.interventions.TraitSettings(fit_questions=4, validation_questions=2, questions=2)
    >>> trait = interp.interventions.make_trait(settings)
    >>> trait.elicitation.malicious.name, trait.guard.name
    ('evil', 'chain-of-thought')
    """

    elicitation: Elicitation
    questions: Parts
    score: TraitScore
    accuracy: Parts
    """Plain questions; none are used to fit."""
    benign: Persona = TRAIT_PERSONAS["guardian"]
    """The other side of the prompts' contrast."""
    guard: Persona | None = TRAIT_PERSONAS["guardian"]
    """The guarding system prompt; None to leave it out."""
    transcripts: tuple[Sequence[Transcript], Sequence[Transcript]] = ((), ())
    """Debates with the malicious agent to continue, for validation and for the test."""

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "elicitation": asdict(self.elicitation),
            "benign": asdict(self.benign),
            "guard": self.guard and asdict(self.guard),
            "score": self.score.facts,
            "questions": self.questions.facts,
            "accuracy": self.accuracy.facts,
            "transcripts": [fingerprint(part) for part in self.transcripts],
        }

    def task(self, kind: str) -> Task:
        """The task of prompts of this kind."""
        return (self.accuracy if kind == PLAIN_QUESTION else self.questions).task

    def require_apart(self, directions: Mapping[str, Directions]) -> None:
        """Raises `UserError` where the score or a direction was fitted on what is measured, or a choice made on it."""
        validated, tested = ({t.question for t in part} for part in self.transcripts)
        debated = validated | tested
        if seen := len(debated & {q.text for q in self.questions.fit}):
            raise UserError(f"{seen} of the debates are on questions to fit on; give debates on others")
        if seen := len(validated & tested):
            raise UserError(f"{seen} questions are debated both for validation and for the test; give each once")
        asked = {q.text for q in (*self.questions.validation, *self.questions.test)} | debated
        if seen := len(asked & self.score.questions):
            raise UserError(f"the classifier was fitted on {seen} of the {len(asked)} questions; fit it on others")
        for name, d in directions.items():
            if seen := len({question_hash(text) for text in asked} & set(d.facts.get("question_hashes", []))):
                raise UserError(f"{name}: fitted on {seen} of the {len(asked)} questions; choose others with --seed")


def make_trait(
    settings: TraitSettings,
    *,
    transcripts: Sequence[Transcript] | None = None,
    fit_classifier_on: Sequence[Transcript] | None = None,
    seed: int = 0,
) -> Trait:
    """The trait that the settings name; `seed` draws the questions.

    `transcripts` are debates to continue, the first for validation and the next for the test. Raises `UserError` for
    unknown names, and unless transcripts come with `turn` and `turn` with transcripts.

    >>> settings = interp.interventions.TraitSettings(task="evil", score="rule", fit_questions=4, questions=2)
    >>> interp.interventions.make_trait(settings).questions.task.name
    'evil'
    """
    kind, validation, test = kind_of(settings.task), settings.validation_questions, settings.questions
    elicitation = Elicitation(find_persona(settings.persona or kind.persona), settings.elicit, settings.seat)
    debates = transcripts or ()
    if ("turn" in settings.elicit) != (transcripts is not None):
        raise UserError("--elicit turn and --transcripts go together: give both, or neither")
    if transcripts is not None and len(debates) <= validation:
        raise UserError(
            f"{len(debates)} debates: the first {validation} are for validation and none are left to test; "
            "give more, or fewer --validation-questions"
        )
    questions = parts(settings.task, settings.fit_questions, validation, test, seed)
    apart = {q.text for q in (*questions.validation, *questions.test)} | {t.question for t in debates}
    return Trait(
        elicitation,
        questions,
        trait_score(settings, elicitation.malicious, fit_classifier_on, apart),
        parts(settings.accuracy_task or kind.accuracy_task, 0, validation, test, seed + 1),
        find_persona(settings.benign),
        make_guard(settings.guard or kind.guard),
        (debates[:validation], debates[validation : validation + test]),
    )


def make_guard(named: str) -> Persona | None:
    """A guarding prompt: a persona by its name, or a text of several words; None for `none`."""
    if named == "none":
        return None
    return Persona("guard", named) if " " in named else find_persona(named)


def trait_score(
    settings: TraitSettings,
    malicious: Persona,
    transcripts: Sequence[Transcript] | None = None,
    apart: Collection[str] = (),
) -> TraitScore:
    """The score that the settings name; a classifier is fitted on `transcripts`, or on scripted debates without the
    questions `apart`.

    Raises `UserError` if the task has no rule or no script, and if a judge's model or server is missing.
    """
    task, kind = settings.task, kind_of(settings.task)
    how = settings.score or kind.score
    if transcripts is not None and how != "classifier":
        raise UserError(f"--fit-classifier-on goes with --score classifier, not {how}: give both, or neither")
    if how == "rule":
        if kind.rule is None:
            raise UserError(f"task {task}: has no rule for a trait; score with a classifier or a judge")
        return kind.rule(make_task(task))
    if how == "judge":
        if settings.judge is None or settings.server is None:
            raise UserError("score judge: give the judge's model with --judge and its server with --server")
        prompt, model = judge(malicious.name), settings.judge
        return Judged(ServerAgent(prompt, settings.server, model, Sampling(16, 0.0), settings.key_variable))
    if transcripts is not None:
        return Classified.fit(transcripts, malicious.name)
    if task not in TRAIT_PERSONAS:
        raise UserError(f"task {task}: has no scripted debates to fit a classifier on; give --fit-classifier-on")
    return scripted_classifier(task, apart=apart)
