"""The options that several verbs share. Knows their names and what they are for, nothing about what they do."""

from __future__ import annotations

from typing import Annotated

import typer

ModelOption = Annotated[str, typer.Option("--model", help="A preset, a hub id, a local folder or a GGUF file.")]
AdapterOption = Annotated[
    list[str] | None, typer.Option("--adapter", help="A LoRA adapter of --model; repeat to apply several in order.")
]
DtypeOption = Annotated[str, typer.Option("--dtype", help="fp32, bf16, fp16, or auto: fp32 on a CPU, else bf16.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …, or auto.")]
RevisionOption = Annotated[str | None, typer.Option("--revision", help="Revision of a model on the hub.")]

ANSWERING = "Who answers"
PlayedBy = Annotated[
    str,
    typer.Option(
        "--model",
        help="As elsewhere; or the server's name for its model; or `scripted`: no model, a script.",
        rich_help_panel=ANSWERING,
    ),
]
AgentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--agent",
        help="A seat: a persona, or PERSONA=MODEL for a model of its own; repeat for each seat, in order.",
        rich_help_panel=ANSWERING,
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        help="Address of an OpenAI-compatible server; its key, if any, comes from the environment.",
        rich_help_panel=ANSWERING,
    ),
]
KeyOption = Annotated[
    str,
    typer.Option("--key-variable", help="Environment variable with the server's key.", rich_help_panel=ANSWERING),
]
ConcurrencyOption = Annotated[
    int, typer.Option("--concurrency", min=1, help="Requests to the server at a time.", rich_help_panel=ANSWERING)
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds that a request may take.", rich_help_panel=ANSWERING)
]
RetriesOption = Annotated[
    int, typer.Option("--retries", min=0, help="Further tries after a failed request.", rich_help_panel=ANSWERING)
]
BodyOption = Annotated[
    str,
    typer.Option("--body", help="Further fields of each request to the server, as JSON.", rich_help_panel=ANSWERING),
]
ErrorRateOption = Annotated[
    float,
    typer.Option("--error-rate", min=0, max=1, help="How often scripted agents slip.", rich_help_panel=ANSWERING),
]
BatchOption = Annotated[
    int,
    typer.Option("--batch-size", min=1, help="Requests a local model answers at a time.", rich_help_panel=ANSWERING),
]
MaxTokensOption = Annotated[
    int, typer.Option("--max-new-tokens", min=1, help="Longest answer.", rich_help_panel=ANSWERING)
]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", min=0, help="Of sampling; 0 is greedy.", rich_help_panel=ANSWERING)
]
TopPOption = Annotated[
    float, typer.Option("--top-p", help="Of sampling: the probability kept.", rich_help_panel=ANSWERING)
]

ASKED = "What is asked"
QuestionsOption = Annotated[int, typer.Option("--questions", min=1, help="How many.", rich_help_panel=ASKED)]
SourceOption = Annotated[
    str | None,
    typer.Option("--source", help="A benchmark's hub id, file or folder; else its own.", rich_help_panel=ASKED),
]
SplitOption = Annotated[str | None, typer.Option("--split", help="Of a benchmark.", rich_help_panel=ASKED)]
DigitsOption = Annotated[int | None, typer.Option("--digits", help="Of arithmetic; 2.", rich_help_panel=ASKED)]
TermsOption = Annotated[int | None, typer.Option("--terms", help="Of arithmetic; 4.", rich_help_panel=ASKED)]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of questions and answers.", rich_help_panel=ASKED)]

ForeignOption = Annotated[bool, typer.Option("--foreign", help="Steer each model with every file of directions.")]
RandomOption = Annotated[
    int, typer.Option("--random", min=0, help="Random directions of the same length, as controls.")
]
LongestTextOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest text.")]
TextTemperatureOption = Annotated[float, typer.Option("--temperature", min=0, help="Of sampling; 0 is greedy.")]
TextTopPOption = Annotated[float, typer.Option("--top-p", help="Of sampling: the probability kept.")]
TextBatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Texts written at a time.")]

RoundsOption = Annotated[int, typer.Option("--rounds", min=1, help="Most rounds of a debate.")]
RotateOption = Annotated[bool, typer.Option("--rotate", help="Let every persona sit in every seat in turn.")]
RetryFailedOption = Annotated[bool, typer.Option("--retry-failed", help="Ask again where an agent could not answer.")]
RestartOption = Annotated[bool, typer.Option("--restart", help="Drop what is there and begin anew.")]
