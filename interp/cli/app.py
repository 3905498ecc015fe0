"""All verbs in the order in which help lists them, and how mistakes end."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from interp import __version__
from interp.cli.debate import debate
from interp.cli.evaluate import compare, evaluate
from interp.cli.export import export_gguf, export_model
from interp.cli.extract_directions import extract_directions
from interp.cli.steer import steer
from interp.cli.suppress import suppress
from interp.cli.sweep import sweep
from interp.cli.train import train
from interp.errors import UserError, plain

VERBS: Mapping[str, Sequence[Callable[..., Any]]] = {
    "Debates": (debate,),
    "Training": (train, export_model),
    "Directions": (extract_directions, export_gguf),
    "Steering": (steer, sweep, suppress),
    "Results": (evaluate, compare),
    "Experiments": tuple(registered.load() for registered in sorted(entry_points(group="interp.verbs"), reverse=True)),
}
"""By their heading in `interp --help`; probes and figures register theirs as entry points."""

_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


class _Flags:
    """Help without a type beside `--help` itself, as beside every other switch."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"interp {__version__}")
        raise typer.Exit


app = typer.Typer(cls=type("Group", (_Flags, TyperGroup), {}), add_completion=False, rich_markup_mode="markdown")
Version = typer.Option("--version", metavar="", is_eager=True, callback=_version, help="Show the version and exit.")


@app.callback()
def front(version: Annotated[bool, Version] = False) -> None:
    """Find, measure, add and subtract the agents inside a model that a debate was distilled into."""


for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(cls=type("Command", (_Flags, TyperCommand), {}), rich_help_panel=panel)(verb)


def main() -> None:
    """Run the command line; errors that a user can fix are one line and exit status 2."""
    status = 2
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may not be UTF-8
    try:
        if given := next((each for each in sys.argv if re.search(r"[\ud800-\udfff]", each)), ""):
            raise UserError(f"{given}: not UTF-8; type it again, or rename the file")
        if not typer.main.get_command(app).main(sys.argv[1:] or ["--help"], "interp", standalone_mode=False):
            return
        raise KeyboardInterrupt  # a status is Typer's way to say that it was interrupted
    except TyperException as error:  # a usage error
        where = getattr(getattr(error, "ctx", None), "command_path", "interp")
        message = f"{' '.join(error.format_message().split()).rstrip('.')}; see {where} --help"
    except UserError as error:
        message, status = str(error), error.status
    except (KeyboardInterrupt, typer.Abort):
        message = "interrupted; finished work is kept: run the same command again to resume"
    except OSError as error:
        if error.errno in _NO_PLACE and error.filename:
            message = f"{error.filename}: {error.strerror}; choose another place"
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"no space left on the device ({error.filename or 'while writing'}); free some and run it again"
        else:
            raise
    print(f"error: {plain(message)}", file=sys.stderr)
    sys.exit(status)
