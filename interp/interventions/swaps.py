"""Swaps: does the answer follow another text's run in one part of the residual stream?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.steering.changes import Positions
from interp.steering.steering import interchange


@dataclass(frozen=True, slots=True)
class Swap:
    """A prompt, the text that part of its residual stream is taken from, and what the model should then write.

    >>> interp.interventions.Swap("Problem: 3+4*2", "Problem: 1+1*2", "3").expected
    '3'
    """

    prompt: str
    source: str
    expected: str


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
    known = {text: encode.continuation(text) for text in dict.fromkeys(swap.expected for swap in swaps)}
    if not all(known.values()):
        raise UserError("swap: expects an empty answer; give a text")
    # where the next token could continue the word, it is written too
    longer = {text: encode.continuation(f"{text}0")[: len(ids)] == ids for text, ids in known.items()}
    expected = [known[swap.expected] for swap in swaps]
    n_new = [len(known[swap.expected]) + longer[swap.expected] for swap in swaps]
    written = generate(
        model,
        [swap.prompt for swap in swaps],
        max_new_tokens=max(n_new, default=0),
        batch_size=batch_size,
        steering=[interchange(directions, swap.source, tokens=tokens) for swap in swaps],
        until=lambda i, ids: len(ids) >= n_new[i] or ids != expected[i][: len(ids)],
    )
    found = [out.ids[: len(ids)] == ids for out, ids in zip(written, expected, strict=True)]
    after = [decode(out.ids).removeprefix(decode(ids))[:1] for out, ids in zip(written, expected, strict=True)]
    return np.array([same and not next_.isalnum() for same, next_ in zip(found, after, strict=True)], dtype=bool)
