"""What kills and interrupts leave behind: `python -m benchmarks.kills`.

Each long command is run once to its end. Then it is stopped, by SIGKILL or Ctrl-C, and the same command is run to its
end in the same place; what it has written must be what the unbroken run wrote, apart from times, with nothing beside
it. It is stopped at a random time or, every second time, just before a random change to the file system. Exits with
1 if anything is lost, doubled or left over, and names it.

Commands run in forks of one process that has imported what they need.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

TRAINED = (
    "debates=6 answer_tokens=60 sft.epochs=1 sft.batch_size=4 sft.device_batch_size=4 sft.save_every=1 "
    "sft.gradient_checkpointing=false "
    "grpo.questions=4 grpo.epochs=1 grpo.batch_size=8 grpo.num_generations=4 grpo.num_iterations=1 grpo.save_every=1 "
    "grpo.device_batch_size=8 grpo.descent.first_limit=40 grpo.descent.last_limit=20 table_questions=4"
)
STEERED = "--model organism --layers 2 --coefficients 0.2 --max-new-tokens 40 --batch-size 4"
CASES = {
    "debate": "debate --model organism --questions 8 --max-new-tokens 100 --batch-size 4 --out new/debates.jsonl",
    "evaluate": "evaluate --model organism --questions 6 --max-new-tokens 100 --batch-size 4 --method single"
    " --method debate --runs 2 --out new/results",
    "extract": "extract-directions --model organism --transcripts organism --limit 60 --batch-tokens 400 --out new",
    "extract, kept": "extract-directions --model organism --transcripts organism --limit 60 --batch-tokens 400"
    " --keep-activations --by-round --out new",
    "fit": "fit --model organism --pairs given/pairs.jsonl --layers 0-2 --batch-tokens 400 --keep-activations"
    " --out new",
    "steer": "steer --model organism --directions given/directions.safetensors --layers 2 --form problem"
    " --prompts given/prompts.txt --max-new-tokens 60 --batch-size 2 --out new/steered.jsonl",
    "sweep": f"sweep {STEERED} --directions given/directions.safetensors --transcripts given/held.jsonl"
    " --task arithmetic --random-controls 2 --out new/sweep.jsonl",
    "suppress": f"suppress {STEERED} --model organism-evil-imad --fit-questions 8 --validation-questions 3"
    " --questions 3 --out new/suppress.jsonl",
    "train": "train --preset organism --out new " + " ".join(f"--set {each}" for each in TRAINED.split()),
    "export-model": "export-model organism-imad --out new/merged",
    "probe": "probe truth --model organism --limit 30 --layers 1,2 --out new",
    "figures": "figures --out new --page-only",
}
"""The long commands on small models; `given` holds what they read, and all that they write is new."""
GIVEN = (
    "extract-directions --model organism --transcripts organism --limit 20 --out found",
    "debate --model scripted --questions 3 --seed 7 --out held.jsonl",
)
IMPORTS = (
    *("interp.cli.app", "interp.models.model", "interp.directions.extract", "interp.reports.page", "transformers"),
    *("interp.training.pipeline", "interp.training.loop", "interp.interventions.sweeps", "interp.reports.tables"),
    *("interp.interventions.remedies", "interp.interventions.suppression", "interp.interventions.steer", "datasets"),
    *("interp.probing.experiments", "probes.truth", "figures.page", "transformers.models.llama.modeling_llama"),
    *("trl.trainer.sft_trainer", "trl.trainer.grpo_trainer", "sklearn.linear_model", "interp.evaluation.seats"),
    *("transformer_lens.model_bridge", "interp.models.loading", "interp.directions.pairs", "interp.reports.terminal"),
    "rouge_score.rouge_scorer",
)
TIMES = {"written", "created", "seconds", "train_runtime", "step_time"}
TIMES |= {"train_samples_per_second", "train_steps_per_second"}
MOMENT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "shutil.copyfile"}
"""Audit events of changes to the file system, besides opening for writing."""


@dataclass
class Ended:
    """How a run ended, after how long and how many changes, and what it said."""

    status: int
    """As of `os.waitstatus_to_exitcode`."""
    seconds: float
    changes: int
    said: str


def run(arguments: list[str], place: Path, how: int = signal.SIGKILL, at: float = 0, change: int = 0) -> Ended:
    """Run a command in `place`; stop it with signal `how` `at` a time in seconds, or before the n-th `change`."""
    (place / "work").mkdir(parents=True, exist_ok=True)
    (place / "tmp").mkdir(exist_ok=True)
    said, counted = place / "said", place / "counted"
    began = time.perf_counter()
    pid = os.fork()
    if not pid:
        _command(arguments, place, how, change)
    if at:
        deadline = began + at
        while time.perf_counter() < deadline and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.002)
        os.kill(pid, how)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    ended = Ended(status, time.perf_counter() - began, counted.stat().st_size, said.read_text(errors="replace"))
    said.unlink()
    counted.unlink()
    return ended


def _command(arguments: list[str], place: Path, how: int, change: int) -> None:
    """In the fork: become the command. Never returns."""
    atexit._clear()  # what the parent has to tidy up at its own end
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(place / "said", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (open(descriptor, "w", closefd=False) for descriptor in (1, 2))  # noqa: SIM115
    counter = os.open(place / "counted", os.O_CREAT | os.O_WRONLY)
    here = str(place.resolve())
    os.chdir(place / "work")
    tempfile.tempdir = os.environ["TMPDIR"] = f"{here}/tmp"
    os.environ["INTERP_CACHE"] = f"{here}/cache"
    left = change

    def watch(event: str, given: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (event in CHANGES or writes) and not any(own in str(given[0]) for own in ("/dev/", "__pycache__")):
            os.write(counter, b".")
            left -= 1
            if left == 0:
                os.kill(os.getpid(), how)

    sys.addaudithook(watch)
    sys.argv = ["interp", *arguments]
    status = 0
    try:
        import_module("interp.cli.app").main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def contents(place: Path) -> dict[str, Any]:
    """Everything in a folder by path, without times and moments."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if path.is_dir():
            found[name] = "a folder"
        elif path.suffix == ".safetensors":
            data = path.read_bytes()
            begin = 8 + int.from_bytes(data[:8], "little")
            header = json.loads(data[8:begin])
            own = header.get("__metadata__", {}).pop("interp", "null")
            found[name] = header, _timeless(json.loads(own)), data[begin:]
        elif path.suffix in (".json", ".jsonl"):
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            found[name] = [_timeless(json.loads(line)) for line in lines]
        else:
            found[name] = MOMENT.sub(b"", path.read_bytes())
    return found


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _timeless(value) for name, value in content.items() if name not in TIMES}
    return [_timeless(value) for value in content] if isinstance(content, list) else content


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What is lost, left over or different, in words."""
    both = expected.keys() & found.keys()
    return [
        *(f"lost {name}" for name in sorted(expected.keys() - both)),
        *(f"left over {name}" for name in sorted(found.keys() - both)),
        *(f"different {name}" for name in sorted(both) if expected[name] != found[name]),
    ]


class Stopped:
    """One command: its unbroken run, how often it was stopped, and what was wrong then."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name, self.arguments, self.folder = name, arguments, folder
        self.stopped, self.faults = Counter[int](), list[str]()
        with self._place() as place:
            self.whole = run(arguments, place)
            if self.whole.status:
                raise SystemExit(f"{name}: {self.whole.said}")
            self.expected = contents(place)

    @contextmanager
    def _place(self) -> Iterator[Path]:
        place = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.folder / "given", place / "work" / "given")
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def stop(self, how: int, at: float = 0, change: int = 0) -> None:
        """Stop the command, run it again, and note what is wrong."""
        with self._place() as place:
            stopped = run(self.arguments, place, how, at, change)
            again = run(self.arguments, place)
            faults = differences(self.expected, contents(place))
        last = (stopped.said.strip().splitlines() or [""])[-1]
        if how == signal.SIGINT and stopped.status:
            self.stopped[how] += 1
            if stopped.status != 130 or not last.startswith("error: interrupted"):
                faults.append(f"interrupted with status {stopped.status}: {last}")
        self.stopped[how] += stopped.status == -how
        if again.status and "exists, and export-model may not replace it" not in again.said:  # it was complete
            faults.append(f"run again with status {again.status}: {again.said.strip()[-300:]}")
        moment = f"after {at:.2f} s" if at else f"before change {change}"
        self.faults += [f"{self.name}, {signal.Signals(how).name} {moment}: {fault}" for fault in faults]


def campaign(kills: int, interrupts: int, seed: int, only: list[str], tell: Callable[[str], None]) -> list[Stopped]:
    """Stop every command in turn until as many kills and interrupts have hit one that was running."""
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="interp-kills-"))
    try:
        _prepare(folder / "given", folder / "setup")
        commands = []
        for name in only or CASES:
            commands.append(Stopped(name, shlex.split(CASES[name]), folder))
            whole = commands[-1].whole
            tell(f"{name}: {whole.seconds:.1f} s, {whole.changes} changes to the file system")
        for how, wanted in ((signal.SIGKILL, kills), (signal.SIGINT, interrupts)):
            for i, command in enumerate(cycle(commands)):
                if sum(one.stopped[how] for one in commands) >= wanted:
                    break
                timed = (i // len(commands) + i) % 2
                at = rng.uniform(0.1, 0.95) * command.whole.seconds if timed else 0.0
                command.stop(how, at=at, change=0 if timed else rng.randint(1, command.whole.changes))
                tell(f"{signal.Signals(how).name} {i + 1}: {command.name}, {len(command.faults)} faults")
    finally:
        shutil.rmtree(folder)
    return commands


def _prepare(given: Path, place: Path) -> None:
    """What the commands read: directions, held-out debates and prompts."""
    for arguments in GIVEN:
        ended = run(shlex.split(arguments), place)
        if ended.status:
            raise SystemExit(ended.said)
    given.mkdir()
    shutil.copy(place / "work" / "found" / "directions.safetensors", given)
    shutil.copy(place / "work" / "held.jsonl", given)
    (given / "prompts.txt").write_text("".join(f"{a}+{b}*2\n" for a in range(1, 4) for b in range(2, 5)))
    sums = [(a, b) for a in range(9) for b in range(1, 8)]
    pairs = (json.dumps({"positive": f"{a}+{b} is {a + b}", "negative": f"{a}+{b} is {a - b}"}) for a, b in sums)
    (given / "pairs.jsonl").write_text("\n".join(pairs))


def warm(modules: Sequence[str] = IMPORTS) -> None:
    """Import what the commands need, with one thread, as forks do not get the others."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    for name in modules:
        import_module(name)
    import torch

    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=66)
    parser.add_argument("--interrupts", type=int, default=22)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", action="append", choices=CASES, help="only this one; repeat for several")
    given = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False)
    began = time.perf_counter()
    warm()
    commands = campaign(given.kills, given.interrupts, given.seed, given.command, lambda line: console.print(line))
    faults = [fault for command in commands for fault in command.faults]
    kills, interrupts = (sum(one.stopped[how] for one in commands) for how in (signal.SIGKILL, signal.SIGINT))
    minutes = (time.perf_counter() - began) / 60
    table = Table(title=f"{kills} kills and {interrupts} interrupts in {minutes:.0f} minutes, seed {given.seed}")
    for heading in ("command", "seconds unbroken", "kills", "interrupts", "faults"):
        table.add_column(heading, justify="left" if heading == "command" else "right")
    for one in commands:
        counts = (one.stopped[signal.SIGKILL], one.stopped[signal.SIGINT], len(one.faults))
        table.add_row(one.name, f"{one.whole.seconds:.1f}", *map(str, counts))
    console.print(table)
    for fault in faults:
        console.print(fault, markup=False)
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
