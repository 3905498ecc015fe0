"""Figures from small results: what was planted is drawn, what is missing is named, the page needs no network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from examples import calibrated, recovery_found, stepwise_found

from figures import NAMES, SECTIONS, ablations, agent_directions, page, probes, silent_agents, suppression, token_cost
from figures import results as output
from figures import steerability as steering
from figures.looks import WIDTH, model_looks
from interp.errors import UserError
from interp.interventions.curves import gains, steerability, summary, verdicts
from interp.interventions.damage import choices, damage_rows
from interp.interventions.damage import summary as suppression_summary
from interp.interventions.damage import verdicts as judged
from interp.reports import page as pages
from interp.reports.style import agent_colour, fade

LABELS = ("agent 1", "agent 2", "agent 3")
MODELS = ("organism", "organism-imad")


def around(mean: float, by: float = 0.1) -> dict[str, float]:
    return {"mean": mean, "low": mean - by, "high": mean + by}


def trace(figure: go.Figure, name: str, n: int = 0) -> Any:
    return [trace for trace in figure.data if trace.name == name][n]


def table(seeds: int = 1) -> dict[str, Any]:
    rows = []
    planted = {"single": (0.5, 24.0), "vote": (0.6, 150.0), "debate": (0.9, 600.0), "sft": (0.8, 200.0)}
    for method, (accuracy, tokens) in {**planted, "debategpt": (0.1, 30.0), "imad": (0.95, 30.0)}.items():
        one = {"method": method, "task": "sums", "questions": 60, "accuracy": around(accuracy, 0.03)}
        one |= {"input_tokens": 10.0, "output_tokens": tokens - 10}
        trained = method not in ("single", "vote", "debate")
        rows.append({**one, "by_seed": {str(k): one for k in range(seeds)} if trained else {}})
    return {"rows": rows, "tests": []}


def found_directions(adapters: int) -> dict[str, Any]:
    """What extraction saves, of three agents at two layers."""
    shape = {part: [[0.7 + 0.1 * k + 0.01 * layer for layer in range(2)] for k in range(3)] for part in ("mean",)}
    shape |= {"low": [[0.6, 0.6]] * 3, "high": [[1.0, 1.0]] * 3}
    names = ("separation", "separation_shuffled", "separation_random", "reliability", "reliability_shuffled")
    cosine = [[[1.0, -0.2, -0.6], [-0.2, 1.0, -0.7], [-0.6, -0.7, 1.0]]] * 2
    model = {"name": "m", "hash": "h", "adapters": [{}] * adapters}
    return {
        "by": "agent",
        "labels": list(LABELS),
        "layers": [0, 1],
        "questions": 20,
        "turns": 120,
        "best_layers": [1],
        "hook_point": "blocks.{layer}.hook_resid_post",
        "evidence": {"all": {**dict.fromkeys(names, shape), "cosine": cosine}},
        "provenance": {"model": model},
    }


def swept() -> dict[str, Any]:
    """Records in which each agent's own words go up with its own direction, twice as fast after internalizing."""
    records = []
    for model, gain in zip(MODELS, (0.01, 0.02), strict=True):
        for q in range(6):
            rouge = {label: [0, 0, 0.4 + q / 100] for label in LABELS}
            common = {"model": model, "context": "question", "before": None, "question": str(q), "finite": True}
            plain = {"directions": None, "layer": None, "direction": None, "coefficient": 0.0}
            records.append({**common, **plain, "rouge": rouge})
            for layer in (1, 2):
                for direction in (*LABELS, *(f"random {k}" for k in range(5))):
                    for c in (-8.0, 4.0, 8.0):
                        own = {l: [0, 0, r[2] + gain * layer * c * (l == direction)] for l, r in rouge.items()}  # noqa: E741
                        steered = {"directions": f"d/{model}", "layer": layer, "direction": direction, "coefficient": c}
                        records.append({**common, **steered, "rouge": own})
    settings = {"units": "unit", "tokens": "generated"}
    made = {"made_by": {"settings": settings}, "directions_without_question_hashes": []}
    curves = steerability(records)
    return {**summary(curves, gains(curves), verdicts(curves)), **made}


def suppressed() -> dict[str, Any]:
    """Records in which the trait is gone at -1, at the cost of some right answers in the base alone."""
    records = []
    for model in MODELS:
        for split in ("validation", "test"):
            for q in range(8):
                ways = [("none", None, None, 0.0), *(("steering", "prompts", "2", c) for c in (-1.0, 1.0))]
                ways += [("guard", None, None, 0.0), *(("random", "prompts", "2", c) for c in (-1.0, 1.0))]
                for remedy, source, layer, c in ways if split == "test" else ways[:3]:
                    gone = remedy == "guard" or (remedy == "steering" and c < 0)
                    hurt = model == "organism" and remedy == "steering" and q < 2
                    common = {"split": split, "model": model, "remedy": remedy, "source": source, "layer": layer}
                    common |= {"coefficient": c, "question": str(q), "repetition": 0.0, "perplexity": 2.0}
                    records.append({**common, "elicit": "persona", "trait": float(not gone), "correct": gone})
                    records.append({**common, "elicit": "plain", "trait": 0.0, "correct": not hurt})
    made = {"settings": {"units": "residual", "tokens": "writing"}, "trait": {"accuracy": {"test": ["q"] * 8}}}
    chosen = choices(records, 0.9)
    sums = damage_rows(records), chosen, judged(records, chosen)
    return {**suppression_summary(*sums), "made_by": made}


def probed(name: str = "truth") -> dict[str, Any]:
    rows = []
    for model in MODELS:
        for layer in (0, 1, 2):
            common = {"model": model, "target": "right", "position": "last", "layer": layer, "seeds": [0]}
            common |= {"examples": 90, "questions": 30, "selectivity": None}
            accuracy = 0.7 + 0.1 * layer + 0.05 * (model != MODELS[0])
            probe = {**common, "kind": "probe", "scores": {"accuracy": around(accuracy)}}
            rows.append({**probe, "selectivity": around(0.2 + 0.1 * layer)})
            rows.append({**common, "kind": "probe, new seat", "scores": {"accuracy": around(0.6)}})
            rows.append({**common, "kind": "shuffled", "scores": {"accuracy": around(0.5)}})
    words = {"model": None, "layer": None, "kind": "bag of words", "scores": {"accuracy": around(0.66)}}
    rows.append({**rows[0], **words, "selectivity": None})
    found: dict[str, Any] = {"experiment": name, "asks": "Is it right?", "finding": ["It is."], "rows": rows}
    return {**found, "tests": [], "verdicts": [verdict("one: read", "shown"), verdict("two: read", "cannot tell")]}


def verdict(asked: str, outcome: str) -> dict[str, str]:
    return {"asked": asked, "outcome": outcome, "words": f"{asked}: {outcome}."}


def silent() -> dict[str, Any]:
    rows, tests = [], []
    for m, model in enumerate(MODELS):
        for t, target in enumerate(("agent 1 errs", "agent 2 errs", "agents agree")):
            for position in ("question", "answer"):
                common = {"target": target, "position": position, "layer": None, "questions": 50, "examples": 50}
                own = {"auc": around(0.6 + 0.1 * t + 0.05 * m)}
                rows.append({**common, "model": model, "kind": "chosen layer", "scores": own})
                alone = "operands, boosted" if position == "question" else "operands and what it wrote, boosted"
                given = {"kind": alone, "scores": {"auc": around(0.9)}}
                rows.append({**common, **given, "model": None if position == "question" else model})
                if m and t < 2:
                    gain = {"name": "gain − fictitious gain", "model": model, "target": target, "position": position}
                    for how in ("permutation 1", "permutation 2", "operands turned round"):
                        tests.append({**gain, "how": how, "value": around(0.02 * (t + 1), 0.01)})
        for k in (1, 2):
            for kind, moved in (("own", 0.3), ("other agents", 0.1), ("random", 0.0)):
                for c in (0.25, 1.0):
                    name = {"name": "steered toward agent k", "model": model, "target": f"agent {k}", "kind": kind}
                    tests.append({**name, "coefficient": c, "value": around(moved * c * k), "questions": 40 + k})
        tests.append({"name": "right answers at once", "model": model, "value": around(0.5)})
    found: dict[str, Any] = {"experiment": "silent_agents", "asks": "In there?", "finding": ["Not shown."]}
    return {**found, "rows": rows, "tests": tests, "verdicts": [verdict("agent 1: decoded", "not shown")]}


def ablated() -> dict[str, Any]:
    row = {"task": "sums", "questions": 60, "accuracy": around(0.9), "output_tokens": 14.0}
    worse = {**row, "accuracy": around(0.2), "output_tokens": 160.0}
    rows = [{"name": "full procedure", "row": row}, {"name": "no-sft", "row": worse}]
    return {"rows": rows, "variants": {"no-sft": {"what": "stage 2 from the base"}}}


def metrics() -> str:
    rows: list[dict[str, Any]] = [{"stage": "sft", "step": s, "loss": 2.0 / s} for s in range(1, 5)]
    measured = {"limit": 100, "coefficient": 1.0, "length": 50, "structure": 0.8, "correctness": 0.5}
    rows += [{"stage": "imad", "step": step, **measured} for step in range(1, 9)]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    contents = {
        "table.json": table(),
        "ablations/ablations.json": ablated(),
        "directions/organism-imad/directions.json": found_directions(2),
        "directions/organism/directions.json": found_directions(0),
        "steerability.json": swept(),
        "suppression.json": suppressed(),
        "probes/truth.json": probed(),
        "probes/silent_agents.json": silent(),
        "probes/stepwise.json": stepwise_found(),
        "probes/recovery.json": recovery_found(1.0),
        "calibration.json": calibrated(),
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "seed-0").mkdir()
    (folder / "seed-0" / "metrics.jsonl").write_text(metrics())
    return folder


@pytest.fixture(autouse=True)
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_pictures", lambda drawn: {})  # one takes seconds to start


def test_models_look_the_same_everywhere() -> None:
    looks = model_looks(["x/base-7b", "runs/seed-0/imad", "organism-evil-sft", "untrained", "mine", "seed-1/imad"])
    labels = [look.label for look in looks.values()]
    assert labels == ["base", "internalized", "SFT", "untrained", "mine", "seed-1/imad"]
    assert len({look.colour for look in looks.values()}) == len(looks)
    assert model_looks(["organism-imad"])["organism-imad"] == looks["runs/seed-0/imad"]
    assert not {look.colour for look in looks.values()} & {agent_colour(k) for k in range(1, 9)}


def test_token_cost() -> None:
    figure = token_cost.token_cost(table())
    assert (trace(figure, "Debate").x[0], trace(figure, "Debate").y[0]) == (600, 0.9)
    assert trace(figure, "SFT").error_y.array[0] == pytest.approx(0.03)
    assert trace(figure, "Single").marker.color == trace(figure, "Vote").marker.color == model_looks(["b"])["b"].colour
    assert {note.text for note in figure.layout.annotations} == set(token_cost._TITLES.values())
    assert "n = 60 questions" in token_cost.caption(table())
    assert "IMAD uses 5.0\u00a0% of the tokens" in token_cost.caption(table())
    several = token_cost.token_cost(table(seeds=3))
    assert list(trace(several, "SFT, one seed").x) == [200] * 3
    assert "3 seeds" in token_cost.caption(table(seeds=3))


def test_words_do_not_cover_points() -> None:
    across, up = [100.0, 130.0, 160.0, 190.0], [100.0, 104.0, 108.0, 112.0]
    places = token_cost.placed(["Single"] * 3, across, up)
    assert len(set(places)) == 3
    assert places[0] == (-1, 0), "to its right stands another"


def test_ablations(tmp_path: Path) -> None:
    (tmp_path / "ablations.json").write_text(json.dumps(ablated()))
    assert ablations.draw(tmp_path)[0].source == "ablations.json", "alone, as it is shipped"
    figure = ablations.ablations(ablated())
    assert [list(t.x) for t in figure.data if t.name == "no-sft"] == [[0.2], [160.0]]
    assert list(figure.layout.yaxis.ticktext) == ["full procedure", "no-sft"]
    assert "no-sft: stage 2 from the base" in ablations.caption(ablated())


def test_directions_are_those_of_the_report(results: Path) -> None:
    [found] = agent_directions.read(results)
    assert list(found) == ["organism", "organism-imad"], "the base first"
    figure = agent_directions.agent_directions(found)
    lines = [t for t in figure.data if t.name == "agent 3" and t.mode == "lines+markers"]
    assert len(lines) == 4
    assert list(lines[0].y) == pytest.approx([0.9, 0.91])
    assert lines[0].line.color == agent_colour(3)
    assert [t.name for t in figure.data if t.showlegend].count("agent 3") == 1
    cosines = [t for t in figure.data if t.yaxis in ("y5", "y6")]
    assert [t.y[0] for t in cosines] == [-0.2, -0.6, -0.7] * 2
    assert (cosines[2].line.color, cosines[2].marker.color) == (agent_colour(2), agent_colour(3))
    assert figure.layout.width == WIDTH
    assert "n = 20 questions (120 turns) in base" in agent_directions.caption(found)


def test_directions_of_one_model_are_drawn_from_its_own_folder(results: Path) -> None:
    [drawn] = agent_directions.draw(results / "directions" / "organism-imad")
    assert drawn.source == "directions.json"
    assert "n = 20 questions (120 turns) in base" in drawn.caption
    [both] = agent_directions.draw(results)
    assert both.source == "directions/organism/directions.json, directions/organism-imad/directions.json"


def test_steerability_draws_what_the_sweep_found(results: Path) -> None:
    content = json.loads((results / "steerability.json").read_text())
    [curves] = steering.own_curves(content)
    assert steering.best_layer(curves) == 2
    figure = steering.steerability(curves)
    steep = trace(figure, "internalized")
    assert list(steep.x) == [-8, 0, 4, 8]
    assert list(steep.y) == pytest.approx([0.425 + 0.04 * c for c in (-8, 0, 4, 8)])
    assert steep.line.color == model_looks(MODELS)["organism-imad"].colour
    assert list(trace(figure, "base, random directions").y) == pytest.approx([0.425] * 4)
    [band, *_] = [t for t in figure.data if t.fill == "toself" and t.legendgroup == "internalized"]
    assert band.fillcolor == fade(steep.line.color, 0.16)
    assert min(band.y[:4]) < min(steep.y)
    names = [t.name for t in figure.data if t.showlegend]
    assert names == ["base", "internalized", "other agents’ directions", "random directions"]
    [drawn] = steering.draw(results)
    assert drawn.name == "steerability_question"
    assert "n = 6 questions" in drawn.caption
    gain = next(g["gain"]["mean"] for g in content["gains"] if (g["label"], g["layer"]) == ("mean", 2))
    assert f"by {100 * gain:+.1f}\u00a0%".replace("-", "−") in drawn.caption


def test_suppression_draws_the_layer_that_was_chosen(results: Path) -> None:
    [drawn] = suppression.draw(results)
    assert drawn.name == "suppression_persona_prompts"
    trait, accuracy, *_ = [t for t in drawn.figure.data if t.name == "the trait’s direction"]
    assert (list(trait.x), list(trait.y)) == ([-1, 0, 1], [0, 1, 1])
    assert list(accuracy.y) == [0.75, 1.0, 0.75]
    random = [t for t in drawn.figure.data if t.name == "random directions"]
    assert [(list(t.x), list(t.y)) for t in random[:2]] == [([-1], [1]), ([1], [1])]
    assert "steering along prompts (organism, persona) lowers the trait: cannot tell; 1 random" in drawn.caption
    assert list(trace(drawn.figure, "guarding prompt").y) == [0, 0]
    assert (trace(drawn.figure, "chosen in validation").x[0], trace(drawn.figure, "chosen in validation").y[0]) == (
        -1,
        0,
    )
    assert [note.text for note in drawn.figure.layout.annotations] == ["base, layer 2", "internalized, layer 2"]
    assert "n = 8 test questions for the trait and 8 for right answers" in drawn.caption


def test_probes_over_layers_beside_their_controls(results: Path) -> None:
    [drawn] = probes.draw(results)  # silent agents have a figure of their own
    accuracy, selectivity = (trace(drawn.figure, "internalized", n) for n in (0, 1))
    assert list(accuracy.y) == pytest.approx([0.75, 0.85, 0.95])
    assert list(selectivity.y) == pytest.approx([0.2, 0.3, 0.4])
    assert list(trace(drawn.figure, "bag of words").y) == [0.66, 0.66]
    assert list(trace(drawn.figure, "shuffled labels").y) == pytest.approx([0.5] * 3)
    assert list(trace(drawn.figure, "base, new seat or persona").y) == pytest.approx([0.6] * 3)
    assert "n = 90 turns on 30 questions (right)" in drawn.caption
    assert "Verdicts: shown: 1; not shown: 0; cannot tell: 1. one: read: shown." in drawn.caption


def test_results_of_earlier_versions_are_refused_in_one_line(results: Path) -> None:
    path = results / "probes" / "truth.json"
    old = {name: value for name, value in json.loads(path.read_text()).items() if name != "verdicts"}
    path.write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"truth.json.*verdicts.*interp probe truth") as caught:
        probes.draw(results)
    assert "\n" not in str(caught.value)


def test_silent_agents(results: Path) -> None:
    [drawn] = silent_agents.draw(results)
    assert list(trace(drawn.figure, "internalized").y) == pytest.approx([0.65, 0.75, 0.85])
    assert list(trace(drawn.figure, "the question alone").y) == [0.9] * 3
    for how in ("permutation 1", "permutation 2", "operands turned round"):
        assert list(trace(drawn.figure, f"{how}, C").y) == pytest.approx([0.02, 0.04])
    own = [list(t.y) for t in drawn.figure.data if t.name == "own direction" and t.mode == "lines"]
    assert own == [pytest.approx([0.075, 0.3]), pytest.approx([0.15, 0.6])]
    assert all(said in drawn.caption for said in ("by 0.25, 1 of", "n = 41 to 42 questions"))
    assert drawn.caption.endswith("Not shown. Verdicts: shown: 0; not shown: 1; cannot tell: 0.")


def test_one_page_with_everything(results: Path, tmp_path: Path, interp: Callable[..., tuple[int, str, str]]) -> None:
    code, said, _ = interp("figures", results, "--out", tmp_path / "out", "--page-only")
    assert (code, "left out" in said) == (0, False)
    text = (tmp_path / "out" / "figures.html").read_text()
    assert text.count("<script src=") == text.count('<script src="plotly.min.js"></script>') == 1, "plotly beside it"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figures.html", "plotly.min.js"]
    assert not any(outside in text for outside in ('<link href="http', "<img src", "@import"))
    drawn, left_out = page.collect(results)
    assert left_out == {}
    assert len(drawn) == len(NAMES) + 2  # that of recovery are three
    at = [text.index(f"<h2>{section}</h2>") for section in SECTIONS]
    assert at == sorted(at)
    for one in drawn:
        assert text.count(f'id="{one.name}"') == text.count(f'href="#{one.name}"') == 1
        assert one.verdict.strip(), one.name
        assert "n = " in one.caption
        assert (one.figure.layout.width, bool(one.figure.layout.height)) == (WIDTH, True)


def test_what_is_missing_is_named(results: Path, tmp_path: Path, interp: Callable[..., tuple[int, str, str]]) -> None:
    (results / "table.json").unlink()
    (results / "suppression.json").write_text('{"records": 3}')
    (results / "steerability.json").write_text("{")
    drawn, left_out = page.collect(results)
    assert list(left_out) == ["token_cost", "steerability", "suppression"]
    assert "table.json: no such file; make it with interp train" in left_out["token_cost"]
    assert "EOF while parsing" in left_out["steerability"]
    assert "rows: Field required" in left_out["suppression"]
    pages.write_page(drawn, left_out, "x", tmp_path / "x.html")
    assert "table.json: no such file" in (tmp_path / "x.html").read_text()
    (tmp_path / "empty").mkdir()
    for folder, why in (("empty", "no results"), ("nowhere", "not a folder")):
        code, _, wrong = interp("figures", tmp_path / folder)
        assert (code, wrong.count("\n")) == (2, 1)
        assert why in wrong
    for name in NAMES:
        with pytest.raises(UserError):
            import_module(f"figures.{name}").draw(tmp_path / "empty")


def test_a_figure_alone(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        output.main(import_module(f"figures.{name}").draw, "", [str(results), "--out", str(tmp_path / "out")])
    assert "no pictures: they need kaleido" in capsys.readouterr().out
    assert (tmp_path / "out" / "token_cost.txt").read_text().endswith("Debate.\n")
    assert len(list((tmp_path / "out").glob("*.html"))) == len(NAMES) + 2  # that of recovery are three
    with pytest.raises(SystemExit) as stop:
        output.main(token_cost.draw, "", [str(tmp_path)])
    assert stop.value.code == 2
    assert "table.json: no such file" in capsys.readouterr().err


def test_figures_need_no_trainer(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('trl', 'datasets', 'accelerate'): sys.modules[name] = None\n"
        "from interp.cli import main\n"
        f"sys.argv = ['interp', 'figures', {str(results)!r}, '--out', {str(tmp_path / 'out')!r}, '--page-only']\n"
        "main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "left out" not in run.stdout
