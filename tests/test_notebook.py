"""What notebooks ask for: a picture beside each figure where one can be made, captions and verdicts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io
import pytest

from interp.reports.notebook import in_words, prepare, show

pytest.importorskip("IPython")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PLOTLY_RENDERER", raising=False)
    default = plotly.io.renderers.default
    with warnings.catch_warnings():
        yield
    plotly.io.renderers.default = default


@pytest.mark.parametrize("error", [ImportError, RuntimeError, ValueError])
def test_without_a_browser_figures_are_live_only(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(go.Figure, "to_image", fails)
    prepare()
    assert plotly.io.renderers.default == "plotly_mimetype"


def test_with_one_they_have_a_picture_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go.Figure, "to_image", lambda *_: b"")
    prepare()
    assert plotly.io.renderers.default == "plotly_mimetype+png+converted"


def test_whoever_names_a_renderer_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLOTLY_RENDERER", "json")
    plotly.io.renderers.default = "json"
    prepare()
    assert plotly.io.renderers.default == "json"


def test_verdicts_stand_out() -> None:
    assert in_words([("Found.", "Here."), "And this."]).data == "**Found.** Here.\n\nAnd this."


def test_a_caption_stands_below_its_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Drawn:
        figure: go.Figure
        caption: str

    shown: list[Any] = []
    monkeypatch.setattr(go.Figure, "show", lambda self: shown.append(self))
    monkeypatch.setattr("IPython.display.display", shown.append)
    figure = go.Figure()
    show([Drawn(figure, "What is seen.")])
    assert shown[0] is figure
    assert shown[1].data == "*What is seen.*"
