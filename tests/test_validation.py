"""Whatever is read back is checked once, and what users wrote is text: never markup, HTML or an order to a terminal."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from examples import stepwise_found
from rich.table import Table
from safetensors.numpy import save_file
from test_figures import ablated, found_directions, metrics, probed, silent, suppressed, swept, table

from figures import ablations, agent_directions, silent_agents, stepwise, suppression, token_cost, training_dynamics
from figures import probes as probes_figure
from figures import steerability as steering
from interp.debate.tasks.settings import TaskSettings
from interp.directions.directions import Directions
from interp.errors import UserError, plain
from interp.evaluation import Answering, compare, plan
from interp.models.lineage import read_lineage
from interp.probing.probe import Probe
from interp.reports import intervention_tables
from interp.reports import page as pages
from interp.reports.notebook import in_words
from interp.reports.terminal import Terminal, progress_bars
from interp.storage.arrays import write_arrays
from interp.storage.files import checked
from interp.storage.journal import Journal, read_lines
from interp.training.settings import kept_preset, preset

HOSTILE = "[red]a[/] [/] :smile: <b>b</b><script>alert(1)</script> \x1b[31mred\x1b[0m \u202eback\x07"
UNREADABLE = {
    "nothing": b"",
    "half": b'{"a": [1,',
    "another kind": b"[1]",
    "deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge": b'{"a": ' + b"9" * 5000 + b"}",
    "NaN": b'{"a": NaN}',
    "half of a pair": b'{"a": "\\ud800"}',
    "not text": b'{"a": "\xff\xfe"}',
    "a pickle": pickle.dumps({"a": 1}),
}


def refused(read: Callable[[], Any]) -> str:
    """What a reader says, in one line that a terminal can show."""
    with pytest.raises(UserError) as caught:
        read()
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 1000
    assert plain(said) == said
    return said


def directions(**changes: Any) -> Directions:
    vectors = np.random.default_rng(0).standard_normal((1, 2, 2, 4)).astype(np.float32)
    facts = {"provenance": {"model": {"name": "m", "hash": "h", "adapters": []}}, "best_layers": [1]}
    given: dict[str, Any] = {"labels": ("agent 1", "agent 2"), "layers": (0, 1), "vectors": vectors, "facts": facts}
    given |= {"residual_norm": np.ones(2, np.float32), "hook_point": "blocks.{layer}.hook_resid_post"}
    return Directions(**given | changes)


def probe(**changes: Any) -> Probe:
    one, width = np.ones(1, np.float32), np.ones((1, 4), np.float32)
    return Probe(**{"weights": width, "bias": one, "mass_mean": width, "classes": ("no", "yes"), "layer": 1} | changes)


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_no_reader_stumbles_over_what_is_no_json(content: bytes, tmp_path: Path) -> None:
    for name in ("preset.json", "lineage.json", "table.json"):
        (tmp_path / name).write_bytes(content)
    assert "preset.json" in refused(lambda: kept_preset(tmp_path))
    assert "lineage.json" in refused(lambda: read_lineage(str(tmp_path)))
    assert "table.json" in refused(lambda: token_cost.draw(tmp_path))
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' + content.replace(b"\n", b" ") + b"\n")
    assert "a.jsonl, line 2" in refused(lambda: read_lines(tmp_path / "a.jsonl"))
    for load, kind in ((Directions.load, directions()), (Probe.load, None)):
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        refused(lambda load=load, path=path: load(path))
        save_file({"vectors": np.ones(2, np.float32)}, path, {"interp": content.decode("latin-1")})
        refused(lambda load=load, path=path: load(path))
        if kind is not None:
            kind.save(path)
            whole = path.read_bytes()
            for length in (4, 40, len(whole) // 2, len(whole) - 1):
                path.write_bytes(whole[:length])
                refused(lambda load=load, path=path: load(path))


def test_json_is_checked_strictly() -> None:
    assert checked(dict[str, int], '{"a": 1}') == {"a": 1}
    for wrong in ('{"a": "1"}', '{"a": 1.0}', '{"a": true}', '{"a": null}', "[]"):
        with pytest.raises(ValueError, match=r"valid|must be"):
            checked(dict[str, int], wrong)


WRONG_ARRAYS: dict[str, dict[str, np.ndarray]] = {
    "NaN": {"vectors": np.full((1, 2, 2, 4), np.nan, np.float32)},
    "infinite": {"residual_norm": np.array([1, np.inf], np.float32)},
    "too large": {"vectors": np.full((1, 2, 2, 4), 1e300)},
    "empty": {"vectors": np.zeros((1, 2, 2, 0), np.float32)},
    "flat": {"vectors": np.ones(16, np.float32)},
    "a dimension less": {"vectors": np.ones((1, 2, 2), np.float32)},
    "whole numbers": {"vectors": np.ones((1, 2, 2, 4), np.int64)},
    "one too many": {"more": np.ones(2, np.float32)},
}


@pytest.mark.parametrize("arrays", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_arrays_are_those_that_the_header_promises(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    path, right = tmp_path / "d.safetensors", directions()
    header = {"format": "interp.directions/1", "labels": right.labels, "layers": right.layers, "rounds": right.rounds}
    header |= {"hook_point": right.hook_point, "facts": right.facts}
    write_arrays(path, header, {"vectors": right.vectors, "residual_norm": right.residual_norm})
    assert (Directions.load(path).vectors == right.vectors).all()
    write_arrays(path, header, {"vectors": right.vectors, "residual_norm": right.residual_norm} | arrays)
    refused(lambda: Directions.load(path))


LENS: dict[str, Any] = {"promotes": [["yes", 1.0]], "suppresses": [["no", -1.0]]}
PROMOTED: dict[str, Any] = {"layer": 1, "labels": [LENS] * 2, "as_large": [0.5] * 2, "random": [LENS]}
PROMOTED |= {"random_largest": [0.5, 1.5]}
WRONG_HEADERS: dict[str, dict[str, Any]] = {
    "format": {"format": "interp.directions/2"},
    "no format": {"format": None},
    "more": {"more": 1},
    "labels twice": {"labels": ["agent 1", "agent 1"]},
    "layers twice": {"layers": [1, 1]},
    "negative layer": {"layers": [-1, 0]},
    "huge layer": {"layers": [0, 10**30]},
    "layer as text": {"layers": ["0", "1"]},
    "no rounds": {"rounds": []},
    "another place": {"hook_point": "blocks.{layer.__class__}.hook_resid_post"},
    "provenance": {"facts": {"provenance": "mine"}},
    "model": {"facts": {"provenance": {"model": ["m"]}}},
    "adapters": {"facts": {"provenance": {"model": {"adapters": [1]}}}},
    "hashes": {"facts": {"question_hashes": 3}},
    "best layer": {"facts": {"best_layers": [7]}},
    "other labels": {"facts": {"labels": ["agent 2", "agent 1"]}},
    "evidence": {"facts": {"evidence": {"all": {"cosine": [[[1.0]]]}}}},
    "lens": {"facts": {"promoted": {"layer": 1}}},
    "lens of one label": {"facts": {"promoted": PROMOTED | {"labels": [LENS]}}},
    "lens at no layer": {"facts": {"promoted": PROMOTED | {"layer": 7}}},
    "lens without numbers": {"facts": {"promoted": PROMOTED | {"labels": [LENS, LENS | {"promotes": ["a"]}]}}},
    "ragged": {"facts": {"norm": [[1.0], [1.0, 2.0]]}},
}


def test_a_lens_is_kept_and_may_be_missing(tmp_path: Path) -> None:
    for facts in ({}, {"promoted": PROMOTED}):
        directions(facts=facts).save(tmp_path / "d.safetensors")
        assert Directions.load(tmp_path / "d.safetensors").facts == facts


@pytest.mark.parametrize("change", WRONG_HEADERS.values(), ids=WRONG_HEADERS)
def test_headers_of_directions(change: dict[str, Any], tmp_path: Path) -> None:
    path, right = tmp_path / "d.safetensors", directions()
    header = {"format": "interp.directions/1", "labels": right.labels, "layers": right.layers, "rounds": right.rounds}
    header |= {"hook_point": right.hook_point, "facts": right.facts, **change}
    write_arrays(path, header, {"vectors": right.vectors, "residual_norm": right.residual_norm})
    refused(lambda: Directions.load(path))


def test_headers_of_probes(tmp_path: Path) -> None:
    path, site = tmp_path / "p.safetensors", "blocks.1.hook_resid_post"
    arrays = {"weights": np.ones((1, 4)), "bias": np.ones(1), "mass_mean": np.ones((1, 4))}
    header = {"format": "interp.probe/1", "classes": ["no", "yes"], "layer": 1, "hook_point": site, "facts": {}}
    header["residual_norm"] = 2.0
    write_arrays(path, header, arrays)
    assert Probe.load(path).direction("yes").layer == 1
    wrong: list[dict[str, Any]] = [{"classes": ["yes", "yes"]}, {"classes": ["a"]}, {"classes": ["a", "b", "c"]}]
    wrong += [{"layer": 2}, {"layer": -1}, {"hook_point": "x"}, {"residual_norm": "2"}, {"format": "interp.probe/9"}]
    for change in wrong:
        write_arrays(path, header | change, arrays)
        refused(lambda: Probe.load(path))
    for name, array in (("weights", np.ones((2, 4))), ("bias", np.full(1, np.nan)), ("mass_mean", np.ones((1, 5)))):
        write_arrays(path, header, arrays | {name: array})
        refused(lambda: Probe.load(path))


def test_lineage_and_preset(tmp_path: Path) -> None:
    base, stage = {"name": "b", "revision": None, "hash": "h"}, {"name": "sft", "folder": "1-sft", "hash": "h"}
    right = {"format": 1, "base": base, "stages": [stage]}
    for wrong in ({"format": 2}, {"base": "b"}, {"stages": {}}, {"stages": [1]}, {"more": 1}, {"base": {"name": 1}}):
        (tmp_path / "lineage.json").write_text(json.dumps(right | wrong))
        refused(lambda: read_lineage(str(tmp_path)))
    settings = preset("organism").record()
    for wrong in ({"agents": "3"}, {"agents": 0}, {"sft": None}, {"personas": "all"}, {"seed": -1}):
        (tmp_path / "preset.json").write_text(json.dumps(settings | wrong))
        refused(lambda: kept_preset(tmp_path))


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    wanted = [(TaskSettings(), "single", tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    for evaluation in plan(wanted, Answering(model="scripted"), 5):
        evaluation()
    return tmp_path


def test_compare_refuses_what_does_not_add_up(answered: Path) -> None:
    a, b = answered / "a.jsonl", answered / "b.jsonl"
    assert compare(a, b).test.tied == 5
    whole, made = a.read_text(), a.with_suffix(".json").read_text()
    first = json.loads(whole.splitlines()[0])
    again = json.dumps(first | {"gold_answer": "another", "run": 1}) + "\n"
    for lines, why in (
        (whole + whole.splitlines()[0] + "\n", "answered 2 times"),
        (whole + again, "several gold answers"),
        ("", "empty"),
        (json.dumps(first | {"run": 10**400}) + "\n", "run"),
        (json.dumps(first | {"usage": {"calls": -1}}) + "\n", "calls"),
        (json.dumps(first | {"correct": 1}) + "\n", "correct"),
    ):
        a.write_text(lines)
        assert why in refused(lambda: compare(a, b))
    a.write_text(whole)
    for wrong in ('{"made_by": 1}', '{"made_by": {"method": "x", "task": "y"}}', "[]", "{"):
        a.with_suffix(".json").write_text(wrong)
        assert "a.json" in refused(lambda: compare(a, b))
    a.with_suffix(".json").write_text(made)
    assert compare(a, b).left_out == 0


def test_a_journal_takes_only_its_own_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    journal = Journal(path, {}, dict[str, int])
    journal.append({"a": 1})
    journal.close()
    journal.pending.close()
    path.write_text('{"a": "1"}\n')
    assert "line 1" in refused(lambda: Journal(path, {}, dict[str, int]))
    path.with_suffix(".json").write_text('{"made_by": {}, "versions": "x"}')
    refused(lambda: Journal(path, {}, dict[str, int]))


RESULTS: dict[str, tuple[str, Callable[[], Any], Callable[[Path], list[pages.Drawn]]]] = {
    "token_cost": ("table.json", table, token_cost.draw),
    "ablations": ("ablations.json", ablated, ablations.draw),
    "agent_directions": ("directions.json", lambda: found_directions(0), agent_directions.draw),
    "steerability": ("steerability.json", swept, steering.draw),
    "suppression": ("suppression.json", suppressed, suppression.draw),
    "probes": ("probes/truth.json", probed, probes_figure.draw),
    "silent_agents": ("probes/silent_agents.json", silent, silent_agents.draw),
    "stepwise": ("probes/stepwise.json", stepwise_found, stepwise.draw),
}


def mutations(content: Any, top: bool = True) -> Iterator[Any]:
    """The content with one entry taken out, or replaced by a value of another kind; of lists, the first entry's."""
    keys = list(content) if isinstance(content, dict) else [0] if isinstance(content, list) and content else []
    for key in keys:
        for other in (None, "x", -1, 1e999, [], {}, [[]], 10**30):
            changed = copy.copy(content)
            changed[key] = other
            yield changed
        if isinstance(content, dict):
            yield {name: value for name, value in content.items() if name != key}
        for deeper in mutations(content[key], top=False):
            changed = copy.copy(content)
            changed[key] = deeper
            yield changed


@pytest.mark.parametrize("name", RESULTS)
def test_a_figure_of_changed_results_is_drawn_or_refused(name: str, tmp_path: Path) -> None:
    file, make, draw = RESULTS[name]
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(make()))
    assert draw(tmp_path)
    n_refused = 0
    every = list(mutations(json.loads(path.read_text())))
    for content in every[:: max(1, len(every) // 60)]:
        path.write_text(json.dumps(content))
        try:
            draw(tmp_path)
        except UserError as error:
            n_refused += str(path) in str(error)
    assert n_refused > 10


def test_a_figure_of_changed_metrics_is_drawn_or_refused(tmp_path: Path) -> None:
    lines = metrics().splitlines()
    for content in mutations(json.loads(lines[-1])):
        (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(content), ""]))
        said = ""
        try:
            training_dynamics.draw(tmp_path)
        except UserError as error:
            said = str(error)
        assert said == "" or "metrics.jsonl, line 13" in said


def strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for each in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from strings(each)


def renamed(content: Any, names: dict[str, str]) -> Any:
    """The content with some texts replaced, keys included."""
    if isinstance(content, dict):
        return {names.get(key, key): renamed(value, names) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [renamed(value, names) for value in content]
    return names.get(content, content) if isinstance(content, str) else content


@pytest.mark.parametrize("name", RESULTS)
def test_names_in_figures_and_pages_are_text(name: str, tmp_path: Path) -> None:
    file, make, draw = RESULTS[name]
    evil = "<a href='//x'>" + HOSTILE + "</script><img src=x onerror=alert(1)>"
    given = ("organism", "agent 1", "sums", "right", "no-sft", "Is it right?", "prompts", "full procedure", "m")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    names = {each: f"{each}{evil}" for each in given if name not in ("silent_agents", "stepwise") or each != "agent 1"}
    (tmp_path / file).write_text(json.dumps(renamed(make(), names)))
    drawn = draw(tmp_path)
    for one in drawn:
        for text in strings(json.loads(one.figure.to_json())):
            assert not re.search("<(?!/?(br|b|extra)>)", text), text
    page = pages.write_page(drawn, {"x": evil}, evil, tmp_path / "p.html").read_text()
    assert page.count("<script") == 3
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "<img src=x" not in outside
    assert "<a href" not in outside


def test_pages_run_only_their_own_scripts(tmp_path: Path) -> None:
    drawn = pages.Drawn("x", go.Figure(layout={"width": 300}), HOSTILE, "y", HOSTILE, HOSTILE)
    page = pages.write_page([drawn], {}, HOSTILE, tmp_path / "p.html").read_text()
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    parts = dict(part.strip().split(" ", 1) for part in policy[1].split(";"))
    assert parts["default-src"] == parts["base-uri"] == parts["form-action"] == "'none'"
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert len(scripts) == 1
    assert re.findall("<script src=([^>]*)>", page) == ['"plotly.min.js"']
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert parts["script-src"].split() == [*(f"'sha256-{digest}'" for digest in digests), "'self'"]


def test_a_terminal_shows_text_as_it_is() -> None:
    shown = io.StringIO()
    console = Terminal(file=shown, width=200, force_terminal=False)
    made = Table(title=HOSTILE, caption=HOSTILE)
    made.add_column(HOSTILE)
    made.add_row(HOSTILE)
    console.print(HOSTILE, made)
    said = shown.getvalue()
    assert said.count("[red]a[/] [/] :smile: <b>b</b>") == 5
    assert said.count(r"\x1b[31mred\x1b[0m \u202eback\x07") == 5
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", said)


def test_prompts_and_answers_reach_no_terminal_as_orders(capsys: pytest.CaptureFixture[str]) -> None:
    from interp.interventions.steer import Pair

    pair = Pair(HOSTILE, HOSTILE, HOSTILE + "[/]", 1, 1, False)
    Terminal(width=200).print(intervention_tables.pair_table(pair, HOSTILE))
    with progress_bars() as progress:
        progress(HOSTILE, 1, 2)
    said = capsys.readouterr().out
    assert "\x1b[31m" not in said
    assert "[red]a[/]" in said


@pytest.mark.parametrize("text", ["a\nb", HOSTILE, "\ud800", "x" * 10 + "\r\x1b]0;title\x07"])
def test_an_error_is_one_line_that_changes_nothing(text: str) -> None:
    said = str(UserError(f"{text}: wrong"))
    said.encode()
    assert not re.search("[\x00-\x1f\x7f-\x9f]", said)


def test_arguments_that_are_no_text(interp: Any) -> None:
    for arguments in (("compare", "a\udcff.jsonl", "b"), ("steer", "--prompt", "\ud83d", "--directions", "d")):
        code, _, wrong = interp(*arguments)
        assert (code, wrong.count("\n")) == (2, 1)


def test_notebooks_show_text() -> None:
    assert in_words([("<b>Found</b>", "<img>")]).data == "**&lt;b&gt;Found&lt;/b&gt;** &lt;img&gt;"
