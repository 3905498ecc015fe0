"""Starting experiments from names: `python -m probes.NAME`, `interp probe NAME`, `interp probe all`.

Knows names of experiments, models and debates, and where results go; knows nothing about what is asked.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from interp.debate.embedded import find_transcripts
from interp.debate.tasks import make_task
from interp.debate.transcript import Transcript
from interp.errors import Progress, UserError
from interp.probing.experiments import MODELS, Setting
from interp.probing.outcome import Outcome
from probes import NAMES

ALL = "all"


def read_all(sources: Sequence[str]) -> list[Transcript]:
    """The transcripts of several files or embedded sets, one after the other."""
    return [t for name in sources for t in find_transcripts(name)]


def start(
    name: str,
    *,
    models: Sequence[str] = (),
    transcripts: Sequence[str] = (),
    out: str | Path,
    task: str = "arithmetic",
    seeds: Sequence[int] = (0,),
    limit: int | None = None,
    progress: Progress = lambda *_: None,
    **settings: Any,
) -> Iterator[tuple[Outcome, Path]]:
    """Run an experiment, or `all` of them, and write each result as it is there.

    Without models or transcripts each takes its own (`MODELS`, `DEBATES`). What was read is kept in
    OUT/NAME-activations until the last is done, so that experiments on the same debates read them once, and a
    killed run reads on. Of `all`, an experiment that cannot use the debates has the reason for its finding, and
    nothing of it is written.
    """
    activations = Path(out) / f"{name}-activations"
    for chosen in NAMES if name == ALL else (name,):
        module = import_module(f"probes.{chosen}")
        sources = tuple(transcripts) or module.DEBATES
        setting = Setting(
            tuple(models) or getattr(module, "MODELS", MODELS),
            read_all(sources)[:limit],
            ", ".join(sources),
            make_task(task),
            activations,
            tuple(seeds),
            progress=progress,
            **settings,
        )
        try:
            outcome: Outcome = module.run(setting)
        except UserError as error:
            if name != ALL:
                raise
            yield Outcome(chosen, module.ASKS, [f"{chosen}: left out: {error}"]), Path()
            continue
        yield outcome, outcome.write(out)
    shutil.rmtree(activations, ignore_errors=True)


def main(name: str) -> None:
    """The command line of an experiment."""
    parser = argparse.ArgumentParser(prog=f"python -m probes.{name}", description=import_module(f"probes.{name}").ASKS)
    parser.add_argument("--model", action="append", help="the base first; repeat for several")
    parser.add_argument("--transcripts", action="append", help="debates; repeat for several")
    parser.add_argument("--task", default="arithmetic", help="what was debated: whose grader compares answers")
    parser.add_argument("--out", default="out/probes")
    parser.add_argument("--seed", action="append", type=int, help="repeat for several; default 0")
    parser.add_argument("--limit", type=int, help="use only the first N transcripts")
    parser.add_argument("--layers", default="all", help="numbers and ranges such as 10-20")
    parser.add_argument("--jobs", type=int, help="processes for fits")
    parser.add_argument("--no-untrained", action="store_true", help="leave the untrained model out")
    given = parser.parse_args()
    try:
        for outcome, path in start(
            name,
            models=given.model or (),
            transcripts=given.transcripts or (),
            out=given.out,
            task=given.task,
            seeds=given.seed or (0,),
            limit=given.limit,
            layers=given.layers,
            n_jobs=given.jobs,
            untrained=not given.no_untrained,
        ):
            print(*outcome.finding, f"wrote {path}", sep="\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
