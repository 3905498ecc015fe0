"""The organism's own activations with the roles of its agents shuffled: nothing is there to be found."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

import numpy as np

from interp.activations.corpus import Corpus
from interp.activations.reading import stream
from interp.debate.embedded import find_transcripts
from interp.directions.contrast import Contrast, differences
from interp.directions.evidence import Design, beyond, evaluate
from interp.models.model import load_model
from interp.statistics import Interval
from probes.calibration.cells import SIZES, Cell, Generator, Rate, coverage, share

LAYERS = (1, 2)
"""One whose separation should not be exceeded, and the layer that is read."""


def cells() -> Iterator[Cell]:
    """Separation of shuffled agents."""
    for n in SIZES[:3]:
        setting = {"questions": n}
        covering = partial(coverage, partial(_separation, n), 0.5)
        what = "separation of the organism's shuffled agents"
        yield Cell(what, "evaluate", "coverage", setting, covering, conservative=True, costs=4)
        yield Cell(what, "beyond", "false positives", setting, partial(_beyond, n), costs=4)


@lru_cache(maxsize=1)
def turns() -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The last token of every turn [layer, group, agent, d_model], the question of each group, and the labels."""
    model, debates = load_model("organism", device="cpu"), find_transcripts("organism")
    corpus = Corpus.build(debates, model.tokenizer)
    contrast = Contrast.build(corpus.turns, corpus.questions)
    values = np.zeros((len(corpus.turns), len(LAYERS), model.d_model), dtype=np.float32)
    for batch in stream(model, corpus, layers=LAYERS, positions=("last",)):
        values[batch.rows] = batch.values[:, 0]
    return np.moveaxis(values[contrast.rows], 2, 0), contrast.question, contrast.labels


def shuffled(n: int, rng: Generator) -> tuple[np.ndarray, Design]:
    """Differences [layer, group, agent, d_model] of n questions whose agents have new roles, and the folds."""
    values, question, labels = turns()
    asked = rng.choice(np.unique(question), n, replace=False)
    kept = np.isin(question, asked)
    place = np.searchsorted(np.sort(asked), question[kept])
    roles = rng.permuted(np.tile(np.arange(len(labels)), (n, 1)), axis=1)[place]
    given = np.take_along_axis(values[:, kept], roles[None, :, :, None], axis=2)
    design = Design.draw(place, len(labels), int(rng.integers(2**31))).bare
    return np.stack([differences(one) for one in given]), design


def _separation(n: int, rng: Generator) -> Interval:
    (_, difference), design = shuffled(n, rng)
    found = evaluate(difference, design).separation
    return Interval(float(found.mean[0]), float(found.low[0]), float(found.high[0]))


def _beyond(n: int, rng: Generator, data_sets: int) -> Rate:
    def shown(rng: Generator) -> bool:
        both, design = shuffled(n, rng)
        control, own = (evaluate(difference, design).wins for difference in both)
        return any(one.outcome == "shown" for one in beyond(turns()[2], own, {"another layer": control}))

    return share(shown(rng) for _ in range(data_sets))
