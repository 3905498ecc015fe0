"""How training internalizes a debate: `python -m figures.training_dynamics RESULTS --out DIR`.

Reads the metrics in the --out of `interp train`, or in the folder of one of its seeds; trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NotRequired

import numpy as np
import plotly.graph_objects as go
from pydantic import FiniteFloat

from figures.looks import finished, model_looks, panels
from figures.results import main
from interp.debate.transcript import all_tags
from interp.errors import UserError
from interp.reports.page import Drawn
from interp.reports.style import CONTROL_COLOUR, Place, fade
from interp.reports.words import percent
from interp.storage.files import Whole, entries
from interp.storage.journal import read_lines
from interp.training.rewards import structure
from interp.training.settings import PRESET_FILE, Preset, kept_preset

Rows = Sequence[Mapping[str, Any]]
"""The rows of a `metrics.jsonl`."""

_STAGE_1, _STAGE_2 = (model_looks(["base", stage])[stage].colour for stage in ("sft", "imad"))
_LOGGED = ("limit", "coefficient", "length", "structure", "correctness")
_STEPWISE = ("removed", "running", "needed", "mean_token_accuracy")
_NUMBERS = (*_LOGGED, *_STEPWISE, "loss")
_KIND = entries(stage=str, step=Whole, **dict.fromkeys(_NUMBERS, NotRequired[FiniteFloat | None]))
_TITLES = ("A  stage 1: loss", "B  stage 2: length", "C  stage 2: structure", "D  stage 2: right answers")
_STEPWISE_TITLES = (_TITLES[0], "B  stage 2: taken away", "C  stage 2: probability", "D  stage 2: tokens right")
_A, _B, _C, _D = (1, 1), (1, 2), (2, 1), (2, 2)
_TOKENS = [round(k * 10**n) for n in range(5) for k in (1, 2, 5)]
_WINDOWS = 20  # a running mean is over this part of a stage's batches


def training_dynamics(by_seed: Mapping[int, Rows], preset: Preset | None = None) -> go.Figure:
    """Over steps: the loss of stage 1, and length, structure and correctness in stage 2 with their schedules.

    Of stepwise internalization: how much is taken away, the running probability of a token with what it needs for a
    removal, and the tokens foretold.
    `by_seed` has the metrics of each seed; every logged batch is a faint point and the running mean a line. With
    `preset`, the structure reward of a whole debate is drawn beside the reward earned. Raises `UserError` if a seed
    has no step of stage 2.
    """
    stepwise = _is_stepwise(by_seed)
    y = ("nats per token", *(("units", "", "") if stepwise else ("tokens", "reward", "")))
    titles = _STEPWISE_TITLES if stepwise else _TITLES
    figure = panels(2, 2, x="step", y=y, titles=titles, height=140, shared="")
    for seed, rows in by_seed.items():
        first, second = _logged(rows, "sft", "loss"), _logged(rows, "imad", *(_STEPWISE if stepwise else _LOGGED))
        if not second:
            raise UserError(f"seed {seed}: its metrics have no step of stage 2 yet; let interp train continue")
        _measured(figure, _A, seed, first, "loss", "loss", _STAGE_1)
        if stepwise:
            for place, name, key in ((_B, "taken away", "removed"), (_C, "needed", "needed")):
                steps, values = [row["step"] for row in second], [row[key] for row in second]
                line = {"color": CONTROL_COLOUR, "width": 2, "shape": "hv"}
                _add(figure, place, seed, name, x=steps, y=values, line=line)
            _measured(figure, _C, seed, second, "running", "running mean", _STAGE_2)
            _measured(figure, _D, seed, second, "mean_token_accuracy", "tokens right", _STAGE_2)
            continue
        scheduled = [(_B, "limit", "solid", [row["limit"] for row in second])]
        scheduled += [(_C, "coefficient", "dash", [row["coefficient"] for row in second])]
        if preset is not None and preset.grpo.use_structure:
            tags = all_tags(preset.agents, preset.rounds)
            whole = [structure("".join(tags), tags, row["coefficient"]) for row in second]
            scheduled += [(_C, "a whole debate’s reward", "dot", whole)]
        for place, name, dash, values in scheduled:
            line = {"color": CONTROL_COLOUR, "width": 2, "dash": dash, "shape": "hv"}
            steps = [row["step"] for row in second]
            _add(figure, place, seed, name, x=steps, y=values, line=line, showlegend=seed == next(iter(by_seed)))
        _measured(figure, _B, seed, second, "length", "mean length", _STAGE_2)
        _measured(figure, _C, seed, second, "structure", "earned", _STAGE_2)
        _measured(figure, _D, seed, second, "correctness", "right answers", _STAGE_2)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    if not stepwise:
        figure.update_yaxes(type="log", tickvals=_TOKENS, rangemode="normal", row=1, col=2)
    figure.update_yaxes(tickformat=".0%", row=2, col=2)
    for trace in figure.data:  # thousands of points: as arrays they are a tenth of the text
        for axis in ("x", "y"):
            trace[axis] = np.array(trace[axis], dtype=np.float32)
    return finished(figure)


def _measured(figure: go.Figure, place: Place, seed: int, rows: Rows, key: str, name: str, colour: str) -> None:
    """Single batches, faint, and their running mean."""
    steps, values = [row["step"] for row in rows], [row[key] for row in rows]
    point = {"color": fade(colour, 0.25), "size": 3}
    _add(figure, place, seed, name, x=steps, y=values, mode="markers", marker=point)
    _add(figure, place, seed, name, x=steps, y=running_mean(values), line={"color": colour, "width": 2})


def _add(figure: go.Figure, place: Place, seed: int, name: str, **trace: Any) -> None:
    hover = "step %{x}: %{y:.3g}<extra>" + f"{name}, seed {seed}</extra>"
    trace = {"mode": "lines", "showlegend": False, **trace}
    figure.add_scatter(name=name, hovertemplate=hover, row=place[0], col=place[1], **trace)


def caption(by_seed: Mapping[int, Rows], preset: Preset | None = None) -> str:
    """What is shown, and n."""
    seeds = list(by_seed)
    stepwise = _is_stepwise(by_seed)
    logged = [_logged(rows, "imad", *(_STEPWISE if stepwise else _LOGGED)) for rows in by_seed.values()]
    losses = [len(_logged(rows, "sft", "loss")) for rows in by_seed.values()]
    name = f" of {preset.name}" if preset else ""
    each = f", {preset.grpo.batch_size} completions each" if preset else ""
    whose = f"seeds {', '.join(map(str, seeds))}, overlaid" if len(seeds) > 1 else f"seed {seeds[0]}"
    n = " + ".join(f"{len(rows):,}" for rows in logged)
    marks = " + ".join(f"{count:,}" for count in losses)
    whole = ", and the reward of a whole debate" if preset and preset.grpo.use_structure else ""
    begun = (
        f"Training dynamics{name} ({whose}) over optimizer steps. A: loss on the debates in stage 1, in nats per "
        f"token, n = {marks} optimizer steps. "
    )
    if stepwise:
        most = max(row["removed"] for rows in logged for row in rows)
        unit = f" ({preset.stepwise.unit})" if preset else ""
        return (
            f"{begun}B, C, D: stage 2, n = {n} optimizer steps. B: what is taken away from the front of the debates, "
            f"in the end {most} units{unit}. C: the running probability of a token of what remains, and what it must "
            "reach before a removal. D: the share of the remaining tokens that are the model's first choice. In C and "
            f"D, points are single steps, lines their means over {_window(len(logged[0]))} neighbours."
        )
    return (
        f"{begun}B, C, D: stage 2, n = {n} batches{each}. B: the limit past which nothing "
        "counts, and the mean length of completions before the cut, in tokens, on a logarithmic axis. C: the "
        f"structure reward of completions for their tags within the limit{whole}; the coefficient multiplies the "
        "rewards of all tags except consensus and end. D: the share of completions with the right answer within the "
        "limit, on training questions. Points are single batches, lines their means over "
        f"{_window(len(logged[0]))} neighbours in stage 2."
    )


def verdict(by_seed: Mapping[int, Rows]) -> str:
    """What stage 2 changes, from its first steps to its last, mean over seeds."""
    if _is_stepwise(by_seed):
        ends = _ends(by_seed, "mean_token_accuracy")
        return f"Tokens foretold go from {percent(ends[0])} to {percent(ends[1])} as the debate is taken away."
    length, right = _ends(by_seed, "length"), _ends(by_seed, "correctness")
    return (
        f"Completions go from {length[0]:,.0f} to {length[1]:,.0f} tokens, right answers from {percent(right[0])} to "
        f"{percent(right[1])}."
    )


def _ends(by_seed: Mapping[int, Rows], key: str) -> tuple[float, float]:
    """The running mean at the first and the last step of stage 2, mean over seeds."""
    smooth = [running_mean([row[key] for row in _logged(rows, "imad", key)]) for rows in by_seed.values()]
    return fmean(values[0] for values in smooth), fmean(values[-1] for values in smooth)


def _is_stepwise(by_seed: Mapping[int, Rows]) -> bool:
    return any(_logged(rows, "imad", "removed") for rows in by_seed.values())


def _logged(rows: Rows, stage: str, *what: str) -> Rows:
    """The steps of a stage at which all of these were logged."""
    return [row for row in rows if row.get("stage") == stage and None not in map(row.get, what)]


def read_run(folder: Path) -> tuple[dict[int, list[dict[str, Any]]], Preset | None]:
    """The metrics of each seed of a run, and its settings if they were saved. Raises `UserError` without metrics."""
    named = {path.parent.name.removeprefix("seed-"): path for path in folder.glob("seed-*/metrics.jsonl")}
    places = {int(number): path for number, path in named.items() if number.isdecimal()}
    if not places and (folder / "metrics.jsonl").exists():
        number = folder.name.removeprefix("seed-")
        places = {int(number) if number.isdecimal() else 0: folder / "metrics.jsonl"}
    if not places:
        raise UserError(f"{folder}: no metrics.jsonl and no seed-K/metrics.jsonl; give the --out of interp train")
    preset = next((kept_preset(at) for at in (folder, folder.parent) if (at / PRESET_FILE).exists()), None)
    return {seed: read_lines(places[seed], _KIND) for seed in sorted(places)}, preset


def running_mean(values: Sequence[float]) -> list[float]:
    """The mean over the same number of neighbours on either side, fewer at the ends."""
    reach = _window(len(values)) // 2
    return [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


def _window(n: int) -> int:
    return 2 * (n // (2 * _WINDOWS)) + 1


def draw(folder: Path) -> list[Drawn]:
    """The figure of a folder of results. Raises `UserError` if there is no training run."""
    found = read_run(folder)
    figure, source = training_dynamics(*found), "seed-K/metrics.jsonl, preset.json"
    title = "How does training move the debate inside?"
    return [Drawn("training_dynamics", figure, caption(*found), source, title, verdict(found[0]))]


if __name__ == "__main__":
    main(draw, __doc__)
