"""A user's own functions, from a file that is named: `rule.py:function`."""

from __future__ import annotations

import hashlib
import inspect
import linecache
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from runpy import run_path
from typing import Any

from interp.errors import UserError, first_line


def load_function(what: str, named: str) -> Callable[..., Any]:
    """The function that FILE.py:NAME names; runs the file. Raises `UserError` for one that is not there."""
    file, _, name = named.rpartition(":")
    if not file.endswith(".py") or not Path(file).is_file():
        raise UserError(f"{what} {named}: no file {file or named}; give FILE.py:FUNCTION")
    try:
        function = run_path(file).get(name)
    except (SyntaxError, ImportError) as error:
        raise UserError(f"{what} {named}: {file} cannot be run ({first_line(error)}); mend it") from None
    if not callable(function):
        raise UserError(f"{what} {named}: {file} defines no function {name}; give one that it defines")
    return function


def function_facts(function: Callable[..., Any]) -> dict[str, str]:
    """Its name, and a hash of the file or notebook cell that defines it, as JSON."""
    text = ""
    with suppress(TypeError):  # built in
        text = "".join(linecache.getlines(inspect.getsourcefile(function) or ""))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"function": getattr(function, "__qualname__", type(function).__name__), "function_sha256": digest}
