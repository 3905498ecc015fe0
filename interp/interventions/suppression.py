"""Suppressing a trait: the texts that models write as it is steered away, and under the usual remedies."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.directions.directions import Direction, Directions, made_on
from interp.directions.extract import measured
from interp.directions.pairs import fit_pairs, prompt_contrast
from interp.directions.settings import FitSettings
from interp.directions.subspaces import random_directions
from interp.errors import Progress, UserError
from interp.interventions.damage import Choice, Damage, Key, Remedy, choices, damage_rows, summary, verdicts
from interp.interventions.rows import Intervention, Record, Row, Write, along, held, own_models, run
from interp.interventions.settings import PLAIN_QUESTION, SuppressSettings
from interp.interventions.trait import Trait
from interp.models.model import LazyModel, Model, lazy_models
from interp.statistics import draws_needed
from interp.steering.changes import Gate, positions
from interp.steering.steering import OPERATIONS, How, ablate

if TYPE_CHECKING:
    from interp.interventions.remedies import FineTuned

PROMPTS = "prompts"
"""The direction from contrastive system prompts, computed for each model on the questions to fit on."""


@dataclass(frozen=True)
class Suppressed:
    """The texts of a suppression, a record each with its perplexity, and what they add up to."""

    records: list[Record]
    rows: list[Damage]
    chosen: dict[Key, Choice]
    verdicts: list[Remedy]
    counts: dict[str, Any]
    """Texts, and how many of them have a problem."""


def suppress(
    out: str | Path,
    models: Sequence[Model | LazyModel],
    trait: Trait,
    settings: SuppressSettings | None = None,
    *,
    base: Model | LazyModel | None = None,
    directions: Mapping[str, Directions | None] | None = None,
    other_model: bool = False,
    fine_tune: FineTuned | None = None,
    when: Gate | None = None,
    batch_size: int = 32,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> Suppressed:
    """Write every text into the JSONL file `out`, and sum them up in `NAME.json`.

    A layer and a coefficient are chosen for each model on validation questions, among those that subtract the direction
    if any do; the whole curve at that layer, random directions with that coefficient and the remedies are then measured
    on test questions. `directions` are files by name, with a direction labelled with the malicious persona or its seat,
    and `PROMPTS` (the default). Each model is steered with those extracted from it; with `other_model`, with all.
    A gate `when` is as `add` takes it.
    Perplexity is under `base`, by default the first of `models`. A killed run resumes. Raises `UserError` for questions
    that something was fitted on and directions that do not fit.

    >>> few = interp.interventions.TraitSettings(fit_questions=4, validation_questions=2, questions=2)
    >>> trait = interp.interventions.make_trait(few)
    >>> settings = interp.interventions.SuppressSettings(layers=(2,), coefficients=(-0.2,))
    >>> suppressed = interp.interventions.suppress(tmp_path / "s.jsonl", [model], trait, settings)
    >>> [row.remedy for row in suppressed.rows]
    ['none', 'ablation', 'random', 'steering', 'random', 'guard']
    """
    settings = settings or SuppressSettings()
    given = {PROMPTS: None} if directions is None else directions
    files = {name: d for name, d in given.items() if d is not None}
    trait.require_apart(files)
    waiting = own_models(models, {} if other_model else files)
    [under] = lazy_models([models[0] if base is None else base])

    def own_of(one: LazyModel) -> dict[str, Directions | None]:
        return {name: d for name, d in given.items() if d is None or other_model or made_on(d, one)}

    steps, elicit = settings.coefficients, trait.elicitation.elicit
    down = replace(settings, coefficients=tuple(c for c in steps if c < 0) or steps)
    compared = len(elicit) * (1 + len(settings.operations)) * sum(len(own_of(one)) for one in waiting)

    def rows_for(one: LazyModel, write: Write) -> None:
        model = one.load()
        own = own_of(one)
        found = {name: _directions(name, d, model, trait, settings) for name, d in own.items()}
        tried = [
            (f"{name}, {operation}".removesuffix(", add"), ",".join(str(d.layer) for d in some), operation, some)
            for name, each in found.items()
            for operation in settings.operations
            for some in [*([d] for d in each), *([each] if len(each) > 1 else [])]
        ]

        def curve(how: SuppressSettings, where: tuple[Any, ...], operation: str, *what: Any) -> list[Intervention]:
            return along(model, how, _facts(*where), partial(OPERATIONS[operation], when=when), *what)

        def random(some: Sequence[Direction], choices: int) -> Iterator[tuple[Direction, ...]]:
            """Those in the place of some directions: as many as can show one that was chosen among `choices`."""
            n = draws_needed(compared * choices) if settings.random_controls is None else settings.random_controls
            return zip(*(random_directions(d, n) for d in some), strict=True)

        unsteered = Intervention(_facts("none"))
        hows = [unsteered, *(how for *at, op, some in tried for how in curve(down, ("steering", *at), op, some))]
        rows = [(prompt, how) for prompt in trait.prompts(model, "validation") for how in hows]
        if fine_tune is not None:
            fine_tune.answers()  # there may be none, which is said before any work
        chosen = choices(write(model, "validation", rows), settings.max_accuracy_loss)

        prompts, tokens = trait.prompts(model, "test"), positions(settings, model.tokenizer)
        placed: How = {"tokens": tokens, "keep_norm": settings.keep_norm, "when": when}
        applied: dict[str, list[Intervention]] = {kind: [unsteered] for kind in (*elicit, PLAIN_QUESTION)}

        def apply(kinds: Collection[str], hows: Sequence[Intervention], controls: Sequence[Intervention] = ()) -> None:
            for kind in (*kinds, PLAIN_QUESTION) if kinds else ():
                applied[kind] += [*hows, *(controls[:1] if kind == PLAIN_QUESTION else controls)]

        for name, each in found.items():
            own_one = Intervention(_facts("ablation", name), steering=ablate(each, **placed))
            drawn = (ablate(some, **placed) for some in random(each, 1))
            controls = [Intervention(_facts("random", name, draw=k), steering=how) for k, how in enumerate(drawn, 1)]
            apply(elicit, [own_one], controls)
        for source, layer, operation, some in tried:
            at = {kind: c for (_, of, kind), c in chosen.items() if (of, c.layer) == (source, layer)}
            apply(at, curve(settings, ("steering", source, layer), operation, some))
            for c in dict.fromkeys(choice.coefficient for choice in at.values()):
                there, only = [kind for kind in at if at[kind].coefficient == c], replace(settings, coefficients=(c,))
                those = enumerate(random(some, at[there[0]].choices), 1)
                hows = [curve(only, ("random", source, layer, k), operation, each)[0] for k, each in those]
                apply(there, [], hows)
        rows = [(prompt, how) for prompt in prompts for how in applied[prompt.kind]]
        if trait.guard is not None:
            rows += [(prompt, Intervention(_facts("guard"))) for prompt in trait.prompts(model, "test", trait.guard)]
        write(model, "test", rows)
        del model
        if fine_tune is not None:
            tuned, how = fine_tune(one.name).load(), Intervention(_facts("fine-tune"))
            write(tuned, "test", [(prompt, how) for prompt in trait.prompts(tuned, "test")])

    def measure(split: str, rows: Sequence[Row], texts: Sequence[str]) -> Iterator[Record]:
        scores = trait.score([prompt.question for prompt, _ in rows], texts)
        for (prompt, _), text, score in zip(rows, texts, scores, strict=True):
            gold, task = prompt.gold_answer, trait.task(prompt.kind)
            correct = None if gold is None else task.grade(task.answer(text), gold)
            yield {"split": split, "trait": None if np.isnan(score) else round(float(score), 6), "correct": correct}

    made_by = {"base": under.provenance, "other_model": other_model, "trait": trait.facts}
    made_by["fine_tune"] = None if fine_tune is None else fine_tune.facts
    made_by |= {} if when is None else {"when": when.facts}
    how: dict[str, Any] = {"batch_size": batch_size, "restart": restart, "progress": progress}
    how |= {"kind": "elicit", "task": trait.task, "base": under}
    journal, records, counts = run(out, made_by, waiting, given, settings, rows_for, measure, **how)
    rows, limit = damage_rows(records), settings.max_accuracy_loss
    known = {(row.model, row.elicit) for row in rows if row.remedy == "none"}
    chosen = {key: at for key, at in choices(records, limit).items() if (key[0], key[2]) in known}
    sums = rows, chosen, verdicts(records, chosen, limit)
    counts["without_a_score"] = sum(r["trait"] is None for r in records)
    journal.finish({**summary(*sums), **counts})
    return Suppressed(records, *sums, counts)


def _facts(remedy: str, source: str | None = None, layer: str | None = None, draw: int | None = None) -> Record:
    return {"remedy": remedy, "source": source, "layer": layer, "draw": draw}


def _directions(
    name: str, directions: Directions | None, model: Model, trait: Trait, settings: SuppressSettings
) -> list[Direction]:
    """The trait's direction at each layer; without a file, from the contrast of system prompts."""
    layers, malicious = model.chosen_layers(settings.layers), trait.elicitation.malicious
    if directions is None and trait.pairs[0]:
        how = FitSettings(layers=settings.layers, label=malicious.name, chat=bool(model.tokenizer.chat_template))
        fitting = replace(how, controls=False)
        directions = fit_pairs(model, trait.pairs[0], settings=fitting, source="trait").directions
    elif directions is None:
        questions = [q.text for q in trait.questions.fit]
        directions = prompt_contrast(model, questions, malicious, trait.benign, layers=settings.layers)
    known = (malicious.name, f"agent {trait.elicitation.seat}")
    anyones = directions.note or trait.pairs[0] or directions.facts.get("by") == "pair"  # not by persona or seat
    only = directions.labels if anyones and len(directions.labels) == 1 else ()
    labels = [label for label in known if label in directions.labels] or only
    if not labels:
        raise UserError(f"{name}: has directions of {', '.join(directions.labels)}, not of {' or '.join(known)}")
    directions = measured(directions, model, [prompt.ids for prompt in trait.prompts(model, "validation")])
    return [found for [found] in held(name, directions, labels[:1], layers)]
