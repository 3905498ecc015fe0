"""`interp probe NAME`, and `python -m probes.NAME` for the same."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.options import alone, one_of, verb
from interp.outputs import Made, Writes, says
from interp.probing.settings import ProbeSettings
from probes import ALL, NAMES, SURVEYS

FORMAT = "interp.probes/"
STORED = re.compile(r"\.?[0-9a-f]{16}\.(safetensors|json|jsonl|pending\.jsonl)")


def _made(out: Path, given: Mapping[str, Any]) -> Iterator[Made]:
    for name in SURVEYS if given["name"] == ALL else (given["name"],):
        yield Made([out / f"{name}.json", out / name], partial(says, out / f"{name}.json", FORMAT))
    activations = out / f"{given['name']}-activations"  # removed at the end
    yield Made([activations], lambda: all(STORED.match(path.name) for path in activations.iterdir()))


@verb
def probe(
    name: Annotated[str, typer.Argument(help=f"Experiment: {', '.join(NAMES)}, or {ALL}.")],
    settings: ProbeSettings,
    out: Annotated[Path, typer.Option(help="Folder for NAME.json and the probes."), Writes(_made)] = Path("out/probes"),
) -> None:
    """Ask what a model knows about its agents, with probes at all layers and with all controls.

    Example: `interp probe silent_agents --model organism --model organism-imad --transcripts organism`
    """
    from interp.reports.terminal import Terminal, progress_bars, quiet_libraries
    from probes.start import start
    from probes.tables import probe_tables

    one_of("probe", name, (*NAMES, ALL))
    quiet_libraries()
    console = Terminal(soft_wrap=True)
    with progress_bars() as progress:
        for outcome, path in start(name, settings, out, progress=progress):
            console.print(*probe_tables(outcome.rows), *outcome.tables, sep="\n")
            for sentence in outcome.finding:
                console.print(sentence)
            if path.name:
                console.print(f"wrote {path}\n")


def main(name: str) -> None:
    """The command line of one experiment."""
    alone(probe, f"probes.{name}", [name, *sys.argv[1:]])
