"""One experiment per file: what is decoded, from where, against which control. Nothing in `interp/` imports these.

Each of `NAMES` is a module with `run(setting)`, the question it `ASKS`, and its default `DEBATES` and, if it has its
own, `MODELS`. `interp probe NAME` and `python -m probes.NAME` run it; `interp probe all` runs `SURVEYS`.
"""

SURVEYS = ("agent_identity", "silent_agents", "round_and_revision", "truth", "trait")
"""What `all` runs: what is decoded from debates."""
NAMES = (*SURVEYS, "interchange", "recovery", "stepwise")
ALL = "all"
