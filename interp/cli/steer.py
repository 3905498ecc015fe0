"""`interp steer`: prompts in, answers without and with steering out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options
from interp.cli.options import one_of
from interp.errors import UserError
from interp.reports.terminal import quiet_libraries


def steer(
    directions: Annotated[Path, typer.Option(help="A directions.safetensors file.")],
    prompt: Annotated[list[str] | None, typer.Option(help="What to answer; repeat for several.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of prompts: one a line, or JSONL.")] = None,
    agent: Annotated[list[str] | None, typer.Option(help="A seat (2) or a label; repeat for several; 1.")] = None,
    coefficient: Annotated[
        list[float] | None, typer.Option(help="How much of it, below 0 to subtract; one, or one for each agent; 0.2.")
    ] = None,
    units: Annotated[
        str,
        typer.Option(help="Of coefficients: unit (vectors), raw (mean difference), residual (mean length there)."),
    ] = "residual",
    layer: Annotated[str | None, typer.Option(help="Where: 16, or 10-12,20; else the best in the file.")] = None,
    at: Annotated[
        str,
        typer.Option(
            help="Which tokens: generated, writing (the prompt's last one too), prompt, everywhere or after-first."
        ),
    ] = "generated",
    turns_of: options.TurnsOf = None,
    do: Annotated[
        str, typer.Option(help="add; ablate: take the directions out; clamp: set the projection to the coefficient.")
    ] = "add",
    form: Annotated[
        str, typer.Option(help="The prompt is a chat message, a problem (as transcripts open) or plain text.")
    ] = "chat",
    model: options.Model = "smollm2-135m",
    adapter: options.Adapter = None,
    foreign: Annotated[bool, typer.Option("--foreign", help="The directions may be another model's.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    temperature: options.TextTemperature = 0.0,
    top_p: options.TextTopP = 0.9,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts answered at a time.")] = 16,
    out: Annotated[Path | None, typer.Option(help="JSONL file for the answers; what made them goes beside it.")] = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    revision: options.Revision = None,
    seed: options.TextSeed = 0,
    restart: options.Restart = False,
) -> None:
    """Answer prompts without and with an agent turned up or down, side by side.

    Examples: `interp steer --directions found/directions.safetensors --agent 2 --units residual --coefficient 0.2
    --layer 12 --prompt "What is 12*7+5?"`; two agents: `--agent 1 --agent 3 --coefficient 0.2 --coefficient=-0.2`
    """
    from rich.console import Console

    from interp.debate.agents import Sampling
    from interp.directions.directions import Directions, require_made_on
    from interp.interventions.steer import FORMS, make_steering, read_prompts, side_by_side
    from interp.models.layers import parse_layers
    from interp.models.model import load_model
    from interp.reports.intervention_tables import pair_table
    from interp.reports.terminal import progress_bars
    from interp.steering.changes import TOKENS
    from interp.steering.steering import OPERATIONS, UNITS

    one_of("--units", units, UNITS)
    one_of("--at", at, TOKENS)
    one_of("--do", do, OPERATIONS)
    one_of("--form", form, FORMS)
    if (prompt is None) == (prompts is None):
        raise UserError("give prompts either by --prompt, repeated for several, or in a file by --prompts")
    asked = prompt or read_prompts(prompts or "")
    sampling = Sampling(max_new_tokens, temperature, top_p, seed)
    found = Directions.load(directions)
    console = Console(highlight=False)
    quiet_libraries()
    loaded = load_model(model, adapters=adapter or (), revision=revision, dtype=dtype, device=device)
    console.print(f"model: {loaded.name} ({loaded.source})", soft_wrap=True)
    if not foreign:
        require_made_on(found, loaded, directions)
    agents, coefficients = agent or ["1"], coefficient or [0.2]
    steering = make_steering(
        found,
        agents,
        coefficients,
        layers=() if layer is None else loaded.chosen_layers(parse_layers(layer)),
        units=units,
        tokens=turns_of or at,
        operation=do,
        model=loaded,
    )
    with progress_bars() as progress:
        pairs = side_by_side(
            loaded,
            asked,
            steering,
            form=form,  # type: ignore[arg-type]  # checked above
            sampling=sampling,
            batch_size=batch_size,
            out=out,
            restart=restart,
            progress=progress,
        )
    for pair in pairs:
        console.print(pair_table(pair, steering.summary))
    if all(pair.steered == pair.unsteered for pair in pairs):
        console.print(
            "steering changed nothing: try --units residual --coefficient 0.2 and more, and a --layer in the middle of "
            "the model (the one that separates best is not the one that steers best)",
            soft_wrap=True,
        )
    if out is not None:
        console.print(f"wrote {out}", markup=False, soft_wrap=True)
