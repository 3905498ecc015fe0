"""A user's own functions, from a file that is named: `rule.py:function`."""

from __future__ import annotations

import hashlib
import inspect
import linecache
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from interp.errors import UserError, first_line


def load_function(what: str, named: str) -> Callable[..., Any]:
    """The function that FILE.py:NAME names; runs the file. Raises `UserError` for one that is not there."""
    file, _, name = named.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise UserError(f"{what} {named}: not a function of a file; give FILE.py:FUNCTION")
    if not Path(file).is_file():
        raise UserError(f"{what} {named}: no file {file}; give FILE.py:FUNCTION")
    spec = spec_from_file_location(f"interp_function_{Path(file).stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise UserError(f"{what} {named}: {file} cannot be run ({first_line(error)}); mend it") from None
    function = getattr(module, name, None)
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
