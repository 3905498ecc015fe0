"""All verbs in the order in which they are listed, and how mistakes end.

Knows verbs by their functions; knows nothing about what they do.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import typer

from interp.cli.debate import debate
from interp.cli.evaluate import compare, evaluate
from interp.cli.export import export_gguf, export_model
from interp.cli.extract_directions import extract_directions
from interp.cli.steer import steer
from interp.cli.suppress import suppress
from interp.cli.sweep import sweep
from interp.cli.train import train
from interp.errors import UserError

VERBS: Mapping[str, Sequence[Callable[..., Any]]] = {
    "Debates": (debate,),
    "Training": (train, export_model),
    "Directions": (extract_directions, export_gguf),
    "Steering": (steer, sweep, suppress),
    "Results": (evaluate, compare),
    "Experiments": tuple(registered.load() for registered in sorted(entry_points(group="interp.verbs"), reverse=True)),
}
"""By the heading of `interp --help` that they stand under; packages above this one register theirs as entry points."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_INTERRUPTED = 130  # what Typer makes of Ctrl-C
_GO_ON = "interrupted; what was finished is kept: run the same command again to go on"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find, measure, add and subtract the agents inside a model that a debate was distilled into.",
)
for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)


def main() -> None:
    """Run the command line; what the user can mend is one line and exit status 2."""
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail(_GO_ON)
    except SystemExit as stop:
        if stop.code != _INTERRUPTED:
            raise
        _fail(_GO_ON)
    except OSError as error:
        if error.errno in _NO_PLACE and error.filename:
            _fail(f"{error.filename}: {error.strerror}; give another place")
        if error.errno not in _FULL:
            raise
        _fail(f"no space left on the device ({error.filename or 'while writing'}); make room and run it again")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
