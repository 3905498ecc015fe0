"""All figures that a folder has results for, on one page: `interp figures RESULTS --out DIR`.

Knows which figures there are; knows nothing about what is plotted.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from figures import SECTIONS
from interp.errors import UserError
from interp.reports.page import Drawn, write_figures, write_page


def collect(folder: Path) -> tuple[list[Drawn], dict[str, str]]:
    """All figures that the folder has results for, and by name why others are left out.

    Raises `UserError` if there is no such folder, or no result in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; give one with results, such as the --out of interp train")
    drawn: list[Drawn] = []
    left_out = {}
    for section, names in SECTIONS.items():
        for name in names:
            try:
                found = import_module(f"figures.{name}").draw(folder)
            except UserError as error:
                left_out[name] = str(error)
                continue
            drawn += [one._replace(section=section) for one in found]
    if not drawn:
        raise UserError(
            f"{folder}: no results that a figure can be made of; give the --out of interp train or "
            "interp extract-directions, or a folder of results (see interp figures --help)"
        )
    return drawn, left_out


def make(folder: Path, out: Path, *, pictures: bool = True) -> tuple[list[Path], dict[str, str]]:
    """Write `figures.html` and, with `pictures`, each figure on its own; returns the paths and what was left out."""
    drawn, left_out = collect(folder)
    page = write_page(drawn, left_out, f"Figures of {folder.resolve().name}", out / "figures.html")
    return [page, *(write_figures(drawn, out) if pictures else [])], left_out
