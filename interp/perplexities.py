"""The perplexity of texts that a long run wrote, kept beside its records.

Knows records by their order, a base model that is loaded when all texts are there, and what was asked; knows
nothing about how a text came about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp.asking import plain
from interp.corpus import Encoder
from interp.debate.tasks import Question, Task
from interp.evaluation.suppression import perplexity
from interp.journal import Journal
from interp.listed import Listed
from interp.progress import Progress


def perplexities(
    out: Path,
    made_by: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    said: Callable[[Mapping[str, Any]], tuple[Task, str]],
    under: Listed,
    *,
    batch_size: int = 32,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> list[float | None]:
    """For each record the perplexity of its text after its question, put plainly; None for an empty text.

    `said` gives the task that a record's question is one of, and its text. The numbers are kept in
    `NAME-perplexity.jsonl` beside `out`, a line for a line; what is there is not worked out again.
    """
    journal = Journal(out.with_name(f"{out.stem}-perplexity.jsonl"), made_by, restart=restart)
    found = [record["perplexity"] for record in journal.records]
    if len(found) < len(records):
        model = under.load()
        encode = Encoder(model.tokenizer)
        for start in range(len(found), len(records), 8 * batch_size):
            prompts, texts = [], []
            for record in records[start : start + 8 * batch_size]:
                task, text = said(record)
                prompts.append(next(plain(model, task, [Question(record["question"], "")])).ids)
                texts.append(encode.continuation(text))
            for value in perplexity(model, prompts, texts, batch_size):
                found.append(None if np.isnan(value) else round(float(value), 4))
                journal.append({"perplexity": found[-1]})
            progress("perplexity", len(found), len(records))
    journal.finish({"records": len(found)})
    return found
