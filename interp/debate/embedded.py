"""The debates that come with the package, and how they were made.

`python -m interp.debate.embedded` writes those by scripted agents again, byte for byte. Those by the organism were made
with `make organism`; what made them lies beside each.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from interp.debate.personas import PERSONAS
from interp.debate.protocol import debate
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.transcript import Transcript, read_transcripts, write_transcripts
from interp.errors import UserError

N_QUESTIONS, ERROR_RATE = 180, 0.26
"""Of each set of scripted debates. All personas err equally often."""

EMBEDDED = {"scripted": {"seed": 2604, "rotate": False}, "scripted-rotated": {"seed": 24881, "rotate": True}}
"""Three personas, at most two rounds: in the paper's seats, and over all seatings."""

DEBATED = ("organism", "organism-rotated", "organism-evil")
"""Debates of the organism's base with itself, over questions that no training used: in the paper's seats, over all
seatings, and with a deliberately misleading agent in seat 2."""

NAMES = (*EMBEDDED, *DEBATED)


def embedded(name: str) -> list[Transcript]:
    """Make the debates of scripted agents again. Raises `UserError` for a name that is not in `EMBEDDED`."""
    if name not in EMBEDDED:
        raise UserError(f"debates {name}: not scripted; choose one of {', '.join(EMBEDDED)}")
    seed, rotate = EMBEDDED[name]["seed"], bool(EMBEDDED[name]["rotate"])
    task = Arithmetic()
    agents = [ScriptedAgent(persona, ERROR_RATE, seed) for persona in PERSONAS.values()]
    return debate(task.questions(N_QUESTIONS, seed), agents, task=task, rotate=rotate)


def read_embedded(name: str) -> list[Transcript]:
    """The debates of an embedded set. Raises `UserError` for a name that is not in `NAMES`.

    >>> len(interp.debate.read_embedded("scripted"))
    180
    """
    return read_transcripts(embedded_path(name))


def find_transcripts(name: str) -> list[Transcript]:
    """The debates of an embedded set or a file. Raises `UserError` if they cannot be read.

    >>> len(interp.debate.find_transcripts("organism")[0].turns)
    3
    """
    return read_embedded(name) if name in NAMES else read_transcripts(name)


def embedded_path(name: str) -> Path:
    """The file of an embedded set."""
    if name not in NAMES:
        raise UserError(f"debates {name}: not embedded; choose one of {', '.join(NAMES)}")
    return Path(str(resources.files("interp") / "data" / f"{name}.jsonl"))


if __name__ == "__main__":
    for name in EMBEDDED:
        write_transcripts(embedded_path(name), embedded(name))
        print(f"wrote {embedded_path(name)}")
