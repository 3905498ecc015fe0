"""A folder of results in, the files of one figure out: what all figures share.

Knows files and the command line; knows nothing about what is plotted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from annotated_types import Ge, Lt, MinLen
from pydantic import AfterValidator, FiniteFloat

from figures.verb import WRITES
from interp.options import alone, verb
from interp.reports.page import NO_PICTURES, Drawn, write_figures
from interp.reports.terminal import Terminal
from interp.storage.files import entries, read_json

Amount = Annotated[float, Ge(0), Lt(2**53)]
ENDS = entries(**dict.fromkeys(("mean", "low", "high"), FiniteFloat))
KNOWN_ENDS = entries(**dict.fromkeys(("mean", "low", "high"), FiniteFloat | None))
"""As `ENDS`, where they are defined."""


def many(kind: Any, least: int = 0) -> Any:
    """The kind of a list of these."""
    return Annotated[list[kind], MinLen(least)]


def fit(kind: Any, rule: Callable[[dict[str, Any]], str]) -> Any:
    """The kind for which the rule finds nothing wrong."""

    def ruled(content: dict[str, Any]) -> dict[str, Any]:
        if wrong := rule(content):
            raise ValueError(wrong)
        return content

    return Annotated[kind, AfterValidator(ruled)]


def read_results(path: Path, kind: Any, made_by: str) -> dict[str, Any]:
    """A file of results of this kind. Raises `UserError`, naming the command that writes the file."""
    found: dict[str, Any] = read_json(path, kind, "results that this figure can be drawn from", made_by)
    return found


def tally(outcomes: Iterable[str]) -> str:
    """How many verdicts have each outcome, in one line."""
    count = Counter(outcomes)
    each = ", ".join(f"{count[outcome]} {outcome}" for outcome in ("shown", "not shown", "cannot tell"))
    return f"Of {count.total()} verdict{'s' * (count.total() != 1)}: {each}."


def main(draw: Callable[[Path], Sequence[Drawn]], about: str | None, arguments: Sequence[str] | None = None) -> None:
    """The command line of a figure: `python -m figures.NAME RESULTS --out DIR`."""

    @verb
    def figure(
        *,
        results: Annotated[Path, typer.Argument(help="Folder of results, laid out as figures/__init__.py says.")],
        out: Annotated[Path, typer.Option(help="Folder for the files."), WRITES] = Path("out/figures"),
    ) -> None:
        written = write_figures(draw(results), out)
        console = Terminal(soft_wrap=True)
        console.print(*(f"wrote {path}" for path in written), sep="\n")
        if not any(path.suffix == ".png" for path in written):
            console.print(NO_PICTURES)

    alone(figure, f"figures.{Path(sys.argv[0]).stem}", arguments, help=about)
