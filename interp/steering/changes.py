"""A change to the residual stream, and the tokens at which it is made. Knows nothing about models or batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, starmap
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float

from interp.debate.transcript import Transcript, speaking
from interp.errors import UserError
from interp.models.tokens import Encoder
from interp.options import one_of
from interp.steering.settings import Placement

if TYPE_CHECKING:
    from torch import Tensor

END = 2**31
"""The end of a text that is still being written."""

Positions = Callable[[int], Sequence[tuple[int, int]]]
"""Number of prompt tokens → which tokens of the whole text to steer, as ranges (start, stop)."""
Rule = Callable[["Tensor", "Tensor", float], "Tensor"]
"""Values [token, d_model], unit directions [k, d_model] and a coefficient → values."""
Function = TypeVar("Function", bound=Callable[..., Any])

TOKENS: dict[str, Positions] = {
    "generated": lambda n_prompt: [(n_prompt, END)],
    "writing": lambda n_prompt: [(n_prompt - 1, END)],
    "prompt": lambda n_prompt: [(0, n_prompt)],
    "last": lambda n_prompt: [(n_prompt - 1, n_prompt)],
    "everywhere": lambda n_prompt: [(0, END)],
    "after-first": lambda n_prompt: [(1, END)],
}
"""Tokens to steer by name. A token acts on what follows it, so with `generated` the first generated token is itself
unsteered; `writing` adds the prompt's last token, `last` is that token alone. `after-first` spares the attention sink
that many models keep in the first token, a hundred times as long as other activations: ablating or clamping it breaks
the model.
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
    """The tokens of an agent's turns in a prompt that begins with this transcript; `UserError` if it has no such turn.

    >>> len(interp.steering.turns(model.tokenizer, transcripts[0], agent=2).ranges)
    1
    """
    each = zip(transcript.turns, Encoder(tokenizer).transcript(transcript).places, strict=True)
    ranges = tuple((start, stop) for t, (_, start, stop) in each if t.agent == agent and round in (None, t.round))
    if not ranges:
        where = "" if round is None else f" in round {round}"
        raise UserError(f"agent {agent}: has no turn{where} in this transcript; choose one of {transcript.agents}")
    return Ranges(ranges)


@dataclass(frozen=True)
class WrittenTurns:
    """The tokens of an agent's turns as `interp.generation` writes them, from the first word after a tag to the next.

    >>> interp.add(found[2, 1], tokens=interp.steering.WrittenTurns(model.tokenizer, 2)).facts[0]["tokens"]
    {'agent': 2, 'round': None}
    """

    tokenizer: Any
    agent: int
    round: int | None = None

    def __call__(self, n_prompt: int) -> Sequence[tuple[int, int]]:
        return []

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether the last of these tokens, the whole text so far, belongs to such a turn."""
        found = speaking(self.tokenizer.decode(list(ids)))
        return found is not None and found[0] == self.agent and self.round in (None, found[1])


def positions(settings: Placement, tokenizer: Any) -> Positions:
    """The tokens that the settings name, for a model with this tokenizer."""
    return TOKENS[settings.tokens] if settings.turns_of is None else WrittenTurns(tokenizer, settings.turns_of)


Text = str | Sequence[int]
Read = tuple[tuple[int, ...], tuple[int, ...]]
"""A text's token ids, and which of them are read."""


def tokens_read(prompt: Text, more: Text, tokens: Positions, tokenizer: Any) -> Read:
    """The tokens so named in a prompt and what continues it; `UserError` if there are none, or not all of them."""
    encode = Encoder(tokenizer)
    ids = encode.prompt(prompt) if isinstance(prompt, str) else prompt
    text = (*ids, *(encode.continuation(more) if isinstance(more, str) else more))
    ranges = [(start, len(text) if stop >= END else stop) for start, stop in tokens(len(ids))]
    at = tuple(chain.from_iterable(starmap(range, ranges)))
    if not at or not 0 <= min(at) <= max(at) < len(text):
        asked = ", ".join(f"{start} to {stop}" for start, stop in ranges)
        raise UserError(f"source {str(prompt)[:40]!r}: has {len(text)} tokens, not {asked}; name tokens that it has")
    return text, at


def paired(ranges: Sequence[tuple[int, int]], n_source: int) -> list[tuple[int, int]]:
    """These tokens one by one, in an open range as many as the source has; `UserError` for another number of them."""
    n = sum(max(0, stop - start) for start, stop in ranges)
    if n < n_source or (n > n_source and ranges[-1][1] < END):
        raise UserError(f"interchange of {n} tokens with {n_source} of the source; give ranges of the same length")
    return [(token, token + 1) for token in islice(chain.from_iterable(starmap(range, ranges)), n_source)]


@dataclass(frozen=True, eq=False)
class Gate:
    """Open at the tokens where a linear score of the activations there is above a limit, or below it.

    The score is the first output x·wᵀ + b less the log of the sum of the others' exponentials: with all classes of a
    probe the log-odds of the first; with one output, the output itself. Comparing a probe with a number gives a gate.

    A text's token is scored once, in the pass that reads it, after the changes that come before the gate in the
    steering and before the first one that it decides on. Comparisons are strict, so NaN never opens it.

    >>> interp.add(found[2, 2], when=interp.steering.gate(found[2, 1], 1.5)).summary
    'add agent 2 +0.2 residual when agent 2 at layer 1 > 1.5, layer 2'
    """

    label: str
    layer: int
    hook_point: str
    weights: Float[np.ndarray, "output d_model"]
    bias: Float[np.ndarray, " output"]
    limit: float
    asked: float
    """The limit as it was given: a probability, where the score is a log-odds."""
    below: bool = False

    def __post_init__(self) -> None:
        if not np.isfinite([*self.weights.ravel(), *self.bias, self.asked]).all():
            raise UserError(f"when {self}: a gate needs finite numbers")

    @property
    def facts(self) -> dict[str, Any]:
        """What it asks, as JSON, with a hash of its numbers."""
        numbers = (np.append(self.weights, self.bias), np.float32(self.limit))
        digest = hashlib.sha256(b"".join(np.float32(each).tobytes() for each in numbers)).hexdigest()
        asked = {"below" if self.below else "above": self.asked}
        return {"score": self.label, **asked, "hook_point": self.hook_point, "sha256": digest}

    def __str__(self) -> str:
        return f"{self.label} at layer {self.layer} {'<' if self.below else '>'} {self.asked:g}"

    def __bool__(self) -> bool:
        raise UserError(f"when {self}: neither true nor false by itself; compare with one number only")


@dataclass(frozen=True, eq=False)
class Change:
    """x → x − (x·Bᵀ)B + o at one hook point and some tokens; the rows of B are orthonormal.

    An empty B adds the vector o, o = 0 projects the subspace of B out, and both set the projection on B to that of o.
    With a `source` (tokenizer → what is read), the i-th token gets, as o, what the i-th token read has in that of B.
    A `rule` is called with the values, B (unit directions) and the number beside it, and gives the values instead.

    >>> [change] = interp.clamp(found[2, 1], 0.3).changes
    >>> change.hook_point, change.basis.shape
    ('blocks.1.hook_resid_post', (1, 128))
    """

    hook_point: str
    offset: Float[np.ndarray, " d_model"] | Float[np.ndarray, "token d_model"]
    basis: Float[np.ndarray, "k d_model"]
    tokens: Positions
    facts: Mapping[str, Any]
    """What it does, as JSON."""
    source: Callable[[Any], Read] | None = None
    keep_norm: bool = False
    """Scale the changed token to the length that it had."""
    gate: Gate | None = None
    """Change only the tokens where it is open."""
    rule: tuple[Rule, float] | None = None


def named(what: str, given: str | Function, known: Mapping[str, Function]) -> tuple[Function, str]:
    """A function given itself or by its name, with its name. Raises `UserError` for an unknown name."""
    if isinstance(given, str):
        one_of(what, given, known)
        return known[given], given
    return given, next((name for name, f in known.items() if f is given), str(getattr(given, "__name__", given)))
