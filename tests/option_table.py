"""The table of all options in CONTRIBUTING.md: `python tests/option_table.py --write` puts it there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from interp.cli.app import app

_START, _END = "<!-- options -->", "<!-- /options -->"
DIFFER: dict[str, str] = {}
"""Options whose default or text is not the same in every verb, and why."""


class Row(NamedTuple):
    """An option with one default and one help text, and the verbs that have it so."""

    option: str
    verbs: tuple[str, ...]
    default: str
    help: str


def rows() -> list[Row]:
    """Every option and argument of every verb, those of the same name next to each other."""
    group: Any = typer.main.get_command(app)
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for name, command in group.commands.items():
        for parameter in command.params:
            verbs.setdefault(_described(parameter), []).append(name)
    return sorted(Row(option, tuple(names), default, text) for (option, default, text), names in verbs.items())


def _described(parameter: Any) -> tuple[str, str, str]:
    names = "/".join((*parameter.opts, *parameter.secondary_opts))
    is_option = parameter.param_type_name == "option"
    default = parameter.default
    if parameter.required:
        shown = "required"
    elif isinstance(parameter.show_default, str):
        shown = parameter.show_default
    elif default is None or default is False or default == ():
        shown = ""
    elif default is True:
        shown = "on"
    else:
        shown = ", ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
    return names if is_option else names.upper(), shown, " ".join((parameter.help or "").split())


def table() -> Iterator[str]:
    """The table, a line at a time."""
    yield "| option | verbs | default | what it says |"
    yield "| --- | --- | --- | --- |"
    for row in rows():
        yield (
            "| "
            + " | ".join((f"`{row.option}`", ", ".join(row.verbs), row.default, row.help.replace("|", "\\|")))
            + " |"
        )


def written(text: str) -> str:
    """CONTRIBUTING.md with the table of today's options."""
    before, _, rest = text.partition(_START)
    return "\n".join((f"{before}{_START}", *table(), f"{_END}{rest.partition(_END)[2]}"))


if __name__ == "__main__":
    path = Path("CONTRIBUTING.md")
    if "--write" in sys.argv:
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n".join(table()))
