"""Steered answers over models × directions × layers × coefficients × questions, in one resumable file.

Knows which texts are to be written, after which prompts, and which scores go beside them; what the scores
add up to, `interp.interventions.curves` knows. All rows of a question stand side by side, so that
each prompt is read once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from interp.debate.agents import Sampling
from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript, before_tags, fingerprint, without_tags
from interp.directions.directions import Direction, Directions, made_on, question_hash, without_hashes
from interp.errors import Progress, UserError
from interp.evaluation.texts import PersonaClassifier, Rouge, label_of, repetition
from interp.generation.sampling import Generated, generate
from interp.interventions.curves import Advantage, Gain, Steerability, advantages, gains, steerability, summary
from interp.interventions.damage import perplexities
from interp.interventions.plan import require_owner
from interp.models.lazy import LazyModel, lazy_models
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.steering.changes import TOKENS, Positions, WrittenTurns
from interp.steering.steering import UNITS, Steering, add, random_direction, require_coefficients
from interp.storage.journal import Journal

CONTEXTS = ("turn", "question")
"""What is gone on from: `turn`, the transcript up to an agent's first tag (the paper); `question`, the bare
question, at which an internalized model would answer at once."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is swept over, and how; the defaults are the paper's where it says."""

    coefficients: tuple[float, ...]
    layers: tuple[int, ...]
    units: str = "residual"
    """One of `interp.steering.UNITS`."""
    tokens: str | int = "generated"
    """One of `interp.steering.TOKENS`; or a seat, whose turns alone are steered, as the model writes a debate, and
    before whose tag alone a debate is gone on with."""
    contexts: tuple[str, ...] = CONTEXTS
    agents: tuple[str, ...] = ()
    """Labels of the directions; all of them where none is given."""
    n_random: int = 1
    """Random directions of the same length, as controls."""
    sampling: Sampling = Sampling(96, 0.0)  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        checks: list[tuple[str, str, Collection[str]]] = [("units", self.units, UNITS)]
        if isinstance(self.tokens, str):
            checks.append(("tokens", self.tokens, TOKENS))
        for name, given, known in [*checks, *(("context", context, CONTEXTS) for context in self.contexts)]:
            if given not in known:
                raise UserError(f"{name} {given}: not known; give one of {', '.join(known)}")
        require_coefficients(self.coefficients)
        if not self.layers:
            raise UserError("no layer given; give at least one")


@dataclass(frozen=True)
class Swept:
    """The texts of a sweep and what they add up to."""

    records: list[dict[str, Any]]
    """A text each, as in the JSONL file."""
    curves: list[Steerability]
    """Of each agent and its controls."""
    gains: list[Gain]
    """Of the other models over the first."""
    advantages: list[Advantage]
    """Of each agent's own direction over no steering and its controls."""
    counts: dict[str, Any]
    """Of texts and questions: how many there are, and what is wrong with some."""


@dataclass(frozen=True)
class _Prompt:
    """Where texts begin: after a question, or after an agent's tag (`label`)."""

    question: str
    gold_answer: str | None
    context: str
    label: str | None
    ids: list[int]
    references: Mapping[str, str]
    """Each agent's own first turn, by label."""


@dataclass(frozen=True)
class _Row:
    """A text to be written; without a `direction` the unsteered one."""

    prompt: _Prompt
    directions: str | None = None
    direction: Direction | None = None
    coefficient: float = 0.0


def sweep(
    out: str | Path,
    models: Sequence[Model | LazyModel],
    directions: Mapping[str, Directions],
    transcripts: Sequence[Transcript],
    settings: Settings,
    *,
    foreign: bool = False,
    task: Task | None = None,
    base: Model | LazyModel | None = None,
    classifier: PersonaClassifier | None = None,
    batch_size: int = 32,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> Swept:
    """Write every text of the sweep into the JSONL file `out`, and sum them up.

    A model is steered with the directions that were extracted from it; with `foreign`, with all. Models are loaded
    one after another. A record says what was steered how, the text, whether it `finite`ly came about, its
    repetition, ROUGE-1, -2 and -L against each agent's own first turn, and with a `classifier` the probability that
    it is that agent's. With the `task` of the questions it also says whether the answer is right, and with a
    `base` its perplexity under that model, unsteered, after the plain question (kept beside `out`). Unsteered texts
    stand once for all directions, with coefficient 0. Transcripts whose question the directions were fitted on are
    left out and counted beside the file, where the curves and areas lie too. The same call after a kill goes on and
    gives the same bytes.

    Raises `UserError` where nothing is left, for directions that do not fit, and where `out` holds something else.
    """
    fitted = {h for d in directions.values() for h in d.facts.get("question_hashes", [])}
    held_out = [t for t in transcripts if question_hash(t.question) not in fitted]
    if not held_out:
        raise UserError(f"the directions were fitted on all {len(transcripts)} questions; give transcripts of others")
    if classifier is not None and (seen := sum(t.question in classifier.questions_ for t in held_out)):
        raise UserError(f"the classifier was fitted on {seen} of the {len(held_out)} questions; fit it on others")
    if isinstance(settings.tokens, int) and not any(settings.tokens in t.agents for t in held_out):
        raise UserError(f"turns of agent {settings.tokens}: choose one of {held_out[0].agents}")
    if base is not None and task is None:
        raise UserError("a base for perplexity given, and no task: name the task that the questions are of")
    waiting = lazy_models(models)
    require_owner(waiting, {} if foreign else directions)
    for one in waiting:
        if not foreign and not any(made_on(d, one) for d in directions.values()):
            raise UserError(
                f"{one.name}: none of the directions was extracted from it; extract some from it, or steer with "
                "another model's by --foreign"
            )
    for name, d in directions.items():
        _require_there(name, d, settings)
    made_by = {
        "models": [one.provenance for one in waiting],
        "directions": {name: d.facts.get("provenance", {}) for name, d in directions.items()},
        "foreign": foreign,
        "transcripts": fingerprint(held_out),
        "settings": asdict(settings),
        "task": None if task is None else task.name,
        "classifier": None if classifier is None else classifier.facts_,
    }
    journal = Journal(out, made_by, restart=restart)
    records: list[dict[str, Any]] = []
    rouge = Rouge()
    for i, one in enumerate(waiting):
        later = {other.name for other in waiting[i + 1 :]}
        if any(record["model"] in later for record in journal.records):  # all of this one's are there
            records += [record for record in journal.records if record["model"] == one.name]
            continue
        own = {name: d for name, d in directions.items() if foreign or made_on(d, one)}
        model = one.load()
        write = partial(_written, model, one, own, settings, _Scores(rouge, classifier, task), batch_size)
        rows = list(_rows(model, own, held_out, settings))
        journal.extend(records, rows, write, chunk=4 * batch_size, tell=partial(progress, f"{one.name}, texts"))
        del model
    if base is not None and task is not None:
        how: dict[str, Any] = {"batch_size": batch_size, "restart": restart, "progress": progress}
        under = lazy_models([base])[0]
        values = perplexities(
            Path(out), made_by | {"base": under.provenance}, records, partial(_spoken, task), under, **how
        )
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


@dataclass(frozen=True)
class _Scores:
    """What is measured on a text."""

    rouge: Rouge
    classifier: PersonaClassifier | None
    task: Task | None


def _written(
    model: Model,
    one: LazyModel,
    directions: Mapping[str, Directions],
    settings: Settings,
    scores: _Scores,
    batch_size: int,
    rows: Sequence[_Row],
) -> list[dict[str, Any]]:
    sampling, tokens = settings.sampling, settings.tokens
    at = WrittenTurns(model.tokenizer, tokens) if isinstance(tokens, int) else TOKENS[tokens]
    written = generate(
        model,
        [row.prompt.ids for row in rows],
        **sampling.options,
        seeds=[sampling.seed] * len(rows),
        batch_size=batch_size,
        steering=[_steering(row, settings, at) for row in rows],
    )
    foreign = {name: not made_on(d, one) for name, d in directions.items()}
    return [
        {"model": one.name, "foreign": foreign.get(row.directions or "", False), **_record(model, row, out, scores)}
        for row, out in zip(rows, written, strict=True)
    ]


def _said(context: str, text: str) -> str:
    return (before_tags(text) if context == "turn" else without_tags(text)).strip()


def _spoken(task: Task, record: Mapping[str, Any]) -> tuple[Task, str]:
    return task, _said(record["context"], record["text"])


def _rows(
    model: Model, directions: Mapping[str, Directions], transcripts: Sequence[Transcript], settings: Settings
) -> Iterator[_Row]:
    by = next(iter(directions.values())).facts.get("by", "agent")
    encode = Encoder(model.tokenizer)
    labels = {name: settings.agents or d.labels for name, d in directions.items()}
    known = list(dict.fromkeys(label for each in labels.values() for label in each))
    steered = [
        (name, direction, coefficient)
        for name, d in directions.items()
        for direction in _chosen(d, labels[name], settings, model)
        for coefficient in settings.coefficients
        if coefficient
    ]
    for transcript in transcripts:
        for prompt in _prompts(encode, transcript, by, known, settings):
            if model.context_length is None or len(prompt.ids) < model.context_length:
                yield _Row(prompt)
                for name, direction, coefficient in steered:
                    yield _Row(prompt, name, direction, coefficient)


def _require_there(name: str, directions: Directions, settings: Settings) -> None:
    """Raises `UserError` for agents or layers of which the file has no directions."""
    for label in settings.agents:
        if label not in directions.labels:
            raise UserError(f"{label}: the directions in {name} are of {', '.join(directions.labels)}")
    for layer in settings.layers:
        if layer not in directions.layers:
            raise UserError(f"layer {layer}: {name} has the layers {', '.join(map(str, directions.layers))}")


def _chosen(directions: Directions, labels: Sequence[str], settings: Settings, model: Model) -> Iterator[Direction]:
    """The directions at each layer, and random ones as long as they are on average."""
    for layer in settings.layers:
        if layer >= model.n_layers:
            raise UserError(f"layer {layer}: {model.name} has layers 0 to {model.n_layers - 1}")
        own = [directions[label, layer] for label in labels]
        yield from own
        for k in range(settings.n_random):
            control = random_direction(own[0], seed=1000 * layer + k)
            length = sum(d.norm for d in own) / len(own)
            yield Direction(
                (control.unit * length).vector, f"random {k + 1}", layer, control.hook_point, own[0].residual_norm
            )


def _prompts(
    encode: Encoder, transcript: Transcript, by: Any, labels: Sequence[str], settings: Settings
) -> Iterator[_Prompt]:
    first = {label_of(transcript, t.agent, by): t for t in reversed(transcript.turns) if t.round == 1 and t.text}
    references = {label: first[label].text for label in labels if label in first}
    asked = (transcript.question, transcript.gold_answer)
    if "question" in settings.contexts:
        yield _Prompt(*asked, "question", None, encode.prompt(transcript.prompt), references)
    if "turn" in settings.contexts:
        ids, places = encode.transcript(transcript)
        for label in references:
            if isinstance(settings.tokens, int) and first[label].agent != settings.tokens:
                continue
            tag_end = places[transcript.turns.index(first[label])][0]
            yield _Prompt(*asked, "turn", label, ids[:tag_end], references)


def _steering(row: _Row, settings: Settings, at: Positions) -> Steering:
    if row.direction is None:
        return Steering()
    return add(row.direction, row.coefficient, units=settings.units, tokens=at)


def _record(model: Model, row: _Row, generated: Generated, scores: _Scores) -> dict[str, Any]:
    text = model.tokenizer.decode(generated.ids)
    said = _said(row.prompt.context, text)
    by_label: dict[str, Any] = {
        label: list(scores.rouge(reference, said).values()) for label, reference in row.prompt.references.items()
    }
    record = {
        "directions": row.directions,
        "layer": None if row.direction is None else row.direction.layer,
        "direction": None if row.direction is None else row.direction.label,
        "coefficient": row.coefficient,
        "context": row.prompt.context,
        "before": row.prompt.label,
        "question": row.prompt.question,
        "text": text,
        "tokens": generated.n_tokens,
        "ended": generated.ended,
        "finite": generated.finite,
        "repetition": round(repetition(said), 6),
        "rouge": by_label,
    }
    if scores.task is not None and row.prompt.gold_answer is not None:
        record["correct"] = scores.task.grade(scores.task.answer(said), row.prompt.gold_answer)
    if scores.classifier is not None:
        known = [label for label in by_label if label in scores.classifier.labels_]
        record["probability"] = {
            label: round(float(scores.classifier.probability([said], label)[0]), 6) if said else 0.0 for label in known
        }
    return record
