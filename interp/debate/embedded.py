"""The debates that come with the package, and how they were made.

Knows the seeds of those by scripted agents; `python -m interp.debate.embedded` writes these again, byte for
byte. Those by the organism were made with `make organism`, and what made them lies beside each.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from interp.debate.personas import PERSONAS
from interp.debate.protocol import debate
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.transcript import Transcript, read_transcripts, write_transcripts
from interp.errors import UserError


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an embedded file was made with. All personas err equally often: a persona is no quality."""

    seed: int
    rotate: bool
    n_questions: int = 180
    error_rate: float = 0.26


EMBEDDED: dict[str, Recipe] = {
    "scripted": Recipe(seed=2604, rotate=False),
    "scripted-rotated": Recipe(seed=24881, rotate=True),
}
"""Three personas, at most two rounds: in the paper's seats, and counterbalanced over all seatings."""

DEBATED = ("organism", "organism-rotated", "organism-evil")
"""Debates of the organism's base with itself, over questions that no training saw: in the paper's seats, over all
seatings, and with an agent in seat 2 that misleads on purpose."""

NAMES = (*EMBEDDED, *DEBATED)


def embedded(name: str) -> list[Transcript]:
    """Make the debates of scripted agents anew. Raises `UserError` for a name that is not in `EMBEDDED`."""
    if name not in EMBEDDED:
        raise UserError(f"no scripted debates named {name!r}: take one of {', '.join(EMBEDDED)}")
    recipe = EMBEDDED[name]
    task = Arithmetic()
    agents = [ScriptedAgent(persona, recipe.error_rate, recipe.seed) for persona in PERSONAS.values()]
    return debate(task.questions(recipe.n_questions, recipe.seed), agents, task=task, rotate=recipe.rotate)


def read_embedded(name: str) -> list[Transcript]:
    """Read the debates of an embedded file. Raises `UserError` for a name that is not in `NAMES`."""
    return read_transcripts(embedded_path(name))


def find_transcripts(name: str) -> list[Transcript]:
    """The debates of an embedded set, or else of a file. Raises `UserError` where they cannot be read."""
    return read_embedded(name) if name in NAMES else read_transcripts(name)


def embedded_path(name: str) -> Path:
    """Where the package keeps the file."""
    if name not in NAMES:
        raise UserError(f"no embedded debates named {name!r}: take one of {', '.join(NAMES)}")
    return Path(str(resources.files("interp") / "data" / f"{name}.jsonl"))


if __name__ == "__main__":
    for name in EMBEDDED:
        write_transcripts(embedded_path(name), embedded(name))
        print(f"wrote {embedded_path(name)}")
