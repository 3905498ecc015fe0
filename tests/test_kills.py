"""Commands stopped just before some of their changes to the file system, where `benchmarks.kills` does it at random."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from conftest import COMMAND

from benchmarks.kills import Stopped, contents, differences, run, warm

assert COMMAND  # sets one thread, as forks need
EXTRACT = "extract-directions --limit 8 --layers 1 --out new"
FIT = "fit --pairs given/pairs.jsonl --layers 1 --out new"
EVALUATE = "evaluate --model scripted --questions 4 --method single --method debate --out new"


@pytest.mark.parametrize(
    ("arguments", "every"), [(EXTRACT, 6), (f"{EXTRACT} --keep-activations", 9), (FIT, 9), (EVALUATE, 9)]
)
def test_stopped_anywhere_and_run_again(arguments: str, every: int, model_folder: Path, tmp_path: Path) -> None:
    warm(["interp.cli.app"])
    (tmp_path / "given").mkdir()
    pairs = (f'{{"positive": "{i} is good", "negative": "{i} is bad"}}\n' for i in range(12))
    (tmp_path / "given" / "pairs.jsonl").write_text("".join(pairs))
    model = ["--model", str(model_folder)] if "scripted" not in arguments else []
    command = Stopped("command", [*arguments.split(), *model], tmp_path)
    assert command.whole.changes > 10
    for change in range(1, command.whole.changes + 1, every):
        command.stop(signal.SIGKILL, change=change)
    command.stop(signal.SIGINT, change=command.whole.changes // 2)
    assert command.faults == []
    assert command.stopped[signal.SIGKILL] == len(range(1, command.whole.changes + 1, every))
    assert command.stopped[signal.SIGINT] == 1


def test_what_is_lost_doubled_or_left_over_is_found(tmp_path: Path) -> None:
    warm(["interp.cli.app"])
    ended = run(EVALUATE.split(), tmp_path)
    assert ended.status == 0, ended.said
    whole, new = contents(tmp_path), tmp_path / "work" / "new"
    records = new / "arithmetic-single.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    for wrong in (lines[:-1], [*lines, lines[-1]], lines[::-1]):
        records.write_text("".join(wrong))
        assert differences(whole, contents(tmp_path)) == ["different work/new/arithmetic-single.jsonl"]
    records.write_text("".join(lines))
    (new / ".arithmetic-single.json-0badcafe.part").touch()
    (tmp_path / "tmp" / ".interp-0badcafe.part").mkdir()
    (new / "arithmetic-debate.json").unlink()
    assert differences(whole, contents(tmp_path)) == [
        "lost work/new/arithmetic-debate.json",
        "left over tmp/.interp-0badcafe.part",
        "left over work/new/.arithmetic-single.json-0badcafe.part",
    ]
