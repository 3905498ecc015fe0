"""Settings as command-line options: a documented dataclass gives each of its fields an option.

Knows fields, their types and the string under each; knows nothing about what they mean. Every setting is
written down once: the command line, the Python function and the record beside a result all take it from here.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from functools import cache, wraps
from typing import Annotated, Any, Literal

import typer

from interp.errors import UserError

LARGEST_SEED = 2**32 - 1
"""The libraries underneath accept nothing larger."""

Restart = Annotated[bool, typer.Option("--restart", metavar="", help="Discard what --out holds and start over.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first N transcripts.")]
TRANSCRIPTS = (
    "Debates: a JSON or JSONL file, or an embedded set (scripted, scripted-rotated, organism, organism-rotated, "
    "organism-evil)."
)
MODEL = "Model: a preset, hub id, local folder or GGUF file."
MODELS = f"{MODEL} Repeat for several, the base first."


def option(default: Any = dataclasses.MISSING, **how: Any) -> Any:
    """A field of a settings dataclass that says how it looks on the command line.

    `name` is the option if not the field's own name; `min` and `max` bound a number; `shown` is the default as
    help words it where the value itself would not say enough; `panel` is the heading it stands under; `choices`
    a collection to choose from (or a function that returns one); `parse` turns the given text into the value.
    """
    if isinstance(default, list | dict | set) or dataclasses.is_dataclass(default):
        raise TypeError("give an immutable default")
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


def numbers(text: str, example: str = "-0.4,-0.2,0.2,0.4") -> tuple[float, ...]:
    """Comma-separated numbers in ascending order, each once."""
    try:
        return tuple(sorted({float(number) for number in text.split(",")}))
    except ValueError:
        raise UserError(f"{text}: expected comma-separated numbers, such as {example}") from None


def one_of(option: str, given: str, known: Collection[str]) -> None:
    """Raises `UserError` for a value that is not among those known."""
    if given not in known:
        raise UserError(f"{option} {given}: unknown; choose one of {', '.join(known)}")


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A Typer command: each parameter whose type is a settings dataclass becomes one option per field.

    Nested dataclasses are taken apart as well; the function receives the dataclasses themselves.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    parameters: list[inspect.Parameter] = []
    grouped: dict[str, tuple[Any, Any]] = {}
    for name, parameter in signature.parameters.items():
        if not dataclasses.is_dataclass(hints[name]):
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        start = None if parameter.default is inspect.Parameter.empty else parameter.default
        grouped[name] = hints[name], start
        parameters += _parameters(typing.cast(type, hints[name]), start)
    parameters = list({p.name: p for p in reversed(parameters)}.values())[::-1]  # one option may feed several
    parameters.sort(key=lambda p: p.name in ("out", "restart"))

    @wraps(function)
    def command(**given: Any) -> None:
        built = {name: _build(kind, start, given) for name, (kind, start) in grouped.items()}
        function(**{name: given[name] for name in signature.parameters if name not in built}, **built)

    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _fields(kind: type, start: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Each field of a dataclass with its type and the value it starts from, or MISSING."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if start is not None:
            value = getattr(start, field.name)
        else:
            value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        yield field, hints[field.name], value


def _parameters(kind: type, start: Any, panel: str | None = None) -> Iterator[inspect.Parameter]:
    """One option per field; without a panel of its own it stands under that of the field that holds the dataclass."""
    for field, hint, value in _fields(kind, start):
        panel_here = field.metadata.get("panel", panel)
        if dataclasses.is_dataclass(hint):
            yield from _parameters(typing.cast(type, hint), None if value is dataclasses.MISSING else value, panel_here)
        elif not field.metadata.get("hidden"):
            yield _parameter(field, hint, value, documented(kind)[field.name], panel_here)


def _parameter(field: Any, hint: Any, value: Any, text: str, panel: str | None) -> inspect.Parameter:
    """One option: its type as Typer takes it, its help, its default."""
    how = field.metadata
    optional = _is_union(hint)
    kind: Any = next(h for h in typing.get_args(hint) if h is not types.NoneType) if optional else hint
    if "parse" in how:
        kind, value = str, value if value in (None, dataclasses.MISSING) else _text(value)
    elif typing.get_origin(kind) is tuple:
        kind, optional = list[_several(typing.get_args(kind)[0])], True  # type: ignore[misc]
        value = value if value is dataclasses.MISSING else list(value or ()) or None
    name = f"--{how.get('name', field.name.replace('_', '-'))}"
    known = typer.Option(
        *([f"{name}/--no-{name[2:]}" if value else name] if kind is bool else [name]),
        help=text,
        min=how.get("min"),
        max=how.get("max"),
        metavar="" if kind is bool else how.get("metavar"),
        show_default=how.get("shown", True),
        rich_help_panel=panel,
    )
    default = inspect.Parameter.empty if value is dataclasses.MISSING else value
    annotation = Annotated[kind | None if optional else kind, known]  # type: ignore[valid-type]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _several(kind: Any) -> Any:
    """The type of a repeated option's values; Typer repeats an enumeration but not a Literal."""
    if typing.get_origin(kind) is not Literal:
        return kind
    return Enum("Choice", {value: value for value in typing.get_args(kind)})


def _build(kind: type, start: Any, given: Mapping[str, Any]) -> Any:
    """The dataclass that the options give."""
    values = {}
    for field, hint, value in _fields(kind, start):
        if dataclasses.is_dataclass(hint):
            values[field.name] = _build(typing.cast(type, hint), None if value is dataclasses.MISSING else value, given)
        elif field.metadata.get("hidden"):
            values[field.name] = value
        else:
            values[field.name] = _value(field, hint, value, given[field.name])
    return kind(**values)


def _value(field: Any, hint: Any, start: Any, given: Any) -> Any:
    name = f"--{field.metadata.get('name', field.name.replace('_', '-'))}"
    if "parse" in field.metadata and given is not None:
        try:
            return field.metadata["parse"](given)
        except UserError as error:
            raise UserError(f"{name} {error}") from None
    if typing.get_origin(hint) is tuple:
        given = tuple(v.value if isinstance(v, Enum) else v for v in given) if given else start
    if choices := field.metadata.get("choices"):
        for each in given if isinstance(given, tuple) else (given,):
            if each is not None:
                one_of(name, each, choices() if callable(choices) else choices)
    return given


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(f"{v:g}" for v in value)
