"""What the instrument can see where the truth is known: ways of finding an agent's subspace, and uses of it."""

from probes.recovery.experiment import ASKS, DEBATES, MODELS, recovery, run

__all__ = ["ASKS", "DEBATES", "MODELS", "recovery", "run"]
