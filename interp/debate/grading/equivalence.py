"""Whether two mathematical expressions are equal, decided by math-verify in a process of its own that runs this file.

Its own time-outs are signals: only for the main thread, and no end to a long multiplication. The process ends itself.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import logging
import os
import subprocess
import sys
import threading
from functools import lru_cache
from typing import Any

_EXACT_DIGITS = 12  # decimals to which numbers must agree, so that a rounded root or fraction is not the exact one
_lock = threading.Lock()
_running: subprocess.Popen[str] | None = None


@lru_cache(maxsize=4096)
def equivalent(gold: str, given: str, *, seconds: float = 5.0) -> bool:
    r"""Whether `given` is the same expression, set, interval, pair or relation as `gold`, both in LaTeX.

    Exact: `1.414` is not `\sqrt{2}`. What cannot be read, or takes longer, equals nothing. Any thread may call it.
    """
    global _running
    with _lock:
        if _running is None or _running.poll() is not None:
            _running = _start()
        print(json.dumps([gold, given, seconds]), file=_running.stdin, flush=True)
        assert _running.stdout is not None
        reply = _running.stdout.readline()
        if not reply:  # the process ended itself
            _running.communicate()
        return bool(reply and json.loads(reply))


def _start() -> subprocess.Popen[str]:
    command, pipe = [sys.executable, "-P", __file__], subprocess.PIPE  # -P keeps this folder off the child's path
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, encoding="utf-8")
    atexit.register(process.kill)
    assert process.stdout is not None
    if not process.stdout.readline():
        raise RuntimeError(f"math-verify ended before it was ready, with status {process.wait()}")
    return process


def _forget() -> None:
    """In a forked child, the process and the lock's holder belong to the parent."""
    global _running, _lock
    _running, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _serve() -> None:
    """Compare expressions: one JSON line in, one JSON line out."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    logging.disable(logging.CRITICAL)  # it warns of every failed parse
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a parser prints is not a reply
    from math_verify import LatexExtractionConfig, parse, verify

    def read(latex: str) -> Any:
        return parse(f"${latex}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)

    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        gold, given, seconds = json.loads(line)
        faulthandler.dump_traceback_later(seconds, exit=True)  # its standard error goes nowhere
        try:
            same = verify(read(gold), read(given), _EXACT_DIGITS, allow_set_relation_comp=True, timeout_seconds=None)
        except (Exception, RecursionError, MemoryError):
            same = False
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(bool(same)), file=replies, flush=True)


if __name__ == "__main__":
    _serve()
