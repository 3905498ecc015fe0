"""The page and its figures: the numbers of the facts, worded as far as they carry, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from interp.directions.directions import Directions
from interp.directions.extract import Extraction, Projections
from interp.errors import UserError
from interp.reports.directions import (
    cosine_figure,
    norm_figure,
    projection_figure,
    reliability_figure,
    separation_figure,
)
from interp.reports.page import write_report
from interp.reports.style import agent_colour
from interp.reports.words import number, percent

LAYERS = [0, 1, 2, 3]
MALICE = "</script><script>alert('x')</script><b>What</b> is 3 < 4 & 5 > 2?"


def quantity(mean: float, half_width: float, n_labels: int) -> dict[str, Any]:
    """A value that falls by a hundredth with every label and rises by a hundredth with every layer."""
    means = [[mean - 0.01 * k + 0.01 * layer for layer in LAYERS] for k in range(n_labels)]
    return {
        "mean": means,
        "low": [[v - half_width for v in row] for row in means],
        "high": [[v + half_width for v in row] for row in means],
    }


def evidence(n_labels: int, separation: float = 0.9, questions: int = 40) -> dict[str, Any]:
    expected = -1 / (n_labels - 1)
    return {
        "groups": 2 * questions,
        "questions": questions,
        "reliability": quantity(0.8, 0.05, n_labels),
        "reliability_shuffled": quantity(0.0, 0.2, n_labels),
        "separation": quantity(separation, 0.04, n_labels),
        "separation_shuffled": quantity(0.5, 0.06, n_labels),
        "separation_random": quantity(0.55, 0.1, n_labels),
        "chosen_layer": {"layers": [], "mean": [None] * n_labels, "low": [None] * n_labels, "high": [None] * n_labels},
        "cosine": [np.where(np.eye(n_labels) == 1, 1.0, expected + 0.01 * i).tolist() for i in LAYERS],
    }


def make_facts(n_labels: int = 3, separation: float = 0.9) -> dict[str, Any]:
    return {
        "by": "agent",
        "labels": [f"agent {k}" for k in range(1, n_labels + 1)],
        "layers": LAYERS,
        "position": "last",
        "hook_point": "blocks.{layer}.hook_resid_post",
        "transcripts": 41,
        "questions": 40,
        "turns": 80 * n_labels,
        "skipped": [],
        "norm": [[1.0 + k + layer for layer in LAYERS] for k in range(n_labels)],
        "residual_norm": [10.0, 20.0, 40.0, 80.0],
        "evidence": {"all": evidence(n_labels, separation)},
        "best_layers": [2, 3],
        "provenance": {
            "model": {
                "name": "tiny-llama",
                "revision": None,
                "hash": "f00d",
                "adapters": ["sft", "grpo"],
                "dtype": "float32",
                "device": "cpu",
            },
            "transcripts": {"source": "debates.jsonl", "sha256": "beef"},
            "settings": {"seed": 7},
            "versions": {"interp": "0.1.0", "torch": "2.9.0"},
            "created": "2026-01-02T03:04:05+00:00",
        },
    }


def make_projections(n_labels: int = 3, n_questions: int = 40, question: str = "What is {}?") -> Projections:
    shape = (n_questions, 2, n_labels)
    n = n_questions * 2 * n_labels
    generator = np.random.default_rng(0)
    asked = np.broadcast_to(np.arange(n_questions)[:, None, None], shape).ravel().tolist()
    return Projections(
        labels=[f"agent {k + 1}" for k in range(n_labels)],
        layers=LAYERS,
        x=generator.normal(size=(len(LAYERS), n)).astype(np.float32),
        y=generator.normal(size=(len(LAYERS), n)).astype(np.float32),
        label=np.broadcast_to(np.arange(n_labels), shape).ravel(),
        round=np.broadcast_to(np.array([1, 2])[:, None], shape).ravel(),
        question=[question.replace("{}", str(i)) for i in asked],
    )


def extraction(facts: dict[str, Any], projections: Projections | None = None) -> Extraction:
    labels = tuple(facts["labels"])
    vectors = np.ones((1, len(labels), len(LAYERS), 2), dtype=np.float32)
    lengths = np.asarray(facts["residual_norm"], dtype=np.float32)
    directions = Directions(labels, tuple(LAYERS), vectors, lengths, facts["hook_point"], facts, ("all",))
    return Extraction(directions, projections or make_projections(len(labels)))


def written(tmp_path: Path, facts: dict[str, Any], projections: Projections | None = None) -> str:
    path = write_report(extraction(facts, projections), tmp_path)
    return path.read_text(encoding="utf-8").replace(get_plotlyjs(), "")


def words(page: str) -> str:
    """What a reader sees, on one line."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).replace("&nbsp;", " ").split())


def line(figure: Any, name: str) -> Any:
    (trace,) = [t for t in figure.data if t.name == name]
    return trace


def band(figure: Any, group: str) -> Any:
    (trace,) = [t for t in figure.data if t.legendgroup == group and t.fill == "toself"]
    return trace


def test_separation_draws_the_facts_and_their_controls() -> None:
    facts = make_facts()
    figure = separation_figure(facts)
    values = facts["evidence"]["all"]["separation"]
    for k, label in enumerate(facts["labels"]):
        trace = line(figure, label)
        assert list(trace.y) == values["mean"][k]
        assert trace.line.color == agent_colour(k + 1)
        polygon = band(figure, label)
        assert list(polygon.x) == [0, 1, 2, 3, 3, 2, 1, 0, 0, None]
        assert list(polygon.y) == [*values["low"][k], *values["high"][k][::-1], values["low"][k][0], None]
    assert list(line(figure, "shuffled labels").y) == pytest.approx([0.49, 0.50, 0.51, 0.52])
    assert list(line(figure, "random directions").y) == pytest.approx([0.54, 0.55, 0.56, 0.57])
    # The band of a control is as wide as the widest over the labels: 0.48 − 0.06 to 0.50 + 0.06.
    known = [y for y in band(figure, "shuffled labels").y if y is not None]
    assert min(known) == pytest.approx(0.42)
    assert max(known) == pytest.approx(0.50 + 0.03 + 0.06)


def test_reliability_draws_the_asked_round() -> None:
    facts = make_facts()
    facts["evidence"]["2"] = evidence(3)
    facts["evidence"]["2"]["reliability"] = quantity(0.4, 0.05, 3)
    assert line(reliability_figure(facts), "agent 1").y[0] == 0.8
    figure = reliability_figure(facts, "2")
    assert line(figure, "agent 1").y[0] == 0.4
    assert {t.name for t in figure.data if t.name} == {*facts["labels"], "shuffled labels"}


def test_undefined_values_leave_gaps() -> None:
    facts = make_facts()
    values = facts["evidence"]["all"]["separation"]
    for part in ("mean", "low", "high"):
        values[part][0][1] = None
    figure = separation_figure(facts)
    assert list(line(figure, "agent 1").y)[1] is None
    assert not line(figure, "agent 1").connectgaps
    # Layer 0 stands alone, layers 2 and 3 together; no polygon reaches over layer 1.
    assert list(band(figure, "agent 1").x) == [-0.15, 0.15, 0.15, -0.15, -0.15, None, 2, 3, 3, 2, 2, None]


def test_cosine_has_a_step_for_every_layer_and_starts_at_the_best() -> None:
    facts = make_facts()
    facts["evidence"]["all"]["cosine"][3][0][1] = None
    figure = cosine_figure(facts)
    (heatmap,) = figure.data
    (slider,) = figure.layout.sliders
    matrices = facts["evidence"]["all"]["cosine"]
    assert (heatmap.zmin, heatmap.zmax, slider.active) == (-1, 1, 2)
    assert [list(row) for row in heatmap.z] == matrices[2]
    assert heatmap.text[0][1] == "−0.48"
    assert [step.args[0]["z"][0] for step in slider.steps] == matrices
    assert slider.steps[3].args[0]["text"][0][0][1] == ""


def test_projection_puts_every_turn_in_its_place() -> None:
    facts, projections = make_facts(), make_projections()
    figure = projection_figure(facts, projections)
    (slider,) = figure.layout.sliders
    assert slider.active == 2
    data, ranges, traces = slider.steps[1].args
    for i, trace in enumerate(t for t in figure.data if t.showlegend is False):
        label, round = i // 2, i % 2 + 1
        cell = (projections.label == label) & (projections.round == round)
        assert trace.name == f"agent {label + 1}, round {round}"
        assert trace.marker.color == agent_colour(label + 1)
        np.testing.assert_array_equal(trace.x, projections.x[2, cell])
        np.testing.assert_array_equal(trace.y, projections.y[2, cell])
        np.testing.assert_allclose(data["x"][i], projections.x[1, cell], atol=2e-3)
        np.testing.assert_allclose(data["y"][i], projections.y[1, cell], atol=2e-3)
    assert list(traces) == list(range(6))
    assert ranges["xaxis.range"] == ranges["yaxis.range"]
    assert ranges["xaxis.range"][0] < min(projections.x[1].min(), projections.y[1].min())


def test_two_labels_need_one_direction() -> None:
    facts, projections = make_facts(2), make_projections(2)
    figure = projection_figure(facts, projections)
    rows = [trace.y for trace in figure.data if trace.showlegend is False]
    for i, heights in enumerate(rows):
        assert np.abs(np.asarray(heights) - i % 2).max() <= 0.3
    assert "y" not in figure.layout.sliders[0].steps[0].args[0]


def test_of_many_turns_whole_questions_are_drawn_and_counted(tmp_path: Path) -> None:
    projections = make_projections(n_questions=1000)
    figure = projection_figure(make_facts(), projections)
    assert sum(len(t.x) for t in figure.data if t.showlegend is False) == 3000
    page = words(written(tmp_path, make_facts(), projections))
    assert "6,000 turns on 1,000 questions; those of evenly spaced questions are drawn (3,000 turns)" in page


def test_norm_is_a_share_of_the_residual_stream() -> None:
    assert list(line(norm_figure(make_facts()), "agent 2").y) == [0.2, 0.15, 0.1, 0.0625]


def test_the_page_says_what_was_done_and_found(tmp_path: Path) -> None:
    page = words(written(tmp_path, make_facts()))
    assert "tiny-llama read 41 debates about 40 questions, 240 turns in all" in page
    assert "How well the agents separate. At layer 2, the best of 4," in page
    assert "92.0 % for agent 1 (88.0 to 96.0 %), 91.0 % for agent 2 (87.0 to 95.0 %) and 90.0 % for" in page
    assert "shuffled labels give 51.0 % (44.0 to 58.0 %)" in page
    assert "How stable the directions are. At layer 2" in page
    assert page.count("n = 80 groups (a question in a round) of 40 questions, all rounds.") == 3
    assert "n = 240 turns on 40 questions." in page
    assert "departures from −0.50" in page
    assert "sft → grpo" in page
    for k in range(1, 6):
        assert f"Figure {k}." in page


def test_what_separates_is_said_without_a_verdict(tmp_path: Path) -> None:
    """Ends of intervals decide nothing: the verdict is what lies beyond the controls."""
    for separation in (0.51, 0.6, 0.9, 1.0):
        facts = make_facts(separation=separation)
        facts["evidence"]["all"]["separation_random"]["high"][1] = [0.99] * 4
        page = words(written(tmp_path, facts))
        assert f"with a frequency of {percent(separation + 0.02)} for agent 1".replace("\u00a0", " ") in page
        assert not re.search(r"no better than|No separation|agents separate\. (?!At)|stable\. (?!At)|as well as", page)


def test_the_separation_is_that_of_a_layer_chosen_elsewhere(tmp_path: Path) -> None:
    """What the best layer says of the questions that made it the best is not the finding."""
    facts = make_facts()
    chance = {"layers": [1, 3], "mean": [0.5] * 3, "low": [0.4] * 3, "high": [0.6] * 3}
    facts["evidence"]["all"]["chosen_layer"] = chance
    page = words(written(tmp_path, facts))
    assert "With the layer chosen on other questions (1 or 3), a turn on a held-out question lies further" in page
    assert "with a frequency of 50.0 % for agent 1 (40.0 to 60.0 %)" in page


@pytest.mark.parametrize(("questions", "labels", "enough"), [(1, 3, 0), (3, 3, 0), (5, 3, 0), (6, 3, 1), (5, 2, 0)])
def test_of_few_questions_nothing_is_said(tmp_path: Path, questions: int, labels: int, enough: bool) -> None:
    """Not that agents separate, nor that they do not: with n questions all in favour, p is 0.5ⁿ, times the labels."""
    for separation in (1.0, 0.5):
        facts = make_facts(labels, separation)
        facts["evidence"]["all"]["questions"] = questions
        page = words(written(tmp_path, facts))
        few = f"{questions} question{'s' * (questions > 1)}: too few to say. "
        assert page.count(few) == 2 * (not enough)
        assert ("How well the agents separate." in page) == ("How stable" in page) == bool(enough)


def test_what_was_read_is_named(tmp_path: Path) -> None:
    facts = make_facts()
    facts["hook_point"] = "blocks.{layer}.hook_attn_out"
    assert "the model’s attention output in its own turns" in words(written(tmp_path, facts))


def test_a_label_without_an_interval_is_named(tmp_path: Path) -> None:
    facts = make_facts()
    facts["evidence"]["all"]["separation"]["low"][2][2] = None
    page = words(written(tmp_path, facts))
    assert "with a frequency of 92.0 % for agent 1 (88.0 to 96.0 %) and 91.0 % for agent 2" in page
    assert "could not be measured with an interval for agent 3" in page


def test_a_page_without_any_evidence_still_says_so(tmp_path: Path) -> None:
    facts = make_facts()
    for name, value in facts["evidence"]["all"].items():
        if isinstance(value, dict) and name != "chosen_layer":
            facts["evidence"]["all"][name] = {part: [[None] * 4 for _ in range(3)] for part in value}
    facts["evidence"]["all"]["cosine"] = [[[None] * 3 for _ in range(3)] for _ in LAYERS]
    facts["best_layers"] = []
    projections = make_projections(n_questions=1)
    projections.x[:] = np.nan
    projections.y[:] = np.nan
    page = words(written(tmp_path, facts, projections))
    assert "How well the agents separate. At layer 2, separation could not be measured" in page
    assert "Best layers" not in page


@pytest.mark.parametrize("skipped", [0, 1, 27])
def test_groups_left_out_are_counted_and_named(tmp_path: Path, skipped: int) -> None:
    facts = make_facts()
    facts["skipped"] = [
        {"transcript": f"line {i}", "question": "q", "round": 2, "reason": "agent 3 is missing"}
        for i in range(1, skipped + 1)
    ]
    page = words(written(tmp_path, facts))
    assert page.count("round 2: agent 3 is missing") == min(skipped, 20)
    assert ("left out of everything below" in page) == (skipped > 0)
    assert ("27 groups left out" in page) == ("and 7 more." in page) == (skipped == 27)


def test_rounds_can_be_chosen_where_they_were_told_apart(tmp_path: Path) -> None:
    facts = make_facts()
    assert "<select" not in written(tmp_path, facts)
    facts["evidence"]["1"] = evidence(3, questions=33)
    page = written(tmp_path, facts)
    assert page.count('<option value="1">round 1</option>') == 3
    assert page.count("n = 66 groups (a question in a round) of 33 questions, round 1.") == 3


def test_text_from_outside_stays_text(tmp_path: Path) -> None:
    facts = make_facts()
    facts["labels"][0] = "<i>agent</i> & 1"
    facts["skipped"] = [{"transcript": "line 1", "question": MALICE, "round": 1, "reason": MALICE}]
    page = written(tmp_path, facts, make_projections(question=MALICE))
    assert "alert('x')" not in re.sub(r'<script type="application/json".*?</script>', "", page)
    assert "<script>alert" not in page
    assert "<i>" not in page
    assert page.count("</script>") == 3  # plotly, the figures, the few lines that draw them
    figures = page.split('<script type="application/json" id="figures">')[1].split("</script>")[0]
    hover = json.loads(figures)["projection"]["all"]["data"][0]["text"][0]
    assert hover.startswith("&lt;i&gt;agent&lt;/i&gt; &amp; 1, round 1<br>&lt;/script&gt;")


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    page = written(tmp_path, make_facts())
    assert len((tmp_path / "report.html").read_text(encoding="utf-8")) - len(page) == len(get_plotlyjs())
    assert not re.search(r"""(src|href|action)\s*=(?!"#)|url\(|@import|https?:|//[a-z]+\.""", page)
    assert "default-src 'none'" in page


def test_a_page_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(extraction(make_facts()), tmp_path / "file")
    facts = make_facts()
    del facts["turns"]
    with pytest.raises(KeyError):
        write_report(extraction(facts), tmp_path)
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "report.html"]


def test_numbers_are_written_for_readers() -> None:
    assert percent(0.9964) == "99.6\u00a0%"
    assert [number(v) for v in (-0.5, -0.001, 1.0)] == ["−0.50", "0.00", "1.00"]


def test_agents_keep_their_colours_apart() -> None:
    assert len({agent_colour(k) for k in range(1, 9)}) == 8
    assert agent_colour(1) == agent_colour(9)


def test_tables_and_words_import_neither_plotly_nor_jinja2() -> None:
    modules = "interp.reports, interp.reports.tables, interp.reports.terminal, interp.reports.words, "
    modules += "interp.reports.findings, interp.reports.notebook, interp.reports.intervention_tables"
    code = f"import sys, {modules}; sys.exit(bool({{'plotly', 'jinja2'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_pages_styles_and_figures_import_plotly_or_jinja2() -> None:
    interp = Path(__file__).resolve().parents[1] / "interp"
    found = {
        path.relative_to(interp).as_posix()
        for path in interp.rglob("*.py")
        if re.search(r"^(?:import|from) (?:plotly|jinja2)", path.read_text(), flags=re.MULTILINE)
    }
    drawn = {"serving/app.py", *(f"reports/{name}.py" for name in ("page", "style", "directions", "texts"))}
    assert found - {"models/tokens.py"} <= drawn  # tokens catches the errors of chat templates
