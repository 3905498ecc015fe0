"""The options that several verbs share. Knows their names and what they are for, nothing about what they do."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.errors import UserError

MOST_SEED = 2**32 - 1
"""Libraries underneath take no larger one."""

Model = Annotated[str, typer.Option("--model", help="A preset, a hub id, a local folder or a GGUF file.")]
Adapter = Annotated[
    list[str] | None, typer.Option("--adapter", help="A LoRA adapter of --model; repeat to apply several in order.")
]
Dtype = Annotated[str, typer.Option("--dtype", help="fp32, bf16, fp16, or auto: fp32 on a CPU, else bf16.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …, or auto.")]
Revision = Annotated[str | None, typer.Option("--revision", help="Revision of a model on the hub.")]
Restart = Annotated[bool, typer.Option("--restart", help="Drop what is there and begin anew.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first N transcripts.")]
Layers = Annotated[str, typer.Option("--layers", help="`all`, or numbers and ranges such as 0,10-15.")]

ANSWERING = "Who answers"
PlayedBy = Annotated[
    str,
    typer.Option(
        "--model",
        help="As elsewhere; or the server's name for its model; or `scripted`: no model, a script.",
        rich_help_panel=ANSWERING,
    ),
]
Agent = Annotated[
    list[str] | None,
    typer.Option(
        "--agent",
        help="A seat: a persona, or PERSONA=MODEL for a model of its own; repeat for each seat, in order.",
        rich_help_panel=ANSWERING,
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        help="Address of an OpenAI-compatible server; its key, if any, comes from the environment.",
        rich_help_panel=ANSWERING,
    ),
]
Key = Annotated[
    str,
    typer.Option("--key-variable", help="Environment variable with the server's key.", rich_help_panel=ANSWERING),
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, help="Requests to the server at a time.", rich_help_panel=ANSWERING)
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds that a request may take.", rich_help_panel=ANSWERING)
]
Retries = Annotated[
    int, typer.Option("--retries", min=0, help="Further tries after a failed request.", rich_help_panel=ANSWERING)
]
Body = Annotated[
    str,
    typer.Option("--body", help="Further fields of each request to the server, as JSON.", rich_help_panel=ANSWERING),
]
ErrorRate = Annotated[
    float,
    typer.Option("--error-rate", min=0, max=1, help="How often scripted agents slip.", rich_help_panel=ANSWERING),
]
Batch = Annotated[
    int,
    typer.Option("--batch-size", min=1, help="Requests a local model answers at a time.", rich_help_panel=ANSWERING),
]
MaxTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.", rich_help_panel=ANSWERING)]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0, help="Of sampling; 0 is greedy.", rich_help_panel=ANSWERING)
]
TopP = Annotated[float, typer.Option("--top-p", help="Of sampling: the probability kept.", rich_help_panel=ANSWERING)]

ASKED = "What is asked"
Questions = Annotated[int, typer.Option("--questions", min=1, help="How many.", rich_help_panel=ASKED)]
Source = Annotated[
    str | None,
    typer.Option("--source", help="A benchmark's hub id, file or folder; else its own.", rich_help_panel=ASKED),
]
Split = Annotated[str | None, typer.Option("--split", help="Of a benchmark.", rich_help_panel=ASKED)]
Digits = Annotated[int | None, typer.Option("--digits", help="Of arithmetic; 2.", rich_help_panel=ASKED)]
Form = Annotated[str | None, typer.Option("--form", help="Of arithmetic: a+b*c; else by terms.", rich_help_panel=ASKED)]
Terms = Annotated[int | None, typer.Option("--terms", help="Of arithmetic; 4.", rich_help_panel=ASKED)]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of questions and answers.", rich_help_panel=ASKED)]

Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Most rounds of a debate.")]
Rotate = Annotated[bool, typer.Option("--rotate", help="Let every persona sit in every seat in turn.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Ask again where an agent could not answer.")]

Coefficients = Annotated[str, typer.Option("--coefficients", help="Separated by commas; 0 is always among them.")]
Units = Annotated[str, typer.Option("--units", help="Of coefficients: unit, raw or residual, as in steer.")]
At = Annotated[str, typer.Option("--at", help="Which tokens are steered, as in steer.")]
TurnsOf = Annotated[
    int | None,
    typer.Option("--turns-of", min=1, help="Instead: the turns of this seat, as the model writes a debate."),
]
Foreign = Annotated[bool, typer.Option("--foreign", help="Steer each model with every file of directions.")]
Random = Annotated[
    int, typer.Option("--random", min=0, max=1000, help="Random directions of the same length, as controls.")
]
LongestText = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest text.")]
TextTemperature = Annotated[float, typer.Option("--temperature", min=0, help="Of sampling; 0 is greedy.")]
TextTopP = Annotated[float, typer.Option("--top-p", help="Of sampling: the probability kept.")]
TextBatch = Annotated[int, typer.Option("--batch-size", min=1, help="Texts written at a time.")]
TextSeed = Annotated[int, typer.Option("--seed", min=0, help="Of sampling.")]
TextsOut = Annotated[
    Path, typer.Option("--out", help="JSONL file for the texts and scores; what made them goes beside it.")
]


def one_of(option: str, given: str, known: Collection[str]) -> None:
    """Raises `UserError` for a value that is not known."""
    if given not in known:
        raise UserError(f"{option} {given}: not known; give one of {', '.join(known)}")


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers with commas between, in ascending order."""
    try:
        return tuple(sorted({float(number) for number in text.split(",")}))
    except ValueError:
        raise UserError(f"{option} {text}: give numbers with commas between, as in -8,-4,4,8") from None


def json_object(option: str, text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f'{option} {text}: is no JSON object; give one such as {{"reasoning_effort": "low"}}')
    return value
