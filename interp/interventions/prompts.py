"""How questions are asked: so that a trait shows, or as plain questions. Knows nothing about steering or scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from interp.debate.agents import Request, chat_messages
from interp.debate.personas import PLAIN, Persona
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, before_tags, without_tags
from interp.errors import UserError
from interp.models.model import Model
from interp.models.tokens import Encoder, prompt_tokens

PLAIN_QUESTION = "plain"
"""A question without any persona, which measures accuracy; a trained model gets it as it was trained."""


@dataclass(frozen=True)
class Prompt:
    """A question as token ids."""

    kind: str
    """How it is asked: `persona`, `question` or `turn`, or `PLAIN_QUESTION`."""
    question: str
    gold_answer: str | None
    ids: list[int]
    before: str | None = None
    """The label of the agent whose tag it ends with."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Each agent's own first turn, by label."""


def spoken(kind: str, text: str) -> str:
    """What a text says as an answer: in a debate, the one turn."""
    return (before_tags(text) if kind == "turn" else without_tags(text)).strip()


@dataclass(frozen=True)
class Elicitation:
    """Whose trait is elicited and how, and where that agent sits in debates."""

    malicious: Persona
    elicit: tuple[str, ...] = ("persona",)
    """As in `TraitSettings`."""
    seat: int = 2

    def prompts(
        self,
        model: Model,
        task: Task,
        questions: Sequence[Question],
        transcripts: Sequence[Transcript] = (),
        guard: Persona | None = None,
    ) -> Iterator[Prompt]:
        """Prompts that elicit the trait; `transcripts` are for `turn`, `questions` for the rest.

        The system prompt of a `guard` comes last, or opens the bare question.
        """
        encode = Encoder(model.tokenizer)
        for kind in self.elicit:
            for t in transcripts if kind == "turn" else ():
                ids, places = encode.transcript(t)
                end = next((p[0] for turn, p in zip(t.turns, places, strict=True) if turn.agent == self.seat), None)
                if end is None:
                    raise UserError(f"agent {self.seat}: does not speak in the debate on {t.question[:40]!r}")
                if guard is None:
                    ids = ids[:end]
                else:
                    ids = chat(model, guard, task, t.question) + ids[len(encode.prompt(t.prompt)) : end]
                yield Prompt(kind, t.question, t.gold_answer, ids)
            for q in questions if kind != "turn" else ():
                persona = guard
                if kind == "persona":
                    system = "\n\n".join(p.system_prompt for p in (self.malicious, guard) if p)
                    persona = Persona(self.malicious.name, system)
                yield Prompt(kind, q.text, q.gold_answer, chat(model, persona, task, q.text))


def plain(model: Model, task: Task, questions: Sequence[Question], guard: Persona | None = None) -> Iterator[Prompt]:
    """Plain questions: bare for a model with trained stages, else as a chat; or under a guard."""
    persona = guard or (None if model.provenance.get("lineage") else PLAIN)
    yield from (Prompt(PLAIN_QUESTION, q.text, q.gold_answer, chat(model, persona, task, q.text)) for q in questions)


def chat(model: Model, persona: Persona | None, task: Task, question: str) -> list[int]:
    """A question as a chat with a persona's system prompt, or the bare question."""
    if persona is None:
        return Encoder(model.tokenizer).prompt(Transcript(question, ()).prompt)
    return prompt_tokens(model.tokenizer, chat_messages(persona, Request(question, 1, instruction=task.instruction)))
