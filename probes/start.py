"""Running experiments by name.

Knows names of experiments, models and debates, and where results go; knows nothing about what is asked.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from interp.debate.embedded import find_transcripts
from interp.errors import Progress, UserError
from interp.models.model import load_model
from interp.probing.experiments import MODELS, Outcome, Setting
from interp.probing.settings import ProbeSettings
from interp.processes import place
from probes import ALL, SURVEYS


def start(
    name: str,
    settings: ProbeSettings,
    out: str | Path = "out/probes",
    *,
    load: Callable[..., Any] = load_model,
    progress: Progress = lambda *_: None,
) -> Iterator[tuple[Outcome, Path]]:
    """Run an experiment, or `all` of them, and write each result when it is there.

    Activations are kept in OUT/NAME-activations until the last experiment is done, so that a killed run resumes and
    experiments on the same debates read them once. With `all`, an experiment that cannot use the debates is left out,
    and its finding says why.
    """
    activations = Path(out) / f"{name}-activations"
    for chosen in SURVEYS if name == ALL else (name,):
        module = import_module(f"probes.{chosen}")
        if settings.subspaces and not hasattr(module, "given"):
            raise UserError(
                f"--subspaces {settings.subspaces}: {chosen} swaps none; leave it out, or probe interchange"
            )
        sources = settings.transcripts or module.DEBATES
        setting = Setting(
            **vars(settings) | {"models": settings.models or getattr(module, "MODELS", MODELS), "transcripts": sources},
            debates=[debate for source in sources for debate in find_transcripts(source)][: settings.limit],
            activations=activations,
            load=load,
            progress=progress,
        )
        try:
            outcome: Outcome = module.run(setting)
        except UserError as error:
            if name != ALL:
                raise
            yield Outcome(chosen, module.ASKS, [f"{chosen}: left out: {error}"]), Path()
            continue
        yield outcome, outcome.write(out)
    if place()[0] == 0:
        shutil.rmtree(activations, ignore_errors=True)
