"""What is debated: questions, gold answers, grading; one small file for each kind of task.

Knows nothing about agents, rounds or models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from interp.debate.tasks.answers import boxed, number, stated
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.benchmarks import BBH, BBH_SUBSETS, GSM8K, Math, MMLUPro
from interp.debate.tasks.nonexistent import Nonexistent
from interp.debate.tasks.rivalry import Rivalry
from interp.debate.tasks.task import Question, Task

TASKS: dict[str, Callable[..., Task]] = {
    "arithmetic": Arithmetic,
    "gsm8k": GSM8K,
    "math": Math,
    "mmlu-pro": MMLUPro,
    "bbh": BBH,
    **{f"bbh-{subset}": partial(BBH, subsets=(subset,)) for subset in BBH_SUBSETS},
    "evil": Rivalry,
    "hallucination": Nonexistent,
}
"""Every task by the name that its results carry; the benchmarks take `source` and `split`."""

__all__ = [
    "BBH",
    "BBH_SUBSETS",
    "GSM8K",
    "TASKS",
    "Arithmetic",
    "MMLUPro",
    "Math",
    "Nonexistent",
    "Question",
    "Rivalry",
    "Task",
    "boxed",
    "number",
    "stated",
]
