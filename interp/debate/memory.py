"""Answers that outlive a kill: an agent behind this is never asked again what it has answered in a run.

Knows requests and answers, and where they are kept; knows nothing about debates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interp.debate.agents import Agent, Answer, Keep, Request, ignore
from interp.debate.personas import Persona
from interp.storage.journal import Lines


class Memory:
    """The answers of a run so far, those of the run that was killed before it included.

    With `retry`, answers that failed are forgotten when it opens.
    """

    def __init__(self, lines: Lines, *, retry: bool = False) -> None:
        self._lines = lines
        known = {record["key"]: _answer(record["answer"]) for record in lines.records}
        self._known = {key: answer for key, answer in known.items() if not (retry and answer.error)}

    def agents(self, agents: Sequence[Agent], run: int = 0) -> list[Agent]:
        """The agents, who from now on answer from memory what they answered before."""
        return [Remembering(agent, self, f"{run}/{index}") for index, agent in enumerate(agents)]

    def recall(self, key: str) -> Answer | None:
        return self._known.get(key)

    def keep(self, key: str, answer: Answer) -> None:
        self._lines.append({"key": key, "answer": asdict(answer)})


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

    def answer(self, requests: Sequence[Request], keep: Keep = ignore) -> list[Answer]:
        keys = [_key(self.name, request) for request in requests]
        answers = {i: answer for i, key in enumerate(keys) if (answer := self.memory.recall(key)) is not None}
        left = [i for i in range(len(requests)) if i not in answers]

        def received(index: int, answer: Answer) -> None:
            self.memory.keep(keys[left[index]], answer)
            answers[left[index]] = answer

        if left:
            for index, answer in enumerate(self.agent.answer([requests[i] for i in left], received)):
                if left[index] not in answers:
                    received(index, answer)
        return [answers[i] for i in range(len(requests))]


def _key(name: str, request: Request) -> str:
    return hashlib.sha256(json.dumps([name, asdict(request)]).encode()).hexdigest()


def _answer(record: dict[str, Any]) -> Answer:
    return Answer(**{**record, "failures": tuple(record["failures"])})
