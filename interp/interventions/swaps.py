"""Swaps: does the answer follow another text's run in one part of the residual stream?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.steering.changes import Positions
from interp.steering.steering import interchange
from interp.storage.files import checked
from interp.storage.text import read_records


@dataclass(frozen=True, slots=True)
class Swap:
    """A prompt, the text that part of its residual stream is taken from, and what the model should then write.

    >>> interp.interventions.Swap("Problem: 3+4*2", "Problem: 1+1*2", "3").expected
    '3'
    """

    prompt: str
    source: str
    expected: str = ""


def obeyed(
    model: Model,
    swaps: Sequence[Swap],
    directions: Sequence[Direction],
    *,
    tokens: str | Positions = "last",
    batch_size: int = 512,
) -> Bool[np.ndarray, " swap"]:
    """Whether, what the directions span being interchanged, the model goes on with what each swap expects.

    The greedy text must begin with the token ids of `expected`, and its next character must be no letter or digit:
    `12` does not obey `1`.

    >>> swap = interp.interventions.Swap("Problem: 3+4*2", "Problem: 1+1*2", "3")
    >>> interp.interventions.obeyed(model, [swap], [found[2, 1]]).shape
    (1,)
    """
    encode, decode = Encoder(model.tokenizer), model.tokenizer.decode
    expected = [encode.continuation(swap.expected) for swap in swaps]
    if not all(expected):
        raise UserError(f"swap {expected.index([]) + 1}: expects nothing; give the answer that it should bring")
    written = generate(
        model,
        [swap.prompt for swap in swaps],
        max_new_tokens=max(map(len, expected), default=0) + 1,  # the last shows whether the answer is over
        batch_size=batch_size,
        steering=[interchange(directions, swap.source, tokens=tokens) for swap in swaps],
        until=lambda i, ids: len(ids) > len(expected[i]) or ids != expected[i][: len(ids)],
    )
    each = [(decode(out.ids), ids, out.ids[: len(ids)]) for out, ids in zip(written, expected, strict=True)]
    return np.array([ids == began and begins(text, decode(ids)) for text, ids, began in each], dtype=bool)


def begins(text: str, expected: str) -> bool:
    """Whether a text begins with this answer, as a whole word."""
    text, expected = text.strip(), expected.strip()
    return text.startswith(expected) and not text[len(expected) :][:1].isalnum()


def read_swaps(path: str | Path) -> list[Swap]:
    """Swaps from a JSON or JSONL file: `prompt`, `source` and, where known, `expected` in each record."""
    found = []
    for place, record in read_records(path):
        try:
            found.append(checked(Swap, json.dumps(record)))
        except ValueError as error:
            raise UserError(f"{path}, {place}: no swap ({error}); give each record a prompt and a source") from None
    return found
