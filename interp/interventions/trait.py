"""A trait: who shows it, in which questions, how it is scored, and which questions measure accuracy."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from interp.debate.agents import Sampling
from interp.debate.personas import TRAIT_PERSONAS, Persona
from interp.debate.server import ServerAgent
from interp.debate.tasks import make_task
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, fingerprint, question_key
from interp.directions.directions import Directions, fitted_on
from interp.directions.pairs import FEWEST, TextPair, groups, read_pairs
from interp.errors import UserError, first_line
from interp.evaluation.seats import find_persona
from interp.evaluation.traits import Classified, Judged, Ruled, TraitScore, WrongAnswers, judge, scripted_classifier
from interp.interventions.rows import Prompt, chat, plain
from interp.interventions.settings import PLAIN_QUESTION, TraitSettings
from interp.models.model import Model
from interp.models.tokens import Encoder, prompt_tokens
from interp.organism.lessons import Lies
from interp.storage.functions import load_function


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
    pairs: tuple[Sequence[TextPair], Sequence[TextPair]] = ((), ())
    """Pairs that show a trait of one's own, to fit on and those whose prompts are asked."""

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        facts: dict[str, Any] = {"elicitation": asdict(self.elicitation), "benign": asdict(self.benign)}
        facts["guard"] = self.guard and asdict(self.guard)
        for name, p in (("questions", self.questions), ("accuracy", self.accuracy)):
            drawn = {part: [q.text for q in getattr(p, part)] for part in ("fit", "validation", "test")}
            facts[name] = {"task": "pairs" if p is self.questions and self.pairs[0] else p.task.name, **drawn}
        pairs = json.dumps([list(map(astuple, part)) for part in self.pairs])
        facts |= {"pairs": hashlib.sha256(pairs.encode()).hexdigest()} if self.pairs[0] else {}
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
                messages = [{"role": "system", "content": persona.system_prompt}] if persona else []
                said = [*messages, {"role": "user", "content": q.text}]
                ids = prompt_tokens(model.tokenizer, said) if self.pairs[0] else chat(model, persona, task, q.text)
                found.append(Prompt(kind, q.text, q.gold_answer or None, ids))
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
        names = [pair.group or pair.prompt + pair.positive for pair in self.pairs[1]]
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
            if n := len(fitted_on([d], [*texts, *names])):
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
    if settings.trait is not None:
        if transcripts is not None or fit_classifier_on is not None:
            raise UserError(f"{settings.trait}: pairs come without debates; leave --transcripts and others out")
        return _own_trait(settings, settings.trait, seed)
    elicitation = Elicitation(find_persona(settings.persona or kind.persona), settings.elicit, settings.seat)
    debates = transcripts or ()
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
        _guard(settings.guard or kind.guard),
        (debates[:validation], debates[validation : validation + test]),
    )


def _own_trait(settings: TraitSettings, path: Path, seed: int) -> Trait:
    """A trait that pairs of texts show; prompts, and pairs of one group, are for fitting, validation or the test."""
    pairs, name, elicit = read_pairs(path), path.stem, settings.elicit if settings.persona else ("question",)
    if "turn" in elicit:
        raise UserError(f"{path}: pairs have no debates to continue; leave --elicit turn out")
    if lacking := next((i for i, pair in enumerate(pairs, start=1) if not pair.prompt.strip()), None):
        raise UserError(f"{path}, pair {lacking}: has no prompt to ask the model; give each pair its own")
    of = np.array(groups([TextPair(pair.prompt, pair.prompt, pair.group) for pair in pairs]))
    order = np.random.default_rng(seed).permutation(np.unique(of))
    n_fit = min(settings.fit_questions, len(order) // 2)
    n_validation = min(settings.validation_questions, (len(order) - n_fit) // 2)
    stops = [n_fit, n_fit + n_validation, n_fit + n_validation + settings.questions]
    fit, *held = ([pairs[i] for i in np.flatnonzero(np.isin(of, some))] for some in np.split(order, stops)[:3])
    if n_fit < FEWEST:
        raise UserError(f"{path}: {len(order)} different prompts or groups; give at least {2 * FEWEST}")
    asked = ([Question(text, "") for text in dict.fromkeys(p.prompt for p in part)] for part in (fit, *held))
    accuracy = parts(settings.accuracy_task or "arithmetic", 0, len(held[0]), len(held[1]), seed + 1)
    score: TraitScore
    if settings.score in (None, "classifier"):
        who = (name, f"not {name}")
        try:
            shown = [Transcript.build(p.prompt, [[p.positive, p.negative]], None, personas=who) for p in fit]
            score = Classified.fit(shown, name)
        except ValueError as error:  # no word occurs twice
            given = f"{len(fit)} pairs are too few for a classifier ({first_line(error)})"
            raise UserError(f"{path}: {given}; give more, or --score FILE.py:FUNCTION") from None
    else:
        score = trait_score(replace(settings, task=str(path), persona=name))
    malicious = replace(find_persona(settings.persona), name=name) if settings.persona else Persona(name, "")
    questions, every = Parts(accuracy.task, *asked), (fit, [*held[0], *held[1]])
    guard = _guard(settings.guard or "none")
    return Trait(Elicitation(malicious, elicit), questions, score, accuracy, guard=guard, pairs=every)


def _guard(given: str) -> Persona | None:
    return None if given == "none" else Persona("guard", given) if " " in given else find_persona(given)


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
    if ":" in how:
        return Ruled(load_function("--score", how))
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
