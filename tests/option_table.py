"""The table of all options in CONTRIBUTING.md: `python tests/option_table.py --write` puts it there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from interp.cli.app import app

_START, _END = "<!-- options -->", "<!-- /options -->"
DIFFER: dict[str, str] = {
    "--agent": "who debates, by persona; in interchange a seat whose subspace is known",
    "--coefficients": "steer takes one, or one per direction; sweep and suppress try a range around it",
    "--direction-of": "export-directions writes one direction, steer starts with agent 1, sweep takes all",
    "--directions": "steer takes one file; sweep, suppress several; suppress makes its own; tokens, serve take probes",
    "--dtype": "export-model writes weights, in bf16 unless told otherwise; the others compute",
    "--form": "a sum's shape in debate and evaluate, a prompt's in steer and interchange",
    "--jobs": "few probes are fitted faster by one process; simulations never are",
    "--label": "a file of vectors may say what they are of; pairs have a positive side",
    "--layers": "reading takes all; steer the best; sweep asks, since its cost grows with each",
    "--max-new-tokens": "debates leave room for a solution; steered texts are compared, and short",
    "--model": "several models where they are compared; servers and scripts where agents answer",
    "--operation": "ablation has no coefficient to try; suppress can try both others",
    "--out": "each verb writes its own kind of file or folder",
    "--position": "a turn has a tag, which may be read too; a text of a pair has none",
    "--questions": "as many as the verb needs for a useful interval",
    "--seed": "train and probe take several",
    "--site": "of vectors from elsewhere also hidden states, by row",
    "--source": "questions to debate come from a file; in interchange it is the other text",
    "--subspaces": "of several models, probe takes those planted in the first",
    "--task": "evaluate takes several; suppress has a trait's; sweep and probe only grade",
    "--temperature": "agents that debate must differ; steered texts are compared, and greedy",
    "--tokens": "a trait can show in the first token, which generated leaves unsteered",
    "--transcripts": "what the debates are for differs; probe takes several",
}
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
