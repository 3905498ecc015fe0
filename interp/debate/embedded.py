"""The debates that come with the package; what made them lies beside each.

`python -m interp.debate.embedded` writes those by scripted agents again, byte for byte; `make organism` the others.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from interp.debate.personas import PERSONAS
from interp.debate.protocol import debate
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.median import Median
from interp.debate.transcript import Transcript, read_transcripts, write_transcripts
from interp.errors import UserError

EMBEDDED = {"scripted": (2604, False), "scripted-rotated": (24881, True), "median": (0, False)}
"""Debates of scripted agents: the seed, and whether they are over all seatings or in the paper's seats; and those of
`interp.debate.tasks.median` over all its test questions."""
DEBATED = ("organism", "organism-rotated", "organism-evil")
"""Debates of the organism's base with itself over questions that no training used; `evil` has a misleading agent 2."""


def embedded(name: str) -> list[Transcript]:
    """Make debates again; of scripted agents 180, in which all personas err equally often."""
    seed, rotate = EMBEDDED[name]
    if name == Median.name:
        return [Median().debate(question.text) for question in Median().every(seed)]
    agents = [ScriptedAgent(persona, 0.26, seed) for persona in PERSONAS.values()]
    return debate(Arithmetic().questions(180, seed), agents, task=Arithmetic(), rotate=rotate)


def read_embedded(name: str) -> list[Transcript]:
    """The debates of an embedded set.

    >>> len(interp.debate.read_embedded("scripted"))
    180
    """
    return read_transcripts(embedded_path(name))


def find_transcripts(name: str) -> list[Transcript]:
    """The debates of an embedded set or a file.

    >>> len(interp.debate.find_transcripts("organism")[0].turns)
    3
    """
    return read_embedded(name) if name in (*EMBEDDED, *DEBATED) else read_transcripts(name)


def embedded_path(name: str) -> Path:
    """The file of an embedded set."""
    if name not in (*EMBEDDED, *DEBATED):
        raise UserError(f"debates {name}: not embedded; choose one of {', '.join((*EMBEDDED, *DEBATED))}")
    return Path(str(resources.files("interp") / "data" / f"{name}.jsonl"))


if __name__ == "__main__":
    for name in EMBEDDED:
        write_transcripts(embedded_path(name), embedded(name))
        print(f"wrote {embedded_path(name)}")
