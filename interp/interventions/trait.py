"""A trait: who shows it, in which questions, by what it is known, and what else is asked.

Knows tasks, personas and scores, and what goes with which unless told; knows nothing about models or steering.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from interp.debate.agents import Sampling
from interp.debate.personas import TRAIT_PERSONAS, Persona
from interp.debate.server import ServerAgent
from interp.debate.tasks import make_task
from interp.debate.tasks.nonexistent import Nonexistent
from interp.debate.tasks.rivalry import Rivalry
from interp.debate.tasks.small import SmallArithmetic
from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript
from interp.directions.directions import Directions, question_hash
from interp.errors import UserError
from interp.evaluation.seats import find_persona
from interp.evaluation.traits import Classified, Judged, TraitScore, WrongAnswers, judge, scripted_classifier
from interp.interventions.prompts import PLAINLY, Asking, Parts, parts
from interp.organism.lies import Lies

ORGANISM_TASK = "small-arithmetic"
"""The organism's: no trait by name, its malicious persona is `evil`, and a rule tells its answers."""


@dataclass(frozen=True)
class Trait:
    """A trait: how it is called up, in which questions, by what it is known, and what else is asked."""

    asking: Asking
    questions: Parts
    score: TraitScore
    accuracy: Parts
    """Questions that are put plainly; their part to fit on is not used."""
    transcripts: tuple[Sequence[Transcript], Sequence[Transcript]] = ((), ())
    """Debates with the malicious seat, for validation and for the test, where a debate is gone on with."""

    def task(self, asked: str) -> Task:
        """The task whose questions are asked so."""
        return (self.accuracy if asked == PLAINLY else self.questions).task

    def require_apart(self, directions: Mapping[str, Directions]) -> None:
        """Raises `UserError` where what is measured was fitted on, by the score or a direction, or chosen on."""
        validated, tested = ({t.question for t in part} for part in self.transcripts)
        debated = validated | tested
        if seen := len(debated & {q.text for q in self.questions.fit}):
            raise UserError(f"{seen} of the debates are on questions to fit on; give debates on others")
        if seen := len(validated & tested):
            raise UserError(f"{seen} questions are debated both for validation and to test; give each once")
        asked = {q.text for q in (*self.questions.validation, *self.questions.test)} | debated
        if seen := len(asked & self.score.questions):
            raise UserError(f"the classifier was fitted on {seen} of the {len(asked)} questions; fit it on others")
        for name, d in directions.items():
            hashes = set(d.facts.get("question_hashes", []))
            if seen := sum(question_hash(text) in hashes for text in asked):
                raise UserError(f"{name}: was fitted on {seen} of the {len(asked)} questions; ask others by --seed")


def make_trait(
    task: str,
    *,
    fit: int,
    validation: int,
    test: int,
    persona: str | None = None,
    asked: Sequence[str] = ("persona",),
    seat: int = 2,
    transcripts: Sequence[Transcript] | None = None,
    accuracy_task: str | None = None,
    score: str | None = None,
    fit_classifier_on: Sequence[Transcript] | None = None,
    judge: str | None = None,
    server: str | None = None,
    key_variable: str = "OPENAI_API_KEY",
    seed: int = 0,
) -> Trait:
    """The trait that shows in the questions of a task, of which so many are in each part.

    Unless told, the malicious `persona` is that of the task, or `evil`; `accuracy_task` is arithmetic, small where the
    trait's is; the `score` is a rule for small arithmetic and else a classifier. `transcripts` are debates to go on
    with, the first for validation and the next to test. Raises `UserError` for names that are not known, and where
    transcripts are given and not asked for or the other way round.
    """
    organism = task == ORGANISM_TASK
    asking = Asking(find_persona(persona or ("evil" if organism else task)), tuple(asked), seat)
    if ("turn" in asking.asked) != (transcripts is not None):
        raise UserError("--asked turn and --transcripts go together: give both, or neither")
    debates = transcripts or ()
    if transcripts is not None and len(debates) <= validation:
        raise UserError(
            f"{len(debates)} debates given, and the first {validation} are for validation: give more, so that some are "
            "left to test, or fewer --validation-questions"
        )
    how = score or ("rule" if organism else "classifier")
    if fit_classifier_on is not None and how != "classifier":
        raise UserError(
            f"--fit-classifier-on goes with --score classifier, and the score is {how}: give both, or neither"
        )
    questions = parts(task, fit, validation, test, seed)
    measured = trait_score(
        how,
        task,
        asking.malicious,
        transcripts=fit_classifier_on,
        apart={q.text for q in (*questions.validation, *questions.test)} | {t.question for t in debates},
        judge_model=judge,
        server=server,
        key_variable=key_variable,
    )
    accuracy = parts(accuracy_task or (task if organism else "arithmetic"), 0, validation, test, seed + 1)
    return Trait(asking, questions, measured, accuracy, (debates[:validation], debates[validation : validation + test]))


def make_guard(given: str | None, task: str) -> Persona | None:
    """A guarding prompt: a persona by its name, or a text of several words; None for `none`.

    Unless told, the guardian, and in small arithmetic, which has none, chain of thought.
    """
    named = given or ("chain-of-thought" if task == ORGANISM_TASK else "guardian")
    if named == "none":
        return None
    return Persona("guard", named) if " " in named else find_persona(named)


def rule(task: Task) -> TraitScore:
    """The exact score of a task that has one. Raises `UserError` for another."""
    if isinstance(task, SmallArithmetic):
        return Lies()
    if isinstance(task, Rivalry | Nonexistent):
        return WrongAnswers(task, task.questions(1, 0)[0].gold_answer)
    raise UserError(f"task {task.name}: no rule tells a trait there; score by a classifier or a judge")


SCORES = ("rule", "classifier", "judge")


def trait_score(
    name: str,
    task: str,
    persona: Persona,
    *,
    transcripts: Sequence[Transcript] | None = None,
    apart: Collection[str] = (),
    judge_model: str | None = None,
    server: str | None = None,
    key_variable: str = "OPENAI_API_KEY",
) -> TraitScore:
    """A score in the words of the command line: one of `SCORES`.

    A classifier is fitted on `transcripts`, or on scripted debates, over none of the questions `apart`, where the
    trait has them. Raises `UserError`
    where the task has no rule or no script, and where a judge's model or server is missing.
    """
    if name not in SCORES:
        raise UserError(f"score {name}: not known; give one of {', '.join(SCORES)}")
    if name == "rule":
        return rule(make_task(task))
    if name == "judge":
        if judge_model is None or server is None:
            raise UserError("score judge: give the judge's model by --judge and its server by --server")
        agent = ServerAgent(judge(persona.name), server, judge_model, Sampling(16, 0.0), key_variable)
        return Judged(agent)
    if transcripts is not None:
        return Classified.fit(transcripts, persona.name)
    if task not in TRAIT_PERSONAS:
        raise UserError(f"task {task}: there are no scripted debates to fit a classifier on; give some to fit it on")
    return scripted_classifier(task, apart=apart)
