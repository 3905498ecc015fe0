"""`python -m interp.organism.ship RUN`: copy a finished run's checkpoints and results into the package."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import typer

from interp.errors import UserError
from interp.models.catalog import SHIPPED
from interp.models.lineage import FILE, read_lineage, write_lineage
from interp.storage.journal import read_lines

KEPT = ("sft", "debategpt", "imad")
RESULTS = "results"
SUMMARIES = (
    *("table.json", "preset.json", "ablations/ablations.json", "directions/*/directions.json"),
    *("steerability.json", "suppression.json", "probes/*.json"),
)
"""Results of a run that figures read; `make results` makes them."""
METRICS = (
    *("stage", "step", "loss", "learning_rate", "entropy", "reward"),
    *("correctness", "structure", "length", "limit", "coefficient", "step_time"),
)
"""The metrics that are kept."""


def ship(run: Path, kind: Literal["", "evil"] = "", into: Path = SHIPPED["organism"].parent) -> None:
    """Copy the first seed's checkpoints of a run, its base if it trained one, its metrics and its results.

    `kind` is evil for the organism whose seat 2 misleads. The lineage of the copies names the base `organism`.
    Raises `UserError` for an unfinished run.
    """
    prefix = f"{kind}-" if kind else ""
    needed = [run / "table.json", *(run / "seed-0" / stage / FILE for stage in KEPT)]
    if missing := [path for path in needed if not path.exists()]:
        raise UserError(f"{run}: lacks {missing[0].relative_to(run)}; give the --out of a finished interp train")
    if (run / "base").exists():
        _replace(run / "base", into / "base")
    for stage in KEPT:
        _replace(run / "seed-0" / stage, into / f"{prefix}{stage}")
        lineage = read_lineage(str(into / f"{prefix}{stage}"))
        assert lineage is not None
        write_lineage(replace(lineage, base=replace(lineage.base, name="organism", folder=None)))
    results = into / f"{prefix}{RESULTS}"
    shutil.rmtree(results, ignore_errors=True)
    for path in (path for pattern in (*SUMMARIES, "seed-*/metrics.jsonl") for path in run.glob(pattern)):
        copy = results / path.relative_to(run)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            shutil.copyfile(path, copy)
        else:
            rows = ({name: value for name, value in row.items() if name in METRICS} for row in read_lines(path))
            copy.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _replace(folder: Path, by: Path) -> None:
    shutil.rmtree(by, ignore_errors=True)
    shutil.copytree(folder, by, copy_function=shutil.copyfile)


if __name__ == "__main__":
    try:
        typer.run(ship)
    except UserError as error:
        sys.exit(f"error: {error}")
