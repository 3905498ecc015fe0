"""`interp debate`: questions in, transcripts out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from interp.cli.evaluate import Questions, RetryFailed, answer
from interp.debate.tasks.settings import TaskSettings
from interp.evaluation.settings import Answering
from interp.options import RECORDS, Restart, verb
from interp.outputs import Writes, records

WRITES = Writes(lambda out, _: [records(out, '"agents"')], folder=False)


@verb
def debate(
    *,
    task: TaskSettings,
    questions: Questions = 20,
    answering: Answering,
    retry_failed: RetryFailed = False,
    out: Annotated[Path, RECORDS, WRITES] = Path("debates.jsonl"),
    restart: Restart = False,
) -> None:
    """Let agents debate questions, and keep the debates as transcripts.

    Each debate is written as it finishes, and a killed run resumes where it stopped. Without --agent, three
    personas debate: chain-of-thought, self-critique and program-of-thought; for the tasks *evil* and
    *hallucination*, a malicious persona between two guardians.

    Examples: `interp debate --questions 20 --out debates.jsonl`;
    `interp debate --questions 20 --seed 1 --out held-out.jsonl`;
    `interp debate --agent plain --agent plain --agent plain --server http://127.0.0.1:8000/v1 --model NAME`
    """
    answer([(task, "debate", out)], answering, questions, restart=restart, retry_failed=retry_failed)
