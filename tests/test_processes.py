"""Several processes share the work of a verb: the same files as one, after a kill, too; one prints, and none hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from interp import processes
from interp.debate.embedded import read_embedded
from interp.debate.transcript import write_transcripts

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
EXTRACT = ["extract-directions", "--model", "organism", "--layers", "1,2", "--transcripts", "organism", "--limit", "12"]


def start(n: int, *arguments: object) -> subprocess.Popen[str]:
    """A command in `n` processes, on the CPU."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [*LAUNCH, str(n), "-m", "interp.cli"] if n > 1 else [sys.executable, "-m", "interp.cli"]
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *map(str, arguments)], cwd=ROOT, env=env, **pipe)


def run(n: int, *arguments: object) -> str:
    """What a command in `n` processes prints."""
    process = start(n, *arguments)
    said, wrong = process.communicate(timeout=120)
    assert process.returncode == 0, wrong[-2000:]
    return said


def kill(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Kill a command, with all its processes, once `ready`."""
    while not ready() and process.poll() is None:
        time.sleep(0.005)
    assert process.poll() is None
    for each in (*psutil.Process(process.pid).children(recursive=True), process):
        each.kill()
    process.communicate()


def timeless(found: Any) -> Any:
    """JSON without the time at which it was written."""
    if isinstance(found, dict):
        return {name: timeless(value) for name, value in found.items() if name not in ("created", "written")}
    return [timeless(value) for value in found] if isinstance(found, list) else found


def files(folder: Path) -> dict[str, Any]:
    """What a folder holds: JSON and records without times, other files to the byte."""

    def content(path: Path) -> Any:
        return timeless(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()

    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".html", ".safetensors")]
    return {str(path.relative_to(folder)): content(path) for path in paths} | {
        str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*.safetensors")
    }


@pytest.fixture(scope="module")
def directions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("found")
    run(1, *EXTRACT, "--out", out)
    return out


def test_extraction_is_shared_and_goes_on_after_a_kill(directions: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    part = out / "activations.safetensors"
    kill(start(2, *EXTRACT, "--out", out), Path(f"{part}.part").exists)
    assert not (out / "directions.json").exists()
    said = run(2, *EXTRACT, "--out", out)
    assert said.count("model: organism") == 1
    assert files(out) == files(directions)


def sweeping(directions: Path, out: Path) -> list[object]:
    few = ["--limit", "16", "--random-controls", "1", "--coefficients", "0.2", "--layers", "2", "--batch-size", "4"]
    given = ["--directions", directions / "directions.safetensors", "--transcripts", "organism", "--task", "arithmetic"]
    return ["sweep", "--model", "organism", *given, *few, "--out", out / "sweep.jsonl"]


def test_a_sweep_goes_on_with_another_number_of_processes(directions: Path, tmp_path: Path) -> None:
    records = tmp_path / "two" / "sweep.jsonl"
    kill(start(2, *sweeping(directions, records.parent)), lambda: records.exists() and records.stat().st_size > 0)
    begun = records.read_bytes()
    assert begun.count(b"\n") > 0
    run(3, *sweeping(directions, records.parent))
    run(1, *sweeping(directions, tmp_path / "one"))
    assert records.read_bytes().startswith(begun[: begun.rfind(b"\n")])
    assert files(records.parent) == files(tmp_path / "one")
    assert len(records.read_bytes().splitlines()) > begun.count(b"\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--model", "organism", "--questions", "10", "--method", "vote", "--batch-size", "2"],
        ["debate", "--model", "organism", "--questions", "6", "--batch-size", "2", "--temperature", "1"],
        ["probe", "agent_identity", "--model", "organism", "--transcripts", "organism", "--limit", "12"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_same_files_as_one_process(arguments: list[str], tmp_path: Path) -> None:
    ends = "debates.jsonl" if arguments[0] == "debate" else "results"
    said = [run(n, *arguments, "--out", tmp_path / str(n) / ends).replace(f"{tmp_path}/{n}", "") for n in (1, 2)]
    assert files(tmp_path / "1") == files(tmp_path / "2")
    assert files(tmp_path / "1")
    assert said[0] == said[1]


def test_a_mistake_is_said_once_and_ends_all(tmp_path: Path) -> None:
    process = start(2, "evaluate", "--model", tmp_path / "nowhere", "--out", tmp_path / "out")
    _, wrong = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [line for line in wrong.splitlines() if line.startswith("error: ")] == [
        line for line in wrong.splitlines() if "nowhere" in line and "error" in line
    ]
    assert wrong.count("nowhere: ") == 1
    assert not (tmp_path / "out").exists()


def test_the_others_end_when_one_is_killed(tmp_path: Path) -> None:
    """The launcher ends all that it started; what is finished is kept."""
    write_transcripts(tmp_path / "debates.jsonl", read_embedded("organism")[:40])
    process = start(2, "debate", "--model", "organism", "--questions", "200", "--out", tmp_path / "d.jsonl")
    while not (tmp_path / "d.jsonl").exists():
        time.sleep(0.01)
    psutil.Process(process.pid).children()[-1].kill()
    assert process.wait(timeout=60) == 1
    process.communicate()


def test_a_verb_that_is_not_shared_runs_in_the_first_process(
    interp: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    steer = ["steer", "--model", "organism", "--prompt", "1+1", "--directions", tmp_path / "missing.safetensors"]
    assert interp(*steer, "--agent", "1") == (0, "", "")


@pytest.fixture
def of_three(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """This process as each of three that share the work; what they give one another is kept in order."""
    told: dict[int, list[Any]] = {}

    def become(index: int) -> None:
        monkeypatch.setattr(processes, "place", lambda: (index, 3))
        monkeypatch.setattr(processes, "gather", lambda mine: told.setdefault(index, []).append(mine) or [mine])

    yield become
    assert len(set(map(len, told.values()))) == 1  # else one would wait for the others


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 31, 64])
def test_every_item_is_in_one_share(
    n: int, even: bool, of_three: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, longest = [], []
    for index in range(3):
        of_three(index)
        done = list(processes.shared(range(n), lambda some: longest.append(len(some)) or some, 10, even=even))
        taken.append(done)
    assert sorted(item for done in taken for item in done) == list(range(n))
    assert max(longest, default=0) <= 10
    if even and n:
        assert max(map(len, taken)) - min(map(len, taken)) <= -(-n // 3)
