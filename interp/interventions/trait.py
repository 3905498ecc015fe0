"""A trait: who shows it, in which questions, how it is scored, and which questions measure accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
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
    """What goes with the questions of a task unless told otherwise; `splits` are to fit, validate and test on."""

    persona: str
    splits: tuple[str | None, ...] = (None, None, None)
    rule: Callable[[Task], TraitScore] | None = None
    score: str = "classifier"
    accuracy_task: str = "arithmetic"
    guard: str = "guardian"


_OWN = partial(
    Kind, splits=("train", "train", "test"), rule=lambda task: WrongAnswers(task, task.questions(1, 0)[0].gold_answer)
)
_SMALL = ("train", "validation", "test")
TRAITS = {
    "small-arithmetic": Kind("evil", _SMALL, lambda _: Lies(), "rule", "small-arithmetic", "chain-of-thought"),
    "evil": _OWN("evil"),
    "hallucination": _OWN("hallucination"),
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


def parts(name: str, n_fit: int, n_validation: int, n_test: int, seed: int = 0) -> Parts:
    """Draw the questions of each part; raises `UserError` for an unknown task, or one with too few questions."""
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
    benign: Persona = TRAIT_PERSONAS["guardian"]
    """The other side of the prompts' contrast."""
    guard: Persona | None = TRAIT_PERSONAS["guardian"]
    transcripts: tuple[Sequence[Transcript], Sequence[Transcript]] = ((), ())
    """Debates with the malicious agent to continue, for validation and for the test."""

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        drawn = {"questions": self.questions, "accuracy": self.accuracy}
        texts = {
            what: {"task": p.task.name, **{n: [q.text for q in getattr(p, n)] for n in ("fit", "validation", "test")}}
            for what, p in drawn.items()
        }
        personas = {"benign": asdict(self.benign), "guard": self.guard and asdict(self.guard)}
        facts = {"elicitation": asdict(self.elicitation), "score": self.score.facts, **personas, **texts}
        return facts | {"transcripts": [fingerprint(part) for part in self.transcripts]}

    def task(self, kind: str) -> Task:
        """The task of prompts of this kind."""
        return (self.accuracy if kind == PLAIN_QUESTION else self.questions).task

    def require_apart(self, directions: Mapping[str, Directions]) -> None:
        """Raises `UserError` where the score or a direction was fitted on what is measured, or a choice made on it."""
        validated, tested = ({t.question for t in part} for part in self.transcripts)
        fitted, debated = {q.text for q in self.questions.fit}, validated | tested
        asked = {q.text for q in (*self.questions.validation, *self.questions.test)} | debated
        for seen, problem in (
            (debated & fitted, "{} of the debates are on questions to fit on; give debates on others"),
            (validated & tested, "{} questions are debated both for validation and for the test; give each once"),
            (asked & self.score.questions, "the classifier was fitted on {} of the {} questions; fit it on others"),
        ):
            if seen:
                raise UserError(problem.format(len(seen), len(asked)))
        for name, d in directions.items():
            if n := len({question_hash(text) for text in asked} & set(d.facts.get("question_hashes", []))):
                raise UserError(f"{name}: fitted on {n} of the {len(asked)} questions; choose others with --seed")


def make_trait(
    settings: TraitSettings,
    *,
    transcripts: Sequence[Transcript] | None = None,
    fit_classifier_on: Sequence[Transcript] | None = None,
    seed: int = 0,
) -> Trait:
    """The trait that the settings name, on questions drawn by `seed`.

    `transcripts` are debates to continue with `turn`, the first for validation and the next for the test. Raises
    `UserError` for unknown names, and for `turn` or transcripts without the other.

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
    """The score that the settings name; a classifier is fitted on `transcripts`, or on scripted debates.

    Scripted debates leave out the questions `apart`. Raises `UserError` for a missing rule, script, judge or server.
    """
    task, rule, how = settings.task, kind_of(settings.task).rule, settings.score or kind_of(settings.task).score
    if transcripts is not None and how != "classifier":
        raise UserError(f"--fit-classifier-on goes with --score classifier, not {how}: give both, or neither")
    if how == "rule":
        if rule is None:
            raise UserError(f"task {task}: has no rule for a trait; score with a classifier or a judge")
        return rule(make_task(task))
    if how == "judge":
        if settings.judge is None or settings.server is None:
            raise UserError("score judge: give the judge's model with --judge and its server with --server")
        sampling = Sampling(16, 0.0)
        return Judged(
            ServerAgent(judge(malicious.name), settings.server, settings.judge, sampling, settings.key_variable)
        )
    if transcripts is not None:
        return Classified.fit(transcripts, malicious.name)
    if task not in TRAIT_PERSONAS:
        raise UserError(f"task {task}: has no scripted debates to fit a classifier on; give --fit-classifier-on")
    return scripted_classifier(task, apart=apart)
