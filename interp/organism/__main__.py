"""`python -m interp.organism FOLDER`: a base from nothing, and what debate is worth to it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from interp.errors import UserError


def main() -> None:
    """Train a base into a folder that is not there yet, then measure it on questions kept back."""
    from interp.models import load_model
    from interp.organism.pretraining import Pretraining, pretrain
    from interp.organism.questions import SPLITS, SmallArithmetic
    from interp.organism.worth import answer_all, table

    parser = argparse.ArgumentParser(prog="python -m interp.organism", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=Pretraining().seed)
    parser.add_argument("--steps", type=int, default=Pretraining().steps)
    parser.add_argument("--questions", type=int, default=500, help="how many to measure on; 0 for none")
    parser.add_argument("--split", choices=SPLITS, default="validation")
    given = parser.parse_args()

    def show(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0 or step == steps:
            print(f"step {step} of {steps}: loss {loss:.4f}", flush=True)

    try:
        pretrain(given.folder, Pretraining(seed=given.seed, steps=given.steps), progress=show)
        if given.questions:
            task = SmallArithmetic(split=given.split)
            found = answer_all(load_model(str(given.folder)), task.questions(given.questions, 0), task)
            for row in table(found):
                print(json.dumps(row))
    except UserError as error:
        sys.exit(f"error: {error}")


main()
