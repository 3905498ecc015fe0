"""Every wrong use is one line and exit status 2, and leaves every file as it was."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from wrong_inputs import lay_out
from wrong_uses import FIGURES, MODULES, RIGHT, STEER, Use, uses

from interp import outputs
from interp.storage.hub import hub_reachable

BY_COMMAND: dict[str, list[Use]] = {}
for use in uses():
    BY_COMMAND.setdefault(use.command if use.command in RIGHT | MODULES else "interp", []).append(use)
WARM = (
    *("interp.cli", "interp.directions.extract", "interp.models.model", "interp.reports.page", "interp.reports.tables"),
    *("interp.evaluation.seats", "interp.generation.agents", "interp.interventions.suppression", "figures.page"),
    *("interp.interventions.sweeps", "interp.interventions.steer", "interp.interventions.remedies", "probes.start"),
    *("interp.training.pipeline", "interp.training.dry_run", "trl", "peft", "benchmarks.ablations", "probes.truth"),
    *(
        "benchmarks.ship",
        "figures.watch",
        "transformers.models.llama.modeling_llama",
        "gguf",
        *(f"figures.{n}" for n in FIGURES),
    ),
)
"""What the commands import."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder of inputs and of what right uses wrote; another user may read it."""
    for name in WARM:
        import_module(name)
    hub_reachable()
    made = Path(tempfile.mkdtemp(prefix="wrong-uses-"))
    made.chmod(0o755)
    lay_out(made)
    for line in (
        "extract-directions --model model --transcripts debates.jsonl --out found --keep-activations",
        "debate --model scripted --questions 4 --out records/debates.jsonl",
        f"steer {STEER} --prompt 1 --out records/pairs.jsonl",
        "evaluate --model scripted --questions 4 --method single --method vote --out results",
        "figures --page-only --out new/page",
    ):
        command, *given = line.split()
        perform_alone(Use(command, tuple(given)), made)
    shutil.rmtree(made / "new")
    shutil.copytree(import_module("interp.models.catalog").SHIPPED_RESULTS, made / "run")
    yield made
    shutil.rmtree(made)


class Outcome(NamedTuple):
    """What came of a use: exit status, what was said on standard error, and what changed in the folder."""

    status: int
    said: str
    changed: list[str]


def outcomes(together: Sequence[Use], folder: Path) -> list[Outcome]:
    """What comes of uses in the folder, one after the other in a copy of this process."""
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(120)
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            found = [outcome(use, folder) for use in together]
            with os.fdopen(theirs, "w") as file:
                json.dump(found, file)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(mine) as file:
        said = file.read()
    os.waitpid(child, 0)
    return [Outcome(*each) for each in json.loads(said or "[]")]


def outcome(use: Use, folder: Path) -> Outcome:
    """What comes of a use in this process; new files are removed again, or later uses would seem to have left them."""
    before = state(folder)
    mine, theirs = os.pipe()
    os.dup2(theirs, 2)
    os.close(theirs)
    os.set_blocking(mine, False)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    try:
        status = perform(use)
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stderr.flush()
    said = ""
    with suppress(BlockingIOError):  # it said nothing
        said = os.read(mine, 1 << 16).decode(errors="replace")
    os.close(mine)
    after = state(folder)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for path in map(Path, reversed([name for name in changed if name not in before])):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    return Outcome(status, said, changed)


def chunks(all_uses: Sequence[Use]) -> Iterator[list[Use]]:
    """Those that leave the process as it was share one."""
    free = [use for use in all_uses if not use.how]
    yield from (free[start : start + 16] for start in range(0, len(free), 16))
    yield from ([use] for use in all_uses if use.how)


def perform_alone(use: Use, folder: Path) -> None:
    """A right use."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os._exit(perform(use))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, use


def perform(use: Use) -> int:
    """Run the command; what `main` leaves with is the status."""
    if use.how == "on a full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if use.how == "as nobody" and os.geteuid() == 0:
        os.setuid(65534)
    if use.how == "where no folder is any more":
        os.chdir(gone := tempfile.mkdtemp())
        os.rmdir(gone)
    if use.how == "while another writes":
        return beside_itself(use._replace(how=""))
    module, _, name = use.command.rpartition(".")
    try:
        if module == "probes":
            sys.argv = [name, *use.arguments]
            import_module("probes.verb").main(name)
        elif module == "figures" and name in FIGURES:
            sys.argv = [f"{name}.py", *use.arguments]
            figure = import_module(use.command)
            import_module("figures.results").main(figure.draw, figure.__doc__)
        elif module:
            sys.argv = [name, *use.arguments]
            import_module(use.command).main()
        else:
            sys.argv = ["interp", use.command, *use.arguments]
            import_module("interp.cli").main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    return 0


def beside_itself(use: Use) -> int:
    """Run the command while another process is in the middle of it."""
    ready, begun = os.pipe()
    other = os.fork()
    if other == 0:
        outputs._inputs = lambda *_: (os.write(begun, b"."), time.sleep(60))  # what it does first
        perform(use)
        os._exit(0)
    os.close(begun)
    try:
        return perform(use) if os.read(ready, 1) else 71
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)


def state(folder: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a folder, and what changes when it is written: which file, how long, when."""
    found = {str(path): path.lstat() for path in folder.rglob("*")}
    files = {name: (s.st_size, s.st_mtime_ns) for name, s in found.items() if not stat.S_ISDIR(s.st_mode)}
    return {name: (s.st_ino, s.st_mode, *files.get(name, ())) for name, s in found.items()}


def test_there_are_enough() -> None:
    assert sum(map(len, BY_COMMAND.values())) >= 400
    assert {*RIGHT, *MODULES} <= BY_COMMAND.keys()


@pytest.mark.parametrize("command", BY_COMMAND)
def test_a_wrong_use_is_one_line_and_changes_nothing(command: str, folder: Path) -> None:
    wrong = []
    for together in chunks(BY_COMMAND[command]):
        found = outcomes(together, folder)
        assert len(found) == len(together), together
        for use, (status, said, changed) in zip(together, found, strict=True):
            if status != 2 or not said.startswith("error: ") or said.count("\n") != 1 or changed:
                wrong.append(f"{' '.join(use.arguments)} [{use.how}]: status {status}, {said[-300:]!r}, {changed[:4]}")
    assert not wrong, f"{command}, {len(wrong)} of {len(BY_COMMAND[command])}:\n" + "\n".join(wrong)
