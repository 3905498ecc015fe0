"""Every wrong use is one line and exit status 2, and leaves every file as it was."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

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
    *("benchmarks.ship", "transformers.models.llama.modeling_llama", "gguf", *(f"figures.{n}" for n in FIGURES)),
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
        assert outcome(Use(command, tuple(given)), made)[0] == 0, line
    shutil.rmtree(made / "new")
    shutil.copytree(import_module("interp.models.catalog").SHIPPED_RESULTS, made / "run")
    yield made
    shutil.rmtree(made)


def outcome(use: Use, folder: Path) -> tuple[int, str, str]:
    """Exit status, standard output and error of a use in the folder, in a copy of this process."""
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child == 0:
        status = 70
        try:
            for (_, end), stream in zip(pipes, (1, 2), strict=True):
                os.dup2(end, stream)
            sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
            os.chdir(folder)
            status = perform(use)
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)
    said = {}
    for mine, end in pipes:
        os.close(end)
        said[mine] = b""
    deadline, open_ = time.monotonic() + 60, {mine for mine, _ in pipes}
    while open_ and time.monotonic() < deadline:
        for mine in select.select([*open_], [], [], 1)[0]:
            piece = os.read(mine, 1 << 16)
            said[mine] += piece
            if not piece:
                open_.discard(mine)
    if open_:
        os.kill(child, signal.SIGKILL)
    for mine in said:
        os.close(mine)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (status, *(each.decode() for each in said.values()))


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
        elif module == "figures":
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
    before, wrong = state(folder), []
    for use in BY_COMMAND[command]:
        status, _, error = outcome(use, folder)
        one_line = error.startswith("error: ") and error.count("\n") == 1
        after = state(folder)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        if status != 2 or not one_line or changed:
            shown = " ".join(use.arguments)
            wrong.append(f"{command} {shown} [{use.how}]: status {status}, {error[-300:]!r}, {sorted(changed)[:4]}")
        for name in sorted(changed - before.keys(), reverse=True):  # or each later use would seem to change them
            path = Path(name)
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert not wrong, f"{len(wrong)} of {len(BY_COMMAND[command])}:\n" + "\n".join(wrong)
