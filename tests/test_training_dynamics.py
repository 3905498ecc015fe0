"""The figure of a training run: what is drawn is what was logged, of every seed, and it says how much."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from figures import results as output
from figures import training_dynamics
from figures.training_dynamics import running_mean
from interp.errors import UserError
from interp.reports import page as pages
from interp.training.settings import PRESETS


def metrics(offset: float = 0.0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"stage": "sft", "step": s, "loss": 2.0 / s} for s in range(1, 5)]
    rows += [{"stage": "debategpt", "step": s, "loss": 9.0} for s in range(1, 5)]
    for step in range(1, 81):
        measured = {"length": 90 - step + offset, "structure": 0.8, "correctness": step / 100}
        rows.append({"stage": "imad", "step": step, "limit": 100 - step, "coefficient": 1 - step / 80, **measured})
    return [*rows, {"stage": "imad", "step": 80, "train_runtime": 1.0}]


def traces(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name and trace.mode == "lines"]


def test_what_is_drawn() -> None:
    organism = PRESETS["organism"]
    figure = training_dynamics.training_dynamics({0: metrics(), 3: metrics(1.0)}, organism)
    limit, length = traces(figure, "limit"), traces(figure, "mean length")
    assert [len(found) for found in (limit, length)] == [2, 2]
    assert list(limit[0].y) == [100 - step for step in range(1, 81)]
    assert length[1].y[40] == pytest.approx(50)  # a straight line is its own mean
    points = [trace for trace in figure.data if trace.name == "mean length" and trace.mode == "markers"]
    assert list(points[1].y) == [91 - step for step in range(1, 81)]
    assert list(traces(figure, "loss")[0].x) == [1, 2, 3, 4]
    whole = traces(figure, "a whole debate’s reward")[0]
    assert whole.y[0] == pytest.approx(0.8 + 8 * 0.3 * 79 / 80)
    assert whole.y[-1] == pytest.approx(0.8)
    levels = ["limit", "coefficient", "a whole debate’s reward"]
    assert [trace.name for trace in figure.data if trace.showlegend] == levels
    said = training_dynamics.caption({0: metrics(), 3: metrics()}, organism)
    assert "organism (seeds 0, 3, overlaid)" in said
    assert "n = 4 + 4 optimizer steps" in said
    assert f"n = 80 + 80 batches, {organism.grpo.batch_size} completions each" in said
    for rows in (metrics()[:8], [{"loss": 1.0}]):
        with pytest.raises(UserError, match="seed 1: its metrics have no step of stage 2"):
            training_dynamics.training_dynamics({1: rows})


def test_running_mean() -> None:
    values = [float(i % 2) for i in range(80)]
    smooth = running_mean(values)
    assert len(smooth) == 80
    assert smooth[40] == pytest.approx(2 / 5)  # two neighbours on either side
    assert smooth[0] == pytest.approx(1 / 3)
    assert running_mean([3.0, 5.0]) == [3.0, 5.0]


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pages, "_pictures", lambda drawn: {})  # a browser takes seconds to start
    for seed in (0, 10, 2):
        folder = tmp_path / "run" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics()))
    (tmp_path / "run" / "preset.json").write_text(json.dumps(PRESETS["organism"].record()))
    other = tmp_path / "run" / "seed-1-tried"
    other.mkdir()
    (other / "metrics.jsonl").write_text("{}\n")
    by_seed, preset = training_dynamics.read_run(tmp_path / "run")
    assert list(by_seed) == [0, 2, 10]
    assert preset == PRESETS["organism"]
    draw = training_dynamics.draw
    output.main(draw, "", [str(tmp_path / "run"), "--out", str(tmp_path / "out")])
    written = {"training_dynamics.html", "training_dynamics.txt", "plotly.min.js"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    page = (tmp_path / "out" / "training_dynamics.html").read_text()
    assert "seeds 0, 2, 10" in page
    assert re.findall("<script src=([^>]*)>", page) == ['"plotly.min.js"']  # it needs no network
    assert "no pictures: they need kaleido" in capsys.readouterr().out
    one, preset = training_dynamics.read_run(tmp_path / "run" / "seed-10")
    assert list(one) == [10]
    assert preset == PRESETS["organism"]
    with pytest.raises(SystemExit) as stop:
        output.main(draw, "", [str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "no metrics.jsonl" in capsys.readouterr().err
