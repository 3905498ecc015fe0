"""`interp compare`: two evaluations, one test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    first: Annotated[Path, typer.Argument(help="Records of an evaluation: a TASK-METHOD.jsonl or debates.")],
    second: Annotated[Path, typer.Argument(help="Those of another over the same questions.")],
) -> None:
    """Test whether one method is right more often than another, on the questions that both answered.

    Example: `interp compare results/arithmetic-debate.jsonl results/arithmetic-single.jsonl`
    """
    from rich.console import Console

    from interp.evaluation.comparison import compare
    from interp.terminal import comparison_table

    found = compare(first, second)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"first: {first}\nsecond: {second}", markup=False)
    console.print(comparison_table(found))
