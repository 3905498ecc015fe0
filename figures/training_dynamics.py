"""How a debate moves inside while training: `python -m figures.training_dynamics RUN --out DIR`.

RUN is the folder of `interp train`, or of one seed of it: its metrics are read, nothing is trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.output import write_figure
from interp.debate.transcript import all_tags
from interp.errors import UserError
from interp.journal import read_lines
from interp.theme import CONTROL_COLOUR, INK, TEMPLATE, agent_colour, fade
from interp.training.pipeline import PRESET_FILE, kept_preset
from interp.training.presets import Preset
from interp.training.rewards import structure

Rows = Sequence[Mapping[str, Any]]
"""The rows of a `metrics.jsonl`."""

_LOSS, _LENGTH, _STRUCTURE, _CORRECT = (agent_colour(k) for k in (4, 1, 2, 3))
_PANELS = {
    "A": "Stage 1: loss",
    "B": "Stage 2: length and its limit",
    "C": "Stage 2: structure reward",
    "D": "Stage 2: right answers",
}
_TOKENS = [round(k * 10**n) for n in range(5) for k in (1, 2, 5)]
_WINDOWS = 20  # a running mean is over this part of a stage's batches


def training_dynamics(by_seed: Mapping[int, Rows], preset: Preset | None = None) -> go.Figure:
    """Loss of stage 1; limit and mean length, structure reward and coefficient, correctness of stage 2, over steps.

    `by_seed` has the metrics of each seed; each is drawn, with a faint point for every logged batch and a
    strong line for the running mean. With `preset` the structure reward that a whole debate would earn is
    drawn beside that which was earned. Raises `UserError` where a seed has no step of stage 2.
    """
    figure = make_subplots(rows=2, cols=2, horizontal_spacing=0.11, vertical_spacing=0.24)
    figure.update_layout(template=TEMPLATE, width=1000, height=760, margin={"l": 16, "r": 16, "t": 84, "b": 12})
    for index, (seed, rows) in enumerate(by_seed.items()):
        first = [row for row in rows if row["stage"] == "sft" and "loss" in row]
        second = [row for row in rows if row["stage"] == "imad" and "limit" in row]
        if not second:
            raise UserError(f"seed {seed}: its metrics have no step of stage 2 yet; let interp train go on")
        draw = _Draw(figure, seed, legend=index == 0)
        draw.measured("A", first, "loss", "loss", _LOSS)
        draw.level("B", second, "limit", [row["limit"] for row in second], "solid")
        draw.measured("B", second, "length", "mean length", _LENGTH)
        draw.level("C", second, "coefficient", [row["coefficient"] for row in second], "dash")
        if preset is not None and preset.grpo.use_structure:
            tags = all_tags(preset.agents, preset.rounds)
            whole = [structure("".join(tags), tags, row["coefficient"]) for row in second]
            draw.level("C", second, "of a whole debate", whole, "dot")
        draw.measured("C", second, "structure", "earned", _STRUCTURE)
        draw.measured("D", second, "correctness", "right answers", _CORRECT)
    _arrange(figure)
    return figure


def caption(by_seed: Mapping[int, Rows], preset: Preset | None = None) -> str:
    """What the figure shows, and of how much."""
    seeds = list(by_seed)
    logged = [[row for row in rows if row["stage"] == "imad" and "limit" in row] for rows in by_seed.values()]
    losses = [sum(row["stage"] == "sft" and "loss" in row for row in rows) for rows in by_seed.values()]
    name = f" of {preset.name}" if preset else ""
    each = f", {preset.grpo.batch_size} completions each" if preset else ""
    whose = f"seeds {', '.join(map(str, seeds))}, drawn one over the other" if len(seeds) > 1 else f"seed {seeds[0]}"
    n = " + ".join(f"{len(rows):,}" for rows in logged)
    marks = " + ".join(f"{count:,}" for count in losses)
    whole = ", and that which a whole debate would earn" if preset and preset.grpo.use_structure else ""
    return (
        f"Training dynamics{name} ({whose}). A: loss on the debates in stage 1, in nats a token, n = {marks} optimizer "
        f"steps. B, C, D: stage 2, n = {n} batches{each}. B: the limit past which nothing counts, and the mean length "
        "of the completions before they are cut, in tokens; both on a logarithmic axis. C: the structure reward that "
        f"completions earned for their tags inside the limit{whole}; the coefficient multiplies the rewards of all "
        "tags but consensus and end. D: the share of completions with the right answer inside the limit, sampled on "
        f"training questions. Points are single batches, lines their means over {_window(len(logged[0]))} neighbouring "
        "ones in stage 2."
    )


def read_run(folder: Path) -> tuple[dict[int, list[dict[str, Any]]], Preset | None]:
    """The metrics of each seed of a run, and its settings where they lie beside it.

    Raises `UserError` for a folder without metrics.
    """
    places = {int(path.parent.name.removeprefix("seed-")): path for path in folder.glob("seed-*/metrics.jsonl")}
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

    def measured(self, panel: str, rows: Rows, key: str, name: str, colour: str) -> None:
        """Single batches, faint, and their running mean."""
        steps, values = [row["step"] for row in rows], [row[key] for row in rows]
        point = {"color": fade(colour, 0.3), "size": 4}
        self._add(panel, x=steps, y=values, mode="markers", marker=point, name=name, showlegend=False)
        line = {"color": colour, "width": 2.5}
        self._add(panel, x=steps, y=running_mean(values), mode="lines", line=line, name=name)

    def level(self, panel: str, rows: Rows, name: str, values: Sequence[float], dash: str) -> None:
        """What was set, and not measured."""
        line = {"color": CONTROL_COLOUR, "width": 2, "dash": dash, "shape": "hv"}
        self._add(panel, x=[row["step"] for row in rows], y=values, mode="lines", line=line, name=name)

    def _add(self, panel: str, **trace: Any) -> None:
        n = "ABCD".index(panel)
        shown = {"showlegend": self.legend and panel in "BC", "legend": f"legend{n + 1}" if n else "legend"}
        hover = "step %{x}: %{y:.3g}<extra>" + f"{trace['name']}, seed {self.seed}</extra>"
        scatter = go.Scatter(**shown | trace, hovertemplate=hover)
        self.figure.add_trace(scatter, row=n // 2 + 1, col=n % 2 + 1)


def running_mean(values: Sequence[float]) -> list[float]:
    """The mean over as many neighbours on either side, as far as there are any."""
    reach = _window(len(values)) // 2
    return [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


def _window(n: int) -> int:
    return 2 * (n // (2 * _WINDOWS)) + 1


def _arrange(figure: go.Figure) -> None:
    """Titles and legends above the panels, axes."""
    for n, (panel, title) in enumerate(_PANELS.items()):
        suffix = str(n + 1) if n else ""
        x, y = figure.layout[f"xaxis{suffix}"], figure.layout[f"yaxis{suffix}"]
        left, top = x.domain[0], y.domain[1]
        heading = {"text": f"<b>{panel}</b>  {title}", "font": {"size": 15, "color": INK}}
        place = {"x": left, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(**heading, **place, showarrow=False, yshift=34)
        legend = {"x": left, "xanchor": "left", "y": top, "yanchor": "bottom", "orientation": "h", "font": {"size": 13}}
        figure.update_layout({f"legend{suffix}": legend})
        x.title.text, x.rangemode = "optimizer step", "tozero"
    figure.update_yaxes(title_text="nats a token", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="tokens", type="log", tickvals=_TOKENS, row=1, col=2)
    figure.update_yaxes(title_text="reward", rangemode="tozero", row=2, col=1)
    figure.update_yaxes(title_text="share of completions", tickformat=".0%", rangemode="tozero", row=2, col=2)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the --out of interp train")
    parser.add_argument("--out", type=Path, default=Path("out/figures"))
    given = parser.parse_args(arguments)
    try:
        by_seed, preset = read_run(given.run)
        figure = training_dynamics(by_seed, preset)
        written = write_figure(figure, caption(by_seed, preset), given.out, "training_dynamics")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for path in written:
        print(f"wrote {path}")
    if not any(path.suffix == ".png" for path in written):
        print("no picture: that takes kaleido (pip install kaleido) and Chrome or Chromium")


if __name__ == "__main__":
    main()
