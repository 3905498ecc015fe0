"""Who fills the seats of an evaluation, and tasks × methods, all checked before anything is asked.

Knows tasks, methods and personas by name; knows nothing about grading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from interp.debate.agents import Agent
from interp.debate.personas import KNOWN, PERSONAS, PLAIN, TRAIT_PERSONAS, Persona
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.scripted.malicious import ScriptedSide
from interp.debate.server import ServerAgent
from interp.debate.tasks.settings import TaskSettings
from interp.errors import UserError
from interp.evaluation.accuracy import EvaluationRow, evaluate
from interp.evaluation.methods import make_method
from interp.evaluation.settings import SCRIPTED, Answering

if TYPE_CHECKING:
    from interp.models.model import Model

Load = Callable[[str], "Model"]
"""A model's name → the model, the same one each time."""


def find_persona(name: str) -> Persona:
    """The persona of that name. Raises `UserError` if there is none.

    >>> interp.evaluation.find_persona("self-critique").name
    'self-critique'
    """
    if name not in KNOWN:
        raise UserError(f"persona {name}: unknown; choose one of {', '.join(KNOWN)}")
    return KNOWN[name]


@dataclass(frozen=True, slots=True)
class Seat:
    """A persona and the name of the model that plays it."""

    persona: Persona
    model: str


def seats(answering: Answering, task: str, method: str) -> list[Seat]:
    """The seats that `answering.agents` names, such as `plain` or `self-critique=some/model`.

    By default a single answer comes from the plain persona (from the first persona of scripted agents), a trait's
    question set has its malicious persona between two guardians, and anything else has the three personas of Latent
    Agents, section 3. Single answers come from the first agent. Raises `UserError` for an unknown persona, and for
    agents given with the method `model`, which has none.
    """
    given: Sequence[str] = answering.agents
    if not given and task in TRAIT_PERSONAS and method != "model":
        given = ("guardian",) if method == "single" else ("guardian", task, "guardian")
    elif not given:
        first = next(iter(PERSONAS)) if answering.model == SCRIPTED and method != "model" else PLAIN.name
        given = (first,) if method in ("single", "model") else tuple(PERSONAS)
    if method == "model" and tuple(given) != (PLAIN.name,):
        raise UserError("method model: an internalized model answers without agents; leave --agent out")
    found = []
    for text in given:
        name, _, own_model = text.partition("=")
        found.append(Seat(find_persona(name), own_model or answering.model))
    return found[:1] if method in ("single", "model") else found


def fill(answering: Answering, task: str, method: str, load: Load, run: int = 0) -> list[Agent]:
    """An agent for each seat: scripted, behind the server, or a model in this process. Each run has its own seed.

    >>> answering = interp.evaluation.Answering(model="scripted")
    >>> [agent.persona.name for agent in interp.evaluation.fill(answering, "arithmetic", "vote", interp.load_model)]
    ['chain-of-thought', 'self-critique', 'program-of-thought']
    """
    a, sampling = answering, replace(answering.sampling, seed=answering.sampling.seed + run)

    def agent(seat: Seat) -> Agent:
        if method == "model" and (a.server is not None or seat.model == SCRIPTED):
            raise UserError("method model: needs a model in this process; give --model a folder, file or hub id")
        if seat.model == SCRIPTED and task in TRAIT_PERSONAS:
            return ScriptedSide(seat.persona, task, sampling.seed)
        if seat.model == SCRIPTED:
            return ScriptedAgent(seat.persona, a.error_rate, sampling.seed)
        if a.server is not None:
            return ServerAgent(
                seat.persona,
                a.server,
                seat.model,
                sampling,
                key_variable=a.key_variable,
                concurrency=a.concurrency,
                timeout=a.timeout,
                retries=a.retries,
                options=a.body or {},
            )
        from interp.generation.agents import InternalizedAgent, LocalAgent

        kind = InternalizedAgent if method == "model" else LocalAgent
        return kind(seat.persona, load(seat.model), sampling, a.batch_size)

    return [agent(seat) for seat in seats(a, task, method)]


def plan(
    wanted: Sequence[tuple[TaskSettings, str, Path]],
    answering: Answering,
    n_questions: int,
    *,
    runs: int = 1,
    restart: bool = False,
    retry_failed: bool = False,
    load: Load | None = None,
) -> list[Callable[..., EvaluationRow]]:
    """An evaluation for each (task, method, file), to be called with `progress` or with nothing.

    Questions are drawn with the seed of the answers. `load` loads a model by name, by default as `answering` says.
    Raises `UserError` for what can be known to fail: a name, a seat, a setting, a model that cannot be loaded.

    >>> answering = interp.evaluation.Answering(model="scripted")
    >>> [run] = interp.evaluation.plan([(TaskSettings(), "vote", tmp_path / "vote.jsonl")], answering, n_questions=50)
    >>> run().accuracy.mean
    0.86
    """
    found: list[Callable[..., EvaluationRow]] = []
    load = load or cache(partial(load_model, answering))
    _require_used(answering, [seat for task, method, _ in wanted for seat in seats(answering, task.task, method)])
    chunk = max(answering.batch_size, answering.concurrency)
    for settings, name, out in wanted:
        task = settings.make()
        task.questions(n_questions, answering.sampling.seed)
        agents = partial(fill, answering, settings.task, name, load)
        agents(0)
        method = make_method(name, rounds=answering.rounds, rotate=answering.rotate, chunk=chunk)
        found.append(
            partial(
                evaluate,
                out,
                name,
                method,
                agents,
                task=task,
                n_questions=n_questions,
                runs=runs,
                seed=answering.sampling.seed,
                restart=restart,
                retry_failed=retry_failed,
            )
        )
    return found


def load_model(answering: Answering, name: str) -> Model:
    """A model as `answering` says; its adapters go on its own `model` alone."""
    from dataclasses import asdict

    from interp.models.model import load_model

    return load_model(name, adapters=answering.adapters * (name == answering.model), **asdict(answering.loading))


def _require_used(answering: Answering, filled: Sequence[Seat]) -> None:
    """Raises `UserError` if no seat uses the server or the adapters."""
    a, played = answering, {seat.model for seat in filled} - {SCRIPTED}
    if a.server is not None and not played:
        raise UserError(f"server {a.server}: all agents are scripted; give --model the server's name for its model")
    if a.adapters and (a.server is not None or a.model not in played):
        where = "the models are a server's" if a.server is not None else f"no agent is played by {a.model}"
        raise UserError(f"adapter {a.adapters[0]}: {where}; adapters need a --model in this process")
