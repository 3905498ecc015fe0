"""How a debate moves inside while training: `python -m figures.training_dynamics RESULTS --out DIR`.

RESULTS is the folder of `interp train`, or of one seed of it: its metrics are read, nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from figures.results import main
from interp.debate.transcript import all_tags
from interp.errors import UserError
from interp.reports.drawn import Drawn
from interp.reports.panels import Place, finished, panels
from interp.reports.style import CONTROL_COLOUR, fade, model_looks
from interp.storage.journal import read_lines
from interp.training.presets import PRESET_FILE, kept_preset
from interp.training.rewards import structure
from interp.training.settings import Preset

Rows = Sequence[Mapping[str, Any]]
"""The rows of a `metrics.jsonl`."""

_STAGE_1, _STAGE_2 = (model_looks(["base", stage])[stage].colour for stage in ("sft", "imad"))
_TITLES = ("A  stage 1: loss", "B  stage 2: length", "C  stage 2: structure", "D  stage 2: right answers")
_A, _B, _C, _D = (1, 1), (1, 2), (2, 1), (2, 2)
_TOKENS = [round(k * 10**n) for n in range(5) for k in (1, 2, 5)]
_WINDOWS = 20  # a running mean is over this part of a stage's batches


def training_dynamics(by_seed: Mapping[int, Rows], preset: Preset | None = None) -> go.Figure:
    """Loss of stage 1; limit and mean length, structure reward and coefficient, correctness of stage 2, over steps.

    `by_seed` has the metrics of each seed; each is drawn, with a faint point for every logged batch and a
    strong line for the running mean. With `preset` the structure reward that a whole debate would earn is
    drawn beside that which was earned. Raises `UserError` where a seed has no step of stage 2.
    """
    y = ("nats a token", "tokens", "reward", "")
    figure = panels(2, 2, x="step", y=y, titles=_TITLES, height=140, same_x=False, same_y=False)
    for index, (seed, rows) in enumerate(by_seed.items()):
        first, second = _logged(rows, "sft", "loss"), _logged(rows, "imad", "limit")
        if not second:
            raise UserError(f"seed {seed}: its metrics have no step of stage 2 yet; let interp train go on")
        draw = _Draw(figure, seed, legend=index == 0)
        draw.measured(_A, first, "loss", "loss", _STAGE_1)
        draw.level(_B, second, "limit", [row["limit"] for row in second], "solid")
        draw.measured(_B, second, "length", "mean length", _STAGE_2)
        draw.level(_C, second, "coefficient", [row["coefficient"] for row in second], "dash")
        if preset is not None and preset.grpo.use_structure:
            tags = all_tags(preset.agents, preset.rounds)
            whole = [structure("".join(tags), tags, row["coefficient"]) for row in second]
            draw.level(_C, second, "a whole debate’s reward", whole, "dot")
        draw.measured(_C, second, "structure", "earned", _STAGE_2)
        draw.measured(_D, second, "correctness", "right answers", _STAGE_2)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(type="log", tickvals=_TOKENS, rangemode="normal", row=1, col=2)
    figure.update_yaxes(tickformat=".0%", row=2, col=2)
    return finished(figure)


def caption(by_seed: Mapping[int, Rows], preset: Preset | None = None) -> str:
    """What the figure shows, and of how much."""
    seeds = list(by_seed)
    logged = [_logged(rows, "imad", "limit") for rows in by_seed.values()]
    losses = [len(_logged(rows, "sft", "loss")) for rows in by_seed.values()]
    name = f" of {preset.name}" if preset else ""
    each = f", {preset.grpo.batch_size} completions each" if preset else ""
    whose = f"seeds {', '.join(map(str, seeds))}, drawn one over the other" if len(seeds) > 1 else f"seed {seeds[0]}"
    n = " + ".join(f"{len(rows):,}" for rows in logged)
    marks = " + ".join(f"{count:,}" for count in losses)
    whole = ", and that which a whole debate would earn" if preset and preset.grpo.use_structure else ""
    return (
        f"Training dynamics{name} ({whose}) over optimizer steps. A: loss on the debates in stage 1, in nats a token, "
        f"n = {marks} optimizer steps. B, C, D: stage 2, n = {n} batches{each}. B: the limit past which nothing "
        "counts, and the mean length of the completions before they are cut, in tokens; both on a logarithmic axis. "
        f"C: the structure reward that completions earned for their tags inside the limit{whole}; the coefficient "
        "multiplies the rewards of all tags but consensus and end. D: the share of completions with the right answer "
        "inside the limit, sampled on training questions. Points are single batches, lines their means over "
        f"{_window(len(logged[0]))} neighbouring ones in stage 2."
    )


def _logged(rows: Rows, stage: str, what: str) -> Rows:
    """The steps of a stage of which something was logged."""
    return [row for row in rows if row.get("stage") == stage and what in row]


def read_run(folder: Path) -> tuple[dict[int, list[dict[str, Any]]], Preset | None]:
    """The metrics of each seed of a run, and its settings where they lie beside it.

    Raises `UserError` for a folder without metrics.
    """
    named = {path.parent.name.removeprefix("seed-"): path for path in folder.glob("seed-*/metrics.jsonl")}
    places = {int(number): path for number, path in named.items() if number.isdecimal()}
    if not places and (folder / "metrics.jsonl").exists():
        number = folder.name.removeprefix("seed-")
        places = {int(number) if number.isdecimal() else 0: folder / "metrics.jsonl"}
    if not places:
        raise UserError(f"{folder}: holds no metrics.jsonl, nor seeds with one; give the --out of interp train")
    preset = next((kept_preset(at) for at in (folder, folder.parent) if (at / PRESET_FILE).exists()), None)
    return {seed: read_lines(places[seed]) for seed in sorted(places)}, preset


class _Draw:
    """Puts the lines of one seed into the panels."""

    def __init__(self, figure: go.Figure, seed: int, *, legend: bool) -> None:
        self.figure, self.seed, self.legend = figure, seed, legend

    def measured(self, place: Place, rows: Rows, key: str, name: str, colour: str) -> None:
        """Single batches, faint, and their running mean."""
        steps, values = [row["step"] for row in rows], [row[key] for row in rows]
        point = {"color": fade(colour, 0.25), "size": 3}
        self._add(place, x=steps, y=values, mode="markers", marker=point, name=name)
        self._add(place, x=steps, y=running_mean(values), mode="lines", line={"color": colour, "width": 2}, name=name)

    def level(self, place: Place, rows: Rows, name: str, values: Sequence[float], dash: str) -> None:
        """What was set, and not measured."""
        line = {"color": CONTROL_COLOUR, "width": 2, "dash": dash, "shape": "hv"}
        steps = [row["step"] for row in rows]
        self._add(place, x=steps, y=values, mode="lines", line=line, name=name, showlegend=self.legend)

    def _add(self, place: Place, **trace: Any) -> None:
        hover = "step %{x}: %{y:.3g}<extra>" + f"{trace['name']}, seed {self.seed}</extra>"
        scatter = go.Scatter(**{"showlegend": False, **trace}, hovertemplate=hover)
        self.figure.add_trace(scatter, row=place[0], col=place[1])


def running_mean(values: Sequence[float]) -> list[float]:
    """The mean over as many neighbours on either side, as far as there are any."""
    reach = _window(len(values)) // 2
    return [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


def _window(n: int) -> int:
    return 2 * (n // (2 * _WINDOWS)) + 1


def draw(folder: Path) -> list[Drawn]:
    """The figure of a folder of results. Raises `UserError` where there are none of a training."""
    found = read_run(folder)
    return [Drawn("training_dynamics", training_dynamics(*found), caption(*found), "seed-K/metrics.jsonl, preset.json")]


if __name__ == "__main__":
    main(draw, "training_dynamics", str(__doc__))
