"""Several processes share the work of a verb: the same files as one, after a kill, too; one prints, and none hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from interp import processes
from interp.cli import main

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
SCRIPT = """
import json, sys
from interp.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["interp", *arguments]
    main()
"""
MODEL, DEBATES = ["--model", "organism"], ["--transcripts", "organism", "--limit", "12"]
EXTRACT = ["extract-directions", *MODEL, "--layers", "1,2", *DEBATES]
QUICK = [*MODEL, "--batch-size", "2"]


def start(tmp_path: Path, *commands: Sequence[object], n: int = 2) -> subprocess.Popen[str]:
    """Commands one after the other, in `n` processes on the CPU."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    (tmp_path / "script.py").write_text(SCRIPT)
    asked = json.dumps([[str(part) for part in command] for command in commands])
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*LAUNCH, str(n), str(tmp_path / "script.py"), asked], cwd=ROOT, env=env, **pipe)


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


def commands(folder: Path, directions: Path) -> dict[str, list[object]]:
    """A command of each kind, by what it writes."""
    few = ["--limit", "16", "--random-controls", "1", "--coefficients", "0.2", "--layers", "2", "--batch-size", "4"]
    given = ["--directions", directions / "directions.safetensors", "--transcripts", "organism", "--task", "arithmetic"]
    asked = {
        "directions": EXTRACT,
        "sweep.jsonl": ["sweep", *MODEL, *given, *few, "--max-new-tokens", "12"],
        "results": ["evaluate", *QUICK, "--questions", "6", "--method", "vote", "--max-new-tokens", "40"],
        "debates.jsonl": ["debate", *QUICK, "--questions", "4", "--temperature", "1"],
        "probes": ["probe", "agent_identity", *MODEL, "--layers", "2", "--no-untrained", *DEBATES],
    }
    return {name: [*command, "--out", folder / name] for name, command in asked.items()}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes."""
    out = tmp_path_factory.mktemp("one")
    for command in commands(out, out / "directions").values():
        sys.argv = ["interp", *map(str, command)]
        main()
    return out


@pytest.fixture(scope="module")
def two(one: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What two processes write and say; they begin the sweep where one process was killed."""
    out = tmp_path_factory.mktemp("two")
    records, facts = (one / "sweep.jsonl").read_bytes(), json.loads((one / "sweep.json").read_text())
    (out / "sweep.jsonl").write_bytes(records[: len(records) // 3])
    (out / "sweep.json").write_text(json.dumps({name: facts[name] for name in ("made_by", "versions", "written")}))
    process = start(out, *commands(out, one / "directions").values())
    said, wrong = process.communicate(timeout=180)
    assert process.returncode == 0, wrong[-2000:]
    (out / "script.py").unlink()
    return out, said


@pytest.mark.parametrize("name", ["directions", "sweep", "results", "debates", "probes"])
def test_the_same_files_as_one_process(name: str, one: Path, two: tuple[Path, str]) -> None:
    expected = {path: content for path, content in files(one).items() if path.startswith(name)}
    assert expected
    assert {path: content for path, content in files(two[0]).items() if path.startswith(name)} == expected


def test_one_process_prints(two: tuple[Path, str]) -> None:
    said = two[1]
    assert said.count("wrote ") == 3 + 4
    assert [said.count(f"wrote {two[0] / name}") for name in ("sweep", "debates", "directions")] == [1, 1, 3]


def test_one_process_goes_on_where_two_were_killed(interp: Any, one: Path, tmp_path: Path) -> None:
    asked = commands(tmp_path, one / "directions")
    records, part = tmp_path / "sweep.jsonl", tmp_path / "directions" / "activations.safetensors.part"
    kill(start(tmp_path, asked["directions"]), part.exists)
    kill(start(tmp_path, asked["sweep.jsonl"]), lambda: records.exists() and records.stat().st_size > 0)
    begun = records.read_bytes()
    for name in ("directions", "sweep.jsonl"):
        assert interp(*map(str, asked[name]))[0] == 0
    assert records.read_bytes().startswith(begun[: begun.rfind(b"\n")])
    again = {path: content for path, content in files(one).items() if path.startswith(("directions", "sweep"))}
    assert {path: content for path, content in files(tmp_path).items() if path != "script.py"} == again


def test_a_mistake_is_said_once_and_ends_all(tmp_path: Path) -> None:
    missing = ["evaluate", "--model", "organism", "--task", "gsm8k", "--source", tmp_path / "nowhere.jsonl"]
    process = start(tmp_path, [*missing, "--out", tmp_path / "out"])
    _, wrong = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [line.startswith("error: ") for line in wrong.splitlines() if "nowhere" in line] == [True]
    assert not (tmp_path / "out").exists()


def test_the_others_end_when_one_is_killed(tmp_path: Path) -> None:
    """What is finished is kept."""
    process = start(tmp_path, ["debate", *QUICK, "--questions", "500", "--out", tmp_path / "d.jsonl"])
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
    assert interp("compare", tmp_path / "missing.jsonl", tmp_path / "missing.jsonl") == (0, "", "")
    monkeypatch.setenv("RANK", "0")
    assert interp("compare", tmp_path / "missing.jsonl", tmp_path / "missing.jsonl")[0] == 2


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 31, 64])
def test_every_item_is_in_one_share(n: int, even: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[list[list[int]]]()
    for index in range(3):
        told = list[list[int]]()
        monkeypatch.setattr(processes, "place", lambda index=index: (index, 3))
        monkeypatch.setattr(processes, "gather", lambda mine, told=told: told.append(mine) or [mine])
        list(processes.shared(range(n), list, 10, even=even))
        given.append(told)
    rounds = list(zip(*given, strict=True))  # no process has one more, in which it would wait for the others
    assert [item for shares in rounds for share in shares for item in share] == list(range(n))
    sizes = [len(share) for shares in rounds for share in shares]
    assert max(sizes, default=0) <= 10
    assert not even or max(sizes, default=0) - min(sizes, default=0) <= max(0, n - 1) // 3 + 1
