"""Pages in a real browser: axe-core, the keyboard alone, a phone's width, both colour schemes, one plotly a folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import test_report
import typer
from browsing import is_cut, serious, tabbed
from conftest import hear_interrupts
from plotly.offline import get_plotlyjs
from test_report import evidence, extraction, make_facts

from figures import page as figures_page
from figures import watch as watching
from interp.cli.app import app
from interp.models.catalog import SHIPPED_RESULTS
from interp.reports import page as pages

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"wide": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
STEP = {"stage": "imad", "limit": 100, "coefficient": 1.0, "structure": 0.8}
SAMPLE = {"question": "What is 1+2?", "text": "<|Consensus|> <b>3</b>", "score": 1.0}


def run_folder(folder: Path, steps: int = 40) -> Path:
    """A run in stage 2, as `interp train` leaves it between two steps."""
    rows: list[dict[str, Any]] = [{"stage": "sft", "step": n, "loss": 4 / n} for n in range(1, 9)]
    rows += [{**STEP, "step": n, "length": 100 - n, "correctness": n / 100} for n in range(1, steps + 1)]
    (folder / "seed-0").mkdir(parents=True)
    (folder / "seed-0" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"stage": "im')
    kept = {"stage": "imad", "step": steps, "samples": [SAMPLE]}
    (folder / "seed-0" / "samples.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of two rounds, all figures of the shipped results, and a watched run."""
    folder = tmp_path_factory.mktemp("pages")
    facts = make_facts()
    facts["evidence"] |= {key: evidence(3, questions=33) for key in ("1", "2")}
    run = run_folder(folder / "run")
    look = watching.look(run)
    [figures], _ = figures_page.make(SHIPPED_RESULTS, folder / "figures", pictures=False)
    watch = pages.write_whole(folder / "figures" / "watch.html", watching.page(run, look, 2.0))
    return {"report": pages.write_report(extraction(facts), folder), "figures": figures, "watch": watch}


@pytest.fixture
def view(browser: Any) -> Iterator[Any]:
    """Opens a page from disk, and sees that it says nothing in the console."""
    views = []

    def open_page(path: Path, size: str = "wide", scheme: str = "light") -> Any:
        context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, is_mobile=size == "phone")
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text) if "NOT_FOUND" not in message.text else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        views.append((context, said))
        return page

    yield open_page
    for context, said in views:
        context.close()
        assert said == []


@pytest.mark.parametrize("name", ["report", "figures", "watch"])
def test_nothing_serious_is_wrong(name: str, written: dict[str, Path], view: Any) -> None:
    for size, scheme in (("wide", "light"), ("phone", "dark")):
        page = view(written[name], size, scheme)
        assert page.locator(".plot .main-svg").first.is_visible()
        assert page.locator("#lost:visible").count() == 0
        assert serious(page) == []
        assert not is_cut(page)
        ends = "all => Math.max(...all.map(one => one.querySelector('.main-svg').getBoundingClientRect().right))"
        assert page.eval_on_selector_all(".plot", ends) <= SIZES[size]["width"], "a picture is cut"
        below = """all => all.every(one => one.querySelector(".scroll").getBoundingClientRect().bottom
            <= one.querySelector("figcaption, .caption").getBoundingClientRect().top + 1)"""
        assert page.eval_on_selector_all("figure, .figure", below), "a caption is not below its picture"
    headings_are_in_order_and_linked(page)
    page.set_viewport_size({"width": 360, "height": 780})
    assert not is_cut(page)


def headings_are_in_order_and_linked(page: Any) -> None:
    levels = [int(level[1]) for level in page.eval_on_selector_all("h1,h2,h3", "all => all.map(h => h.tagName)")]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    lost = "all => all.map(a => a.getAttribute('href')).filter(to => !document.querySelector(to))"
    assert page.eval_on_selector_all("a[href^='#']", lost) == []
    linked = page.eval_on_selector_all(".contents a", "all => all.map(a => a.getAttribute('href'))")
    plots = "all => all.map(plot => '#' + plot.closest('[id^=figure-], figure').id)"
    assert set(page.eval_on_selector_all("[data-figure]", plots)) <= set(linked)
    described = """all => all.filter(plot => plot.role === "img" && plot.ariaLabel
        && document.getElementById(plot.getAttribute("aria-describedby")).innerText.includes("n = ")).length"""
    assert page.eval_on_selector_all("[data-figure]", described) == page.locator("[data-figure]").count()


def test_every_control_of_the_report_is_reached_and_moved_by_keys(written: dict[str, Path], view: Any) -> None:
    page = view(written["report"])
    reached = tabbed(page)
    sliders = ["layer, Figure 3", "layer, Figure 4"]
    assert reached[0] == "Skip to the content"
    assert [name for name in reached if name in sliders] == sliders
    assert sum(name.startswith("Rounds, Figure") for name in reached) == 3
    focusable = "all => all.filter(one => !one.dataset.reached && one.checkVisibility()).map(one => one.outerHTML)"
    assert page.eval_on_selector_all("a, button, input, select, summary, [tabindex='0']", focusable) == []

    cosine = page.get_by_label("layer, Figure 3")
    before = page.evaluate("document.querySelector('.cosine').data[0].z[0][1]")
    cosine.focus()
    assert (cosine.get_attribute("aria-valuetext"), cosine.input_value()) == ("layer 2", "2")
    page.keyboard.press("ArrowRight")
    other = page.get_by_label("layer, Figure 4")
    for slider in (cosine, other):  # they move together
        assert slider.get_attribute("aria-valuetext") == "layer 3"
        assert slider.locator("xpath=..").locator("output").inner_text() == "3"
    assert page.evaluate("document.querySelector('.cosine').data[0].z[0][1]") == pytest.approx(before + 0.01)
    page.keyboard.press("Home")
    assert other.get_attribute("aria-valuetext") == "layer 0"

    rounds = page.get_by_label("Rounds, Figure 3")
    rounds.focus()
    page.keyboard.press("ArrowDown")
    assert rounds.input_value() == "1"
    section = page.locator("#figure-3")
    assert "66 groups" in section.inner_text()
    assert "80 groups" not in section.inner_text()
    assert cosine.input_value() == "0", "the layer stays"
    page.keyboard.press("ArrowUp")
    assert "80 groups" in section.inner_text()


def test_pages_are_small_and_share_the_library(written: dict[str, Path], view: Any, tmp_path: Path) -> None:
    library = len(get_plotlyjs())
    assert written["report"].stat().st_size - library < 2_000_000
    for name in ("figures", "watch"):
        assert written[name].stat().st_size < 2_000_000
        assert "Copyright" not in written[name].read_text()
    assert [path.name for path in written["figures"].parent.glob("*.js")] == [pages.LIBRARY]
    alone = tmp_path / "figures.html"
    shutil.copy(written["figures"], alone)
    page = view(alone)
    assert "copy both" in page.locator("#lost").inner_text()


def test_a_report_of_many_layers_and_turns_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_report, "LAYERS", layers := list(range(80)))
    facts = make_facts() | {"layers": layers, "residual_norm": [1.0] * 80}
    facts["evidence"] |= {key: evidence(3) for key in ("1", "2", "3")}
    question = "In the story about {} travellers, which of them reaches the sea before the others, and why is that so?"
    projections = test_report.make_projections(n_questions=1000, question=question)
    report = pages.write_report(extraction(facts, projections), tmp_path)
    assert report.stat().st_size - len(get_plotlyjs()) < 2_000_000


def test_a_folder_keeps_somebody_elses_library(interp: Any, tmp_path: Path) -> None:
    (tmp_path / "plotly.min.js").write_text("mine")
    code, _, said = interp("figures", "--page-only", "--out", tmp_path)
    assert (code, said.count("\n"), "plotly.min.js: exists" in said) == (2, 1, True)
    (tmp_path / "plotly.min.js").write_text("/**\n* plotly.js v0.1\n")
    assert interp("figures", "--page-only", "--out", tmp_path)[0] == 0
    assert (tmp_path / "plotly.min.js").read_text() == get_plotlyjs()


def watch(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "figures.watch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_run_that_goes_on_is_watched_until_it_ends(tmp_path: Path) -> None:
    run, page = run_folder(tmp_path / "run"), tmp_path / "out" / "watch.html"
    look = watching.look(run)
    assert (look.running, look.state) == (True, "running: seed 0, imad, step 40")
    length = next(curve for curve in look.curves if curve.what == "length")
    assert (length.steps, length.values[0], length.values[-1]) == (40, 99, 60)
    assert length.sparkline(4) == "█▆▃▁"
    assert look.samples == [{"seed": 0, "when": "step 40", **SAMPLE}]

    command = [sys.executable, "-m", "figures.watch", str(run), "--every", "0.1", "--out", str(page)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as running:
        until = time.monotonic() + 60
        while not page.exists() and time.monotonic() < until:
            time.sleep(0.05)
        seen = page.read_text()
        assert ('id="reload"' in seen, "<b>3</b>" in seen, "&lt;b&gt;3&lt;/b&gt;" in seen) == (True, False, True)
        for stage in ("sft", "debategpt", "imad"):
            (run / "seed-0" / stage).mkdir()
        said, wrong = running.communicate(timeout=60)
    assert (running.returncode, wrong) == (0, "")
    assert all(words in said for words in ("finished: seed 0, imad, step 40", "length in tokens", "What is 1+2?"))
    assert 'id="reload"' not in page.read_text()
    assert sorted(path.name for path in page.parent.iterdir()) == ["plotly.min.js", "watch.html"]


def test_a_run_that_was_killed_is_said_to_be_stopped(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    for path in (run / "seed-0").iterdir():
        os.utime(path, (0, 0))
    look = watching.look(run)
    assert (look.running, look.state) == (False, "stopped: seed 0, imad, step 40; the same interp train goes on")


def test_before_its_first_step_a_run_has_no_curve(tmp_path: Path) -> None:
    from interp.training.settings import PRESETS

    (tmp_path / "preset.json").write_text(json.dumps(PRESETS["organism"].record()))
    (tmp_path / "transcripts.jsonl").write_text("")
    look = watching.look(tmp_path)
    assert (look.running, look.curves, look.title) == (True, [], "Training of organism (organism)")
    assert "no step yet" in look.state
    assert "No step has been logged" in watching.page(tmp_path, look, 2.0)


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    said = watch(tmp_path)
    assert (said.returncode, said.stderr.count("\n"), said.stdout) == (2, 1, "")
    assert "not the folder of a training run; give the --out of interp train" in said.stderr
    (tmp_path / "page.html").write_text("mine")
    said = watch(run_folder(tmp_path / "run"), "--once", "--out", tmp_path / "page.html")
    assert (said.returncode, (tmp_path / "page.html").read_text()) == (2, "mine")


def test_ctrl_c_ends_the_watching_without_a_traceback(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "figures.watch",
        str(run_folder(tmp_path / "run")),
        "--out",
        str(tmp_path / "w.html"),
    ]
    how: dict[str, Any] = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "preexec_fn": hear_interrupts}
    with subprocess.Popen(command, text=True, cwd=ROOT, **how) as running:
        until = time.monotonic() + 60
        while not (tmp_path / "w.html").exists() and time.monotonic() < until:
            (tmp_path / "run" / "seed-0" / "metrics.jsonl").touch()  # or a slow start would find it ended
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, wrong = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in wrong
    assert (tmp_path / "w.html").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_demo_ends_with_three_pages_and_a_command() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory", "-n", "demo"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    made = {f"{out}/{name}" for out in re.findall(r"--out (\S+)", said) for name in ("report.html", "figures.html")}
    opened = re.findall(rf'^echo "open {re.escape(str(ROOT))}/(\S+):', said, flags=re.MULTILINE)
    assert len(set(opened)) == 3
    assert set(opened) <= made
    last = said.strip().splitlines()[-1]
    [directions] = re.findall(r"--directions (\S+)", last)
    assert last.startswith('echo "then type: .venv/bin/interp serve')
    assert Path(directions).parent.as_posix() in re.findall(r"--out (\S+)", said)
    verb, *options = shlex.split(last.partition("interp ")[2].rstrip('"'))
    typer.main.get_command(app).commands[verb].make_context(verb, options)  # type: ignore[attr-defined]
