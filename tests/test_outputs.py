"""An --out takes no input's place and no other file's, and a command's own earlier output may be written again."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import COMMAND, hear_interrupts
from safetensors import SafetensorError

from interp.debate.embedded import DEBATED, EMBEDDED, read_embedded
from interp.debate.transcript import write_transcripts
from interp.errors import UserError
from interp.interventions.suppression import PROMPTS
from interp.models.catalog import SHIPPED, SHIPPED_RESULTS, UNPACKED
from interp.outputs import NAMED
from interp.storage.files import writing

SCRIPTED = ("debate", "--model", "scripted", "--questions", 3)


@pytest.fixture
def found(interp: Any, model_folder: Path, tmp_path: Path) -> Path:
    """Directions of a small model, in a folder of their own."""
    assert interp("extract-directions", "--model", model_folder, "--limit", 4, "--out", tmp_path / "found")[0] == 0
    return tmp_path / "found" / "directions.safetensors"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(interp: Any, folder: Path, *command: Any) -> str:
    """What is said to a command that changes nothing in the folder."""
    before = contents(folder)
    code, _, wrong = interp(*command)
    assert (code, wrong.count("\n"), contents(folder) == before) == (2, 1, True), wrong
    return wrong


def test_names_of_the_package_are_no_paths() -> None:
    assert {*EMBEDDED, *DEBATED, *SHIPPED, *UNPACKED, PROMPTS} == NAMED


def test_directions_are_not_overwritten_by_their_export(interp: Any, found: Path, tmp_path: Path) -> None:
    link, hard = tmp_path / "link.gguf", tmp_path / "hard.gguf"
    link.symlink_to(found)
    os.link(found, hard)
    for out in (found, link, hard, found.parent / ".." / "found" / found.name):
        wrong = refused(interp, tmp_path, "export-directions", found, "--direction-of", 2, "--out", out)
        assert f"would overwrite the input {found}; give another --out" in wrong


def test_an_input_beside_the_records_is_not_overwritten(
    interp: Any, model_folder: Path, found: Path, tmp_path: Path
) -> None:
    sweep = ("sweep", "--model", model_folder, "--directions", found, "--layers", 1, "--limit", 1)
    for name in ("held.json", ".held.pending.jsonl", "held-perplexity.jsonl"):
        write_transcripts(tmp_path / name, read_embedded("scripted")[100:102])
        for more in ((), ("--restart",)):
            wrong = refused(
                interp, tmp_path, *sweep, "--transcripts", tmp_path / name, "--out", tmp_path / "held.jsonl", *more
            )
            assert f"would overwrite the input {tmp_path / name}" in wrong


def test_an_output_neither_holds_nor_lies_in_an_input(
    interp: Any, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    write_transcripts(tmp_path / "debates.jsonl", read_embedded("scripted")[:4])
    monkeypatch.chdir(tmp_path)
    extract = ("extract-directions", "--model", "model", "--transcripts", "debates.jsonl", "--out")
    assert "holds the input" in refused(interp, tmp_path, *extract, ".")
    assert "lies in the input model" in refused(interp, tmp_path, *extract, "model/found")
    assert "would overwrite the input model" in refused(interp, tmp_path, *extract, "model/")
    agent = ("--agent", "plain=model", "--out", "model/debates.jsonl")
    assert "lies in the input model" in refused(interp, tmp_path, *SCRIPTED, *agent)
    train = ("train", "--preset", "organism", "--transcripts", "debates.jsonl", "--set", "model=model", "--out")
    assert "lies in the input model" in refused(interp, tmp_path, *train, "model/run")


@pytest.mark.parametrize("name", ["report.html", "directions.json", "directions.safetensors", "untrained.safetensors"])
def test_files_of_others_stay(name: str, interp: Any, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    for more in ((), ("--restart",)):
        wrong = refused(
            interp, tmp_path, "extract-directions", "--model", model_folder, "--limit", 4, "--out", tmp_path, *more
        )
        assert f"{tmp_path / name}: exists, and extract-directions may not replace it; give another --out" in wrong


def test_records_of_another_verb_stay(interp: Any, model_folder: Path, found: Path, tmp_path: Path) -> None:
    out = tmp_path / "debates.jsonl"
    assert interp(*SCRIPTED, "--out", out)[0] == 0
    steer = ("steer", "--model", model_folder, "--directions", found, "--prompt", "1+1", "--out", out, "--restart")
    assert "steer may not replace it" in refused(interp, tmp_path, *steer)


def test_a_command_writes_over_its_own_output(interp: Any, model_folder: Path, found: Path, tmp_path: Path) -> None:
    export = ("export-directions", found, "--direction-of", 2, "--out", tmp_path / "agent2.gguf")
    figures = ("figures", SHIPPED_RESULTS, "--page-only", "--out", tmp_path / "figures")
    debate = (*SCRIPTED, "--out", tmp_path / "debates.jsonl")
    extract = ("extract-directions", "--model", model_folder, "--limit", 4, "--out", found.parent)
    for command in (export, figures, debate, (*debate, "--restart"), extract, (*extract, "--restart")):
        assert [interp(*command)[0] for _ in range(2)] == [0, 0], command


def test_a_refused_run_leaves_its_folder_free(interp: Any, tmp_path: Path) -> None:
    """Settings that were written before the refusal would else refuse the next run."""
    run = ("train", "--preset", "organism", "--transcripts", "organism", "--out", tmp_path / "new" / "run")
    assert "questions" in refused(interp, tmp_path, *run, "--set", "grpo.questions=1000000")
    assert not (tmp_path / "new").exists()


def test_one_process_writes_at_a_time(interp: Any, tmp_path: Path) -> None:
    """Also by another spelling; the lock ends with the process."""
    out = tmp_path / "debates.jsonl"
    command = [*COMMAND, *map(str, SCRIPTED[:-1]), "100000", "--out", str(out)]
    for how in (signal.SIGINT, signal.SIGKILL):
        size = out.stat().st_size if out.exists() else 0
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=hear_interrupts
        )
        while process.poll() is None and not (out.exists() and out.stat().st_size > size):
            time.sleep(0.01)
        code, _, wrong = interp(
            *SCRIPTED[:-1], 100000, "--restart", "--out", tmp_path / ".." / tmp_path.name / out.name
        )
        assert (code, wrong.count("\n"), "another command is writing it" in wrong) == (2, 1, True)
        assert out.stat().st_size
        process.send_signal(how)
        wrong = process.communicate()[1].decode()
        assert how == signal.SIGKILL or (process.returncode, wrong.count("error: ")) == (130, 1)
    assert "another command" not in interp(*SCRIPTED, "--out", out)[2]


def test_a_closed_or_full_standard_output(tmp_path: Path) -> None:
    """A closed pipe is no error worth a line."""
    told = f"{sys.executable} -m interp.cli"
    for command, status, said in (
        (f"{told} --help | true; echo ${{PIPESTATUS[0]}}", "1\n", ""),
        (f"{told} debate --model scripted --questions 2 --out {tmp_path}/a.jsonl >&-; echo $?", "0\n", ""),
        (f"{told} --help > /dev/full; echo $?", "2\n", "error: no space left on the device"),
    ):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert (done.stdout, said in done.stderr, done.stderr.count("\n")) == (status, True, bool(said)), done.stderr


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    """Also where a library writes: weights are larger than what comes before them."""

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    command = [*COMMAND, "export-model", "organism-sft", "--out", str(tmp_path / "new" / "merged")]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_files)
    assert (done.returncode, done.stderr.count("\n"), "merged: cannot be written" in done.stderr) == (2, 1, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("os error 28"), RuntimeError("unexpected pos 64")]
)
def test_what_a_trainer_cannot_write_names_the_place(error: Exception) -> None:
    with (
        pytest.raises(UserError, match=r"^run/state: cannot be written \(.+\); make room"),
        writing("run/state", RuntimeError),
    ):
        raise error
