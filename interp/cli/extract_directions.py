"""`interp extract-directions`: transcripts in, directions with their evidence out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.debate.embedded import find_transcripts
from interp.directions.settings import ExtractionSettings
from interp.models.settings import ModelSettings
from interp.options import TRANSCRIPTS, Limit, Restart, verb
from interp.outputs import Made, Writes, says
from interp.reports.terminal import Terminal, quiet_libraries

if TYPE_CHECKING:
    from interp.directions.extract import Extraction
    from interp.models.model import Model

FILES = ("directions.safetensors", "directions.json", "report.html")


def _made(out: Path, _: Any) -> Iterator[Made]:
    yield Made([out / name for name in FILES], lambda: says(out / FILES[0], "interp.directions/"))
    for kept in (out / "activations.safetensors", out / "untrained.safetensors"):
        yield Made([kept], partial(says, kept, "interp.activations/"))


WRITES = Writes(_made)
OUT = typer.Option(help="Folder for directions.safetensors, .json and report.html.")


@verb
def extract_directions(
    *,
    model: ModelSettings,
    transcripts: Annotated[str, typer.Option(help=TRANSCRIPTS)] = "scripted",
    limit: Limit = None,
    settings: ExtractionSettings,
    out: Annotated[Path, OUT, WRITES] = Path("out"),
    restart: Restart = False,
) -> None:
    """Find each agent's direction in the residual stream, with the evidence for it.

    Every transcript goes through the model once. For each agent and layer the direction is the mean difference between
    its turns and the other agents' in the same question and round; separation and reliability on held-out questions
    say how far to trust it. The same model with random weights and the text alone are measured beside it: a finding is
    what lies beyond both. A killed run resumes where it stopped.

    Example: `interp extract-directions --transcripts debates.jsonl --layers 10-20 --out found`
    """
    from interp.directions import extract
    from interp.reports.terminal import progress_bars

    debates = find_transcripts(transcripts)[:limit]
    console = Terminal(soft_wrap=True)
    loaded = load(model, console)
    console.print(f"transcripts: {len(debates)} from {transcripts}")
    with progress_bars() as progress:
        found = extract.extract_directions(
            loaded, debates, out, settings, source=transcripts, restart=restart, progress=progress
        )
    report(found, out, console)


def load(model: ModelSettings, console: Terminal) -> Model:
    """The model that the settings name; says where it comes from and what it computes in."""
    from interp.models.model import load_model

    quiet_libraries()
    loaded = load_model(**model.arguments)
    facts = loaded.provenance
    console.print(f"model: {loaded.name} ({loaded.source}), {facts['dtype']} on {facts['device']}", soft_wrap=True)
    return loaded


def report(found: Extraction, out: Path, console: Terminal, each: str = "transcript") -> None:
    """Write the report, and say what was found and what was left out."""
    from interp.activations.corpus import Tokenization
    from interp.reports.findings import beyond_controls
    from interp.reports.page import write_report
    from interp.reports.tables import best_layers_table

    write_report(found, out)
    console.print(best_layers_table(found.directions))
    for line in beyond_controls(found.directions.facts):
        console.print(line)
    for line in Tokenization(**found.directions.facts["tokenization"]).lines:
        console.print(line)
    skipped = found.directions.facts["skipped"]
    for skip in skipped[:20]:
        where = f"{each} {skip['transcript']}" + (f", round {skip['round']}" if skip["round"] else "")
        console.print(f"skipped: {where} ({skip['question'][:40]}): {skip['reason']}")
    if len(skipped) > 20:
        console.print(f"skipped: {len(skipped) - 20} more, all named in {out / 'directions.json'}")
    for name in FILES:
        console.print(f"wrote {out / name}")
