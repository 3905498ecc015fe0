"""The process that compares expressions: one JSON line in, one JSON line out. Run by `equivalence`, never imported.

It ends itself when a comparison takes too long, which works even in the middle of big-integer arithmetic.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import sys
from typing import Any

MEMORY_BYTES = 4 * 2**30
EXACT_DIGITS = 12
"""Decimals to which numbers must agree, so that a rounded root or fraction is not the exact one."""


def main() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)  # it warns of every failed parse
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a parser prints is not a reply
    from math_verify import LatexExtractionConfig, parse, verify

    config = [LatexExtractionConfig()]

    def read(latex: str) -> Any:
        return parse(f"${latex}$", config, fallback_mode="no_fallback", parsing_timeout=None)

    silent = open(os.devnull, "w")  # noqa: SIM115 - open as long as the process
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        gold, given, seconds = json.loads(line)
        faulthandler.dump_traceback_later(seconds, exit=True, file=silent)
        try:
            same = verify(read(gold), read(given), EXACT_DIGITS, allow_set_relation_comp=True, timeout_seconds=None)
        except (Exception, RecursionError, MemoryError):
            same = False
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(bool(same)), file=replies, flush=True)


if __name__ == "__main__":
    main()
