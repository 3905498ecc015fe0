"""The figure of steered texts: what it shows at each coefficient, and where it starts."""

from __future__ import annotations

from typing import Any

import pytest

from interp.errors import UserError
from interp.reports.texts import steered_texts

LABELS = ("agent 1", "agent 2", "agent 3")


def record(coefficient: float, direction: str | None, question: str, **changes: Any) -> dict[str, Any]:
    """Along agent 2's direction the text becomes agent 2's; along a random one nothing happens."""
    like = 0.3 + 0.1 * coefficient * (direction == "agent 2")
    return {
        "model": "tiny",
        "layer": None if direction is None else 1,
        "direction": direction,
        "coefficient": coefficient,
        "context": "turn",
        "before": "agent 1",
        "question": question,
        "text": f": <b> at {coefficient:g}\n<|Agent 2 Solution|>: and what another says",
        "rouge": {label: [0.0, 0.0, like if label == "agent 2" else 0.5] for label in LABELS},
        **changes,
    }


@pytest.fixture
def records() -> list[dict[str, Any]]:
    asked = [f"1+{q}" for q in range(4)]
    moved = [record(c, d, q) for c in (-2.0, 2.0) for d in ("agent 1", "agent 2", "random 1") for q in asked]
    elsewhere = [record(2.0, "agent 2", q, layer=3, rouge={label: [0.0, 0.0, 1.0] for label in LABELS}) for q in asked]
    return [record(0.0, None, q) for q in asked] + moved + elsewhere


def test_the_slider_shows_each_coefficient_s_texts(records: list[dict[str, Any]]) -> None:
    figure = steered_texts(records, "agent 1", "agent 2", start=2)
    tables = [trace for trace in figure.data if trace.type == "table"]
    assert [[column[0] for column in table.cells["values"]] for table in tables] == [
        [f"&lt;b&gt; at {c}"] * 3 for c in ("-2", "0", "2")
    ]
    assert [table.visible for table in tables] == [False, False, True]
    slider = figure.layout.sliders[0]
    assert (slider.active, [step.label for step in slider.steps]) == (2, ["-2", "0", "2"])
    for i, step in enumerate(slider.steps):
        shown = step.args[0]["visible"]
        assert shown == [j == i for j in range(3)] + [True] * 4
        assert step.args[1]["shapes[0].x0"] == float(step.label)


def test_the_curves_are_those_of_the_layer_and_the_control_is_flat(records: list[dict[str, Any]]) -> None:
    figure = steered_texts(records, "agent 1", "agent 2")
    curves = {trace.name: list(trace.y) for trace in figure.data if trace.type == "scatter"}
    assert curves["agent 2’s words"] == pytest.approx([0.1, 0.3, 0.5])
    assert curves["agent 1’s words"] == pytest.approx([0.5, 0.5, 0.5])
    assert curves["agent 2’s words, along random directions"] == pytest.approx([0.3, 0.3, 0.3])


def test_texts_that_are_not_there_are_refused(records: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="no texts after the tag of agent 3"):
        steered_texts(records, "agent 3", "agent 2")
    with pytest.raises(UserError, match="start 1: choose one of -2, 0, 2"):
        steered_texts(records, "agent 1", "agent 2", start=1)
