"""The runner of `sweep` and `suppress`: how questions are asked and steered, and what is kept of each text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import FiniteFloat, PositiveFloat

from interp.debate.agents import Request, chat_messages
from interp.debate.personas import PLAIN, Persona
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, before_tags, without_tags
from interp.directions.directions import Direction, Directions, made_on
from interp.errors import Progress, UserError
from interp.evaluation.texts import perplexity, repetition
from interp.generation.sampling import generate
from interp.interventions.settings import PLAIN_QUESTION, TriedSettings
from interp.models.model import LazyModel, Model, lazy_models
from interp.models.tokens import Encoder, prompt_tokens
from interp.steering.changes import positions
from interp.steering.steering import Steering
from interp.storage.files import Whole, entries
from interp.storage.journal import Journal

OTHERS = "extract directions from the models, or allow another model's with --other-model"
Record = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """A question as token ids, asked as one of `Elicit`, `Context` or `PLAIN_QUESTION`."""

    kind: str
    question: str
    gold_answer: str | None
    ids: list[int]
    before: str | None = None
    """The label of the agent whose tag it ends with."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Each agent's own first turn, by label."""


@dataclass(frozen=True)
class Intervention:
    """What is done while a text is written, and the fields of its record that say so."""

    facts: Mapping[str, Any]
    coefficient: float = 0.0
    steering: Steering = field(default_factory=Steering)


_SAYS = {"model": str, "question": str, "coefficient": FiniteFloat, "text": str, "finite": bool, "repetition": float}
_PLACE = dict.fromkeys(("before", "directions", "direction"), str | None)
_ROUGE = dict[str, tuple[FiniteFloat, FiniteFloat, FiniteFloat]]
_SHOWN = {"trait": FiniteFloat | None, "correct": bool | None, "source": str | None, "layer": str | None}
_RECORDS = {
    "context": entries(**_SAYS, **_PLACE, context=str, layer=Whole | None, rouge=_ROUGE),
    "elicit": entries(**_SAYS, **_SHOWN, elicit=str, split=str, remedy=str),
}
_PERPLEXITY = entries(perplexity=PositiveFloat | None)
Row = tuple[Prompt, Intervention]
Write = Callable[[Model, str, Sequence[Row]], list[Record]]
"""(model, what the rows are, the rows) → their records."""


def spoken(kind: str, text: str) -> str:
    """What a text says as an answer: in a debate, the one turn."""
    return (before_tags(text) if kind == "turn" else without_tags(text)).strip()


def _is_control(record: Record, kind: str) -> bool:
    """Whether a text is one of many under random directions, whose perplexity is not asked for."""
    random = str(record.get("direction")).startswith("random ") or record.get("draw") is not None
    return random and record[kind] != PLAIN_QUESTION


def plain(model: Model, task: Task, questions: Sequence[Question], guard: Persona | None = None) -> Iterator[Prompt]:
    """Plain questions: bare for a model with trained stages, else as a chat; or under a guard."""
    persona = guard or (None if model.provenance.get("lineage") else PLAIN)
    yield from (Prompt(PLAIN_QUESTION, q.text, q.gold_answer, chat(model, persona, task, q.text)) for q in questions)


def chat(model: Model, persona: Persona | None, task: Task, question: str) -> list[int]:
    """A question as a chat with a persona's system prompt, or the bare question."""
    if persona is None:
        return Encoder(model.tokenizer).prompt(Transcript(question, ()).prompt)
    return prompt_tokens(model.tokenizer, chat_messages(persona, Request(question, 1, instruction=task.instruction)))


def along(
    model: Model, settings: TriedSettings, facts: Record, act: Callable[..., Steering], directions: Sequence[Direction]
) -> list[Intervention]:
    """An operation with each coefficient but 0."""
    how: dict[str, Any] = {"tokens": positions(settings, model.tokenizer), "keep_norm": settings.keep_norm}
    how["units"] = settings.units
    return [Intervention(facts, c, act(directions, coefficient=c, **how)) for c in settings.coefficients if c]


def held(name: str, directions: Directions, agents: Sequence[str], layers: Sequence[int]) -> list[list[Direction]]:
    """The agents' directions at each layer. Raises `UserError` for an agent or layer that the file lacks."""
    try:
        return [[directions[agent, layer] for agent in agents] for layer in layers]
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def own_models(models: Sequence[Model | LazyModel], directions: Mapping[str, Directions]) -> list[LazyModel]:
    """The models; raises `UserError` for two of the same name, and for directions extracted from none of them."""
    waiting = lazy_models(models)
    if len({one.name for one in waiting}) < len(waiting):
        raise UserError(f"models {', '.join(one.name for one in waiting)}: give each once")
    for name, d in directions.items():
        if not any(made_on(d, one) for one in waiting):
            raise UserError(f"{name}: extracted from none of the models; {OTHERS}")
    return waiting


def run(
    out: str | Path,
    made_by: Mapping[str, Any],
    models: Sequence[LazyModel],
    directions: Mapping[str, Directions | None],
    settings: TriedSettings,
    rows_for: Callable[[LazyModel, Write], None],
    measure: Callable[[str, Sequence[Row], Sequence[str]], Iterable[Record]],
    *,
    kind: str,
    task: Callable[[str], Task],
    base: LazyModel | None,
    batch_size: int,
    restart: bool,
    progress: Progress,
) -> tuple[Journal, list[Record], dict[str, Any]]:
    """Write the texts of one model after another; returns the journal, to be finished, its records and their counts.

    `rows_for` loads a model and writes its rows. `measure` (what the rows are, the rows, what their texts say) returns
    the fields of records that depend on the text. `kind` is the record's name for the kind of prompt, and `task` gives
    the task of each kind. With a `base` the records returned have their perplexity under it, but for the many under
    random directions.
    """
    for name, d in directions.items():
        if d is not None and d.spread is None and d.note is None and settings.random_controls != 0:
            lacks = "does not say how the activations vary, which random directions are drawn from"
            raise UserError(f"{name}: {lacks}; extract it again, or give --random-controls 0")
    made_by = {
        "models": [one.provenance for one in models],
        "directions": {name: None if d is None else d.facts.get("provenance", {}) for name, d in directions.items()},
        "settings": asdict(settings),
        **made_by,
    }
    journal = Journal(out, made_by, _RECORDS[kind], restart=restart)
    sampling, records = settings.sampling, list[Record]()

    def place(name: str, row: Row) -> Record:
        prompt, how = row
        facts = {"model": name, "question": prompt.question, "coefficient": how.coefficient}
        does = how.steering.facts[0] if how.steering.changes else {}
        facts |= {name: does[name] for name in ("function", "when") if name in does}
        return facts | {**how.facts, kind: prompt.kind}

    def some(name: str, model: Model, what: str, rows: Sequence[Row]) -> list[Record]:
        ids, steering = [prompt.ids for prompt, _ in rows], [how.steering for _, how in rows]
        how = {**sampling.options, "seeds": [sampling.seed] * len(rows), "batch_size": batch_size}
        decode = model.tokenizer.decode

        def spoke(i: int, text: Sequence[int]) -> bool:
            """Whether the one turn that a row is to write is over: the next tag stands there."""
            if rows[i][0].kind != "turn" or ">" not in decode(text[-1:]):
                return False
            return before_tags(whole := decode(text)) != whole

        written = generate(model, ids, **how, steering=steering, until=spoke)
        said = [spoken(prompt.kind, text.text) for (prompt, _), text in zip(rows, written, strict=True)]
        return [
            {
                **place(name, row),
                "text": out.text,
                "tokens": out.n_tokens,
                "ended": out.ended,
                "finite": out.finite,
                "repetition": round(repetition(text), 6),
                **measured,
            }
            for row, out, text, measured in zip(rows, written, said, measure(what, rows, said), strict=True)
        ]

    def write(name: str, model: Model, what: str, rows: Sequence[Row]) -> list[Record]:
        how: dict[str, Any] = {"chunk": 4 * batch_size, "tell": partial(progress, f"{name}, {what}")}
        return journal.extend(records, rows, partial(some, name, model, what), place=partial(place, name), **how)

    for i, one in enumerate(models):
        later = {other.name for other in models[i + 1 :]}
        if any(kept["model"] in later for kept in journal.records):  # all of this one's are there
            records += [kept for kept in journal.records if kept["model"] == one.name]
        else:
            rows_for(one, partial(write, one.name))
    if base is not None:
        beside, tell = Path(out).with_name(f"{Path(out).stem}-perplexity.jsonl"), partial(progress, "perplexity")
        made_by["base"], load = base.provenance, cache(base.load)
        found = Journal(beside, made_by, _PERPLEXITY, restart=restart)

        def read(rows: Sequence[Record]) -> list[Record]:
            model, encode = load(), Encoder(load().tokenizer)
            prompts = [next(plain(model, task(r[kind]), [Question(r["question"], "")])).ids for r in rows]
            texts = [[] if _is_control(r, kind) else encode.continuation(spoken(r[kind], r["text"])) for r in rows]
            values = perplexity(model, prompts, texts, batch_size)
            return [{"perplexity": None if np.isnan(value) else round(float(value), 4)} for value in values]

        values = found.extend([], records, read, chunk=8 * batch_size, even=False, tell=tell)
        found.finish({"records": len(values)})
        records = [record | value for record, value in zip(records, values, strict=True)]
    unknown = [name for name, d in directions.items() if d is not None and "question_hashes" not in d.facts]
    counts = {
        "records": len(records),
        "out_of_range": sum(not record["finite"] for record in records),
        "directions_without_question_hashes": unknown,
    }
    return journal, records, counts
