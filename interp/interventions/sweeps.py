"""How far each agent can be turned up: texts over layers and coefficients, against the agent's own words.

Knows which texts are written and what is kept of each; `interp.interventions.curves` sums them up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript, fingerprint
from interp.directions.directions import Directions, label_of_agent, made_on, question_hash, without_hashes
from interp.errors import Progress, UserError
from interp.evaluation.texts import PersonaClassifier, Rouge, label_of
from interp.interventions.curves import Advantage, Gain, Steerability, advantages, gains, steerability, summary
from interp.interventions.damage import perplexities
from interp.interventions.prompts import Prompt, spoken
from interp.interventions.rows import Intervention, Record, SteeredRow, Write, require_owner, run_rows, steered_rows
from interp.interventions.settings import SweepSettings
from interp.models.lazy import LazyModel, lazy_models
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.steering.steering import random_direction
from interp.storage.journal import Journal


@dataclass(frozen=True)
class Swept:
    """The texts of a sweep and what they add up to."""

    records: list[Record]
    """One per text, as in the JSONL file."""
    curves: list[Steerability]
    """Of each agent and its controls."""
    gains: list[Gain]
    """Of the other models over the first."""
    advantages: list[Advantage]
    """Of each agent's own direction over no steering and its controls."""
    counts: dict[str, Any]
    """Texts and questions, and how many of them have a problem."""


def sweep(
    out: str | Path,
    models: Sequence[Model | LazyModel],
    directions: Mapping[str, Directions],
    transcripts: Sequence[Transcript],
    settings: SweepSettings,
    *,
    other_model: bool = False,
    task: Task | None = None,
    base: Model | LazyModel | None = None,
    classifier: PersonaClassifier | None = None,
    batch_size: int = 32,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> Swept:
    """Write every text of the sweep into the JSONL file `out`, and sum them up.

    Each model is steered with the directions extracted from it; with `other_model`, with all. Models are loaded one
    after another. A record has the steering, the text, whether it is `finite`, its repetition, ROUGE-1, -2 and -L
    against each agent's own first turn, and with a `classifier` the probability that it is that agent's. With the
    `task` of the questions it also says whether the answer is right, and with a `base` its perplexity under that
    unsteered model after the plain question. Unsteered texts are written once, with coefficient 0. Transcripts on
    questions that the directions were fitted on are left out. Beside `out`, `NAME.json` has the settings, curves and
    areas. A killed run resumes and gives the same bytes.

    Raises `UserError` if nothing is left, for directions that do not fit, and if `out` holds something else.

    >>> settings = interp.interventions.SweepSettings(layers=(2,), coefficients=(0.2,), contexts=("turn",))
    >>> swept = interp.interventions.sweep(tmp_path / "s.jsonl", [model], {"d": found}, transcripts[30:31], settings)
    >>> len(swept.records)
    15
    """
    fitted = {h for d in directions.values() for h in d.facts.get("question_hashes", [])}
    held_out = [t for t in transcripts if question_hash(t.question) not in fitted]
    if not held_out:
        raise UserError(f"the directions were fitted on all {len(transcripts)} questions; give transcripts of others")
    if classifier is not None and (seen := sum(t.question in classifier.questions_ for t in held_out)):
        raise UserError(f"the classifier was fitted on {seen} of the {len(held_out)} questions; fit it on others")
    if settings.turns_of is not None and not any(settings.turns_of in t.agents for t in held_out):
        raise UserError(f"turns of agent {settings.turns_of}: choose one of {held_out[0].agents}")
    if base is not None and task is None:
        raise UserError("base: perplexity needs the task of the questions; give --task")
    waiting = lazy_models(models)
    require_owner(waiting, {} if other_model else directions)
    for one in waiting:
        if not other_model and not any(made_on(d, one) for d in directions.values()):
            raise UserError(
                f"{one.name}: none of the directions was extracted from it; extract some from it, or allow another "
                "model's with --other-model"
            )
    labels = [label_of_agent(each) for each in settings.direction_of]
    for name, d in directions.items():
        _require_there(name, d, labels, settings.layers or ())
    made_by = {
        "models": [one.provenance for one in waiting],
        "directions": {name: d.facts.get("provenance", {}) for name, d in directions.items()},
        "other_model": other_model,
        "transcripts": fingerprint(held_out),
        "settings": asdict(settings),
        "task": None if task is None else task.name,
        "classifier": None if classifier is None else classifier.facts_,
    }

    def rows_for(one: LazyModel, write: Write) -> None:
        model = one.load()
        own = {name: d for name, d in directions.items() if other_model or made_on(d, one)}
        write(model, one.name, "texts", list(_rows(model, own, held_out, settings, labels)))

    journal = Journal(out, made_by, restart=restart)
    foreign = {(one.name, name): not made_on(d, one) for one in waiting for name, d in directions.items()}
    rouge = Rouge()

    def record(model: str, _: str, rows: Sequence[SteeredRow], texts: Sequence[str]) -> list[Record]:
        names = [row.source and row.source.removesuffix(f", {settings.operation}") for row in rows]
        return [
            {
                "other_model": foreign.get((model, name or ""), False),
                "directions": name,
                "layer": None if row.layer is None else int(row.layer),
                "direction": row.direction,
                "context": row.prompt.kind,
                "before": row.prompt.before,
                **_scores(row.prompt, text, rouge, classifier, task),
            }
            for row, name, text in zip(rows, names, texts, strict=True)
        ]

    records = run_rows(
        journal, waiting, rows_for, record, sampling=settings.sampling, batch_size=batch_size, progress=progress
    )
    if base is not None and task is not None:
        [under] = lazy_models([base])
        answers = [(task, r["question"], spoken(r["context"], r["text"])) for r in records]
        how: dict[str, Any] = {"batch_size": batch_size, "restart": restart, "progress": progress}
        values = perplexities(Path(out), made_by | {"base": under.provenance}, answers, under, **how)
        records = [{**record, "perplexity": value} for record, value in zip(records, values, strict=True)]
    curves = steerability(records, ["rougeL"] if classifier is None else ["rougeL", "classifier"])
    gained, compared = gains(curves), advantages(curves)
    counts = {
        "records": len(records),
        "questions": len(held_out),
        "questions_that_directions_were_fitted_on": len(transcripts) - len(held_out),
        "directions_without_question_hashes": without_hashes(directions),
        "out_of_range": sum(not record["finite"] for record in records),
    }
    journal.finish({**summary(curves, gained, compared), **counts})
    return Swept(records, curves, gained, compared, counts)


def _require_there(name: str, directions: Directions, labels: Sequence[str], layers: Sequence[int]) -> None:
    """Raises `UserError` for agents or layers of which the file has no directions."""
    for label in labels:
        if label not in directions.labels:
            raise UserError(f"{label}: the directions in {name} are of {', '.join(directions.labels)}")
    for layer in layers:
        if layer not in directions.layers:
            raise UserError(f"layer {layer}: {name} has the layers {', '.join(map(str, directions.layers))}")


def _rows(
    model: Model,
    directions: Mapping[str, Directions],
    transcripts: Sequence[Transcript],
    settings: SweepSettings,
    labels: Sequence[str],
) -> Iterator[SteeredRow]:
    """Each prompt that fits into the context: unsteered, then along each direction."""
    by = next(iter(directions.values())).facts.get("by", "agent")
    chosen = {name: labels or d.labels for name, d in directions.items()}
    known = list(dict.fromkeys(label for each in chosen.values() for label in each))
    tried = [one for name, d in directions.items() for one in _interventions(name, d, chosen[name], settings, model)]
    encode = Encoder(model.tokenizer)
    prompts = [p for t in transcripts for p in _prompts(encode, t, by, known, settings)]
    readable = [p for p in prompts if model.context_length is None or len(p.ids) < model.context_length]
    steered = list(steered_rows(model, readable, tried, settings))
    each = len(steered) // max(1, len(readable))
    for i, prompt in enumerate(readable):
        yield SteeredRow(prompt)
        yield from steered[i * each : (i + 1) * each]


def _interventions(
    name: str, directions: Directions, labels: Sequence[str], settings: SweepSettings, model: Model
) -> Iterator[Intervention]:
    """The directions at each layer, and random ones as long as they are on average."""
    for layer in model.chosen_layers(directions.layers if settings.layers is None else settings.layers):
        own = [directions[label, layer] for label in labels]
        length = sum(d.norm for d in own) / len(own)
        controls = [
            random_direction(own[0], seed=1000 * layer + k).unit * length for k in range(settings.random_controls)
        ]
        controls = [replace(d, label=f"random {k}") for k, d in enumerate(controls, start=1)]
        for direction in (*own, *controls):
            yield Intervention(name, (direction,), settings.operation)


def _prompts(
    encode: Encoder, transcript: Transcript, by: Any, labels: Sequence[str], settings: SweepSettings
) -> Iterator[Prompt]:
    first = {label_of(transcript, t.agent, by): t for t in reversed(transcript.turns) if t.round == 1 and t.text}
    references = {label: first[label].text for label in labels if label in first}
    asked = (transcript.question, transcript.gold_answer)
    if "question" in settings.contexts:
        yield Prompt("question", *asked, encode.prompt(transcript.prompt), None, references)
    if "turn" in settings.contexts:
        ids, places = encode.transcript(transcript)
        for label in references:
            if settings.turns_of in (None, first[label].agent):
                tag_end = places[transcript.turns.index(first[label])][0]
                yield Prompt("turn", *asked, ids[:tag_end], label, references)


def _scores(
    prompt: Prompt, text: str, rouge: Rouge, classifier: PersonaClassifier | None, task: Task | None
) -> dict[str, Any]:
    scores: dict[str, Any] = {
        "rouge": {label: list(rouge(own, text).values()) for label, own in prompt.references.items()}
    }
    if task is not None and prompt.gold_answer is not None:
        scores["correct"] = task.grade(task.answer(text), prompt.gold_answer)
    if classifier is not None:
        known = [label for label in prompt.references if label in classifier.labels_]
        scores["probability"] = {
            label: round(float(classifier.probability([text], label)[0]), 6) if text else 0.0 for label in known
        }
    return scores
