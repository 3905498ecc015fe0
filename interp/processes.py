"""The processes of one run, as `accelerate launch` starts them: who does what, and how all learn of it.

Each process runs the same command, on the same disk, and comes to the same work. It does its share, and all have the
results. The first process alone prints and writes. Without a launcher there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from itertools import chain
from math import ceil
from typing import Any, TypeVar

from interp.errors import first_line

Result = TypeVar("Result")
Item = TypeVar("Item")
SHARING = ("extract_directions", "debate", "evaluate", "sweep", "suppress", "probe")
"""The verbs whose work is shared. The trainers share that of `train`; any other is done by the first process."""
_sharing = [False]


def first() -> bool:
    """Whether this is the process that prints and writes."""
    return int(os.environ.get("RANK", 0)) == 0


def place() -> tuple[int, int]:
    """This process's number, from 0, and how many share the work at hand."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if _sharing[-1] else (0, 1)


@contextmanager
def sharing(verb: str) -> Iterator[bool]:
    """Whether this process takes part in a verb; if the verb's work is shared, it is within this context."""
    _sharing.append(verb in SHARING and int(os.environ.get("WORLD_SIZE", 1)) > 1)
    try:
        if _sharing[-1]:
            _group()
        yield first() or verb in (*SHARING, "train")
    finally:
        _sharing.pop()


each = partial(sharing, "")
"""What is done in this context is done, and written, by each process for itself."""


@cache
def _group() -> Any:
    """All processes, to talk over gloo; Accelerate gives each its card."""
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
    return torch.distributed.new_group(backend="gloo", timeout=timedelta(days=30))  # shares may take long


def gather(mine: Result) -> list[Result]:
    """What each process has, in order, when all have come here; this one ends if another has ended."""
    _, n = place()
    if n == 1:
        return [mine]
    import torch

    found: list[Any] = [None] * n
    try:
        torch.distributed.all_gather_object(found, mine, _group())
    except RuntimeError as error:
        why = "another process of this run has ended; see its error, then run the same command again"
        raise SystemExit(f"error: processes: {why} ({first_line(error)[:60]})") from None
    return found


def once(make: Callable[[], Result]) -> Result:
    """What the first process makes, for all."""
    made: Any = make() if place()[0] == 0 else None
    return gather(made)[0]


def shared(
    items: Sequence[Item], make: Callable[[Sequence[Item]], Iterable[Result]], chunk: int, *, even: bool = True
) -> Iterator[Result]:
    """What `make` makes of all items, in order, by the processes in turn, at most `chunk` of them at a time.

    One process alone passes on each result when it is there, several at the end of every round. `even` rounds are
    shorter, so that the last is as full as the others; else all numbers are those of one process, to the bit.
    """
    index, n = place()
    if even and n > 1 and items:
        chunk = ceil(len(items) / (n * ceil(len(items) / (n * chunk))))
    for start in range(index * chunk, index * chunk + len(items), n * chunk):
        some = items[start : start + chunk]
        made = make(some) if some else ()
        yield from made if n == 1 else chain.from_iterable(gather(list(made)))
