"""`interp export-model`: a checkpoint for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.quiet import quiet_libraries


def export_model(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of training.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "bf16",
) -> None:
    """Write a checkpoint with its stages merged, as an ordinary folder for other tools.

    Example: `interp export-model out/smollm2/seed-0/imad --out merged`
    """
    from interp.lineage import export_merged

    quiet_libraries()
    export_merged(checkpoint, out, dtype)
    typer.echo(f"wrote {out}")
