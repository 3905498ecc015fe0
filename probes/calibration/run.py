"""Simulating the grid: a record for each cell, appended as it is done. Knows nothing about what a cell is of."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count, delayed

from interp.errors import Progress
from interp.probing.decoding import in_parallel
from interp.storage.journal import Journal
from probes.calibration import intervals, models, organism, steering, verdicts
from probes.calibration.cells import SIZES, Cell
from probes.calibration.settings import CalibrationSettings

AT_A_TIME = 24
"""Cells that a process gets before they are written."""
FEWEST = 1000
"""Data sets of a cell of the full grid, however much it costs."""


def grid(settings: CalibrationSettings) -> Iterator[Cell]:
    """All cells; with `quick`, those of two sizes."""
    sizes = (SIZES[1],) if settings.quick else SIZES
    for cell in chain(*(room.cells() for room in (intervals, verdicts, steering, models, organism))):
        if cell.setting.get("questions", sizes[0]) in sizes or "questions" not in cell.setting:
            yield cell


def calibrate(
    out: Path, settings: CalibrationSettings, *, restart: bool = False, progress: Progress = lambda *_: None
) -> list[dict[str, Any]]:
    """Simulate all cells; returns their records, which are in OUT and, with a summary, in the JSON file beside it.

    A killed run goes on where it was. Raises `UserError` if OUT was made with other settings.
    """
    cells, jobs = list(grid(settings)), settings.jobs or cpu_count()
    decide = {name: value for name, value in asdict(settings).items() if name != "jobs"}
    journal = Journal(out, {"calibration": decide}, restart=restart)

    def write(some: Sequence[Cell]) -> list[dict[str, Any]]:
        return in_parallel([delayed(record)(cell, settings) for cell in some], 0, jobs)

    def tell(done: int, of: int) -> None:
        progress("simulating", done, of)

    records: list[dict[str, Any]] = []
    journal.extend(records, cells, write, chunk=AT_A_TIME * jobs, place=Cell.place, tell=tell)
    journal.finish({"summary": summary(records), "cells": records})
    return records


def record(cell: Cell, settings: CalibrationSettings) -> dict[str, Any]:
    """Simulate a cell: its place, the rate with its error, from how many data sets, and whether it is as claimed."""
    place = cell.place()
    name = zlib.crc32(json.dumps(place, sort_keys=True).encode())
    data_sets = settings.data_sets // cell.costs
    data_sets = max(data_sets, 50 if settings.quick else FEWEST)
    rate = cell.simulate(np.random.default_rng([settings.seed, name]), data_sets)
    found = {"value": round(rate.value, 5), "error": round(rate.error, 5), "data_sets": rate.data_sets}
    return place | found | {"holds": cell.holds(rate)}


def summary(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each kind of data, function and measure: how many cells, their range and largest error, how many fail."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for one in records:
        groups.setdefault((one["measure"], one["function"], one["what"]), []).append(one)
    return [
        {
            **dict(zip(("measure", "function", "what"), place, strict=True)),
            "conservative": rows[0]["conservative"],
            "cells": len(rows),
            "lowest": min(row["value"] for row in rows),
            "highest": max(row["value"] for row in rows),
            "error": max(row["error"] for row in rows),
            "failing": sum(not row["holds"] for row in rows),
        }
        for place, rows in sorted(groups.items())
    ]
