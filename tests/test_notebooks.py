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
TOTAL = 3.3e6
HEADERS = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript; charset=utf-8"}
PICTURES = {"image/png", "image/svg+xml"}

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_all_five_are_there_and_small() -> None:
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]
    assert sum(path.stat().st_size for path in NOTEBOOKS) <= TOTAL


def test_each_leads_to_what_is_there() -> None:
    for path in NOTEBOOKS:
        for to in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / to).exists(), f"{path.name}: {to}"


@each
def test_a_notebook_is_committed_with_its_outputs(path: Path) -> None:
    assert path.stat().st_size < 1e6
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


@pytest.mark.notebooks
def test_its_pictures_live_on_in_html(browser: Any, tmp_path: Path) -> None:
    """Converted by nbconvert: figures drawn, plotly.js asked for once, tokens in colour; offline, pictures."""
    nbconvert = pytest.importorskip("nbconvert")
    from plotly.offline import get_plotlyjs

    first = NOTEBOOKS[0]
    figures = sum("application/vnd.plotly.v1+json" in o.get("data", {}) for c in code_cells(first) for o in c.outputs)
    (tmp_path / "page.html").write_text(nbconvert.HTMLExporter().from_filename(str(first))[0], "utf-8")
    for online in (True, False):
        view, asked, wrong = browser.new_page(), list[str](), list[str]()
        view.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
        view.on("request", lambda request, asked=asked: asked.append(request.url) if "plotly" in request.url else None)
        view.route(re.compile("https?://"), lambda route: route.abort())
        if online:
            view.route(re.compile("plotly"), lambda route: route.fulfill(body=get_plotlyjs(), headers=HEADERS))
        view.goto((tmp_path / "page.html").as_uri())
        if online:
            view.wait_for_selector(".js-plotly-plot .scatterlayer path", state="attached")
        assert view.locator(".js-plotly-plot").count() == (figures if online else 0)
        assert view.locator(".jp-OutputArea-output img").count() == (0 if online else figures)
        assert len(asked) == 1
        tokens = view.frame_locator("iframe[title='Tokens in colour']").locator(".token")
        colours = tokens.evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)")
        assert len(set(colours)) > 3
        assert not wrong
        view.close()
