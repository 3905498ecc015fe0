"""Regular expressions take time in proportion to the text."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import figures
import interp
import probes


def everywhere() -> Iterator[Any]:
    for package in (interp, figures, probes):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "__main__" not in found.name:
                yield importlib.import_module(found.name)


METHODS = ("search", "match", "fullmatch", "finditer", "findall", "sub", "split")


def patterns() -> Iterator[tuple[str, re.Pattern[str], str]]:
    """Every pattern of the package with each method that it is used by: those that modules keep, and those in a call.

    Those of the graders are tried with their functions, which look at the length first.
    """
    for module in everywhere():
        assert module.__file__
        if module.__name__.startswith("interp.debate.grading"):
            continue
        source = Path(module.__file__).read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if (
                not isinstance(node, ast.Call)
                or not isinstance(node.func, ast.Attribute)
                or node.func.attr not in METHODS
            ):
                continue
            owner, method, text = ast.unparse(node.func.value), node.func.attr, ast.unparse(node)
            kept, first = vars(module).get(owner), node.args[0] if node.args else None
            place = f"{module.__name__}:{node.lineno}"
            if isinstance(kept, re.Pattern) and isinstance(kept.pattern, str):
                yield place, kept, method
            elif owner == "re" and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield place, re.compile(first.value, re.DOTALL if "DOTALL" in text else 0), method


def test_patterns_are_linear() -> None:
    known = list(patterns())
    assert len(known) > 30
    slow = {}
    for place, pattern, method in known:
        for piece in ("\n", "\\", " ", "a", "0", "-", "{", "<|", "answer ", "1 "):
            for n in (2_000, 10_000, 100_000):
                text = piece * (n // len(piece)) + "!"
                began = time.process_time()
                found = pattern.sub("", text) if method == "sub" else getattr(pattern, method)(text)
                list(found or ()) if method == "finditer" else None
                if (took := time.process_time() - began) > max(n / 100_000, 0.1):
                    slow[place, piece] = n, round(took, 2)
                    break
    assert slow == {}
