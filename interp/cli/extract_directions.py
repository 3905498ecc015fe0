"""`interp extract-directions`: transcripts in, directions with their evidence out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options
from interp.cli.options import one_of
from interp.debate.embedded import find_transcripts
from interp.reports.terminal import quiet_libraries

_MOST_SKIPPED = 20


def extract_directions(
    model: options.Model = "smollm2-135m",
    adapter: options.Adapter = None,
    transcripts: Annotated[
        str,
        typer.Option(
            help="JSON or JSONL file of debates, or an embedded set: scripted, scripted-rotated, organism, "
            "organism-rotated, organism-evil."
        ),
    ] = "scripted",
    limit: options.Limit = None,
    layers: options.Layers = "all",
    site: Annotated[str, typer.Option(help="Where to read: resid_post, attn_out or mlp_out.")] = "resid_post",
    position: Annotated[
        str, typer.Option(help="Which token of a turn: last, mean (over the turn) or tag (before it speaks).")
    ] = "last",
    by: Annotated[str, typer.Option(help="Contrast the seats (agent) or the characters in them (persona).")] = "agent",
    by_round: Annotated[bool, typer.Option("--by-round", help="Also keep a direction for each round.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for directions.safetensors, .json and report.html.")] = Path("out"),
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    revision: options.Revision = None,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Most tokens read at once; raise it on a GPU.")] = 2048,
    skip_long: Annotated[
        bool, typer.Option("--skip-long", help="Leave out transcripts longer than the model's context.")
    ] = False,
    keep_activations: Annotated[
        bool,
        typer.Option("--keep-activations", help="Keep activations.safetensors: every turn at every layer."),
    ] = False,
    restart: options.Restart = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds, shuffles and resamples.")] = 0,
) -> None:
    """Find each agent's direction in the residual stream, with the evidence for it.

    Every transcript goes through the model once. For each agent and layer the direction is the mean
    difference between its turns and the other agents' in the same question and round; separation and
    reliability on held-out questions say how far to trust it. A killed run goes on when run again.

    Example: `interp extract-directions --transcripts debates.jsonl --layers 10-20 --out found`
    """
    from rich.console import Console

    from interp.activations.reading import POSITIONS
    from interp.directions import extract as extraction
    from interp.models.layers import parse_layers
    from interp.models.model import SITES, load_model
    from interp.reports.page import write_report
    from interp.reports.tables import best_layers_table
    from interp.reports.terminal import progress_bars

    one_of("--site", site, SITES)
    one_of("--position", position, POSITIONS)
    one_of("--by", by, ("agent", "persona"))
    debates = find_transcripts(transcripts)[:limit]
    console = Console(soft_wrap=True, highlight=False)
    quiet_libraries()
    loaded = load_model(model, adapters=adapter or (), revision=revision, dtype=dtype, device=device)
    facts = loaded.provenance
    console.print(f"model: {loaded.name} ({loaded.source}), {facts['dtype']} on {facts['device']}")
    console.print(f"transcripts: {len(debates)} from {transcripts}")
    with progress_bars() as progress:
        found = extraction.extract_directions(
            loaded,
            debates,
            out,
            source=transcripts,
            layers=parse_layers(layers),
            site=site,  # type: ignore[arg-type]  # checked above
            position=position,
            by=by,  # type: ignore[arg-type]
            by_round=by_round,
            batch_tokens=batch_tokens,
            skip_long=skip_long,
            keep_activations=keep_activations,
            restart=restart,
            seed=seed,
            progress=progress,
        )
    write_report(out / "report.html", dict(found.directions.facts), found.projections)
    console.print(best_layers_table(found.directions))
    skipped = found.directions.facts["skipped"]
    for skip in skipped[:_MOST_SKIPPED]:
        where = f"transcript {skip['transcript']}" + (f", round {skip['round']}" if skip["round"] else "")
        console.print(f"skipped: {where} ({skip['question'][:40]}): {skip['reason']}", markup=False)
    if len(skipped) > _MOST_SKIPPED:
        console.print(f"skipped: {len(skipped) - _MOST_SKIPPED} more, all named in {out / 'directions.json'}")
    for name in ("directions.safetensors", "directions.json", "report.html"):
        console.print(f"wrote {out / name}", highlight=False)
