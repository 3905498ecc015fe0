"""Is a debate that a model needed until the end still in there as it answers? The experiment and what it is made of."""

from probes.stepwise.experiment import ASKS, DEBATES, MODELS, run, stepwise

__all__ = ["ASKS", "DEBATES", "MODELS", "run", "stepwise"]
