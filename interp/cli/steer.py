"""`interp steer`: prompts in, answers without and with steering out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Option

from interp.cli.sweep import OtherModel, TextsAtATime
from interp.debate.agents import Sampling
from interp.errors import UserError
from interp.models.settings import ModelSettings
from interp.options import RECORDS, Restart, verb
from interp.outputs import Writes, records
from interp.reports.terminal import Terminal, progress_bars, quiet_libraries
from interp.steering.settings import SteeringSettings

WRITES = Writes(lambda out, _: [records(out, '"steering"')], folder=False)


@verb
def steer(
    *,
    directions: Annotated[Path, Option(help="Directions: a directions.safetensors file.")],
    prompt: Annotated[list[str] | None, Option(help="Prompt to answer; repeat for several.")] = None,
    prompts: Annotated[Path | None, Option(help="File of prompts: one per line, or JSONL.")] = None,
    direction_of: Annotated[
        list[str], Option(help="Agent, by seat (2) or label, whose direction to use; repeat for several.")
    ] = ["1"],  # noqa: B006 - Typer copies it
    settings: SteeringSettings,
    other_model: OtherModel = False,
    form: Annotated[
        Literal["chat", "problem", "text"],
        Option(help="Give the prompt as a chat message, as the problem of a transcript, or as bare text."),
    ] = "chat",
    model: ModelSettings,
    sampling: Sampling = Sampling(128, 0.0),  # noqa: B008 - frozen
    batch_size: TextsAtATime = 32,
    out: Annotated[Path | None, RECORDS, WRITES] = None,
    restart: Restart = False,
) -> None:
    """Answer prompts without and with an agent turned up or down, side by side.

    Examples: `interp steer --directions found/directions.safetensors --direction-of 2 --layers 12
    --prompt "What is 12*7+5?"`; two agents: `--direction-of 1 --direction-of 3 --coefficients 0.2,-0.2`
    """
    from interp.directions.directions import Directions, require_made_on
    from interp.interventions.steer import make_steering, read_prompts, side_by_side
    from interp.models.model import load_model
    from interp.reports.intervention_tables import pair_table

    if (prompt is None) == (prompts is None):
        raise UserError("prompts: give them with --prompt, or in a file with --prompts")
    asked = prompt or read_prompts(prompts or "")
    found = Directions.load(directions)
    console = Terminal()
    quiet_libraries()
    loaded = load_model(**model.arguments)
    console.print(f"model: {loaded.name} ({loaded.source})", soft_wrap=True)
    if not other_model:
        require_made_on(found, loaded, directions)
    steering = make_steering(found, direction_of, settings, loaded)
    how: dict[str, Any] = {"form": form, "sampling": sampling, "batch_size": batch_size, "out": out}
    with progress_bars() as progress:
        pairs = side_by_side(loaded, asked, steering, restart=restart, progress=progress, **how)
    for pair in pairs:
        console.print(pair_table(pair, steering.summary))
    if all(pair.steered == pair.unsteered for pair in pairs):
        hint = "the layer that best separates the agents is usually not where steering works best"
        nothing = f"steering changed nothing: try a larger coefficient, or --layers in the middle of the model ({hint})"
        console.print(nothing, soft_wrap=True)
    for note in loaded.notes:
        console.print(f"{loaded.name}: {note}", soft_wrap=True)
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True)
