"""What an experiment with probes runs on, as settings. Knows names; loads nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from interp.errors import UserError
from interp.models.layers import parse_layers
from interp.models.settings import Loading
from interp.options import LARGEST_SEED, option

if TYPE_CHECKING:
    from interp.probing.probe import Probe
    from interp.steering.changes import Gate


@dataclass(frozen=True)
class ProbeSettings:
    """Which models read which debates, and what is decoded from them."""

    models: tuple[str, ...] = option((), name="model", shown="the organism at every stage")
    """Model: a preset, hub id, local folder or GGUF file. Repeat for several, the base first."""
    loading: Loading = field(default=Loading())
    transcripts: tuple[str, ...] = option((), shown="the experiment's own set")
    """Debates: a JSON or JSONL file, or an embedded set (scripted, scripted-rotated, organism, organism-rotated,
    organism-evil). Repeat for several."""
    limit: int | None = option(None, min=1)
    """Use only the first N transcripts."""
    task: str | None = option(None, shown="median for its questions, arithmetic for others")
    """Task that was debated; its grader decides which answers are the same."""
    layers: tuple[int, ...] | None = option(None, parse=parse_layers, shown="all")
    """Layers: all, or numbers and ranges such as 0,10-15."""
    subspaces: str | None = option(None, shown="those planted in the first model")
    """Subspaces of the agents to swap, a .safetensors file (interchange)."""
    untrained: bool = True
    """Also read the first model with random weights, as a control."""
    jobs: int | None = option(None, min=1, max=1024, shown="one, or all cores for much data")
    """Processes that fit probes."""
    seeds: tuple[int, ...] = option((0,), name="seed", min=0, max=LARGEST_SEED)
    """Random seed. Repeat for several."""


@dataclass(frozen=True)
class Gating:
    """At which tokens a steering acts, by what a probe says of them."""

    when: Path | None = None
    """Probe, a file of interp probe: steer only tokens where its score is in the limits."""
    when_class: str = option("", shown="second of two")
    """Class whose probability is the score."""
    above: float | None = None
    """Steer where the score of --when is above this."""
    below: float | None = None
    """Steer where the score of --when is below this."""

    def gate(self, load: Callable[[Path], Probe] | None = None) -> Gate | None:
        """Loads the probe. Raises `UserError` unless one is given with one limit, and for one that is not there."""
        from interp.probing.probe import Probe

        limits = [limit for limit in (self.above, self.below) if limit is not None]
        if len(limits) != (self.when is not None) or (self.when is None and self.when_class):
            given = f"when {self.when}, above {self.above}, below {self.below}"
            raise UserError(f"{given}: give --when with --above or --below, or none of them")
        if self.when is None:
            return None
        return (load or Probe.load)(self.when).above(limits[0], self.when_class, below=self.above is None)
