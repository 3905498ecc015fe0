"""Files and folders appear whole or not at all; what killed runs leave is tidied up, but not what living ones make."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interp.errors import UserError
from interp.storage.files import atomic_write, scratch


def begin(path: Path, make: Callable[[Path], None], begun: Any, go_on: Any) -> None:
    with atomic_write(path, make) as temporary:
        if temporary.is_dir():
            (temporary / "part").write_text("new")
        else:
            temporary.write_text("new")
        begun.set()
        go_on.wait()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_a_killed_process_left_goes_and_a_living_ones_stays(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "[a] *?.json"
    context = multiprocessing.get_context("fork")
    processes = []
    for _ in range(2):
        begun, go_on = context.Event(), context.Event()
        process = context.Process(target=begin, args=(path, make, begun, go_on))
        process.start()
        begun.wait()
        processes.append((process, go_on))
    assert len(list(tmp_path.iterdir())) == 2  # neither took the other's for a killed one's
    (killed, _), (living, go_on) = processes
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    others = [tmp_path / name for name in (".[a] *?.json-part", ".b.json-01234567.part", "a.part")]
    for other in others:
        other.touch()
    with pytest.raises(ZeroDivisionError), atomic_write(path):
        raise ZeroDivisionError
    assert len(list(tmp_path.iterdir())) == 1 + len(others)
    go_on.set()
    living.join()
    assert {*tmp_path.iterdir()} == {path, *others}
    assert (path / "part" if path.is_dir() else path).read_text() == "new"
    assert path.stat().st_mode & 0o777 == (tmp_path / "a.part").stat().st_mode & 0o777 | (0o111 if path.is_dir() else 0)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_a_full_disk_leaves_nothing(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fill() -> None:
        with atomic_write(path, make) as temporary:
            (temporary / "b" if temporary.is_dir() else temporary).write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match=r"a: cannot be written \(No space left"):
        fill()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_temporary_folders_of_killed_runs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch() as living:
        left = tmp_path / ".interp-0badcafe.part"
        (left / "deep").mkdir(parents=True)
        (left / "deep" / "file").touch()
        with scratch() as another:
            assert {*tmp_path.iterdir()} == {living, another}
    assert not list(tmp_path.iterdir())
