"""Answers that outlive a kill: an agent behind this is never asked the same request twice in a run.

Knows requests and answers, and where they are kept; knows nothing about debates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interp.debate.agents import Agent, Answer, Request
from interp.debate.personas import Persona
from interp.journal import Lines


class Memory:
    """The answers of a run so far, in one file that goes when the run is finished."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._known = {record["key"]: _answer(record["answer"]) for record in lines.records}

    def agents(self, agents: Sequence[Agent], run: int = 0) -> list[Agent]:
        """The agents, who from now on answer from memory what they answered before."""
        return [Remembering(agent, self, f"{run}/{index}") for index, agent in enumerate(agents)]

    def recall(self, key: str) -> Answer | None:
        return self._known.get(key)

    def keep(self, key: str, answer: Answer) -> None:
        self._lines.append({"key": key, "answer": asdict(answer)})

    def forget(self) -> None:
        """Remove the file."""
        self._lines.close()
        self._lines.path.unlink()


@dataclass(frozen=True)
class Remembering:
    """An agent whose answers are kept as soon as it has given them."""

    agent: Agent
    memory: Memory
    name: str

    @property
    def persona(self) -> Persona:
        return self.agent.persona

    @property
    def facts(self) -> dict[str, Any]:
        return self.agent.facts

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        keys = [_key(self.name, request) for request in requests]
        answers = [self.memory.recall(key) for key in keys]
        open_ = [i for i, answer in enumerate(answers) if answer is None]
        if open_:
            for i, answer in zip(open_, self.agent.answer([requests[i] for i in open_]), strict=True):
                self.memory.keep(keys[i], answer)
                answers[i] = answer
        return [answer for answer in answers if answer is not None]


def _key(name: str, request: Request) -> str:
    return hashlib.sha256(json.dumps([name, asdict(request)]).encode()).hexdigest()


def _answer(record: dict[str, Any]) -> Answer:
    return Answer(**{**record, "failures": tuple(record["failures"])})
