"""Prompts → text on interp-engine: each row's changes as operations that it knows, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from math import isfinite
from typing import Any

import numpy as np
import torch

from interp.generation.rows import Ids
from interp.models.model import Model
from interp.steering.changes import END, TOKENS, Change, WrittenTurns, paired
from interp.steering.hooks import by_row, resolved

_Sampled = Mapping[int, dict[str, Any]]
_Changes = Sequence[Sequence[Change]]
_Until = Callable[[int, Ids], bool] | None


def written(
    model: Model,
    prompts: Sequence[Ids],
    sampled: _Sampled,
    given: Sequence[Sequence[Change]],
    ends: set[int],
    until: _Until,
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Continue the prompts that `sampled` says how; yields the index and facts of a `Generated` as one ends.

    Raises `UserError` for what interp-engine cannot do as this package does. Its random numbers are its own.
    """
    from interp_engine import steer

    known, loaded = resolved(model, by_row(given, len(prompts))), model.engine.loaded
    steered = {i: _operations(model.engine, known[i], len(prompts[i])) for i in sampled}

    async def write(i: int) -> tuple[int, tuple[Any, ...]]:
        (specs, where), prompt, text = steered[i], list(prompts[i]), list[int]()
        within = steer(loaded, specs, prompt_token_ids=prompt, **where) if specs else nullcontext()
        with torch.random.fork_rng(devices=[]), within:
            async for step in loaded.generate_steps(prompt, stop_at_eos=False, n_logprobs=1, top_k=0, **sampled[i]):
                if not isfinite(step.logprobs[0]["logprob"]):
                    return i, (text, len(text), False, None, False)
                text.append(step.token_id)
                if step.token_id in ends:
                    return i, (text[:-1], len(text), True, step.token_id)
                if until is not None and until(i, text):
                    return i, (text, len(text), True)
        return i, (text, len(text), False)

    yield from model.engine.each([partial(write, i) for i in sampled])


def _operations(engine: Any, changes: Sequence[Change], n_prompt: int) -> tuple[list[Any], dict[str, Any]]:
    """x → x − (x·Bᵀ)B + o as projecting each row of B out, then adding o; and where, which all changes must share."""
    from interp_engine import AblateSpec, AddSpec, SteeringSpec

    specs, places, names = [], list[dict[str, Any]](), f"name them as one of {', '.join(TOKENS)}"
    for change in changes:
        offsets = np.atleast_2d(change.offset)
        if change.keep_norm or change.gate is not None or change.rule is not None:
            raise engine.refusal("keeps no norm, reads no gate and calls no function; add, ablate or clamp without")
        if isinstance(change.tokens, WrittenTurns):
            raise engine.refusal(f"cannot steer turns as they are written; {names}")
        if len(offsets) > 1 or not np.isfinite(np.vdot(offsets, offsets)):
            raise engine.refusal("interchanges one token (last), and adds no vector whose square overflows; give such")
        ranges = paired(change.tokens(n_prompt), 1) if change.source else change.tokens(n_prompt)
        inside = set(chain.from_iterable(range(start, min(stop, n_prompt)) for start, stop in ranges))
        later = {(max(start, n_prompt), stop) for start, stop in ranges if stop > n_prompt}
        spared = [token for token in range(n_prompt) if token not in inside]
        places.append({"position_mask": spared, "generated": bool(later)})
        if places[0] != places[-1] or later - {(n_prompt, END)}:
            raise engine.refusal(f"steers the same tokens at all layers, written ones all or none; {names}")
        operations = [*map(AblateSpec, change.basis.tolist()), *(AddSpec(offset, 1.0) for offset in offsets.tolist())]
        specs.append(SteeringSpec.at(engine.points[change.hook_point], *operations))
    return specs, places[0] if places else {}
