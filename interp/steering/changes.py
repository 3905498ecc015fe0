"""What a change to the residual stream is, and at which tokens it is made.

Knows positions and vectors; knows nothing about directions, models or batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from interp.debate.transcript import Transcript, speaking
from interp.errors import UserError
from interp.models.tokens import Encoder
from interp.options import one_of
from interp.steering.settings import Placement

END = 2**31
"""The end of a text that is still being written."""

Positions = Callable[[int], Sequence[tuple[int, int]]]
"""Number of prompt tokens → which tokens of the whole text to steer, as ranges (start, stop)."""
Function = TypeVar("Function", bound=Callable[..., Any])


TOKENS: dict[str, Positions] = {
    "generated": lambda n_prompt: [(n_prompt, END)],
    "writing": lambda n_prompt: [(n_prompt - 1, END)],
    "prompt": lambda n_prompt: [(0, n_prompt)],
    "everywhere": lambda n_prompt: [(0, END)],
    "after-first": lambda n_prompt: [(1, END)],
}
"""Tokens to steer by name; a token acts on what follows it.

- `generated`: those the model generates (Latent Agents, agent subspaces); the first of them is itself unsteered.
- `writing`: also the last token of the prompt, so every token from which the model writes.
- `prompt`, `everywhere`: all of the prompt; all tokens.
- `after-first`: all but the first. Many models keep an attention sink in the first token, with activations a hundred
  times as long as elsewhere; ablating or clamping it breaks the model.

For an agent's turns there are `turns` (in the prompt) and `WrittenTurns` (as the model writes them).
"""


@dataclass(frozen=True)
class Ranges:
    """Chosen tokens, as ranges (start, stop) counted from the first token of the text.

    >>> interp.add(found[2, 1], tokens=interp.steering.Ranges(((3, 5),))).facts[0]["tokens"]
    [[3, 5]]
    """

    ranges: tuple[tuple[int, int], ...]

    def __call__(self, n_prompt: int) -> Sequence[tuple[int, int]]:
        return self.ranges


def turns(tokenizer: Any, transcript: Transcript, agent: int, round: int | None = None) -> Ranges:
    """The tokens of an agent's turns in a prompt that begins with this transcript, tokenized by a `Corpus`.

    Raises `UserError` if the agent has no such turn.

    >>> len(interp.steering.turns(model.tokenizer, transcripts[0], agent=2).ranges)
    1
    """
    _, places = Encoder(tokenizer).transcript(transcript)
    ranges = tuple(
        (start, stop)
        for turn, (_, start, stop) in zip(transcript.turns, places, strict=True)
        if turn.agent == agent and round in (None, turn.round)
    )
    if not ranges:
        where = "" if round is None else f" in round {round}"
        raise UserError(f"agent {agent}: has no turn{where} in this transcript; choose one of {transcript.agents}")
    return Ranges(ranges)


@dataclass(frozen=True)
class WrittenTurns:
    """The tokens of an agent's turns as the model writes them, from the first word after a tag to the next tag.

    Only `interp.generation` can follow them.

    >>> interp.add(found[2, 1], tokens=interp.steering.WrittenTurns(model.tokenizer, 2)).facts[0]["tokens"]
    {'agent': 2, 'round': None}
    """

    tokenizer: Any
    agent: int
    round: int | None = None
    """All rounds if None."""

    def __call__(self, n_prompt: int) -> Sequence[tuple[int, int]]:
        return []

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether the last of these tokens, the whole text so far, belongs to such a turn."""
        found = speaking(self.tokenizer.decode(list(ids)))
        return found is not None and found[0] == self.agent and self.round in (None, found[1])


def positions(settings: Placement, tokenizer: Any) -> Positions:
    """The tokens that the settings name, for a model with this tokenizer."""
    return TOKENS[settings.tokens] if settings.turns_of is None else WrittenTurns(tokenizer, settings.turns_of)


@dataclass(frozen=True, eq=False)
class Change:
    """x → x − (x·Bᵀ)B + o at one hook point and some tokens; the rows of B are orthonormal.

    With an empty B this adds the vector o; with o = 0 it projects the subspace of B out; with both, it sets
    the projection on B to that of o.

    >>> [change] = interp.clamp(found[2, 1], 0.3).changes
    >>> change.hook_point, change.basis.shape
    ('blocks.1.hook_resid_post', (1, 128))
    """

    hook_point: str
    offset: Float[np.ndarray, " d_model"]
    basis: Float[np.ndarray, "k d_model"]
    tokens: Positions
    facts: Mapping[str, Any]
    """What it does, as JSON."""


def tokens_fact(tokens: Positions) -> Any:
    """Positions as JSON."""
    if isinstance(tokens, Ranges):
        return [list(r) for r in tokens.ranges]
    if isinstance(tokens, WrittenTurns):
        return {"agent": tokens.agent, "round": tokens.round}
    return name_of(tokens, TOKENS)


def name_of(function: Any, known: Mapping[str, Any]) -> str:
    return next((name for name, f in known.items() if f is function), str(getattr(function, "__name__", function)))


def named(what: str, given: str | Function, known: Mapping[str, Function]) -> Function:
    """A function given itself or by its name. Raises `UserError` for an unknown name."""
    if not isinstance(given, str):
        return given
    one_of(what, given, known)
    return known[given]
