"""Tasks × methods, all of them checked before anything is asked.

Knows tasks, methods and seats by their names; what these are, and how an evaluation goes, is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.debate.agents import Agent, Sampling
from interp.debate.cast import ERROR_RATE, Cast, Seat, require_used, seats
from interp.debate.tasks import make_task
from interp.evaluation.accuracy import Row, evaluate
from interp.evaluation.methods import make_method

if TYPE_CHECKING:
    from interp.models import Model


@dataclass(frozen=True)
class Answering:
    """Who answers, and how."""

    load: Callable[[str], Model]
    """A model's name → the model, the same one each time."""
    model: str
    """Plays the seats that name no model of their own."""
    agents: tuple[str, ...] = ()
    """Seats as `interp.debate.cast.seats` reads them; those of the task where none is given."""
    adapters: tuple[str, ...] = ()
    """What `load` puts on `model`."""
    server: str | None = None
    """The address of an OpenAI-compatible server, whose names the models then are."""
    manners: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `ServerAgent`."""
    batch_size: int = 16
    """Requests that a local model answers at a time."""
    error_rate: float = ERROR_RATE
    """How often scripted agents slip."""
    sampling: Sampling = field(default_factory=Sampling)
    """That of the first run; each further one has the next seed."""
    rounds: int = 2
    """Most rounds of a debate."""
    rotate: bool = False
    """Whether every persona sits in every seat in turn."""


def planned(
    wanted: Sequence[tuple[str, str, Path]],
    answering: Answering,
    n_questions: int,
    *,
    task_options: Mapping[str, Any],
    runs: int = 1,
    seed: int = 0,
    restart: bool = False,
    retry_failed: bool = False,
) -> list[Callable[..., Row]]:
    """For each (task, method, file) the evaluation that is left to be called, with its `progress` alone.

    Raises `UserError` for whatever can be known to fail: a name, a seat, a setting, a model that cannot be loaded.
    """
    found: list[Callable[..., Row]] = []
    seated = [seats(answering.agents, answering.model, task, method) for task, method, _ in wanted]
    require_used([seat for each in seated for seat in each], answering.model, answering.server, answering.adapters)
    chunk = max(answering.batch_size, answering.manners.get("concurrency", 1))
    for (task_name, method_name, out), each in zip(wanted, seated, strict=True):
        task = make_task(task_name, **task_options)
        task.questions(n_questions, seed)
        agents = partial(_agents, answering, task_name, method_name, each)
        agents(0)
        method = make_method(method_name, rounds=answering.rounds, rotate=answering.rotate, chunk=chunk)
        found.append(
            partial(
                evaluate,
                out,
                method_name,
                method,
                agents,
                task=task,
                n_questions=n_questions,
                runs=runs,
                seed=seed,
                restart=restart,
                retry_failed=retry_failed,
            )
        )
    return found


def _agents(answering: Answering, task: str, method: str, seats: Sequence[Seat], run: int) -> list[Agent]:
    a = answering
    cast = Cast(task, a.load, a.server, a.manners, a.batch_size, a.error_rate)
    sampling = replace(a.sampling, seed=a.sampling.seed + run)
    return cast.agents(seats, sampling, internalized=method == "model")
