"""What a task is: questions with right answers, and how answers to them are graded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from interp.debate.grading.answers import stated, stated_or_bare


@dataclass(frozen=True, slots=True)
class Question:
    """What the agents are asked, and the right answer.

    >>> interp.debate.make_task("arithmetic").questions(1, seed=0)
    [Question(text='59+63*15+43-75*72', gold_answer='-4353')]
    """

    text: str
    gold_answer: str


@dataclass(frozen=True)
class Task(ABC):
    """A source of questions that can grade answers to them, which are stated in a box.

    >>> task = interp.debate.make_task("arithmetic")
    >>> task.answer(r"So it is \\boxed{1,110}."), task.grade("1,110", "1110")
    ('1,110', True)
    """

    instruction: ClassVar[str]
    r"""How to state the final answer (in `\boxed{}`), for the prompt."""

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def questions(self, n: int, seed: int) -> list[Question]:
        """`n` distinct questions; the same seed gives the same ones, and a larger `n` extends the list."""

    @abstractmethod
    def read(self, text: str) -> Any:
        """What a stated answer means, or None if it cannot be understood."""

    def same(self, given: Any, gold: Any) -> bool:
        """Whether two answers that were understood are the same."""
        return bool(given == gold)

    def answer(self, text: str) -> str | None:
        """The final answer in an agent's text, or None if it states none."""
        return stated(text, self.read)

    def grade(self, text: str | None, gold: str) -> bool:
        """Whether a text, or the answer taken from one, agrees with `gold`; what cannot be read never does."""
        answers = (stated_or_bare(t or "", self.read) for t in (text, gold))
        given, right = (None if answer is None else self.read(answer) for answer in answers)
        return given is not None and right is not None and self.same(given, right)

    def provenance(self) -> dict[str, Any]:
        """What determines the questions besides `n` and `seed`, as JSON: the fields, or the data's source and hash."""
        return {"task": self.name, **asdict(self)}
