"""Who fills the seats of an evaluation, and tasks × methods, all checked before anything is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from interp.options import one_of

if TYPE_CHECKING:
    from interp.models.model import Model


def find_persona(name: str) -> Persona:
    """The persona of that name; `UserError` if there is none."""
    one_of("persona", name, KNOWN)
    return KNOWN[name]


def seats(answering: Answering, task: str, method: str) -> list[tuple[Persona, str]]:
    """Who sits in each seat and the name of its model; agents are given as `plain` or `self-critique=some/model`.

    By default a trait's question set has its malicious persona between two guardians, anything else the three personas
    of Latent Agents, section 3. Single answers come from the first agent, by default of a model from the plain persona.
    Raises `UserError` for an unknown persona, and for agents given with the method `model`, which has none.
    """
    given, one = answering.agents, method in ("single", "model")
    if not given and task in TRAIT_PERSONAS and method != "model":
        given = ("guardian", task, "guardian")
    elif not given:
        given = (PLAIN.name,) if method == "model" or (one and answering.model != SCRIPTED) else tuple(PERSONAS)
    if method == "model" and tuple(given) != (PLAIN.name,):
        raise UserError("method model: an internalized model answers without agents; leave --agent out")
    named = [text.partition("=") for text in given]
    found = [(find_persona(name), own_model or answering.model) for name, _, own_model in named]
    return found[:1] if one else found


def fill(answering: Answering, task: str, method: str, load: Callable[[str], Model], run: int = 0) -> list[Agent]:
    """An agent for each seat: scripted, behind the server, or a model in this process; each run has its own seed."""
    a, sampling = answering, replace(answering.sampling, seed=answering.sampling.seed + run)

    def agent(persona: Persona, model: str) -> Agent:
        if method == "model" and (a.server is not None or model == SCRIPTED):
            raise UserError("method model: needs a model in this process; give --model a folder, file or hub id")
        if model == SCRIPTED and task in TRAIT_PERSONAS:
            return ScriptedSide(persona, task, sampling.seed)
        if model == SCRIPTED:
            return ScriptedAgent(persona, a.error_rate, sampling.seed)
        if a.server is not None:
            settings = {name: getattr(a, name) for name in ("key_variable", "concurrency", "timeout", "retries")}
            return ServerAgent(persona, a.server, model, sampling, **settings, options=a.body or {})
        from interp.generation.agents import InternalizedAgent, LocalAgent

        kind = InternalizedAgent if method == "model" else LocalAgent
        return kind(persona, load(model), sampling, a.batch_size)

    return [agent(*seat) for seat in seats(a, task, method)]


def plan(
    wanted: Sequence[tuple[TaskSettings, str, Path]],
    answering: Answering,
    n_questions: int,
    *,
    load: Callable[[str], Model] | None = None,
    **settings: Any,
) -> list[Callable[..., EvaluationRow]]:
    """An evaluation for each (task, method, file), to be called with `progress` or with nothing.

    `load` loads a model by name, by default as `answering` says; `settings` (runs, restart, retry_failed) are those of
    `evaluate`. Questions are drawn with the answers' seed. What can be known to fail is a `UserError`.

    >>> answering, task = interp.evaluation.Answering(model="scripted"), interp.debate.tasks.settings.TaskSettings()
    >>> [run] = interp.evaluation.plan([(task, "vote", tmp_path / "vote.jsonl")], answering, n_questions=50)
    >>> run().accuracy.mean
    0.86
    """
    a, load, seed = answering, load or cache(partial(load_model, answering)), answering.sampling.seed
    played = {model for task, method, _ in wanted for _, model in seats(a, task.task, method)} - {SCRIPTED}
    if a.server is not None and not played:
        raise UserError("server: all agents are scripted; give --model the server's name for its model")
    if a.adapters and (a.server is not None or a.model not in played):
        where = "the models are a server's" if a.server is not None else f"no agent is played by {a.model}"
        raise UserError(f"adapter {a.adapters[0]}: {where}; adapters need a --model in this process")
    found: list[Callable[..., EvaluationRow]] = []
    for asked, name, out in wanted:
        task, agents = asked.make(), partial(fill, a, asked.task, name, load)
        task.questions(n_questions, seed)
        agents(0)
        method = make_method(name, rounds=a.rounds, rotate=a.rotate, chunk=max(a.batch_size, a.concurrency))
        run = partial(evaluate, out, name, method, agents, task=task, n_questions=n_questions)
        found.append(partial(run, seed=seed, **settings))
    return found


def load_model(answering: Answering, name: str) -> Model:
    """A model as `answering` says; its adapters go on its own `model` alone."""
    from interp.models.model import load_model

    return load_model(name, adapters=answering.adapters * (name == answering.model), **asdict(answering.loading))
