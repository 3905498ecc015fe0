"""A folder imports only from lower floors, nothing goes in a circle, files and the package stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    ("interp.errors",),
    ("interp.outputs", "interp.processes", "interp.statistics"),
    ("interp.options",),
    ("interp.storage",),
    ("interp.debate",),
    ("interp.models",),
    ("interp.activations", "interp.organism"),
    ("interp.directions",),
    ("interp.steering",),
    ("interp.generation",),
    ("interp.probing", "interp.evaluation"),
    ("interp.training",),
    ("interp.interventions",),
    ("interp.reports",),
    ("interp.serving",),
    ("probes", "figures", "benchmarks"),
    ("interp.cli",),
)
"""From the ground up; rooms on one floor do not know each other."""
LONGEST_FILE = 400
LONGEST_PACKAGE = 23_000
Sources = Mapping[str, str]
"""The text of each module, by its name."""


def floor_of(module: str) -> tuple[int, str]:
    """The floor of a module and its room. `interp` itself, the front door, stands above all but the command line."""
    for floor, rooms in enumerate(FLOORS):
        for room in rooms:
            if module == room or module.startswith(f"{room}."):
                return floor, room
    assert module == "interp", f"{module} has no floor"
    return len(FLOORS) - 2, module


def arrows(module: str, text: str, known: Sources) -> Iterator[str]:
    """The modules that a module imports, anywhere in its text; relative imports are those of a package's stub."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            start = f"{module}." if node.level else ""
            origin = f"{start}{node.module or ''}".rstrip(".")
            yield from {name if (name := f"{origin}.{a.name}") in known else origin for a in node.names} & set(known)


def faults(sources: Sources) -> list[str]:
    """Every arrow that points up or sideways, and every circle."""
    graph = {module: set(arrows(module, text, sources)) for module, text in sources.items()}
    found = []
    for module, targets in graph.items():
        floor, room = floor_of(module)
        for target in sorted(targets):
            other, its_room = floor_of(target)
            if room != its_room and other >= floor and module != "interp":
                found.append(f"{module} imports {target}, which is not below it")
    while free := [module for module, targets in graph.items() if not targets & (graph.keys() - {module})]:
        for module in free:
            del graph[module]
    return found + ([f"a circle among {', '.join(sorted(graph))}"] if graph else [])


def house() -> dict[str, str]:
    sources = {}
    for top in ("interp", "probes", "figures", "benchmarks"):
        for path in sorted((ROOT / top).rglob("*.py*")):
            if path.suffix in (".py", ".pyi"):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                sources[module] = sources.get(module, "") + path.read_text()
    return sources


def test_every_arrow_points_down_and_none_goes_in_a_circle() -> None:
    assert faults(house()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("interp.storage.files", "from interp.models.model import Model"),
        ("interp.storage.files", "def late():\n    import interp.cli.app"),
        ("interp.debate.agents", "from interp.debate import protocol"),
        ("interp.probing.scores", "if True:\n    from interp.evaluation.texts import Rouge"),
    ],
    ids=["up", "up, inside a function", "a circle", "sideways"],
)
def test_an_arrow_put_in_is_found(module: str, line: str) -> None:
    sources = house()
    assert faults({**sources, module: f"{sources[module]}\n{line}\n"})


def test_no_public_name_hides_a_module() -> None:
    for stub in (ROOT / "interp").rglob("__init__.pyi"):
        names = {
            alias.name
            for node in ast.parse(stub.read_text()).body
            if isinstance(node, ast.ImportFrom) and node.module  # a subpackage is no name of its own
            for alias in node.names
        }
        modules = {path.stem for path in stub.parent.iterdir()}
        assert not names & modules, stub


def test_files_are_short_enough_to_read_in_one_sitting() -> None:
    folders = ("interp", "probes", "figures", "benchmarks", "tests")
    lengths = {path: len(path.read_text().splitlines()) for top in folders for path in (ROOT / top).rglob("*.py")}
    assert {path: n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_the_package_does_not_grow() -> None:
    """A feature should leave it hardly larger; look for what it makes superfluous."""
    assert sum(len(path.read_text().splitlines()) for path in (ROOT / "interp").rglob("*.py")) <= LONGEST_PACKAGE
