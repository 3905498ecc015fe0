"""One experiment a file: what is decoded, from where, against which control. Nothing in `interp/` imports these.

Each of `NAMES` is a module with `run(setting)`, with what it `ASKS`, and with the `DEBATES` (and `MODELS`) that it
takes when none are given. `python -m probes.NAME` or `interp probe NAME` starts it, `interp probe all` all of them.
The other modules are what they share.
"""

NAMES = ("agent_identity", "silent_agents", "round_and_revision", "truth", "trait")
