"""The command as a user meets it: what it writes, what it says, and what a kill leaves behind."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COMMAND, hear_interrupts
from safetensors import SafetensorError, safe_open

from interp.debate.embedded import embedded_path, read_embedded
from interp.debate.transcript import read_transcripts, write_transcripts
from interp.directions.directions import Directions


def loaded_by(program: str) -> set[str]:
    """The heavy libraries that a program has loaded when it ends."""
    heavy = ("torch", "transformers", "plotly", "numpy")
    program += f"; import sys; print(*[m for m in {heavy} if m in sys.modules])"
    return set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.split())


def test_importing_is_light() -> None:
    """Heavy libraries load when they are used, not when the command line starts."""
    assert loaded_by("import torch") >= {"torch"}
    assert loaded_by("import interp, interp.cli") == set()
    assert loaded_by("import interp.debate.protocol, interp.debate.embedded") == set()


def test_extract_directions(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = interp("extract-directions", "--model", model_folder, "--limit", 20, "--by-round", "--out", out)
    assert code == 0
    assert sorted(p.name for p in out.iterdir()) == ["directions.json", "directions.safetensors", "report.html"]
    assert str(out / "report.html") in said
    assert "agent 3" in said
    assert re.search(r"tokens: [0-9,]+, of which 0 differ from the tokenizer's own", said)
    found = Directions.load(out / "directions.safetensors")
    assert found.vectors.shape == (3, 3, 3, 32)  # round (all, 1, 2), agent, layer, d_model
    assert found.rounds == ("all", "1", "2")
    facts = json.loads((out / "directions.json").read_text())
    assert facts == found.facts
    transcripts = read_embedded("scripted")[:20]
    assert facts["turns"] == sum(len(t.turns) for t in transcripts)
    assert facts["provenance"]["model"]["hash"]
    assert facts["provenance"]["transcripts"]["source"] == "scripted"
    assert facts["evidence"]["all"]["groups"] == sum(t.n_rounds for t in transcripts)
    two = facts["evidence"]["2"]["groups"] / facts["evidence"]["all"]["groups"]
    one = facts["evidence"]["1"]["groups"] / facts["evidence"]["all"]["groups"]
    np.testing.assert_allclose(one * found.vectors[1] + two * found.vectors[2], found.vectors[0], atol=1e-5)


def test_same_command_same_directions(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert interp("extract-directions", "--model", model_folder, "--limit", 8, "--out", tmp_path / name)[0] == 0
    a, b = (Directions.load(tmp_path / name / "directions.safetensors") for name in "ab")
    np.testing.assert_array_equal(a.vectors, b.vectors)
    assert a.facts["evidence"] == b.facts["evidence"]


def test_other_directions_are_not_replaced_unasked(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("extract-directions", "--model", model_folder, "--limit", 4, "--out", out)
    assert interp(*command)[0] == 0
    before = (out / "directions.safetensors").read_bytes()
    for changed, named in (
        (("--limit", 5), "transcripts"),
        (("--layers", "1"), "layers"),
        (("--site", "attn_out", "--by-round"), "site, by_round"),
        (("--position", "mean"), "position"),
        (("--seed", 1), "seed"),
        (("--dtype", "bf16"), "model"),
    ):
        code, _, wrong = interp(*command, *changed)
        assert (code, wrong.count("\n")) == (2, 1)
        assert f"{out}: holds directions of {model_folder} from 4 questions" in wrong
        assert f"({named}); give another --out" in wrong
        assert (out / "directions.safetensors").read_bytes() == before
    assert interp(*command)[0] == 0
    assert interp(*command, "--seed", 1, "--restart")[0] == 0
    assert Directions.load(out / "directions.safetensors").facts["provenance"]["settings"]["seed"] == 1


def test_published_debates(interp: Any, model_folder: Path, tmp_path: Path, published: list[Any]) -> None:
    write_transcripts(tmp_path / "p.jsonl", published)
    code, said, _ = interp(
        "extract-directions", "--model", model_folder, "--transcripts", tmp_path / "p.jsonl", "--out", tmp_path / "out"
    )
    facts = json.loads((tmp_path / "out" / "directions.json").read_text())
    assert (code, facts["turns"], facts["evidence"]["all"]["groups"], facts["skipped"]) == (0, 15, 5, [])
    assert "skipped" not in said


def test_personas_positions_sites_and_kept_activations(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    code, *_ = interp(
        *("extract-directions", "--model", model_folder, "--transcripts", "scripted-rotated", "--limit", 12),
        *("--by", "persona", "--position", "mean", "--site", "attn_out", "--layers", "0,2", "--keep-activations"),
        *("--out", tmp_path, "--dtype", "bf16"),
    )
    assert code == 0
    found = Directions.load(tmp_path / "directions.safetensors")
    assert set(found.labels) == {"chain-of-thought", "self-critique", "program-of-thought"}
    assert found["self-critique", 2].hook_point == "blocks.2.hook_attn_out"
    with safe_open(tmp_path / "activations.safetensors", framework="numpy") as file:
        assert file.get_slice("blocks.2.hook_attn_out").get_shape() == [found.facts["turns"], 1, 32]


def test_a_missing_agent_is_named(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    records = [t.record() for t in read_embedded("scripted")[:5]]
    trace = records[2]["debate_trace"]
    start, end = trace.index("<|Agent 2 Solution|>"), trace.index("<|Agent 3 Solution|>")
    records[2]["debate_trace"] = trace[:start] + trace[end:]
    (tmp_path / "t.json").write_text(json.dumps(records))
    code, said, _ = interp(
        "extract-directions", "--model", model_folder, "--transcripts", tmp_path / "t.json", "--out", tmp_path / "out"
    )
    assert code == 0
    assert f"skipped: transcript 3, round 1 ({records[2]['question']}): agent 2 is missing" in said
    assert "agent 2 is missing" in (tmp_path / "out" / "report.html").read_text()


def test_export_directions(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    interp("extract-directions", "--model", model_folder, "--limit", 4, "--out", tmp_path)
    file = tmp_path / "directions.safetensors"
    code, said, _ = interp("export-directions", file, "--direction-of", "2", "--out", tmp_path / "a.gguf")
    assert code == 0
    assert "layers 1 to 2" in said
    assert (tmp_path / "a.gguf").read_bytes()[:4] == b"GGUF"
    code, _, wrong = interp("export-directions", file, "--direction-of", "agent 9", "--out", tmp_path / "b.gguf")
    assert (code, "agent 1, agent 2, agent 3" in wrong) == (2, True)


CASES = [
    "missing",
    "malformed",
    "empty",
    "model",
    "layer",
    "long",
    "adapter",
    "out",
    "huge",
    "object",
    "position",
    "site",
    "by",
    "dtype",
    "device",
    "option",
]


def bad_inputs(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    lines = embedded_path("scripted").read_text().splitlines()
    (tmp_path / "broken.jsonl").write_text("\n".join([*lines[:3], lines[3][:50]]))
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "object.json").write_text(json.dumps({"question": "1+1", "debate_trace": ""}, indent=2))
    long = read_transcripts(embedded_path("scripted"))[0].record()
    long["debate_trace"] = long["debate_trace"].replace("<|Consensus|>", "very long " * 9000 + "<|Consensus|>")
    (tmp_path / "long.jsonl").write_text(json.dumps(long))
    return {
        "missing": (["--transcripts", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        "malformed": (["--transcripts", str(tmp_path / "broken.jsonl")], "broken.jsonl, line 4"),
        "empty": (["--transcripts", str(tmp_path / "empty.jsonl")], "the file is empty"),
        "model": (["--model", "./nowhere"], "no such folder"),
        "layer": (["--layers", "0-3"], "has layers 0 to 2"),
        "long": (["--transcripts", str(tmp_path / "long.jsonl")], "--skip-long"),
        "adapter": (["--adapter", str(tmp_path)], "no adapter_config.json"),
        "out": (["--out", str(tmp_path / "empty.jsonl" / "sub")], "give another --out"),
        "huge": (["--layers", "0-99999999999"], "--layers '0-99999999999': no model has a layer 99999999999"),
        "object": (["--transcripts", str(tmp_path / "object.json")], "item 1: debate '': has no turn"),
        "position": (["--position", "first"], "--position"),
        "site": (["--site", "resid"], "--site"),
        "by": (["--by", "seat"], "--by"),
        "dtype": (["--dtype", "int8"], "--dtype"),
        "device": (["--device", "tpu9"], "device tpu9"),
        "option": (["--limit", "0"], "--limit"),
    }


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_status_2(case: str, interp: Any, model_folder: Path, tmp_path: Path) -> None:
    arguments, expected = bad_inputs(tmp_path)[case]
    out = tmp_path / "out"
    code, _, wrong = interp("extract-directions", "--model", model_folder, "--out", out, *arguments)
    assert code == 2
    assert expected in wrong
    assert "Traceback" not in wrong
    if case not in ("position", "site", "by", "dtype", "option"):  # Typer frames its own messages
        assert wrong.count("\n") == 1
        assert wrong.startswith("error: ")
    assert not out.exists() or not list(out.iterdir())


SLOWLY = ("--limit", "60", "--batch-tokens", "1")


def start(model_folder: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    arguments = ["extract-directions", "--model", str(model_folder), "--out", str(out), *SLOWLY]
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def n_read(out: Path) -> int:
    """How many turns a run has read so far."""
    with suppress(OSError, SafetensorError), safe_open(out / "activations.safetensors.part", "numpy") as file:
        return np.count_nonzero(file.get_tensor("crc32")[:, 0])
    return 0


def wait_until_begun(process: subprocess.Popen[str], out: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if n_read(out) >= 3:
            return
        time.sleep(0.01)
    pytest.fail(f"the run was over before it could be stopped: {process.communicate()}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_where_it_was(
    how: signal.Signals, interp: Any, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    interp("extract-directions", "--model", model_folder, "--out", out, *SLOWLY)
    old = (out / "directions.safetensors").read_bytes()
    process = start(model_folder, out, preexec_fn=hear_interrupts)
    wait_until_begun(process, out)
    process.send_signal(how)
    _, wrong = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert wrong.strip().splitlines()[-1].startswith("error: interrupted")
        assert "Traceback" not in wrong
    assert (out / "directions.safetensors").read_bytes() == old
    assert 3 <= n_read(out) < 4 * 60

    code, _, wrong = interp("extract-directions", "--model", model_folder, "--out", out, *SLOWLY, "--layers", "0")
    assert (code, "--restart" in wrong) == (2, True)  # not the same run: nothing is thrown away unasked
    assert interp("extract-directions", "--model", model_folder, "--out", out, *SLOWLY)[0] == 0
    interp("extract-directions", "--model", model_folder, "--out", tmp_path / "whole", *SLOWLY)
    resumed, whole = (Directions.load(o / "directions.safetensors") for o in (out, tmp_path / "whole"))
    np.testing.assert_array_equal(resumed.vectors, whole.vectors)
    assert not list(out.glob("*.part*"))


def test_no_place_to_write_to(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    interp("extract-directions", "--model", model_folder, "--limit", 8, "--out", tmp_path / "found")
    file, made = tmp_path / "found" / "directions.safetensors", tmp_path / "file"
    made.touch()
    long = "x" * 5000
    for arguments, expected in (
        (("export-directions", file, "--direction-of", "agent 1", "--out", "."), "give a file"),
        (("export-model", model_folder, "--out", made / "merged"), "is a file; give another --out"),
        (("extract-directions", "--model", model_folder, "--out", tmp_path / long), "choose another place"),
        (("extract-directions", "--model", long), "choose another place"),
    ):
        code, _, wrong = interp(*arguments)
        assert (code, expected in wrong) == (2, True), wrong
    directions = Directions.load(file)
    replace(directions, facts={}).save(file)
    code, _, wrong = interp("export-directions", file, "--direction-of", "agent 1", "--out", tmp_path / "v.gguf")
    assert (code, "give --model-type" in wrong) == (2, True)


@pytest.mark.parametrize("verb", [("probe", "truth"), ("train", "--preset", "organism", "--dry-run")])
def test_seeds_that_no_library_takes(verb: tuple[str, ...], interp: Any) -> None:
    code, _, wrong = interp(*verb, "--seed", 2**32)
    assert (code, "--seed" in wrong) == (2, True)


def test_no_space_left(model_folder: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    process = start(model_folder, tmp_path / "out", preexec_fn=small_files)
    _, wrong = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "cannot lay out" in wrong
    assert wrong.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("steer --layers 3", "Missing option '--directions'; see interp steer --help"),
        ("steer --directions d --units meters", "Invalid value for '--units'"),
        ("debate --digits 0", "Invalid value for '--digits'"),
        ("debate --digits x", "Invalid value for '--digits': must be a valid integer; see interp debate --help"),
        ("debate --digits 0", "Invalid value for '--digits': must be greater than or equal to 1; see interp debate"),
        ("steer --units m", "Invalid value for '--units': 'm' is not one of 'residual', 'unit', 'raw'; see"),
        ("train --report-to x", "Invalid value for '--report-to': 'x' is not one of 'tensorboard', 'wandb'; see"),
        ("sweep --operation x", "Missing option '--directions'"),
        ("sweep --bogus", "No such option: --bogus; see interp sweep --help"),
        ("interchange --when x", "No such option: --when; see interp interchange --help"),
        ("sweep --layer 1", "No such option: --layer (Possible options: --layers); see interp sweep --help"),
        ("fit --pairs none.csv", "none.csv: no such file; give a JSON, JSONL, CSV or Parquet file"),
        ("suppress --trait none.csv", "none.csv: no such file; give a JSON, JSONL, CSV or Parquet file"),
        ("nothing", "No such command 'nothing'; see interp --help"),
    ],
)
def test_a_wrong_use_is_one_line(interp: Any, command: str, message: str) -> None:
    code, out, wrong = interp(*command.split())
    assert (code, out, wrong.count("\n")) == (2, "", 1)
    assert wrong.startswith(f"error: {message}")


def test_version(interp: Any) -> None:
    assert interp("--version") == (0, "interp 0.1.0\n", "")
