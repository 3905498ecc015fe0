"""`interp calibrate`, and `python -m probes.calibration` for the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from interp.options import RECORDS, Restart, alone, verb
from interp.outputs import Writes, records
from probes.calibration.settings import CalibrationSettings

WRITES = Writes(lambda out, _: [records(out, '"calibration"')], folder=False)


@verb
def calibrate(
    settings: CalibrationSettings,
    out: Annotated[Path, RECORDS, WRITES] = Path("calibration.jsonl"),
    restart: Restart = False,
) -> None:
    """Check every interval and verdict of the toolkit on data of known truth: coverage, false positives, power.

    A killed run resumes where it stopped.

    Example: `interp calibrate --quick --out calibration.jsonl`
    """
    from interp.reports.terminal import Terminal, progress_bars, quiet_libraries
    from probes.calibration.run import calibrate
    from probes.calibration.table import calibration_tables

    quiet_libraries()
    with progress_bars() as progress:
        found = calibrate(out, settings, restart=restart, progress=progress)
    console = Terminal()
    console.print(*calibration_tables(found), sep="\n")
    console.print(f"wrote {out} and {out.with_suffix('.json')}", soft_wrap=True)


def main() -> None:
    """The command line of the calibration."""
    alone(calibrate, "probes.calibration")
