"""How much is simulated, as settings. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass

from interp.options import LARGEST_SEED, option


@dataclass(frozen=True)
class CalibrationSettings:
    """How much is simulated, and on how many cores."""

    quick: bool = False
    """Twenty questions only, and fewer data sets: minutes instead of half an hour."""
    jobs: int | None = option(None, min=1, max=1024, shown="all cores")
    """Processes that simulate."""
    seed: int = option(0, min=0, max=LARGEST_SEED)
    """Random seed."""

    @property
    def data_sets(self) -> int:
        """How many each cell gets, unless it costs much."""
        return 1000 if self.quick else 2000
