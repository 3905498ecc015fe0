"""Which task, as settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from interp.debate.tasks import make_task
from interp.debate.tasks.task import Task
from interp.options import option

PANEL = "Questions"


@dataclass(frozen=True)
class TaskSettings:
    """A task and what it takes; settings that are None are left to the task.

    >>> len(interp.debate.TaskSettings(digits=1).make().questions(3, seed=0))
    3
    """

    task: str = option("arithmetic", panel=PANEL)
    """Task: arithmetic, small-arithmetic, median, gsm8k, math, mmlu-pro, bbh, bbh-SUBSET, evil or hallucination."""
    source: str | None = option(None, panel=PANEL)
    """Benchmarks: hub id, file or folder to read instead of the published data set."""
    split: str | None = option(None, panel=PANEL)
    """Split of a benchmark, of small-arithmetic or of median."""
    digits: int | None = option(None, panel=PANEL, min=1)
    """Arithmetic: digits of each number (2 unless given)."""
    terms: int | None = option(None, panel=PANEL, min=1)
    """Arithmetic: terms of each sum (4 unless given)."""
    form: str | None = option(None, panel=PANEL)
    """Arithmetic: shape of the sum, such as a+b*c."""

    def make(self) -> Task:
        settings = asdict(self)
        return make_task(settings.pop("task"), **settings)
