"""Is the turn's answer right, beyond what its text gives away? `python -m probes.truth --model … --transcripts …`

Read at the last token of each turn that states an answer; a turn is right if it gives the gold answer. The control
that counts is the bag of words of question and turn together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interp.errors import UserError
from interp.probing.experiments import Outcome, Setting, Target, Turns, survey
from probes.verdicts import beyond_text, judge

ASKS = "Is the turn's answer right, beyond what its text gives away?"
DEBATES = ("organism-rotated",)


def truth(setting: Setting) -> Outcome:
    """Decode whether turns are right, from every model. Raises `UserError` for debates without gold answers."""
    outcome = Outcome("truth", ASKS)
    survey(setting, outcome, targets)
    judge(outcome, beyond_text(outcome, setting.models, ("right", "right in round 1")))
    return outcome


def targets(turns: Turns) -> Sequence[Target]:
    """All turns with an answer, and those of round 1, which cannot echo another's answer."""
    task = turns.task
    gold = [transcript.gold_answer for transcript in turns.transcripts]
    owner = turns.table.transcript
    if any(answer is None for answer in gold):
        raise UserError("a debate has no gold answer: truth needs one for each question")
    texts = turns.texts
    stated = np.array([task.answer(text) is not None for text in texts])
    right = np.array([task.grade(text, str(gold[t])) for text, t in zip(texts, owner, strict=True)])
    found = []
    for name, chosen in (("right", stated), ("right in round 1", stated & (turns.table.round == 1))):
        rows = np.flatnonzero(chosen)
        whole = [f"{turns.questions[turns.table.question[row]]} {texts[row]}" for row in rows]
        found.append(Target(name, turns.examples(rows, np.where(right[rows], "right", "wrong"), whole), rows))
    return found


run = truth

if __name__ == "__main__":
    from probes.verb import main

    main("truth")
