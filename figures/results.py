"""Figures as files: a page with its caption, the caption alone, and pictures where a browser is at hand.

Knows plotly, files and the command line that all figures share; knows nothing about what is plotted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.reports.drawn import NO_PICTURES, Drawn, write


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """A file of results. Raises `UserError` where there is none, naming what makes it, or where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; {made_by} writes it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no JSON"
        raise UserError(f"{path}: cannot be read ({reason}); {made_by} writes it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no JSON object; {made_by} writes it")
    return content


def needed(content: dict[str, Any], names: Sequence[str], path: Path, made_by: str) -> None:
    """Raises `UserError` where one of the entries is missing: the file is something else, or of an older version."""
    if missing := [name for name in names if name not in content]:
        raise UserError(f"{path}: has no {missing[0]!r}, so it is not what {made_by} writes; run that again")


def main(
    draw: Callable[[Path], Sequence[Drawn]], name: str, about: str, arguments: Sequence[str] | None = None
) -> None:
    """The command line of a figure: results in, files out; what the user can mend is one line and exit status 2."""
    parser = argparse.ArgumentParser(
        prog=f"python -m figures.{name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="a folder of results, laid out as in figures/__init__.py")
    parser.add_argument("--out", type=Path, default=Path("out/figures"))
    given = parser.parse_args(arguments)
    try:
        written = write(draw(given.results), given.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for path in written:
        print(f"wrote {path}")
    if not any(path.suffix == ".png" for path in written):
        print(NO_PICTURES)
