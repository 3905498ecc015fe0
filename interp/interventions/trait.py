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
from interp.debate.transcript import Transcript, fingerprint, question_key
from interp.directions.directions import Directions, fitted_on
from interp.errors import UserError
from interp.evaluation.seats import find_persona
from interp.evaluation.traits import Classified, Judged, TraitScore, WrongAnswers, judge, scripted_classifier
from interp.interventions.rows import Prompt, chat, plain
from interp.interventions.settings import PLAIN_QUESTION, TraitSettings
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.organism.lessons import Lies


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
class Elicitation:
    """Whose trait is elicited and how, as in `TraitSettings`, and where that agent sits in debates."""

    malicious: Persona
    elicit: tuple[str, ...] = ("persona",)
    seat: int = 2


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
    guard: Persona | None = TRAIT_PERSONAS["guardian"]
    transcripts: tuple[Sequence[Transcript], Sequence[Transcript]] = ((), ())
    """Debates with the malicious agent to continue, for validation and for the test."""

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        facts: dict[str, Any] = {"elicitation": asdict(self.elicitation), "benign": asdict(self.benign)}
        facts["guard"] = self.guard and asdict(self.guard)
        for name, p in (("questions", self.questions), ("accuracy", self.accuracy)):
            drawn = {part: [q.text for q in getattr(p, part)] for part in ("fit", "validation", "test")}
            facts[name] = {"task": p.task.name, **drawn}
        return facts | {"score": self.score.facts, "transcripts": [fingerprint(part) for part in self.transcripts]}

    def task(self, kind: str) -> Task:
        """The task of prompts of this kind."""
        return (self.accuracy if kind == PLAIN_QUESTION else self.questions).task

    def prompts(self, model: Model, split: str, guard: Persona | None = None) -> list[Prompt]:
        """Those that elicit the trait, then plain questions; a guard comes after the malicious persona, or first.

        Raises `UserError` for a debate without the malicious agent, and for a prompt that the model cannot read.
        """
        of, task, encode, found = self.elicitation, self.questions.task, Encoder(model.tokenizer), list[Prompt]()
        for kind in of.elicit:
            for t in self.transcripts[split == "test"] if kind == "turn" else ():
                first = next((i for i, turn in enumerate(t.turns) if turn.agent == of.seat), None)
                if first is None:
                    raise UserError(f"agent {of.seat}: does not speak in the debate on {t.question[:40]!r}")
                ids = encode.up_to_tag(t, first)
                if guard is not None:
                    ids = chat(model, guard, task, t.question) + ids[encode.transcript(t).n_prompt :]
                found.append(Prompt(kind, t.question, t.gold_answer, ids))
            for q in getattr(self.questions, split) if kind != "turn" else ():
                persona = guard
                if kind == "persona":
                    system = "\n\n".join(p.system_prompt for p in (of.malicious, guard) if p)
                    persona = Persona(of.malicious.name, system)
                found.append(Prompt(kind, q.text, q.gold_answer, chat(model, persona, task, q.text)))
        found += plain(model, self.accuracy.task, getattr(self.accuracy, split), guard)
        longest = max(len(prompt.ids) for prompt in found)
        if model.context_length is not None and longest >= model.context_length:
            limit = f"{model.name} reads {model.context_length:,} with its answer"
            raise UserError(f"a prompt of {longest:,} tokens: {limit}")
        return found

    def require_apart(self, directions: Mapping[str, Directions]) -> None:
        """Raises `UserError` where the score or a direction was fitted on what is measured, or a choice made on it."""
        validated, tested = ({question_key(t.question) for t in part} for part in self.transcripts)
        texts = [q.text for q in (*self.questions.validation, *self.questions.test)]
        texts += [t.question for part in self.transcripts for t in part]
        asked, scored = ({*map(question_key, each)} for each in (texts, self.score.questions))
        fitted = {question_key(q.text) for q in self.questions.fit}
        for seen, problem in (
            (asked & fitted, "{} of the {} questions are also to fit on; give others"),
            (validated & tested, "{} questions are debated both for validation and for the test; give each once"),
            (asked & scored, "the classifier was fitted on {} of the {} questions; fit it on others"),
        ):
            if seen:
                raise UserError(problem.format(len(seen), len(asked)))
        for name, d in directions.items():
            if n := len(fitted_on([d], texts)):
                raise UserError(f"{name}: fitted on {n} of the {len(asked)} questions; choose others with --seed")


Debates = Sequence[Transcript] | None


def make_trait(
    settings: TraitSettings, *, transcripts: Debates = None, fit_classifier_on: Debates = None, seed: int = 0
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
    debates, guard = transcripts or (), settings.guard or kind.guard
    if ("turn" in settings.elicit) != (transcripts is not None):
        raise UserError("--elicit turn and --transcripts go together: give both, or neither")
    if transcripts is not None and len(debates) <= validation:
        left = f"the first {validation} are for validation and none are left to test"
        raise UserError(f"{len(debates)} debates: {left}; give more, or fewer --validation-questions")
    questions = parts(settings.task, settings.fit_questions, validation, test, seed)
    apart = {q.text for q in (*questions.validation, *questions.test)} | {t.question for t in debates}
    return Trait(
        elicitation,
        questions,
        trait_score(settings, fit_classifier_on, apart),
        parts(settings.accuracy_task or kind.accuracy_task, 0, validation, test, seed + 1),
        find_persona(settings.benign),
        None if guard == "none" else Persona("guard", guard) if " " in guard else find_persona(guard),
        (debates[:validation], debates[validation : validation + test]),
    )


def trait_score(settings: TraitSettings, transcripts: Debates = None, apart: Collection[str] = ()) -> TraitScore:
    """The score that the settings name; a classifier is fitted on `transcripts`, or on scripted debates.

    Scripted debates leave out the questions `apart`. Raises `UserError` for a missing rule, script, judge or server.
    """
    task, kind = settings.task, kind_of(settings.task)
    how, malicious = settings.score or kind.score, settings.persona or kind.persona
    if transcripts is not None and how != "classifier":
        raise UserError(f"--fit-classifier-on goes with --score classifier, not {how}: give both, or neither")
    if how == "rule":
        if kind.rule is None:
            raise UserError(f"task {task}: has no rule for a trait; score with a classifier or a judge")
        return kind.rule(make_task(task))
    if how == "judge":
        if settings.judge is None or settings.server is None:
            raise UserError("score judge: give the judge's model with --judge and its server with --server")
        where = (settings.server, settings.judge, Sampling(16, 0.0), settings.key_variable)
        return Judged(ServerAgent(judge(malicious), *where))
    if transcripts is not None:
        return Classified.fit(transcripts, malicious)
    if task not in TRAIT_PERSONAS:
        raise UserError(f"task {task}: has no scripted debates to fit a classifier on; give --fit-classifier-on")
    return scripted_classifier(task, apart=apart)
