"""Options made from settings dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from interp.errors import UserError
from interp.options import documented, numbers, option, verb


@dataclass(frozen=True)
class Inner:
    seed: int = option(0, min=0)
    """Random seed."""
    many: tuple[str, ...] = option((), name="one")
    """Repeatable."""


@dataclass(frozen=True)
class Outer:
    name: str
    """A name."""
    kind: Literal["a", "b"] = "a"
    """A choice."""
    amounts: tuple[float, ...] = option((0.2,), parse=numbers)
    """Some numbers."""
    rotate: bool = False
    """A switch."""
    tune: bool = True
    """On unless turned off."""
    inner: Inner = field(default=Inner(3), metadata={"panel": "Within"})


def run(*arguments: str) -> tuple[Any, Any]:
    seen: list[Any] = []

    def do(outer: Outer, inner: Inner, out: Path = Path("x")) -> None:
        """Do it."""
        seen.extend([outer, inner, out])

    app = typer.Typer(add_completion=False)
    app.command()(verb(do))
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "200"})
    return seen, result.output


def test_fields_become_options_and_come_back_as_the_dataclass() -> None:
    seen, _ = run(
        "--name", "x", "--kind", "b", "--amounts", "0.4,-1", "--one", "u", "--one", "v", "--rotate", "--no-tune"
    )
    expected = Outer("x", "b", (-1.0, 0.4), True, False, Inner(3, ("u", "v")))
    assert seen == [expected, Inner(3, ("u", "v")), Path("x")]


def test_defaults_are_those_of_the_dataclass() -> None:
    seen, _ = run("--name", "x")
    assert seen[0] == Outer("x")


def test_help_shows_texts_choices_and_defaults() -> None:
    _, text = run("--help")
    for shown in ("A name.", "<a|b>", "[default: a]", "[default: 0.2]", "[default: 3]", "--no-tune", "[required]"):
        assert shown.replace(" ", "") in text.replace(" ", ""), shown
    assert "<bool>" not in text.partition("--help")[0]
    assert text.index("--tune") < text.index("--out") < text.index("─ Within ─") < text.index("--seed")


def test_wrong_values_are_one_line() -> None:
    assert "not one of" in run("--name", "x", "--kind", "c")[1].replace("\n", " ")
    with pytest.raises(UserError, match=r"--amounts x: expected comma-separated numbers"):
        run("--name", "x", "--amounts", "x")


def test_texts_of_bases_are_inherited() -> None:
    @dataclass(frozen=True)
    class Further(Inner):
        more: int = 1
        """More."""

    assert documented(Further) == {"seed": "Random seed.", "many": "Repeatable.", "more": "More."}
