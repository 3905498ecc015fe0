"""Separation and probes on synthetic activations, noise or planted."""

from __future__ import annotations

from collections.abc import Iterator

from probes.calibration.cells import Cell


def cells() -> Iterator[Cell]:
    """Separation and probes over the grid."""
    yield from ()
