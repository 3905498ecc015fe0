"""`interp sweep`: held-out transcripts in, how far each agent can be turned up out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options
from interp.cli.options import numbers
from interp.debate.embedded import find_transcripts
from interp.errors import UserError
from interp.reports.terminal import quiet_libraries


def sweep(
    directions: Annotated[list[Path], typer.Option(help="A directions.safetensors file; repeat for several.")],
    transcripts: Annotated[str, typer.Option(help="Debates over held-out questions, as in extract-directions.")],
    layers: Annotated[str, typer.Option(help="Numbers and ranges such as 15-20.")],
    coefficients: options.Coefficients = "-0.4,-0.2,-0.1,0.1,0.2,0.4",
    model: Annotated[
        list[str] | None,
        typer.Option(help="As elsewhere; repeat for several, the base first. Each is steered with its own files."),
    ] = None,
    adapter: options.Adapter = None,
    foreign: options.Foreign = False,
    agent: Annotated[list[str] | None, typer.Option(help="A seat or label; repeat for several; else all.")] = None,
    units: options.Units = "residual",
    at: options.At = "generated",
    turns_of: options.TurnsOf = None,
    context: Annotated[
        list[str] | None,
        typer.Option(help="turn: go on from an agent's tag; question: from the bare question. Repeat; else both."),
    ] = None,
    random: options.Random = 1,
    fit_classifier_on: Annotated[
        str | None, typer.Option(help="Other debates, to fit a classifier of agents on.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Of the questions: also say which answers are right, and how perplexing.")
    ] = None,
    limit: options.Limit = None,
    max_new_tokens: options.LongestText = 96,
    temperature: options.TextTemperature = 0.0,
    top_p: options.TextTopP = 0.9,
    batch_size: options.TextBatch = 32,
    out: options.TextsOut = Path("sweep.jsonl"),
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    revision: options.Revision = None,
    seed: options.TextSeed = 0,
    restart: options.Restart = False,
) -> None:
    """Measure how far each agent can be turned up: steered texts against the agent's own words.

    Every text is kept with its scores; the table has the normalised areas beside their controls. Questions
    that the directions were fitted on are left out. A killed run goes on when run again.

    Example: `interp sweep --directions found/directions.safetensors --transcripts held-out.jsonl --layers 15-20`
    """
    from rich.console import Console

    from interp.debate.agents import Sampling
    from interp.debate.tasks import make_task
    from interp.directions.directions import Directions, label_of_agent
    from interp.evaluation.texts import PersonaClassifier
    from interp.interventions import sweeps
    from interp.models.layers import parse_layers
    from interp.models.lazy import LazyModel
    from interp.reports.intervention_tables import count_lines, gains_table, steerability_table
    from interp.reports.terminal import progress_bars

    names = model or ["smollm2-135m"]
    if adapter and len(names) > 1:
        raise UserError(f"adapter {adapter[0]}: goes on one model, and {len(names)} are given; give checkpoints")
    chosen = numbers("--coefficients", coefficients)
    found = {str(path): Directions.load(path) for path in directions}
    debates = find_transcripts(transcripts)[:limit]
    console = Console(highlight=False)
    classifier = None if fit_classifier_on is None else PersonaClassifier().fit(find_transcripts(fit_classifier_on))
    quiet_libraries()
    how: dict[str, Any] = {"adapters": adapter or (), "revision": revision, "dtype": dtype, "device": device}
    waiting = [LazyModel.named(name, **how) for name in names]
    settings = sweeps.Settings(
        chosen,
        parse_layers(layers) or (),
        units,
        turns_of or at,
        tuple(context or sweeps.CONTEXTS),
        tuple(map(label_of_agent, agent or ())),
        random,
        Sampling(max_new_tokens, temperature, top_p, seed),
    )
    with progress_bars() as progress:
        swept = sweeps.sweep(
            out,
            waiting,
            found,
            debates,
            settings,
            foreign=foreign,
            task=None if task is None else make_task(task),
            base=None if task is None else waiting[0],
            classifier=classifier,
            batch_size=batch_size,
            restart=restart,
            progress=progress,
        )
    console.print(steerability_table(swept.curves, swept.advantages))
    if swept.gains:
        console.print(gains_table(swept.gains))
    for line in count_lines(swept.counts):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"wrote {out}", markup=False, soft_wrap=True)
