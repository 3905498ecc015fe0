"""Figures of what runs left behind, one a file: each reads a folder of results and writes the figure.

A folder of results is laid out as the commands write it:

    RESULTS/
      table.json                      interp train --out RESULTS
      preset.json                       the same
      seed-K/metrics.jsonl              the same
      ablations/ablations.json        python -m benchmarks.ablations RUN --out RESULTS/ablations
      directions/NAME/directions.json interp extract-directions --model NAME --out RESULTS/directions/NAME
      steerability.json               interp sweep --out RESULTS/steerability.jsonl
      suppression.json                interp suppress --out RESULTS/suppression.jsonl
      probes/NAME.json                interp probe NAME --out RESULTS/probes

(`ablations.json`, and of a single model `directions.json`, may also lie in RESULTS itself.) Nothing else in it is
read, and no figure needs more than its own files, which are small: directions, texts and checkpoints beside them can
stay where they were made. `interp figures RESULTS --out DIR` makes all figures that there are results for, and one
page with all of them; `python -m figures.NAME RESULTS --out DIR` makes one.

Each of `NAMES` is a module with `draw(folder)`, which returns figures with their captions and raises `UserError`
where the results are missing. A new figure is a new file and its name here.
"""

NAMES = (
    "token_cost",
    "training_dynamics",
    "ablations",
    "agent_directions",
    "steerability",
    "suppression",
    "probes",
    "silent_agents",
)
