"""What was simulated as tables in the terminal: a row for each kind of data, then every cell that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from interp.reports.terminal import table
from probes.calibration.cells import HIGHEST, LEVEL, LOWEST, POWER, SLACK
from probes.calibration.run import summary

_CLAIMED = {
    "coverage": f"{LOWEST} to {HIGHEST}",
    "false positives": f"at most {LEVEL}",
    "power": f"{POWER - SLACK:.2f} to {POWER + SLACK:.2f}",
}
_CAPTION = """\
coverage: how often a 95 % interval holds the truth; false positives: how often
anything is shown in a family of tests where nothing is true; power: how often
an effect is shown that is as large as the verdict of a typical data set calls
detectable; ±: largest Monte-Carlo error (95 %) of a cell, which false
positives may add to 0.05; red: cells that are outside of what is claimed"""


def calibration_tables(records: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The summary, and the cells that fail, if any do."""
    made = []
    for measure, claimed in _CLAIMED.items():
        headings = ("", "cells", "lowest", "highest", "±", "claimed", "red")
        caption = _CAPTION if measure == "power" else ""
        made.append(table(measure, caption, headings, left=("", "claimed"), gap=1))
        for one in (each for each in summary(records) if each["measure"] == measure):
            claim = f"at least {claimed.split()[0]}" if one["conservative"] else claimed
            ends = (f"{one[part]:.3f}" for part in ("lowest", "highest", "error"))
            cells, reds = str(one["cells"]), str(one["failing"])
            made[-1].add_row(_name(one), cells, *ends, claim, reds, style="red" if one["failing"] else None)
    if failing := [one for one in records if not one["holds"]]:
        columns = ("", "data", "", "found", "±")
        made.append(table(f"{len(failing)} of {len(records)} cells fail", "", columns, left=columns[:3], gap=1))
        for red in failing:
            cell = ", ".join(f"{name} {value:g}" for name, value in red["setting"].items())
            numbers = (f"{red[part]:.3f}" for part in ("value", "error"))
            made[-1].add_row(red["measure"], _name(red), cell, *numbers, style="red")
    return made


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['what']} ({one['function']})"
