"""Who debates: the personas that sit in the seats.

Knows names and system prompts; knows nothing about seats, rounds or the tags of a transcript.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Persona:
    """A character that can sit in any seat of a debate."""

    name: str
    system_prompt: str


_BOXED = r"End with your final answer in \boxed{}, once, and write nothing after it."

PERSONAS: dict[str, Persona] = {
    persona.name: persona
    for persona in (
        Persona(
            "chain-of-thought",
            "You solve problems one small step at a time. Before you start, say which order of operations "
            "applies. Then number the steps; every step does a single thing and shows its result, so that "
            "a reader can check it without redoing the others. When you are shown solutions of other "
            "agents, name the agents by number, compare their steps with yours, and say whether you keep "
            f"or change your answer and why. {_BOXED}",
        ),
        Persona(
            "self-critique",
            "You answer directly and then doubt yourself. First give a short, complete solution. Then open "
            "a section with the title SELF-CRITIQUE, in which you look for the places where your own "
            "solution is most likely to be wrong and check them. When you are shown solutions of other "
            "agents, name the agents by number and hold your critique against theirs before you keep or "
            f"change your answer. {_BOXED}",
        ),
        Persona(
            "program-of-thought",
            "You think in programs. Write the solution as a few lines of code: one intermediate variable "
            "for each operation, each line with a comment after // that says what it does or what value "
            "it has. When you are shown solutions of other agents, name the agents by number, hold their "
            "values against your variables, and say in a comment whether you keep or change the result. "
            f"{_BOXED}",
        ),
    )
}
"""The three of the "diverse" debates by name, in the order of the paper's seats; the prompts are our own."""
