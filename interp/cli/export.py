"""`interp export-gguf` and `interp export-model`: results for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.errors import UserError
from interp.models.settings import Dtype
from interp.options import verb
from interp.outputs import Made, Writes, says
from interp.reports.terminal import Terminal, quiet_libraries

CONTROL_VECTOR = Writes(lambda out, _: [Made([out], lambda: says(out, "GGUF", "controlvector.made_by"))], folder=False)


@verb
def export_gguf(
    *,
    directions: Annotated[Path, typer.Argument(help="A directions.safetensors file.")],
    direction_of: Annotated[str, typer.Option(help="Agent, by seat (2) or label, whose direction to use.")],
    out: Annotated[Path, typer.Option(help="GGUF file to write."), CONTROL_VECTOR],
    model_type: Annotated[
        str | None, typer.Option(help="Architecture that llama.cpp should expect.", show_default="the model's own")
    ] = None,
) -> None:
    """Write an agent's directions as a control vector that llama.cpp and repeng load.

    Example: `interp export-gguf found/directions.safetensors --direction-of 2 --out agent2.gguf`
    """
    from interp.directions.directions import Directions

    loaded = Directions.load(directions)
    architecture = model_type or loaded.facts.get("provenance", {}).get("model", {}).get("model_type")
    if architecture is None:
        raise UserError(f"{directions}: does not say which architecture it was extracted from; give --model-type")
    layers = loaded.export_gguf(out, direction_of, model_type=architecture)
    label = loaded[direction_of, layers[0]].label
    where = f"{label} at layers {layers[0]} to {layers[-1]} (such files have no place for layer 0)"
    Terminal(soft_wrap=True).print(f"wrote {out}: {where}")


@verb
def export_model(
    *,
    checkpoint: Annotated[str, typer.Argument(help="A training checkpoint.")],
    out: Annotated[Path, typer.Option(help="Folder to write."), Writes(lambda out, _: [Made([out])])],
    dtype: Annotated[Dtype, typer.Option(help="Precision of the weights written.")] = "bf16",
) -> None:
    """Write a checkpoint with its stages merged, as an ordinary folder for other tools.

    Example: `interp export-model out/smollm2/seed-0/imad --out merged`
    """
    from interp.models.loading import export_merged

    quiet_libraries()
    export_merged(checkpoint, out, dtype)
    Terminal(soft_wrap=True).print(f"wrote {out}")
