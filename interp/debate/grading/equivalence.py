"""Whether two mathematical expressions are equal, decided by math-verify in a process of its own.

Knows how to keep that process from hanging its caller; knows nothing about boxes, units or tasks.
math-verify's own time-outs are signals, which only the main thread may set and which cannot stop a long
multiplication; a process can be ended in any case.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

SECONDS = 5.0


@lru_cache(maxsize=4096)
def equivalent(gold: str, given: str, *, seconds: float = SECONDS) -> bool:
    r"""Whether `given` is the same expression, set, interval, pair or relation as `gold`, both in LaTeX.

    Exact: `1.414` is not `\sqrt{2}`. What cannot be read equals nothing, and neither does what takes longer
    than `seconds`. Safe to call from any thread; calls take turns.
    """
    with _LOCK:
        return _ask(gold, given, seconds)


_LOCK = threading.Lock()
_WORKER = Path(__file__).with_name("equivalence_worker.py")
_running: subprocess.Popen[str] | None = None


def _ask(gold: str, given: str, seconds: float) -> bool:
    global _running
    if _running is None or _running.poll() is not None:
        _running = _start()
    assert _running.stdin is not None
    assert _running.stdout is not None
    _running.stdin.write(json.dumps([gold, given, seconds]) + "\n")
    _running.stdin.flush()
    reply = _running.stdout.readline()
    if not reply:  # it ended itself
        _stop()
        return False
    return bool(json.loads(reply))


def _forget() -> None:
    """In a forked child: the process is the parent's, and so is whoever holds the lock."""
    global _running, _LOCK
    _running, _LOCK = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _start() -> subprocess.Popen[str]:
    # -P: the folder of the file, with modules called like common ones, stays off the child's path
    process = subprocess.Popen(
        [sys.executable, "-P", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise RuntimeError(f"{_WORKER.name} ended before it was ready, with status {process.wait()}")
    return process


@atexit.register
def _stop() -> None:
    global _running
    if _running is not None:
        _running.kill()
        _running.communicate()
        _running = None
