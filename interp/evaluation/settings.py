"""Who answers questions, and how, as settings. Knows names; loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from interp.debate.agents import Sampling
from interp.errors import UserError
from interp.models.settings import Loading
from interp.options import option
from interp.storage.text import load

PANEL = "Who answers"
SCRIPTED = "scripted"
"""In place of a model: agents that follow a script."""


def json_object(text: str) -> dict[str, Any]:
    """A JSON object from a command line; errors do not repeat it, as it may hold a key."""
    with suppress(UserError):
        if isinstance(value := load(text, ""), dict):
            return value
    raise UserError('value: not a JSON object of text and finite numbers, such as {"reasoning_effort": "low"}')


@dataclass(frozen=True)
class Answering:
    """Who answers, and how.

    >>> interp.evaluation.Answering(model="scripted", agents=("plain", "self-critique")).rounds
    2
    """

    model: str = option("smollm2-135m", panel=PANEL)
    """Model: a preset, hub id, local folder or GGUF file; `scripted`; or with --server, its name there."""
    adapters: tuple[str, ...] = option((), name="adapter", panel=PANEL)
    """LoRA adapter for --model; repeat to apply several in order."""
    loading: Loading = field(default=Loading(), metadata={"panel": PANEL})
    agents: tuple[str, ...] = option((), name="agent", panel=PANEL)
    """Agent: a persona, or PERSONA=MODEL to give it a model of its own; repeat for each seat, in order."""
    server: str | None = option(None, panel=PANEL)
    """Address of an OpenAI-compatible server."""
    key_variable: str = option("OPENAI_API_KEY", panel=PANEL)
    """Environment variable that holds the server's key."""
    concurrency: int = option(8, min=1, panel=PANEL)
    """Requests to the server at a time."""
    timeout: float = option(120.0, min=0.1, panel=PANEL)
    """Seconds before a request to the server fails."""
    retries: int = option(5, min=0, panel=PANEL)
    """Further attempts after a failed request."""
    body: Mapping[str, Any] | None = option(None, parse=json_object, metavar="JSON", panel=PANEL)
    """Further fields of each request to the server, as a JSON object."""
    error_rate: float = option(0.26, min=0, max=1, panel=PANEL)
    """How often scripted agents make a mistake."""
    batch_size: int = option(32, min=1, panel=PANEL)
    """Texts to write at a time."""
    sampling: Sampling = field(default=Sampling(), metadata={"panel": PANEL})
    rounds: int = option(2, min=1)
    """Most rounds of a debate."""
    rotate: bool = False
    """Rotate personas through the seats, question by question."""
