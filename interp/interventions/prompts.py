"""How questions are put to a model so that a trait shows, and how they are put plainly.

Knows tasks, personas, transcripts and prompts as tokens; knows nothing about steering or scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from interp.debate.agents import Request, chat_messages
from interp.debate.personas import PLAIN, Persona
from interp.debate.tasks import make_task
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.models.model import Model
from interp.models.tokens import Encoder, prompt_tokens

ASKED = ("persona", "question", "turn")
"""How a trait is called up: `persona`, by the malicious persona's system prompt; `question`, by the bare question,
which an internalized model answers at once; `turn`, by a debate up to the malicious seat's first tag."""

PLAINLY = "plain"
"""How questions are put for accuracy: without any persona, to a trained model as it was trained."""


@dataclass(frozen=True)
class Parts:
    """Questions of a task in three parts that never meet."""

    task: Task
    fit: Sequence[Question]
    validation: Sequence[Question]
    test: Sequence[Question]


_SPLITS: dict[str, tuple[str, str, str]] = {
    "small-arithmetic": ("train", "validation", "test"),
    "evil": ("train", "train", "test"),
    "hallucination": ("train", "train", "test"),
}


def parts(name: str, n_fit: int, n_validation: int, n_test: int, seed: int = 0) -> Parts:
    """Draw so many questions for each part, from splits of the task where it has splits made for that.

    Raises `UserError` for a task that is not known or has too few questions.
    """
    drawn: list[list[Question]] = []
    taken: Counter[str | None] = Counter()
    for split, n in zip(_SPLITS.get(name, (None, None, None)), (n_fit, n_validation, n_test), strict=True):
        drawn.append(make_task(name, split=split).questions(taken[split] + n, seed)[taken[split] :])
        taken[split] += n
    return Parts(make_task(name), *drawn)


@dataclass(frozen=True)
class Prompt:
    """A question as token ids."""

    asked: str
    """One of `ASKED`, or `PLAINLY`."""
    question: str
    gold_answer: str | None
    ids: list[int]


@dataclass(frozen=True)
class Asking:
    """Who is called up and, where a debate is gone on with, where that one sits."""

    malicious: Persona
    asked: tuple[str, ...] = ("persona",)
    seat: int = 2

    def __post_init__(self) -> None:
        for name in self.asked:
            if name not in ASKED:
                raise UserError(f"asked {name}: not known; give one of {', '.join(ASKED)}")

    def prompts(
        self,
        model: Model,
        task: Task,
        questions: Sequence[Question],
        transcripts: Sequence[Transcript] = (),
        guard: Persona | None = None,
    ) -> Iterator[Prompt]:
        """What calls the trait up; with a `guard`, its system prompt comes last, or opens the bare question.

        `transcripts` are those of `turn`, which do not need the other questions.
        """
        encode = Encoder(model.tokenizer)
        for name in self.asked:
            if name == "turn":
                yield from self._turns(encode, model, task, transcripts, guard)
                continue
            for q in questions:
                if name == "persona":
                    system = "\n\n".join(p.system_prompt for p in (self.malicious, guard) if p)
                    ids = chat(model, Persona(self.malicious.name, system), task, q.text)
                else:
                    ids = _bare(encode, q.text) if guard is None else chat(model, guard, task, q.text)
                yield Prompt(name, q.text, q.gold_answer, ids)

    def _turns(
        self, encode: Encoder, model: Model, task: Task, transcripts: Sequence[Transcript], guard: Persona | None
    ) -> Iterator[Prompt]:
        for t in transcripts:
            ids, places = encode.transcript(t)
            end = next((p[0] for turn, p in zip(t.turns, places, strict=True) if turn.agent == self.seat), None)
            if end is None:
                raise UserError(f"agent {self.seat} does not speak in the debate on {t.question[:40]!r}")
            ids = ids[:end]
            if guard is not None:
                ids = chat(model, guard, task, t.question) + ids[len(encode.prompt(t.prompt)) :]
            yield Prompt("turn", t.question, t.gold_answer, ids)


def plain(model: Model, task: Task, questions: Sequence[Question], guard: Persona | None = None) -> Iterator[Prompt]:
    """Questions put plainly: bare to a model that stages were trained into, else as a chat; or under a guard."""
    encode = Encoder(model.tokenizer)
    trained = bool(model.provenance.get("lineage"))
    for q in questions:
        ids = _bare(encode, q.text) if trained and guard is None else chat(model, guard or PLAIN, task, q.text)
        yield Prompt(PLAINLY, q.text, q.gold_answer, ids)


def chat(model: Model, persona: Persona, task: Task, question: str) -> list[int]:
    """A question as a chat with a persona's system prompt."""
    return prompt_tokens(model.tokenizer, chat_messages(persona, Request(question, 1, instruction=task.instruction)))


def _bare(encode: Encoder, question: str) -> list[int]:
    return encode.prompt(Transcript(question, ()).prompt)
