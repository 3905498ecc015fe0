"""Are the agents still there while an internalized model answers directly? The experiment and what it is made of."""

from probes.silent_agents.experiment import ASKS, DEBATES, run, silent_agents

__all__ = ["ASKS", "DEBATES", "run", "silent_agents"]
