"""Directions and models for other tools, and directions from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from interp.cli.sweep import tell_taken_for
from interp.directions.settings import ForeignSite, Format
from interp.models.layers import parse_layers
from interp.models.settings import Dtype
from interp.options import DIRECTIONS, WHOSE, verb
from interp.outputs import Made, Writes, says
from interp.reports.terminal import Terminal, quiet_libraries

OURS = ("interp.exported", "interp.directions/1")  # what is in the files that they may replace
FILE = Writes(lambda out, _: [Made([out], lambda: any(says(out, word) for word in OURS))], folder=False)


@verb
def import_directions(
    *,
    directions: Annotated[Path, Argument(help=DIRECTIONS)],
    layers: Annotated[str | None, Option(help="Layers: all, or numbers and ranges such as 0,10-15.")] = None,
    site: Annotated[
        ForeignSite | None,
        Option(help="Hook point of its layers; hidden_states: row 0 is the embedding, row 1 layer 0's output."),
    ] = None,
    label: Annotated[str | None, Option(help="What the direction is of.", show_default="as the file says")] = None,
    out: Annotated[Path, Option(help="Safetensors file to write."), FILE] = Path("directions.safetensors"),
) -> None:
    """Keep another tool's vectors as a file of this package, and say of them what their own file does not.

    Example: `interp import-directions vectors.pt --layers 0-29 --site resid_post --label honest`
    """
    from interp.directions.directions import Directions

    chosen = None if layers is None else parse_layers(layers)
    loaded = Directions.load(directions, layers=chosen, site=site, label=label)
    console = Terminal(soft_wrap=True)
    tell_taken_for(console, {directions: loaded})
    loaded.save(out)
    console.print(f"wrote {out}")


@verb
def export_directions(
    *,
    directions: Annotated[Path, Argument(help=DIRECTIONS)],
    direction_of: Annotated[str | None, Option(help=f"{WHOSE}.", show_default="the file's only label")] = None,
    layers: Annotated[str, Option(help="Layers: all, or numbers and ranges such as 0,10-15.")] = "all",
    format: Annotated[
        Format | None, Option(help="Whose file to write.", show_default="as the name of --out ends")
    ] = None,
    out: Annotated[Path, Option(help="File to write: .gguf, .safetensors or .pt."), FILE],
    model_type: Annotated[
        str | None, Option(help="Architecture that llama.cpp should expect.", show_default="the model's own")
    ] = None,
) -> None:
    """Write an agent's directions for llama.cpp, repeng, saklas (.gguf), steering-vectors and others (.pt).

    Example: `interp export-directions found/directions.safetensors --direction-of 2 --out agent2.gguf`
    """
    from interp.directions.directions import Directions

    loaded, console = Directions.load(directions), Terminal(soft_wrap=True)
    tell_taken_for(console, {directions: loaded})
    kept = loaded.export(out, direction_of, format=format, layers=parse_layers(layers), model_type=model_type)
    label = loaded[direction_of or loaded.labels[0], kept[0]].label
    lacks = " (such files have no place for layer 0)" if 0 in loaded.layers and 0 not in kept else ""
    where = f"layers {kept[0]} to {kept[-1]}" if len(kept) > 1 else f"layer {kept[0]}"
    console.print(f"wrote {out}: {label} at {where}{lacks}")


@verb
def export_model(
    *,
    checkpoint: Annotated[str, Argument(help="A training checkpoint.")],
    out: Annotated[Path, Option(help="Folder to write."), Writes(lambda out, _: [Made([out])])],
    steer: Annotated[
        str | None,
        Option(help="Steering to write into the weights, as JSON or a file of it; ablate or add, at every token."),
    ] = None,
    dtype: Annotated[Dtype, Option(help="Precision of the weights written.")] = "bf16",
) -> None:
    """Write a checkpoint with its stages merged, as an ordinary folder for other tools; steered, if asked for.

    Examples: `interp export-model out/smollm2/seed-0/imad --out merged`; `interp export-model smollm2-135m --steer
    '{"directions": "evil.gguf", "layers": [12], "operation": "ablate"}' --out without-evil`
    """
    from interp.interventions.baking import Baked, export_steered
    from interp.models.loading import export_merged

    quiet_libraries()
    if steer is None:
        export_merged(checkpoint, out, dtype)
        done = ""
    else:
        done = f", with {export_steered(checkpoint, out, Baked.read(steer), dtype)} in its weights"
    Terminal(soft_wrap=True).print(f"wrote {out}{done}")
