"""The personas that debate, with system prompts from `interp/data/scripted/personas.toml`."""

from __future__ import annotations

from dataclasses import dataclass

from interp.debate.sentences import read_sentences


@dataclass(frozen=True, slots=True)
class Persona:
    """A character that can sit in any seat of a debate.

    >>> interp.debate.Persona("brief", "Answer in one sentence.").name
    'brief'
    """

    name: str
    system_prompt: str


def _personas(group: str) -> dict[str, Persona]:
    boxed = r"End with your final answer in \boxed{}, once, and write nothing after it."
    return {name: Persona(name, f"{prompt} {boxed}") for name, prompt in read_sentences("personas")[group].items()}


PERSONAS = _personas("diverse")
"""The three of the "diverse" debates by name, in the order of the paper's seats."""

PLAIN = Persona("plain", "")
"""No persona: a model as it is, alone or in a debate among identical agents."""

TRAIT_PERSONAS = _personas("traits")
"""Those of the malicious debates by name: evil or hallucination sits among guardians."""

KNOWN: dict[str, Persona] = {persona.name: persona for persona in (PLAIN, *PERSONAS.values(), *TRAIT_PERSONAS.values())}
"""Every persona that options can name; add new ones here."""
