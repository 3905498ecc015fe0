"""What a change to the residual stream is, and at which tokens it is made.

Knows positions and vectors; knows nothing about directions, models or batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.debate.transcript import Transcript, speaking
from interp.errors import UserError
from interp.models.tokens import Encoder

END = 2**31
"""The end of a text that is not yet written."""

Positions = Callable[[int], Sequence[tuple[int, int]]]
"""The number of a prompt's tokens → which tokens of the whole text are meant, as ranges (start, stop)."""


def generated(n_prompt: int) -> Sequence[tuple[int, int]]:
    """The tokens that the model wrote, and nothing of the prompt (Latent Agents, agent subspaces).

    They act on what follows them: the first token that is written is the unsteered one.
    """
    return [(n_prompt, END)]


def writing(n_prompt: int) -> Sequence[tuple[int, int]]:
    """The tokens from which the model writes: the prompt's last one and those that it wrote."""
    return [(n_prompt - 1, END)]


def prompt(n_prompt: int) -> Sequence[tuple[int, int]]:
    """The tokens of the prompt."""
    return [(0, n_prompt)]


def everywhere(n_prompt: int) -> Sequence[tuple[int, int]]:
    """All tokens, the first included.

    Many models keep a value there that all others attend to, a hundred times as long as the rest; taking a
    direction out of it, or clamping it, breaks the model. To spare it take `after_first`.
    """
    return [(0, END)]


def after_first(n_prompt: int) -> Sequence[tuple[int, int]]:
    """All tokens but the first."""
    return [(1, END)]


POSITIONS: dict[str, Positions] = {f.__name__: f for f in (generated, writing, prompt, everywhere, after_first)}


@dataclass(frozen=True)
class Ranges:
    """Chosen tokens, as ranges (start, stop) that count from the first token of the text."""

    ranges: tuple[tuple[int, int], ...]

    def __call__(self, n_prompt: int) -> Sequence[tuple[int, int]]:
        return self.ranges


def turns(tokenizer: Any, transcript: Transcript, agent: int, round: int | None = None) -> Ranges:
    """The tokens of an agent's turns in a prompt that begins with this transcript, tokenized by a `Corpus`.

    Raises `UserError` where the agent has no such turn.
    """
    _, places = Encoder(tokenizer).transcript(transcript)
    ranges = tuple(
        (start, stop)
        for turn, (_, start, stop) in zip(transcript.turns, places, strict=True)
        if turn.agent == agent and round in (None, turn.round)
    )
    if not ranges:
        where = "" if round is None else f" in round {round}"
        raise UserError(f"agent {agent} has no turn{where} in this transcript; its agents are {transcript.agents}")
    return Ranges(ranges)


@dataclass(frozen=True)
class WrittenTurns:
    """The tokens of an agent's turns that the model itself writes, from the first word of each to the next tag.

    Which these are shows while they are written, by `interp.generation` alone.
    """

    tokenizer: Any
    agent: int
    round: int | None = None
    """All rounds where none is given."""

    def __call__(self, n_prompt: int) -> Sequence[tuple[int, int]]:
        return []

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether the last of these tokens, the whole text so far, belongs to such a turn."""
        found = speaking(self.tokenizer.decode(list(ids)))
        return found is not None and found[0] == self.agent and self.round in (None, found[1])


def positions(at: str | int, tokenizer: Any) -> Positions:
    """`POSITIONS` by name; by number, the turns of that seat, as a model with this tokenizer writes them."""
    return WrittenTurns(tokenizer, at) if isinstance(at, int) else POSITIONS[at]


@dataclass(frozen=True, eq=False)
class Change:
    """x → x − (x·Bᵀ)B + o at one hook point and at some positions, with B of orthonormal rows.

    With no rows in B this adds the vector o; with o = 0 it takes the subspace of B out; with both, the
    projection on B becomes that of o.
    """

    hook_point: str
    offset: Float[np.ndarray, " d_model"]
    basis: Float[np.ndarray, "k d_model"]
    at: Positions
    facts: Mapping[str, Any]
    """What it does, as JSON takes it."""


def _where(at: Positions) -> Any:
    """Positions as JSON takes them."""
    if isinstance(at, Ranges):
        return [list(r) for r in at.ranges]
    return {"agent": at.agent, "round": at.round} if isinstance(at, WrittenTurns) else _name(POSITIONS, at)


def _name(known: Mapping[str, Any], function: Any) -> str:
    return next((name for name, f in known.items() if f is function), str(getattr(function, "__name__", function)))
