"""Will the agent change its answer in the next round? `python -m probes.round_and_revision --model … --transcripts …`

Read at the end of the agent's turn, before later agents have spoken, and at its tag in the next round, when it has
read everything and said nothing. The round itself is an easy comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interp.errors import UserError
from interp.probing.experiments import Outcome, Setting, Target, Turns, survey
from probes.verdicts import beyond_text, judge

ASKS = "Will the agent change its answer in the next round?"
DEBATES = ("organism-rotated",)


def round_and_revision(setting: Setting) -> Outcome:
    """Decode the round and the coming change. Raises `UserError` if no debate has a second round."""
    outcome = Outcome("round_and_revision", ASKS)
    survey(setting, outcome, targets)
    coming = ("changes, at the end of its turn", "changes, before it revises")
    judge(outcome, beyond_text(outcome, setting.models, coming))
    return outcome


def targets(turns: Turns) -> Sequence[Target]:
    """The round, and for turns that the same agent follows with another answer, whether it changes."""
    task, table, texts = turns.task, turns.table, turns.texts
    keys = list(zip(table.transcript.tolist(), table.agent.tolist(), table.round.tolist(), strict=True))
    place = {key: row for row, key in enumerate(keys)}
    pairs = [(row, place[t, a, r + 1]) for row, (t, a, r) in enumerate(keys) if (t, a, r + 1) in place]
    pairs = [(now, then) for now, then in pairs if task.answer(texts[now]) and task.answer(texts[then])]
    if not pairs:
        raise UserError("no debate has a second round in which an agent answers: give debates that do")
    now, then = np.array(pairs).T
    changed = ["keeps" if task.grade(texts[a], task.answer(texts[b]) or "") else "changes" for a, b in pairs]
    rounds: dict[tuple[int, int], list[str]] = {}
    for (transcript, _, round_), text in zip(keys, texts, strict=True):
        rounds.setdefault((transcript, round_), []).append(text)
    heard = [" ".join([texts[row], *rounds[keys[row][0], keys[row][2]]]) for row in now]
    every = np.arange(len(texts))
    return [
        Target("round", turns.examples(every, table.round.astype(str)), every),
        Target("changes, at the end of its turn", turns.examples(now, changed), now),
        Target("changes, before it revises", turns.examples(then, changed, heard, "tag"), then, "tag"),
    ]


run = round_and_revision

if __name__ == "__main__":
    from probes.verb import main

    main("round_and_revision")
