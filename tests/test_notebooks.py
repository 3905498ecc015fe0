"""Each notebook runs from top to bottom in an empty folder and is committed with its outputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 180
PICTURES = {"image/png", "image/svg+xml"}

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_all_five_are_there() -> None:
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]


@each
def test_a_notebook_is_committed_with_its_outputs(path: Path) -> None:
    assert path.stat().st_size < 1.5e6
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|tmp|root|Users|work)/|site-packages", text)
    assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"
    for count, cell in enumerate(code_cells(path), start=1):
        assert cell.execution_count == count, "not executed once from top to bottom"
        assert not {"execution", "collapsed"} & cell.metadata.keys()
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")
            data = output.get("data", {})
            assert "application/vnd.plotly.v1+json" not in data or data.keys() & PICTURES, "a figure without a picture"


@pytest.mark.notebooks
@each
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")  # no browser needed
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
    executed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for now, committed in zip(executed, code_cells(path), strict=True):
        assert bool(now.outputs) == bool(committed.outputs), now.source
