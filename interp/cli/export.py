"""`interp export-gguf`: directions for llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli.options import one_of
from interp.errors import UserError
from interp.reports.terminal import quiet_libraries


def export_gguf(
    directions: Annotated[Path, typer.Argument(help="A directions.safetensors file.")],
    label: Annotated[str, typer.Option(help="Whose direction, as the file names it: 'agent 2', or a persona.")],
    out: Annotated[Path, typer.Option(help="The GGUF file to write.")],
    model_type: Annotated[
        str | None, typer.Option(help="Architecture that llama.cpp should expect; else the model's own.")
    ] = None,
) -> None:
    """Write an agent's directions as a control vector that llama.cpp and repeng load.

    Example: `interp export-gguf found/directions.safetensors --label "agent 2" --out agent2.gguf`
    """
    from interp.directions.directions import Directions

    loaded = Directions.load(directions)
    one_of("--label", label, loaded.labels)
    architecture = model_type or loaded.facts.get("provenance", {}).get("model", {}).get("model_type")
    if architecture is None:
        raise UserError(f"{directions}: does not say which architecture it was extracted from; give --model-type")
    layers = loaded.export_gguf(out, label, model_type=architecture)
    typer.echo(f"wrote {out}: {label} at layers {layers[0]} to {layers[-1]} (such files have no place for layer 0)")


def export_model(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of training.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "bf16",
) -> None:
    """Write a checkpoint with its stages merged, as an ordinary folder for other tools.

    Example: `interp export-model out/smollm2/seed-0/imad --out merged`
    """
    from interp.models.export import export_merged

    quiet_libraries()
    export_merged(checkpoint, out, dtype)
    typer.echo(f"wrote {out}")
