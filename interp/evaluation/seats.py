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
from interp.debate.personas import KNOWN, PERSONAS, PLAIN, TRAIT_PERSONAS, Persona
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.scripted.malicious import ScriptedSide
from interp.debate.server import ServerAgent
from interp.debate.tasks import make_task
from interp.errors import UserError
from interp.evaluation.accuracy import Row, evaluate
from interp.evaluation.methods import make_method

if TYPE_CHECKING:
    from interp.models.model import Model


SCRIPTED = "scripted"
"""In place of a model: agents that follow a script."""

ERROR_RATE = 0.26
"""How often scripted agents slip, unless told."""


def persona(name: str) -> Persona:
    """The persona of that name. Raises `UserError` where there is none."""
    if name not in KNOWN:
        raise UserError(f"persona {name}: not known; give one of {', '.join(KNOWN)}")
    return KNOWN[name]


@dataclass(frozen=True, slots=True)
class Seat:
    """A persona and the name of the model that plays it."""

    persona: Persona
    model: str


def seats(given: Sequence[str], model: str, task: str, method: str) -> list[Seat]:
    """Read seats such as `plain` or `self-critique=some/model`; those without a model take `model`.

    Where none are given: for a single answer the plain model (of scripted agents the first persona),
    else the three diverse personas of Latent Agents, section 3, or for the question set of a trait its
    malicious persona between two guardians. Of several given, the first gives single answers. Raises
    `UserError` for a persona that is not known, and for one where an internalized model answers by itself.
    """
    if not given and task in TRAIT_PERSONAS and method != "model":
        given = ("guardian",) if method == "single" else ("guardian", task, "guardian")
    elif not given:
        first = next(iter(PERSONAS)) if model == SCRIPTED and method != "model" else PLAIN.name
        given = (first,) if method in ("single", "model") else tuple(PERSONAS)
    read = []
    for text in given:
        name, _, own_model = text.partition("=")
        if name not in KNOWN:
            raise UserError(f"agent {text}: no persona {name!r}; give one of {', '.join(KNOWN)}")
        read.append(Seat(KNOWN[name], own_model or model))
    if method == "model" and tuple(given) != (PLAIN.name,):
        raise UserError("method model: an internalized model answers without agents; leave --agent out")
    return read[:1] if method in ("single", "model") else read


def require_used(seats: Sequence[Seat], model: str, server: str | None, adapters: Sequence[str]) -> None:
    """Raises `UserError` where a server or adapters were named that none of the seats uses."""
    played = {seat.model for seat in seats} - {SCRIPTED}
    if server is not None and not played:
        raise UserError(f"server {server}: no agent is played by it; give --model the server's name for its model")
    if adapters and (server is not None or model not in played):
        where = "the models are a server's" if server is not None else f"no agent is played by {model}"
        raise UserError(f"adapter {adapters[0]}: {where}; adapters go on --model, in this process")


@dataclass(frozen=True)
class Cast:
    """How the seats are filled: scripted agents, models in this process, or a server's."""

    task: str
    load: Callable[[str], Model]
    """A model's name → the model, the same one each time; called where there is no `server`."""
    server: str | None = None
    """The address of an OpenAI-compatible server, whose names the models then are."""
    manners: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `ServerAgent`."""
    batch_size: int = 16
    error_rate: float = ERROR_RATE

    def agents(self, seats: Sequence[Seat], sampling: Sampling, *, internalized: bool = False) -> list[Agent]:
        """An agent for each seat; `internalized` ones go on from the bare question."""
        return [self._agent(seat, sampling, internalized) for seat in seats]

    def _agent(self, seat: Seat, sampling: Sampling, internalized: bool) -> Agent:
        if internalized and (self.server is not None or seat.model == SCRIPTED):
            raise UserError("method model: takes a model in this process; give --model a folder, file or hub id")
        if seat.model == SCRIPTED:
            if self.task in TRAIT_PERSONAS:
                return ScriptedSide(seat.persona, self.task, sampling.seed)
            return ScriptedAgent(seat.persona, self.error_rate, sampling.seed)
        if self.server is not None:
            return ServerAgent(seat.persona, self.server, seat.model, sampling, **self.manners)
        from interp.generation.agents import InternalizedAgent, LocalAgent

        kind = InternalizedAgent if internalized else LocalAgent
        return kind(seat.persona, self.load(seat.model), sampling, self.batch_size)


@dataclass(frozen=True)
class Answering:
    """Who answers, and how."""

    load: Callable[[str], Model]
    """A model's name → the model, the same one each time."""
    model: str
    """Plays the seats that name no model of their own."""
    agents: tuple[str, ...] = ()
    """Seats as `interp.evaluation.seats.seats` reads them; those of the task where none is given."""
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
