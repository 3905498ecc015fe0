"""Settings as command-line options, one for each field of a documented dataclass, and how command lines end."""

from __future__ import annotations

import ast
import dataclasses
import errno
import inspect
import math
import os
import re
import sys
import textwrap
import time
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import MISSING
from difflib import get_close_matches
from enum import Enum
from functools import cache, wraps
from typing import Annotated, Any, Literal

import typer
from typer.exceptions import TyperException

from interp.errors import UserError, plain, reworded
from interp.outputs import Writes, claimed
from interp.processes import first, sharing

LARGEST_SEED = 2**32 - 1  # the libraries underneath accept nothing larger

Restart = Annotated[bool, typer.Option("--restart", metavar="", help="Discard what --out holds and start over.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first N transcripts.")]
RECORDS = typer.Option("--out", help="JSONL file to write; settings and results go in a JSON file beside it.")
TRANSCRIPTS = (
    "Debates: a JSON or JSONL file, or an embedded set (scripted, scripted-rotated, organism, organism-rotated, "
    "organism-evil)."
)
WHOSE = "Agent, by seat (2) or label, whose direction to use"
DIRECTIONS = "Directions: a directions.safetensors file, or another tool's .gguf, .pt or .safetensors."
MODELS = "Model: a preset, hub id, local folder or GGUF file. Repeat for several, the base first."


def option(default: Any = MISSING, **how: Any) -> Any:
    """A field of a settings dataclass that says how it looks on the command line.

    `name` is the option's if not the field's own; `min` and `max` bound a number; `shown` is the default as help words
    it; `panel` is its heading there; `parse` turns the given text into the value; `metavar` names that text.
    """
    return dataclasses.field(default=default, metadata=how)


@cache
def documented(kind: type) -> Mapping[str, str]:
    """The text under each field of a dataclass, inherited ones included."""
    texts: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                texts[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(below.value))
    return texts


def listed_numbers(text: str) -> tuple[float, ...]:
    """Comma-separated numbers in the order given."""
    with suppress(ValueError):
        found = tuple(float(number) for number in text.split(","))
        if all(map(math.isfinite, found)):
            return found
    raise UserError(f"{text}: expected comma-separated numbers, such as -0.4,-0.2,0.2,0.4")


def numbers(text: str) -> tuple[float, ...]:
    """Comma-separated numbers in ascending order, each once."""
    return tuple(sorted(set(listed_numbers(text))))


def duration(option: str, text: str) -> float:
    """The seconds of a length of time such as 90s, 8m or 1.5h. Raises `UserError` for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found and float(found[1]) > 0:
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
    raise UserError(f"{option} {text}: expected a length of time such as 90s, 8m or 1.5h")


def flag(name: str, text: str) -> Any:
    """A switch without a `--no-` form."""
    return typer.Option(name, metavar="", help=text)


def one_of(option: str, given: str, known: Collection[str]) -> None:
    """Raises `UserError` for a value that is not among those known."""
    if given not in known:
        raise UserError(f"{option} {given}: unknown; choose one of {', '.join(known)}")


def check_choices(settings: Any) -> None:
    """Raises `UserError` for a value that the `Literal` of its field does not list."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        given, kinds = getattr(settings, field.name), (hints[field.name], *typing.get_args(hints[field.name]))
        known = [value for kind in kinds if typing.get_origin(kind) is Literal for value in typing.get_args(kind)]
        for each in given if isinstance(given, tuple) else (given,):
            if known and each is not None:
                one_of(field.metadata.get("name", field.name), each, known)


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A Typer command: parameters of a dataclass type, nested ones too, become one option per field.

    What it writes, as `Writes` beside its --out says, is claimed before it is called.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    parameters: list[inspect.Parameter] = []
    grouped: dict[str, tuple[Any, Any]] = {}
    for name, parameter in signature.parameters.items():
        if dataclasses.is_dataclass(hints[name]):
            start = MISSING if parameter.default is inspect.Parameter.empty else parameter.default
            grouped[name] = hints[name], start
            parameters += _parameters(hints[name], start)
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
    parameters = list({p.name: p for p in reversed(parameters)}.values())[::-1]  # one option may feed several
    parameters.sort(key=lambda p: p.name in ("out", "restart"))
    marks = ((name, mark) for name, hint in hints.items() for mark in getattr(hint, "__metadata__", ()))
    outputs = [(name, mark) for name, mark in marks if isinstance(mark, Writes)]

    @wraps(function)
    def command(**given: Any) -> None:
        for name, value in given.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"--{name.replace('_', '-')} {value}: not a number that can be used; give a finite one")
        built = {name: _build(kind, start, given) for name, (kind, start) in grouped.items()}
        with ExitStack() as stack:
            if not stack.enter_context(sharing(function.__name__)):
                return
            for name, writes in outputs:
                if given[name] is not None and not given.get("dry_run"):
                    stack.enter_context(claimed(function.__name__.replace("_", "-"), given[name], writes, given))
            function(**{name: given[name] for name in signature.parameters if name not in built}, **built)

    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def alone(command: Callable[..., None], name: str, arguments: Sequence[str] | None = None, **how: Any) -> None:
    """Run a verb as a program of its own, `python -m NAME`; `how` is Typer's."""
    app = typer.Typer(add_completion=False)
    app.command(**how)(command)
    run(app, f"python -m {name}", sys.argv[1:] if arguments is None else arguments)


def run(app: typer.Typer, name: str, arguments: Sequence[str]) -> None:
    """Run a command line; what a user can mend ends in one line and exit status 2, an interrupt in 130."""
    status = 2
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - closed by the shell
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may not be UTF-8
    try:
        for before, text in zip((name, *arguments), arguments, strict=False):
            if not text.strip() or re.fullmatch(r"--[a-z-]+=\s*", text):
                raise UserError(f"{before if not text.strip() else text} '': empty; give a value, or leave it out")
            if re.search(r"[\ud800-\udfff]", text):
                raise UserError(f"{text}: not UTF-8; type it again, or rename the file")
        if not typer.main.get_command(app).main([*arguments], name, standalone_mode=False):
            sys.stdout.flush()  # it may be full, or closed
            return
        raise KeyboardInterrupt  # a status is Typer's way to say that it was interrupted
    except TyperException as error:  # a usage error
        where = getattr(getattr(error, "ctx", None), "command_path", name)
        if alike := getattr(error, "possibilities", None):  # name only what it may be a slip of
            error.possibilities = get_close_matches(error.option_name, alike, cutoff=0.75)  # type: ignore[attr-defined]
        message = f"{' '.join(reworded(error.format_message()).split()).rstrip('.')}; see {where} --help"
    except UserError as error:
        message, status = str(error), error.status
    except (KeyboardInterrupt, typer.Abort):
        message, status = "interrupted; finished work is kept: run the same command again to resume", 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"no space left on the device ({error.filename or 'while writing'}); free some and run it again"
        else:
            message = f"{error.filename or 'files'}: {error.strerror or error}; choose another place"
    if not first():
        time.sleep(10)  # the first process says the same, and the launcher ends the others
    print(f"error: {plain(message)}", file=sys.stderr)
    sys.exit(status)


def _fields(kind: Any, start: Any) -> Iterator[tuple[Any, Any, Any, str]]:
    """Each field of a dataclass with its type, the value it starts from (or MISSING) and its option."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        value = value if start is MISSING else getattr(start, field.name)
        yield field, hints[field.name], value, f"--{field.metadata.get('name', field.name.replace('_', '-'))}"


def _parameters(kind: Any, start: Any, panel: str | None = None) -> Iterator[inspect.Parameter]:
    """One option per field; without a panel of its own it stands under that of the field that holds the dataclass."""
    for field, hint, value, name in _fields(kind, start):
        how = field.metadata
        panel_here = how.get("panel", panel)
        if dataclasses.is_dataclass(hint):
            yield from _parameters(hint, value, panel_here)
            continue
        optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
        of: Any = next(h for h in typing.get_args(hint) if h is not types.NoneType) if optional else hint
        if "parse" in how:
            of = str
            if value not in (None, MISSING) and not isinstance(value, str):
                value = ",".join(f"{v:g}" for v in value)
        elif typing.get_origin(of) is tuple:
            each: Any = typing.get_args(of)[0]
            if typing.get_origin(each) is Literal:  # Typer repeats an enumeration but not a Literal
                each = typing.cast(Any, Enum("Choice", {choice: choice for choice in typing.get_args(each)}))
            of, optional = types.GenericAlias(list, (each,)), True
            value = value if value is MISSING else list(value or ()) or None
        known = typer.Option(
            *([f"{name}/--no-{name[2:]}" if value else name] if of is bool else [name]),
            help=documented(kind)[field.name],
            **{bound: how[bound] for bound in ("min", "max") if bound in how},
            metavar="" if of is bool else how.get("metavar"),
            show_default=how.get("shown", True),
            rich_help_panel=panel_here,
        )
        default = inspect.Parameter.empty if value is MISSING else value
        annotation = Annotated[of | None if optional else of, known]  # type: ignore[valid-type]
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _build(kind: Any, start: Any, given: Mapping[str, Any]) -> Any:
    """The dataclass that the options give."""
    values = {}
    for field, hint, before, name in _fields(kind, start):
        if dataclasses.is_dataclass(hint):
            values[field.name] = _build(hint, before, given)
            continue
        value = given[field.name]
        if "parse" in field.metadata and value is not None:
            try:
                value = field.metadata["parse"](value)
            except UserError as error:
                raise UserError(f"{name} {error}") from None
        elif typing.get_origin(hint) is tuple:
            value = tuple(v.value if isinstance(v, Enum) else v for v in value) if value else before
        values[field.name] = value
    return kind(**values)
