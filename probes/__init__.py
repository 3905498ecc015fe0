"""One experiment a file: what is decoded, from where, against which control. Nothing in `interp/` imports these.

Each of `NAMES` is a module with `run(setting)` and `ASKS`, started by `python -m probes.NAME` or `interp probe
NAME`. The other modules are what they share.
"""

NAMES = ("agent_identity", "silent_agents", "round_and_revision", "truth", "trait")
