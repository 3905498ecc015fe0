"""How far each agent can be turned up: texts over layers and coefficients, against the agent's own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript, fingerprint, question_key
from interp.directions.directions import Direction, Directions, fitted_on, made_on
from interp.directions.extract import measured
from interp.directions.subspaces import random_directions
from interp.errors import Progress, UserError
from interp.evaluation.texts import PersonaClassifier, Rouge, label_of
from interp.interventions.curves import Advantage, Gain, Steerability, gains, steerability, summary, verdicts
from interp.interventions.rows import OTHERS, Intervention, Prompt, Record, Row, Write, along, held, own_models, run
from interp.interventions.settings import SweepSettings
from interp.models.model import LazyModel, Model, lazy_models
from interp.models.tokens import Encoder
from interp.statistics import draws_needed, means
from interp.steering.changes import Gate, Rule
from interp.steering.steering import called
from interp.storage.functions import function_facts


@dataclass(frozen=True)
class Swept:
    """The texts of a sweep, a record each as in the JSONL file, and what they add up to."""

    records: list[Record]
    curves: list[Steerability]
    gains: list[Gain]
    verdicts: list[Advantage]
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
    when: Gate | None = None,
    function: Rule | None = None,
    batch_size: int = 32,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> Swept:
    """Write every text of the sweep into the JSONL file `out`, and sum them up in `NAME.json`.

    Each model is steered with the directions extracted from it; with `other_model`, with all. Transcripts on questions
    that the directions were fitted on are left out. A gate `when` and a `function` of one's own, in place of the
    operation, are as `add` and `custom` take them. A record has the text, its repetition, ROUGE-1, -2 and -L against
    each agent's own first turn, with a `classifier` the probability that it is that agent's, with the `task` of the
    questions whether the answer is right, and with a `base` the perplexity under that unsteered model after the plain
    question. A killed run resumes. Raises `UserError` if nothing is left, and for directions that do not fit.

    >>> settings = interp.interventions.SweepSettings(
    ...     layers=(2,), coefficients=(0.2,), contexts=("turn",), random_controls=1
    ... )
    >>> swept = interp.interventions.sweep(tmp_path / "s.jsonl", [model], {"d": found}, transcripts[30:31], settings)
    >>> len(swept.records)
    15
    """
    fitted = fitted_on(directions.values(), (t.question for t in transcripts))
    debates = [t for t in transcripts if t.turns]
    held_out = [t for t in debates if question_key(t.question) not in fitted]
    asked = {question_key(t.question) for t in held_out}
    if not debates:
        raise UserError(f"none of the {len(transcripts)} transcripts has turns; give debates, not direct answers")
    if not held_out:
        raise UserError(f"the directions were fitted on all {len(fitted)} questions; give transcripts of others")
    if classifier is not None and (seen := len(asked & classifier.questions_)):
        raise UserError(f"the classifier was fitted on {seen} of the {len(asked)} questions; fit it on others")
    if settings.turns_of is not None and not any(settings.turns_of in t.agents for t in held_out):
        raise UserError(f"turns of agent {settings.turns_of}: choose one of {held_out[0].agents}")
    if base is not None and task is None:
        raise UserError("base: perplexity needs the task of the questions; give --task")
    waiting = own_models(models, {} if other_model else directions)
    for one in waiting:
        if not other_model and not any(made_on(d, one) for d in directions.values()):
            raise UserError(f"{one.name}: none of the directions was extracted from it; {OTHERS}")
    of, layers = settings.direction_of, settings.layers
    every = [held(name, d, of or d.labels, layers or d.layers) for name, d in directions.items()]
    by = next(iter(directions.values())).facts.get("by", "agent")
    named = {d.label for at in every for here in at for d in here}
    if not named & (speakers := {label_of(t, turn.agent, by) for t in held_out for turn in t.turns}):
        whose = f"{', '.join(sorted(named))}: nobody in the transcripts is called so, but {', '.join(sorted(speakers))}"
        raise UserError(f"{whose}; a sweep compares with own words: give directions of these, or use interp steer")
    act = partial(called(settings.operation, function), when=when)
    rouge, steps = lru_cache(2**16)(Rouge()), settings.coefficients  # many steered texts are the same
    up = replace(settings, coefficients=tuple(c for c in steps if c > 0) or steps)  # what an area is made of

    def rows_for(one: LazyModel, write: Write) -> None:
        model = one.load()
        texts = [Encoder(model.tokenizer).prompt(t.prompt) for t in held_out]
        own = {n: measured(d, model, texts) for n, d in directions.items() if other_model or made_on(d, model)}
        picked = {name: held(name, d, of or d.labels, layers or d.layers) for name, d in own.items()}
        tried = [Intervention({"other_model": False, "directions": None, "layer": None, "direction": None})]
        for name, d in own.items():
            foreign, n = not made_on(d, one), settings.random_controls
            if n is None:
                n = draws_needed(len(settings.contexts) * sum(len(here) for here in picked[name]))
            for layer, here in zip(model.chosen_layers(layers or d.layers), picked[name], strict=True):
                for each, over in (*((d, settings) for d in here), *((d, up) for d in _controls(here, n))):
                    facts = {"directions": name, "layer": layer, "direction": each.label}
                    tried += along(model, over, {"other_model": foreign, **facts}, act, [each])
        by = next(iter(own.values())).facts.get("by", "agent")
        labels = list(dict.fromkeys(d.label for name in own for here in picked[name] for d in here))
        encode, longest = Encoder(model.tokenizer), model.context_length
        prompts = [p for t in held_out for p in _prompts(encode, t, by, labels, settings)]
        readable = [p for p in prompts if longest is None or len(p.ids) < longest]
        write(model, "texts", [(prompt, how) for prompt in readable for how in tried])

    def measure(what: str, rows: Sequence[Row], texts: Sequence[str]) -> Iterator[Record]:
        likely = {label: classifier.probability(texts, label) for label in classifier.labels_} if classifier else {}
        for i, ((prompt, _), text) in enumerate(zip(rows, texts, strict=True)):
            scores: Record = {"before": prompt.before}
            scores["rouge"] = {label: list(rouge(own, text).values()) for label, own in prompt.references.items()}
            if task is not None and prompt.gold_answer is not None:
                scores["correct"] = task.grade(task.answer(text), prompt.gold_answer)
            if classifier is not None:
                known = [label for label in prompt.references if label in likely]
                scores["probability"] = {label: round(float(likely[label][i]), 6) if text else 0.0 for label in known}
            yield scores

    made_by = {
        "other_model": other_model,
        "transcripts": fingerprint(held_out),
        "task": None if task is None else task.name,
        "classifier": None if classifier is None else classifier.facts_,
        **({} if when is None else {"when": when.facts}),
        **({} if function is None else function_facts(function)),
    }
    how: dict[str, Any] = {"batch_size": batch_size, "restart": restart, "progress": progress}
    how |= {"kind": "context", "task": lambda _: task, "base": None if base is None else lazy_models([base])[0]}
    journal, records, counts = run(out, made_by, waiting, directions, settings, rows_for, measure, **how)
    curves = steerability(records, ["rougeL"] if classifier is None else ["rougeL", "classifier"])
    sums = gains(curves), verdicts(curves)
    counts |= {"questions": len(asked), "questions_that_directions_were_fitted_on": len(debates) - len(held_out)}
    counts["direct_answers"] = len(transcripts) - len(debates)
    unsteered = means((c.model, score) for c in curves if c.measure == "rougeL" for score in c.unsteered.values())
    counts["unsteered_at_0"] = [name for name, score in unsteered.items() if score == 0]
    journal.finish({**summary(curves, *sums), **counts})
    return Swept(records, curves, *sums, counts)


def _controls(directions: Sequence[Direction], n: int) -> list[Direction]:
    """Random directions as long as these are on average."""
    length = sum(d.norm for d in directions) / len(directions)
    return random_directions(directions[0].unit * length, n, directions[0].layer)


def _prompts(
    encode: Encoder, transcript: Transcript, by: Any, labels: Sequence[str], settings: SweepSettings
) -> Iterator[Prompt]:
    """The bare question, and the debate up to the tag of each agent's first turn."""
    first = {label_of(transcript, t.agent, by): t for t in reversed(transcript.turns) if t.round == 1 and t.text}
    references = {label: first[label].text for label in labels if label in first}
    asked = (transcript.question, transcript.gold_answer)
    if "question" in settings.contexts:
        yield Prompt("question", *asked, encode.prompt(transcript.prompt), None, references)
    if "turn" in settings.contexts:
        for label in references:
            if settings.turns_of in (None, first[label].agent):
                ids = encode.up_to_tag(transcript, transcript.turns.index(first[label]))
                yield Prompt("turn", *asked, ids, label, references)
