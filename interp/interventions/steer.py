"""Answers to prompts without and with steering, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from interp.debate.agents import Sampling
from interp.debate.transcript import CONSENSUS_TAG, Transcript
from interp.directions.directions import Directions
from interp.errors import Progress, UserError
from interp.generation.sampling import generate
from interp.models.model import Model
from interp.models.tokens import Encoder, prompt_tokens
from interp.steering.changes import Gate, Rule, positions
from interp.steering.settings import SteeringSettings
from interp.steering.steering import How, Steering, ablate, called
from interp.storage.files import checked
from interp.storage.journal import Journal
from interp.storage.text import read_bytes, read_records, read_text, suffix

Form = Literal["chat", "problem", "answer", "text"]
_OPENED = f"{CONSENSUS_TAG}\n\\boxed{{"
FORMS: dict[str, Callable[[Any, str], list[int]]] = {
    "chat": lambda tokenizer, text: prompt_tokens(tokenizer, [{"role": "user", "content": text}]),
    "problem": lambda tokenizer, text: Encoder(tokenizer).prompt(Transcript(text, ()).prompt),
    "answer": lambda tokenizer, text: Encoder(tokenizer).prompt(f"{Transcript(text, ()).prompt}{_OPENED}"),
    "text": lambda tokenizer, text: Encoder(tokenizer).prompt(text),
}
"""What a model gets: a user's message, a question as transcripts open with it (what internalized models know), that
up to where a direct answer stands, or the bare text."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt of several chat messages.

    >>> str(interp.interventions.Chat((("system", "Be brief."), ("user", "What is 2+2?"))))
    'system: Be brief.\\n\\nuser: What is 2+2?'
    """

    messages: tuple[tuple[str, str], ...]
    """The role and the text of each."""

    def __str__(self) -> str:
        return "\n\n".join(f"{role}: {text}" for role, text in self.messages)


Prompt = str | Chat


@dataclass(frozen=True)
class _Part:
    type: Literal["text", "input_text"]
    text: str


@dataclass(frozen=True)
class _Message:
    """A message as trainers and servers take it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]


@dataclass(frozen=True, slots=True)
class Pair:
    """What a model writes after a prompt, without and with steering."""

    prompt: str
    unsteered: str
    steered: str
    unsteered_tokens: int
    steered_tokens: int
    finite: bool
    """False if steering made the numbers overflow; the steered text ends there."""


def read_prompts(path: str | Path) -> list[Prompt]:
    """Prompts from a file: one per line, or JSON or JSONL with a `prompt`, `question` or `messages` in each record.

    Each is a text, or chat messages (`role` and `content`) that end with the user's; a single one is its text.

    >>> _ = (tmp_path / "prompts.txt").write_text("What is 2+2?")
    >>> interp.interventions.read_prompts(tmp_path / "prompts.txt")
    ['What is 2+2?']
    """
    content, named = read_bytes(path), suffix(path) in (".json", ".jsonl")
    prompts: list[Prompt] = [line for line in read_text(path, content).split("\n") if line.strip()]
    with nullcontext() if named else suppress(UserError):  # records under another name, or from a pipe
        records = read_records(path, content)
        if named or all(isinstance(record, dict) for _, record in records):
            prompts = [prompt_of(record, f"{path}, {place}") for place, record in records]
    if not prompts:
        raise UserError(f"{path}: has no prompts; give one per line, or JSONL with a prompt or question in each record")
    return prompts


def prompt_of(record: Any, where: str) -> Prompt:
    """The prompt of a record."""
    names = ("prompt", "messages", "question")
    asked = next((record[name] for name in names if record.get(name)), None) if isinstance(record, dict) else record
    if isinstance(asked, str) and asked.strip():
        return asked
    if not isinstance(asked, list) or not asked:
        raise UserError(f"{where}: not a JSON object with a prompt or a question; give it a text, or chat messages")
    try:
        read = checked(list[_Message], json.dumps(asked))
    except ValueError as error:
        raise UserError(f"{where}: not chat messages ({error}); give each a role, and a text as its content") from None
    if read[-1].role != "user":
        raise UserError(f"{where}: ends with a message by the {read[-1].role}; take it out, so that the user's is last")
    texts = (m.content if isinstance(m.content, str) else "\n".join(part.text for part in m.content) for m in read)
    roles = ("system" if message.role == "developer" else message.role for message in read)
    chat = Chat(tuple(zip(roles, texts, strict=True)))
    return chat if len(read) > 1 else chat.messages[0][1]


def prompt_ids(tokenizer: Any, prompt: Prompt, form: Form) -> list[int]:
    if isinstance(prompt, str):
        return FORMS[form](tokenizer, prompt)
    if form != "chat":
        what = f"chat messages, not a text for the form {form}"
        raise UserError(f"prompt {str(prompt)[:40]!r}: {what}; give texts, or the form chat")
    return prompt_tokens(tokenizer, [{"role": role, "content": text} for role, text in prompt.messages])


def layers_of(directions: Directions, settings: SteeringSettings) -> tuple[int, ...]:
    """The layers that the settings name: those given, all that the file holds, or its best one."""
    layers = directions.layers if settings.layers is None else settings.layers
    middle = directions.layers[len(directions.layers) // 2]
    return tuple(layers or directions.facts.get("best_layers", [])[:1] or (middle,))


def labels_of(directions: Directions, of: Sequence[str] | None) -> Sequence[str]:
    """Those asked for, seats ("2") or labels; without any the file's only one, or agent 1."""
    return of or (directions.labels if len(directions.labels) == 1 else ["1"])


def make_steering(
    directions: Directions,
    of: Sequence[str] | None,
    settings: SteeringSettings,
    model: Model | None = None,
    *,
    when: Gate | None = None,
    function: Rule | None = None,
) -> Steering:
    """The steering that the settings name, along the directions of these agents: seats ("2") or labels.

    Without any, along those of the file's only label, or of agent 1. One coefficient is for all of them, several are
    one for each; without layers the file's best one is used, or the middle one. An operation FILE.py:FUNCTION has to
    come with the `function` loaded from there; nothing here runs a file.

    >>> settings = interp.steering.SteeringSettings(layers=(1,))
    >>> interp.interventions.make_steering(found, ["2"], settings).summary
    'add agent 2 +0.2 residual, layer 1'
    """
    coefficients, of = settings.coefficients, labels_of(directions, of)
    if len(coefficients) not in (1, len(of)) and settings.operation != "ablate":
        raise UserError(f"{len(coefficients)} coefficients for {len(of)} directions: give one, or one for each")
    layers = layers_of(directions, settings)
    if model is not None:
        model.chosen_layers(layers)
    how: How = {"tokens": positions(settings, model and model.tokenizer), "keep_norm": settings.keep_norm, "when": when}
    operation = called(settings.operation, function)
    picked = [[directions[agent, layer] for layer in layers] for agent in of]
    if settings.operation == "ablate":
        return ablate([d for each in picked for d in each], **how)
    steering, coefficients = Steering(), coefficients if len(coefficients) > 1 else coefficients * len(of)
    for each, coefficient in zip(picked, coefficients, strict=True):
        steering += operation(each, coefficient=coefficient, units=settings.units, **how)
    return steering


def side_by_side(
    model: Model,
    prompts: Sequence[Prompt | Sequence[Mapping[str, Any]]],
    steering: Steering | Sequence[Steering],
    *,
    form: Form = "chat",
    sampling: Sampling = Sampling(128, 0.0),  # noqa: B008 - frozen
    batch_size: int = 16,
    out: str | Path | None = None,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> list[Pair]:
    """Answer every prompt without and with steering, one or each its own; both answers draw the same random numbers.

    A prompt is a text or a list of chat messages. With `out` the pairs are kept in a JSONL file, with the settings
    beside it, and a killed run resumes. Raises `UserError` if the file holds something else, and for a prompt that is
    empty or too long.

    >>> [pair] = interp.interventions.side_by_side(model, ["3+4*2"], interp.add(found[2, 2]), form="problem")
    >>> pair.finite
    True
    """
    asked = [p if isinstance(p, str | Chat) else prompt_of(p, f"prompt {i}") for i, p in enumerate(prompts, start=1)]
    encoded, shown = [prompt_ids(model.tokenizer, prompt, form) for prompt in asked], [str(prompt) for prompt in asked]
    for prompt, ids in zip(shown, encoded, strict=True):
        if not ids:
            raise UserError("empty prompt: give at least one word")
        if model.context_length is not None and len(ids) >= model.context_length:
            limit = f"{model.name} reads {model.context_length:,} with its answer"
            raise UserError(f"prompt {prompt[:40]!r}: {len(ids):,} tokens, and {limit}; shorten it")

    def write(rows: Sequence[int]) -> list[dict[str, Any]]:
        twice = [i for i in rows for _ in range(2)]
        each = [one for i in rows for one in (Steering(), steering if isinstance(steering, Steering) else steering[i])]
        how = {"seeds": [sampling.seed + i for i in twice], "steering": each, "batch_size": 2 * batch_size}
        written = generate(model, [encoded[i] for i in twice], **sampling.options, **how)
        texts = [model.tokenizer.decode(each.ids, skip_special_tokens=True) for each in written]
        n_tokens = [each.n_tokens for each in written]
        parts = (texts[::2], texts[1::2], n_tokens[::2], n_tokens[1::2], [each.finite for each in written[1::2]])
        return [asdict(Pair(shown[i], *each)) for i, *each in zip(rows, *parts, strict=True)]

    records: list[dict[str, Any]] = []
    if out is None:
        for start in range(0, len(prompts), batch_size):
            records += write(range(len(prompts))[start : start + batch_size])
            progress("answering", len(records), len(prompts))
    else:
        what = steering.facts if isinstance(steering, Steering) else [one.facts for one in steering]
        made_by = {"model": model.provenance, "steering": what, "sampling": asdict(sampling), "form": form}
        given = [prompt if isinstance(prompt, str) else prompt.messages for prompt in asked]
        journal = Journal(out, made_by | {"prompts": given}, Pair, restart=restart)
        how: dict[str, Any] = {"chunk": batch_size, "tell": partial(progress, "answering")}
        journal.extend(records, range(len(prompts)), write, place=lambda i: {"prompt": shown[i]}, **how)
        journal.finish({"pairs": len(records), "out_of_range": sum(not record["finite"] for record in records)})
    return [Pair(**record) for record in records]
