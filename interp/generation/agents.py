"""An agent that is a model in this process: requests as the model's tokens, and its tokens as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from interp.debate.agents import Answer, Keep, Request, Sampling, chat_messages
from interp.debate.personas import Persona
from interp.debate.transcript import Transcript
from interp.generation.sampling import Generated, generate
from interp.models.model import Model
from interp.models.tokens import Encoder, prompt_tokens
from interp.steering.steering import Steering

TOO_LONG = "prompt too long"
EMPTY = "empty answer"
OVERFLOW = "numbers out of range"


@dataclass(frozen=True)
class LocalAgent:
    """A persona played by a model; several agents may share one.

    A prompt that fills the model's context, an answer without any text, and one in which steering drives the model's
    numbers out of range, are failures of that request alone.

    >>> persona = interp.debate.personas.PERSONAS["self-critique"]
    >>> interp.generation.LocalAgent(persona, model).facts["kind"]
    'local'
    """

    persona: Persona
    model: Model
    sampling: Sampling = field(default_factory=Sampling)
    batch_size: int = 16
    steering: Steering | None = None
    kind: ClassVar[str] = "local"

    @property
    def facts(self) -> dict[str, Any]:
        facts = {"kind": self.kind, "persona": asdict(self.persona), "model": self.model.provenance}
        steering = {} if self.steering is None else {"steering": self.steering.facts}
        return {**facts, "sampling": asdict(self.sampling), **steering}

    def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
        prompts = [self._prompt(request) for request in requests]
        answers: dict[int, Answer] = {}

        def received(index: int, out: Generated) -> None:
            answers[index] = self._answer(len(prompts[index]), out)
            keep(index, answers[index])

        seeds = [_seed(self.sampling.seed, self.persona, request) for request in requests]
        how = {**self.sampling.options, "batch_size": self.batch_size, "steering": self.steering}
        generate(self.model, prompts, **how, seeds=seeds, received=received)
        return [answers[i] for i in range(len(requests))]

    def _answer(self, n_prompt: int, out: Generated) -> Answer:
        if not out.finite:
            detail = f"after {out.n_tokens} tokens; steer with a smaller coefficient"
            return Answer("", n_prompt, out.n_tokens, OVERFLOW, detail, (OVERFLOW,))
        if not out.n_tokens:
            limit = f"{n_prompt} tokens, and the model reads {self.model.context_length} with its answer"
            return Answer("", 0, 0, TOO_LONG, limit, (TOO_LONG,))
        text = self.model.tokenizer.decode(out.ids, skip_special_tokens=self.kind == "local")
        if not text.strip():
            return Answer("", n_prompt, out.n_tokens, EMPTY, "", (EMPTY,), not out.ended)
        return Answer(text, n_prompt, out.n_tokens, cut=not out.ended)

    def _prompt(self, request: Request) -> list[int]:
        return prompt_tokens(self.model.tokenizer, chat_messages(self.persona, request))


class InternalizedAgent(LocalAgent):
    """A model trained on whole debates, which continues the bare question of a transcript and keeps its own tags.

    >>> interp.generation.InternalizedAgent(interp.debate.personas.PLAIN, model).facts["kind"]
    'internalized'
    """

    kind: ClassVar[str] = "internalized"

    def _prompt(self, request: Request) -> list[int]:
        return Encoder(self.model.tokenizer).prompt(Transcript(request.question, ()).prompt)


def _seed(seed: int, persona: Persona, request: Request) -> int:
    key = json.dumps([seed, asdict(persona), asdict(request)])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)
