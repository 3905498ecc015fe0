"""Suppressing a trait: the texts that models write as it is steered away, and under the usual remedies.

Knows which texts are to be written, in which order, and what is kept of each; what they add up to,
`interp.interventions.damage` knows. For each model a layer and a coefficient are chosen on validation
questions, every layer and coefficient being tried; the whole curve at that layer, its control and the remedies
are then measured on test questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from interp.debate.personas import Persona
from interp.debate.tasks.task import Task
from interp.debate.transcript import before_tags, fingerprint, without_tags
from interp.directions.directions import Direction, Directions, made_on, without_hashes
from interp.directions.system_prompts import prompt_contrast
from interp.errors import Progress, UserError
from interp.evaluation.texts import repetition
from interp.generation.sampling import Generated, generate
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
from interp.interventions.plan import Row, Settings, Way, in_order, require_owner, steered_rows, ways_of
from interp.interventions.prompts import PLAINLY, Prompt, plain
from interp.interventions.trait import Trait
from interp.models.lazy import LazyModel, lazy_models
from interp.models.model import Model
from interp.steering.steering import ablate
from interp.storage.journal import Journal

PROMPTS = "prompts"
"""The direction from contrastive system prompts, made anew for each model on the questions to fit on."""


@dataclass(frozen=True)
class Suppressed:
    """The texts that were written as a trait was steered away, and what they add up to."""

    records: list[dict[str, Any]]
    """A text each, as in the JSONL file, with its perplexity."""
    rows: list[Damage]
    """Every setting on the test questions."""
    chosen: dict[Key, Choice]
    """Layer and coefficient, from the validation questions."""
    smallest: dict[tuple[str, str, str, str], Suppression]
    """Where the trait is gone, as `suppressions` has it."""
    counts: dict[str, Any]
    """Of texts: how many there are, and what is wrong with some."""


class Remedy(Protocol):
    """Something that changes a model's weights."""

    @property
    def facts(self) -> dict[str, Any]:
        """What it does, as JSON takes it."""
        ...

    def __call__(self, name: str) -> LazyModel:
        """The model of that name after the remedy."""
        ...


class _Writer:
    """Writes rows, scores them and keeps them; rows that a journal holds already are taken from there."""

    def __init__(self, journal: Journal, trait: Trait, settings: Settings, batch_size: int, progress: Progress):
        self.journal = journal
        self.trait = trait
        self.settings = settings
        self.batch_size = batch_size
        self.progress = progress
        self.records: list[dict[str, Any]] = []

    def __call__(self, model: Model, name: str, split: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The records of these rows, which follow those written before."""
        sampling = self.settings.sampling

        def some(rows: Sequence[Row]) -> list[dict[str, Any]]:
            written = generate(
                model,
                [row.prompt.ids for row in rows],
                **sampling.options,
                seeds=[sampling.seed] * len(rows),
                batch_size=self.batch_size,
                steering=[row.steering for row in rows],
            )
            return self._records(model, name, split, rows, written)

        tell = partial(self.progress, f"{name}, {split}")
        return self.journal.extend(self.records, rows, some, chunk=4 * self.batch_size, tell=tell)

    def _records(
        self, model: Model, name: str, split: str, rows: Sequence[Row], written: Sequence[Generated]
    ) -> list[dict[str, Any]]:
        texts = [model.tokenizer.decode(g.ids) for g in written]
        said = [_said(row.prompt.asked, text) for row, text in zip(rows, texts, strict=True)]
        scores = self.trait.score([row.prompt.question for row in rows], said)
        return [
            {
                "split": split,
                "model": name,
                "asked": row.prompt.asked,
                "remedy": row.remedy,
                "source": row.source,
                "layer": row.layer,
                "coefficient": row.coefficient,
                "question": row.prompt.question,
                "text": text,
                "tokens": out.n_tokens,
                "ended": out.ended,
                "finite": out.finite,
                "trait": None if np.isnan(score) else round(float(score), 6),
                "correct": self._correct(row.prompt, spoken),
                "repetition": round(repetition(spoken), 6),
            }
            for row, out, text, spoken, score in zip(rows, written, texts, said, scores, strict=True)
        ]

    def _correct(self, prompt: Prompt, said: str) -> bool | None:
        task = self.trait.task(prompt.asked)
        return None if prompt.gold_answer is None else task.grade(task.answer(said), prompt.gold_answer)


def suppress(
    out: str | Path,
    models: Sequence[Model | LazyModel],
    trait: Trait,
    settings: Settings | None = None,
    *,
    base: Model | LazyModel | None = None,
    directions: Mapping[str, Directions | None] | None = None,
    foreign: bool = False,
    fine_tune: Remedy | None = None,
    batch_size: int = 32,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> Suppressed:
    """Write every text into the JSONL file `out`, and sum them up.

    Beside it `NAME.json` says what made them and what they add up to.
    `directions` are files by name, in which the direction is labelled with the malicious persona or its seat, and
    `PROMPTS`; by default that alone. A model is steered with those that were extracted from it; with `foreign`,
    with all. Perplexity is that of the text after the plain question under `base`, unsteered, by default the
    first of `models`; it is kept in a file of its own beside `out`. Models are loaded one after another. The
    same call after a kill goes on and gives the same records.

    Raises `UserError` for questions that something was fitted on, for directions that do not fit, and where
    `out` holds something else.
    """
    settings = settings or Settings()
    waiting = lazy_models(models)
    under = lazy_models([models[0] if base is None else base])[0]
    given = {PROMPTS: None} if directions is None else directions
    files = {name: d for name, d in given.items() if d is not None}
    trait.require_apart(files)
    require_owner(waiting, {} if foreign else files)
    made_by = {
        "models": [one.provenance for one in waiting],
        "base": under.provenance,
        "directions": {name: None if d is None else d.facts.get("provenance", {}) for name, d in given.items()},
        "foreign": foreign,
        "trait": _trait_facts(trait),
        "settings": asdict(settings),
        "fine_tune": None if fine_tune is None else fine_tune.facts,
    }
    journal = Journal(out, made_by, restart=restart)
    write = _Writer(journal, trait, settings, batch_size, progress)
    for i, one in enumerate(waiting):
        later = {other.name for other in waiting[i + 1 :]}
        if any(record["model"] in later for record in journal.records):  # all of this one's are there
            write.records += [record for record in journal.records if record["model"] == one.name]
            continue
        model = one.load()
        sources = {
            name: _made(model, trait, settings) if d is None else d
            for name, d in given.items()
            if d is None or foreign or made_on(d, one)
        }
        layers = settings.layers or tuple(range(model.n_layers))
        found_at = {name: [_direction(d, trait, n, name, model) for n in layers] for name, d in sources.items()}
        ways = [way for name, each in found_at.items() for way in ways_of(name, each, settings)]
        prompts = [*_prompts(model, trait, "validation")]
        rows = [
            *(Row(prompt) for prompt in prompts),
            *steered_rows(prompts, ways, settings),
        ]
        chosen = choices(write(model, one.name, "validation", in_order(rows)), settings.damage)
        write(model, one.name, "test", in_order(_test_rows(model, trait, settings, found_at, ways, chosen)))
        del model
        if fine_tune is not None:
            tuned = fine_tune(one.name).load()
            rows = [Row(prompt, "fine-tune") for prompt in _prompts(tuned, trait, "test")]
            write(tuned, one.name, "test", rows)
            del tuned

    def said(record: Mapping[str, Any]) -> tuple[Task, str]:
        return trait.task(record["asked"]), _said(record["asked"], record["text"])

    how: dict[str, Any] = {"batch_size": batch_size, "restart": restart, "progress": progress}
    values = perplexities(Path(out), made_by, write.records, said, under, **how)
    records = [{**record, "perplexity": value} for record, value in zip(write.records, values, strict=True)]
    sums = damage_rows(records), choices(records, settings.damage), suppressions(records)
    counts = {
        "records": len(records),
        "out_of_range": sum(not record["finite"] for record in records),
        "without_a_score": sum(record["trait"] is None for record in records),
        "directions_without_question_hashes": without_hashes(files),
    }
    journal.finish({**summary(*sums), **counts})
    return Suppressed(records, *sums, counts)


def _test_rows(
    model: Model,
    trait: Trait,
    settings: Settings,
    directions: Mapping[str, Sequence[Direction]],
    ways: Sequence[Way],
    chosen: Mapping[tuple[str, str, str], Choice],
) -> Iterator[Row]:
    """Without anything, under the guard, with the direction taken out at every layer that was tried, and along the
    whole curve at the layer that was chosen, beside its control."""
    prompts = [*_prompts(model, trait, "test")]
    yield from (Row(prompt) for prompt in prompts)
    if settings.guard is not None:
        yield from (Row(prompt, "guard") for prompt in _prompts(model, trait, "test", settings.guard))
    for name, each in directions.items():
        without = ablate(each, tokens=settings.tokens)
        yield from (Row(prompt, "ablation", name, steering=without) for prompt in prompts)
    for way in ways:
        asked = {
            how for (_, source, how), choice in chosen.items() if (source, choice.layer) == (way.source, way.layer)
        }
        here = [p for p in prompts if p.asked in asked or (asked and p.asked == PLAINLY)]
        yield from steered_rows(here, [way], settings)
        yield from steered_rows(here, [way.control(k) for k in range(settings.n_random)], settings, "random")


def _prompts(model: Model, trait: Trait, split: str, guard: Persona | None = None) -> list[Prompt]:
    """Those that call the trait up, then those put plainly. Raises `UserError` for one that the model cannot read."""
    questions, accuracy = trait.questions, trait.accuracy
    part, transcripts = (questions.test, trait.transcripts[1])
    if split == "validation":
        part, transcripts = (questions.validation, trait.transcripts[0])
    others = accuracy.validation if split == "validation" else accuracy.test
    found = [
        *trait.asking.prompts(model, questions.task, part, transcripts, guard),
        *plain(model, accuracy.task, others, guard),
    ]
    longest = max(len(prompt.ids) for prompt in found)
    if model.context_length is not None and longest >= model.context_length:
        raise UserError(f"a prompt of {longest:,} tokens: {model.name} reads {model.context_length:,} with its answer")
    return found


def _made(model: Model, trait: Trait, settings: Settings) -> Directions:
    questions = [q.text for q in trait.questions.fit]
    return prompt_contrast(model, questions, trait.asking.malicious, settings.benign, layers=settings.layers or None)


def _direction(directions: Directions, trait: Trait, layer: int, name: str, model: Model) -> Direction:
    wanted = (trait.asking.malicious.name, f"agent {trait.asking.seat}")
    label = next((label for label in wanted if label in directions.labels), None)
    if label is None:
        raise UserError(f"{name}: has directions of {', '.join(directions.labels)}, and none of {' or '.join(wanted)}")
    if layer not in directions.layers or layer >= model.n_layers:
        raise UserError(f"layer {layer}: {name} has the layers {', '.join(map(str, directions.layers))}")
    return directions[label, layer]


def _trait_facts(trait: Trait) -> dict[str, Any]:
    return {
        "asking": asdict(trait.asking),
        "score": trait.score.facts,
        **{
            what: {"task": p.task.name, **{n: [q.text for q in getattr(p, n)] for n in ("fit", "validation", "test")}}
            for what, p in (("questions", trait.questions), ("accuracy", trait.accuracy))
        },
        "transcripts": [fingerprint(part) for part in trait.transcripts],
    }


def _said(asked: str, text: str) -> str:
    """What a text says as an answer: of a debate that is gone on with, the one turn."""
    return (before_tags(text) if asked == "turn" else without_tags(text)).strip()
