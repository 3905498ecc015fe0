"""Every name that a package hands on has an example in its docstring; `pytest --doctest-modules` runs them."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUBS = sorted((ROOT / "interp").rglob("__init__.pyi"))


def handed_on(stub: Path) -> dict[str, Any]:
    package = import_module(".".join(stub.parent.relative_to(ROOT).parts))
    named = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom) and node.module]
    return {alias.name: getattr(package, alias.name) for node in named for alias in node.names}


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.parent.name)
def test_functions_and_classes_have_an_example(stub: Path) -> None:
    callables = {name: each for name, each in handed_on(stub).items() if callable(each) and each.__doc__}
    assert {name for name, each in callables.items() if ">>>" not in each.__doc__} <= {"UserError"}
