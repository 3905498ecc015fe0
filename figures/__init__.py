"""Figures of what runs wrote, one a file: each reads a folder of results and draws the figure.

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
      calibration.json                interp calibrate --out RESULTS/calibration.jsonl

`ablations.json`, and `directions.json` of a single model, may also lie in RESULTS itself. Each figure needs only
these small files, not the checkpoints, directions or texts. `interp figures RESULTS --out DIR` draws all figures that
there are results for on one page; `python -m figures.NAME RESULTS --out DIR` draws one.

Each name in `SECTIONS` is a module with `draw(folder)`, which returns figures with their captions and raises
`UserError` if the results are missing. To add a figure, add a file and its name here, in the section of the page where
it stands.
"""

SECTIONS = {
    "What it costs": ("token_cost", "training_dynamics", "ablations"),
    "Where agents are": ("agent_directions", "probes", "silent_agents", "recovery", "stepwise", "calibration"),
    "What steering does": ("steerability", "suppression"),
}
NAMES = tuple(name for names in SECTIONS.values() for name in names)
