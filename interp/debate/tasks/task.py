"""The interface of a task: a source of questions that can grade answers to them.

Knows nothing about any particular task; whatever else a benchmark needs stays inside its own class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Question:
    """What the agents are asked, and the answer that counts as right."""

    text: str
    gold_answer: str


class Task(Protocol):
    """A source of questions that can grade answers to them."""

    @property
    def name(self) -> str:
        """The name under which results are reported."""
        ...

    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions; the same seed gives the same ones, and more of them go on the list."""
        ...

    @property
    def instruction(self) -> str:
        r"""What a model is told beside a question: how to state the final answer (in `\boxed{}`)."""
        ...

    def answer(self, text: str) -> str | None:
        """The final answer in an agent's text, or None where it states none."""
        ...

    def grade(self, text: str | None, gold: str) -> bool:
        """Whether an agent's text, or the answer taken from one, is the same answer as `gold`.

        Two answers that cannot be understood are never the same.
        """
        ...

    def provenance(self) -> dict[str, Any]:
        """What decides the questions besides `n` and `seed`, as JSON: settings, or the data's place and hash."""
        ...
