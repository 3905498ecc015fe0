"""`python -m benchmarks.ship RUN`: copy a finished run's checkpoints and results into the package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from interp.errors import UserError
from interp.models.catalog import SHIPPED
from interp.models.lineage import FILE, read_lineage, write_lineage
from interp.options import alone, verb
from interp.outputs import Made, Writes, says
from interp.storage.journal import read_lines

KEPT = ("sft", "debategpt", "imad")
# Results of a run that figures read, as `make results` makes them, and the metrics that are kept.
RESULTS = (
    *("table.json", "preset.json", "ablations/ablations.json", "directions/*/directions.json", "steerability.json"),
    *("suppression.json", "probes/*.json", "planted/*.json", "calibration.json", "seed-*/metrics.jsonl"),
)
METRICS = (
    *("stage", "step", "loss", "learning_rate", "entropy", "reward", "correctness", "structure", "length", "limit"),
    *("coefficient", "step_time"),
)


def _made(into: Path, given: Mapping[str, Any]) -> Iterator[Made]:
    prefix = f"{given['kind']}-" if given["kind"] else ""
    base, results = into / "base", into / f"{prefix}results"
    yield Made([base], (base / "pretraining.json").is_file)
    yield Made([results], lambda: says(results / "preset.json", '"sft"', '"grpo"'))
    for folder in (into / f"{prefix}{stage}" for stage in KEPT):
        yield Made([folder], (folder / FILE).is_file)


@verb
def ship(
    *,
    run: Annotated[Path, typer.Argument(help="The --out of a finished interp train.")],
    kind: Annotated[Literal["", "evil"], typer.Option(help="evil for the organism whose seat 2 misleads.")] = "",
    into: Annotated[Path, typer.Option(help="Folder to copy to."), Writes(_made)] = SHIPPED["organism"].parent,
) -> None:
    """Copy the first seed's checkpoints, the base if the run trained one, and results. Refuses an unfinished run.

    The lineage of the copies names the base `organism`.
    """
    prefix = f"{kind}-" if kind else ""
    needed = ["table.json", *(f"seed-0/{stage}/{FILE}" for stage in KEPT)]
    if missing := [name for name in needed if not (run / name).exists()]:
        raise UserError(f"{run}: lacks {missing[0]}; give the --out of a finished interp train")
    if (run / "base").exists():
        _replace(run / "base", into / "base")
    for stage in KEPT:
        _replace(run / "seed-0" / stage, into / f"{prefix}{stage}")
        lineage = read_lineage(str(into / f"{prefix}{stage}"))
        assert lineage is not None
        write_lineage(replace(lineage, base=replace(lineage.base, name="organism", folder=None)))
    results = into / f"{prefix}results"
    calibration = results / "calibration.json"  # of the toolkit: of any run
    kept = calibration.read_bytes() if calibration.exists() else None
    shutil.rmtree(results, ignore_errors=True)
    copy_results(run, results, RESULTS)
    if kept and not calibration.exists():
        results.mkdir(parents=True, exist_ok=True)
        calibration.write_bytes(kept)


def copy_results(run: Path, results: Path, patterns: Iterable[str]) -> None:
    """Copy the files of a run that fit the patterns; of metrics, those that are kept."""
    for path in chain.from_iterable(map(run.glob, patterns)):
        copy = results / path.relative_to(run)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            rows = ({name: value for name, value in row.items() if name in METRICS} for row in read_lines(path))
            copy.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        else:
            shutil.copyfile(path, copy)


def _replace(folder: Path, by: Path) -> None:
    shutil.rmtree(by, ignore_errors=True)
    shutil.copytree(folder, by, copy_function=shutil.copyfile)


def main() -> None:
    alone(ship, "benchmarks.ship")


if __name__ == "__main__":
    main()
