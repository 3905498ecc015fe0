"""Answers that survive a kill: what an agent has answered in a run is never asked again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interp.debate.agents import Agent, Answer, Keep, Request
from interp.debate.personas import Persona
from interp.storage.files import entries
from interp.storage.journal import Lines

REMEMBERED = entries(key=str, answer=Answer)
"""A line of a memory."""


class Memory:
    """The answers of a run so far, including those before a kill. With `retry`, failed answers are forgotten."""

    def __init__(self, lines: Lines, *, retry: bool = False) -> None:
        self.lines = lines
        known = {r["key"]: Answer(**{**r["answer"], "failures": tuple(r["answer"]["failures"])}) for r in lines.records}
        self.known = {key: answer for key, answer in known.items() if not (retry and answer.error)}

    @property
    def all_failed(self) -> bool:
        return all(answer.error for answer in self.known.values())

    def agents(self, agents: Sequence[Agent], run: int = 0) -> list[Agent]:
        """The agents, answering from memory what they answered before."""
        return [_Remembering(a, self, f"{run}/{index}", a.persona, a.facts) for index, a in enumerate(agents)]


@dataclass(frozen=True)
class _Remembering:
    """An agent whose answers are kept as soon as it gives them."""

    agent: Agent
    memory: Memory
    name: str
    persona: Persona
    facts: dict[str, Any]

    def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
        texts = (json.dumps([self.name, asdict(request)]) for request in requests)
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        answers = {i: self.memory.known[key] for i, key in enumerate(keys) if key in self.memory.known}
        left = [i for i in range(len(requests)) if i not in answers]

        def received(index: int, answer: Answer) -> None:
            if left[index] not in answers:
                answers[left[index]] = self.memory.known[keys[left[index]]] = answer
                self.memory.lines.append({"key": keys[left[index]], "answer": asdict(answer)})

        if left:
            for index, answer in enumerate(self.agent.answer([requests[i] for i in left], received)):
                received(index, answer)
        return [answers[i] for i in range(len(requests))]
