"""The organism’s own activations, with the roles of its agents shuffled."""

from __future__ import annotations

from collections.abc import Iterator

from probes.calibration.cells import Cell


def cells() -> Iterator[Cell]:
    """The organism."""
    yield from ()
