"""`python -m interp.organism FOLDER`: a base from nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from interp.errors import UserError


def main() -> None:
    """Train a base into a folder that is not there yet.

    What debate is worth to it, `interp evaluate --model FOLDER --task small-arithmetic --split validation` says.
    """
    from interp.organism.pretraining import Pretraining, pretrain

    parser = argparse.ArgumentParser(prog="python -m interp.organism", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=Pretraining().seed)
    parser.add_argument("--steps", type=int, default=Pretraining().steps)
    given = parser.parse_args()

    def show(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0 or step == steps:
            print(f"step {step} of {steps}: loss {loss:.4f}", flush=True)

    try:
        pretrain(given.folder, Pretraining(seed=given.seed, steps=given.steps), progress=show)
    except UserError as error:
        sys.exit(f"error: {error}")


main()
