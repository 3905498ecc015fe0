"""Suppressing a trait: the texts that models write as it is steered away, and under the usual remedies.

Knows which texts are written and what is kept of each; `interp.interventions.damage` sums them up. A layer and a
coefficient are chosen for each model on validation questions; the whole curve at that layer, its control and the
remedies are then measured on test questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from interp.debate.personas import Persona
from interp.debate.transcript import fingerprint
from interp.directions.directions import Direction, Directions, made_on, without_hashes
from interp.directions.system_prompts import prompt_contrast
from interp.errors import Progress, UserError
from interp.interventions.damage import (
    Choice,
    Damage,
    Key,
    Suppression,
    choices,
    damage_rows,
    perplexities,
    summary,
    suppressions,
)
from interp.interventions.prompts import PLAIN_QUESTION, Prompt, plain, spoken
from interp.interventions.rows import (
    Intervention,
    Record,
    SteeredRow,
    Write,
    in_order,
    require_owner,
    run_rows,
    steered_rows,
)
from interp.interventions.settings import SuppressSettings
from interp.interventions.trait import Trait
from interp.models.lazy import LazyModel, lazy_models
from interp.models.model import Model
from interp.steering.changes import positions
from interp.steering.steering import ablate
from interp.storage.journal import Journal

PROMPTS = "prompts"
"""The direction from contrastive system prompts, computed for each model on the questions to fit on."""


@dataclass(frozen=True)
class Suppressed:
    """The texts that were written as a trait was steered away, and what they add up to."""

    records: list[Record]
    """One per text, as in the JSONL file, with its perplexity."""
    rows: list[Damage]
    """Every setting on the test questions."""
    chosen: dict[Key, Choice]
    """Layer and coefficient, from the validation questions."""
    smallest: dict[tuple[str, str, str, str], Suppression]
    """Where the trait is gone; see `suppressions`."""
    counts: dict[str, Any]
    """Texts, and how many of them have a problem."""


class Remedy(Protocol):
    """Something that changes a model's weights."""

    @property
    def facts(self) -> dict[str, Any]:
        """What it does, as JSON."""
        ...

    def __call__(self, name: str) -> LazyModel:
        """The model of that name after the remedy."""
        ...


def suppress(
    out: str | Path,
    models: Sequence[Model | LazyModel],
    trait: Trait,
    settings: SuppressSettings | None = None,
    *,
    base: Model | LazyModel | None = None,
    directions: Mapping[str, Directions | None] | None = None,
    other_model: bool = False,
    fine_tune: Remedy | None = None,
    batch_size: int = 32,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> Suppressed:
    """Write every text into the JSONL file `out`, and sum them up.

    `directions` are files by name, with a direction labelled with the malicious persona or its seat, and `PROMPTS`
    (the default). Each model is steered with those extracted from it; with `other_model`, with all. Perplexity is that
    of a text after the plain question under `base`, unsteered, by default the first of `models`. Models are loaded
    one after another. Beside `out`, `NAME.json` has the settings and results. A killed run resumes and gives the
    same records.

    Raises `UserError` for questions that something was fitted on, for directions that do not fit, and if `out` holds
    something else.

    >>> trait = interp.interventions.make_trait(
    ...     interp.interventions.TraitSettings(fit_questions=4, validation_questions=2, questions=2)
    ... )
    >>> settings = interp.interventions.SuppressSettings(layers=(2,), coefficients=(-0.2,))
    >>> suppressed = interp.interventions.suppress(tmp_path / "s.jsonl", [model], trait, settings)
    >>> [row.remedy for row in suppressed.rows]
    ['none', 'ablation', 'steering', 'random', 'guard']
    """
    settings = settings or SuppressSettings()
    waiting = lazy_models(models)
    [under] = lazy_models([models[0] if base is None else base])
    given = {PROMPTS: None} if directions is None else directions
    files = {name: d for name, d in given.items() if d is not None}
    trait.require_apart(files)
    require_owner(waiting, {} if other_model else files)
    made_by = {
        "models": [one.provenance for one in waiting],
        "base": under.provenance,
        "directions": {name: None if d is None else d.facts.get("provenance", {}) for name, d in given.items()},
        "other_model": other_model,
        "trait": _trait_facts(trait),
        "settings": asdict(settings),
        "fine_tune": None if fine_tune is None else fine_tune.facts,
    }

    def rows_for(one: LazyModel, write: Write) -> None:
        model = one.load()
        found = {}
        for name, d in given.items():
            if d is None or other_model or made_on(d, one):
                source = _contrast(model, trait, settings) if d is None else d
                found[name] = [_direction(source, trait, n, name) for n in model.chosen_layers(settings.layers)]
        tried = [
            Intervention(name, directions, operation)
            for name, each in found.items()
            for operation in settings.operations
            for directions in [*((d,) for d in each), *([tuple(each)] if len(each) > 1 else [])]
        ]
        prompts = _prompts(model, trait, "validation")
        rows = [*map(SteeredRow, prompts), *steered_rows(model, prompts, tried, settings)]
        chosen = choices(write(model, one.name, "validation", in_order(rows)), settings.max_accuracy_loss)
        write(model, one.name, "test", in_order(_test_rows(model, trait, settings, found, tried, chosen)))
        del model
        if fine_tune is not None:
            tuned = fine_tune(one.name).load()
            write(tuned, one.name, "test", [SteeredRow(p, "fine-tune") for p in _prompts(tuned, trait, "test")])

    def record(_: str, split: str, rows: Sequence[SteeredRow], texts: Sequence[str]) -> list[Record]:
        scores = trait.score([row.prompt.question for row in rows], texts)
        return [
            {
                "split": split,
                "elicit": row.prompt.kind,
                "remedy": row.remedy,
                "source": row.source,
                "layer": row.layer,
                "trait": None if np.isnan(score) else round(float(score), 6),
                "correct": _correct(trait, row.prompt, text),
            }
            for row, text, score in zip(rows, texts, scores, strict=True)
        ]

    journal = Journal(out, made_by, restart=restart)
    how: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    written = run_rows(journal, waiting, rows_for, record, sampling=settings.sampling, **how)
    answers = [(trait.task(r["elicit"]), r["question"], spoken(r["elicit"], r["text"])) for r in written]
    values = perplexities(Path(out), made_by, answers, under, restart=restart, **how)
    records = [{**r, "perplexity": value} for r, value in zip(written, values, strict=True)]
    sums = damage_rows(records), choices(records, settings.max_accuracy_loss), suppressions(records)
    counts = {
        "records": len(records),
        "out_of_range": sum(not r["finite"] for r in records),
        "without_a_score": sum(r["trait"] is None for r in records),
        "directions_without_question_hashes": without_hashes(files),
    }
    journal.finish({**summary(*sums), **counts})
    return Suppressed(records, *sums, counts)


def _test_rows(
    model: Model,
    trait: Trait,
    settings: SuppressSettings,
    directions: Mapping[str, Sequence[Direction]],
    tried: Sequence[Intervention],
    chosen: Mapping[Key, Choice],
) -> Iterator[SteeredRow]:
    """Unsteered, under the guard, with the direction ablated at every layer tried, and along the whole curve at the
    chosen layer with its control."""
    prompts = _prompts(model, trait, "test")
    yield from map(SteeredRow, prompts)
    if trait.guard is not None:
        yield from (SteeredRow(prompt, "guard") for prompt in _prompts(model, trait, "test", trait.guard))
    for name, each in directions.items():
        without = ablate(each, tokens=positions(settings, model.tokenizer))
        yield from (SteeredRow(prompt, "ablation", name, steering=without) for prompt in prompts)
    for one in tried:
        at = {how for (_, source, how), c in chosen.items() if (source, c.layer) == (one.name, one.layer)}
        here = [p for p in prompts if p.kind in at or (at and p.kind == PLAIN_QUESTION)]
        yield from steered_rows(model, here, [one], settings)
        controls = [one.control(k) for k in range(settings.random_controls)]
        yield from steered_rows(model, here, controls, settings, "random")


def _prompts(model: Model, trait: Trait, split: str, guard: Persona | None = None) -> list[Prompt]:
    """Those that elicit the trait, then plain questions. Raises `UserError` for one that the model cannot read."""
    questions, accuracy, debates = trait.questions.test, trait.accuracy.test, trait.transcripts[1]
    if split == "validation":
        questions, accuracy, debates = trait.questions.validation, trait.accuracy.validation, trait.transcripts[0]
    found = [
        *trait.elicitation.prompts(model, trait.questions.task, questions, debates, guard),
        *plain(model, trait.accuracy.task, accuracy, guard),
    ]
    longest = max(len(prompt.ids) for prompt in found)
    if model.context_length is not None and longest >= model.context_length:
        raise UserError(f"a prompt of {longest:,} tokens: {model.name} reads {model.context_length:,} with its answer")
    return found


def _contrast(model: Model, trait: Trait, settings: SuppressSettings) -> Directions:
    questions = [q.text for q in trait.questions.fit]
    return prompt_contrast(model, questions, trait.elicitation.malicious, trait.benign, layers=settings.layers)


def _direction(directions: Directions, trait: Trait, layer: int, name: str) -> Direction:
    known = (trait.elicitation.malicious.name, f"agent {trait.elicitation.seat}")
    label = next((label for label in known if label in directions.labels), None)
    if label is None:
        raise UserError(f"{name}: has directions of {', '.join(directions.labels)}, not of {' or '.join(known)}")
    if layer not in directions.layers:
        raise UserError(f"layer {layer}: {name} has the layers {', '.join(map(str, directions.layers))}")
    return directions[label, layer]


def _correct(trait: Trait, prompt: Prompt, text: str) -> bool | None:
    task = trait.task(prompt.kind)
    return None if prompt.gold_answer is None else task.grade(task.answer(text), prompt.gold_answer)


def _trait_facts(trait: Trait) -> dict[str, Any]:
    return {
        "elicitation": asdict(trait.elicitation),
        "benign": asdict(trait.benign),
        "guard": trait.guard and asdict(trait.guard),
        "score": trait.score.facts,
        **{
            what: {"task": p.task.name, **{n: [q.text for q in getattr(p, n)] for n in ("fit", "validation", "test")}}
            for what, p in (("questions", trait.questions), ("accuracy", trait.accuracy))
        },
        "transcripts": [fingerprint(part) for part in trait.transcripts],
    }
