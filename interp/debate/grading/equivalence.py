"""Whether two mathematical expressions are equal, decided by math-verify in a process of its own.

math-verify's own time-outs are signals, which only the main thread may set and which cannot stop a long
multiplication; a process can always be killed.
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
_WORKER = Path(__file__).with_name("equivalence_worker.py")
_lock = threading.Lock()
_running: subprocess.Popen[str] | None = None


@lru_cache(maxsize=4096)
def equivalent(gold: str, given: str, *, seconds: float = SECONDS) -> bool:
    r"""Whether `given` is the same expression, set, interval, pair or relation as `gold`, both in LaTeX.

    Exact: `1.414` is not `\sqrt{2}`. What cannot be read, or takes longer than `seconds`, equals nothing. Any thread
    may call it.
    """
    global _running
    with _lock:
        if _running is None or _running.poll() is not None:
            _running = _start()
        assert _running.stdin is not None
        assert _running.stdout is not None
        print(json.dumps([gold, given, seconds]), file=_running.stdin, flush=True)
        reply = _running.stdout.readline()
        if not reply:  # the process ended itself
            _stop()
        return bool(reply and json.loads(reply))


def _forget() -> None:
    """In a forked child, the process and the lock's holder belong to the parent."""
    global _running, _lock
    _running, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _start() -> subprocess.Popen[str]:
    # -P keeps this folder off the child's path
    command, pipe = [sys.executable, "-P", str(_WORKER)], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, encoding="utf-8")
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
