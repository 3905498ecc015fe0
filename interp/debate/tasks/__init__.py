"""The tasks by name. Knows nothing about agents, rounds or models."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from interp.debate.tasks.arithmetic import Arithmetic, SmallArithmetic
from interp.debate.tasks.benchmarks import BBH, BBH_SUBSETS, GSM8K, Math, MMLUPro
from interp.debate.tasks.median import Median
from interp.debate.tasks.nonexistent import Nonexistent
from interp.debate.tasks.rivalry import Rivalry
from interp.debate.tasks.task import Task
from interp.errors import UserError
from interp.options import one_of

TASKS: dict[str, Callable[..., Task]] = {
    "arithmetic": Arithmetic,
    "small-arithmetic": SmallArithmetic,
    "median": Median,
    "gsm8k": GSM8K,
    "math": Math,
    "mmlu-pro": MMLUPro,
    "bbh": BBH,
    **{f"bbh-{subset}": partial(BBH, subsets=(subset,)) for subset in BBH_SUBSETS},
    "evil": Rivalry,
    "hallucination": Nonexistent,
}
"""Every task by the name that its results carry."""


def make_task(name: str, **settings: Any) -> Task:
    """The task of that name; settings that are None are left to the task.

    Arithmetic takes `digits` and `terms` or `form`, benchmarks `source` and `split`, the other tasks `split`.

    >>> interp.debate.make_task("arithmetic", digits=1, form="a+b").questions(1, seed=0)[0].text
    '7+7'
    """
    one_of("task", name, TASKS)
    make = Arithmetic.sized if name == "arithmetic" else TASKS[name]
    given = {key: value for key, value in settings.items() if value is not None}
    known = inspect.signature(make).parameters
    if unknown := [key for key in given if key not in known]:
        raise UserError(f"task {name}: has no {unknown[0]}; it takes {', '.join(known)}")
    return make(**given)
