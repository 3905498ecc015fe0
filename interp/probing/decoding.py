"""One target decoded at every layer (`probe`, `mass-mean`) and at the layer chosen on training questions.

Controls: `shuffled` labels; a `control task`, a random label for each type of example (Hewitt and Liang 2019; accuracy
beyond it is the *selectivity*); a `random projection` on a few directions; and what is known without a model, by the
text's `bag of words`, its `length and position`, and whatever else is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from joblib import Parallel, cpu_count, delayed, parallel_config
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler
from sklearn.random_projection import GaussianRandomProjection
from threadpoolctl import threadpool_limits

from interp.probing.fitting import HeldOut, ProbeExamples, at_chosen_layer, boosted, held_out, linear, mass_mean
from interp.probing.probe import Probe
from interp.probing.scores import Measured, Scored, measure
from interp.processes import place, shared
from interp.statistics import Interval

Layers = Mapping[int, Float[np.ndarray, "example d_model"]]  # the activations of the examples
Features = Mapping[str, tuple[Any, np.ndarray]]  # known without activations, by name: a probe and [example, feature]
WORTH_PROCESSES = 3e5  # numbers to fit on; with fewer, starting a process for each core takes longer than it saves
RANDOM_DIRECTIONS = 8


@dataclass(frozen=True)
class ProbeRow:
    """One probe or control, scored."""

    kind: str
    layer: int | None
    measures: Scored
    selectivity: Measured | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # layers by fold; `Probe.cosines`

    @property
    def scores(self) -> dict[str, Interval]:
        """The measures with their intervals."""
        return {name: measured.interval for name, measured in self.measures.items()}


@dataclass(frozen=True)
class Decoded:
    """The rows of one target, and the held-out predictions of each kind and layer for further tests."""

    rows: tuple[ProbeRow, ...]
    held: dict[tuple[str, int | None], HeldOut]
    examples: ProbeExamples
    probes: Mapping[int, Probe] = field(default_factory=dict)  # by layer, fitted on all examples, to keep

    def row(self, kind: str, layer: int | None = None) -> ProbeRow:
        """The row of this kind and layer."""
        return next(row for row in self.rows if (row.kind, row.layer) == (kind, layer))

    def best(self, layers: Sequence[int] = ()) -> int:
        """The layer (of some, or of all) where the probe did best on training questions: to look at, not to report."""
        known = layers or [layer for kind, layer in self.held if kind == "probe" and layer is not None]
        return max(known, key=lambda layer: float(self.held["probe", layer].merit.mean()))


def decode(
    layers: Layers,
    examples: ProbeExamples,
    *,
    features: Features | None = None,
    text: Mapping[str, HeldOut] | None = None,
    controls: bool = True,
    seed: int = 0,
    n_jobs: int | None = None,
) -> Decoded:
    """Decode at every layer, with all controls or the probe alone; `text` is from `text_baselines`, if models share it.

    Raises `UserError` for fewer than ten questions or a single label.

    >>> values = np.random.default_rng(0).standard_normal((60, 4))
    >>> examples = interp.probing.ProbeExamples((values[:, 0] > 0).astype(int), np.arange(60), ("low", "high"))
    >>> interp.probing.decode({1: values}, examples).row("probe", 1).scores["auc"].low > 0.7
    True
    """
    examples.require_usable()
    numeric, wrong = examples.numeric, control_labels(examples, seed) if controls else {}
    if text is None:
        text = text_baselines(examples, seed, n_jobs) if controls else {}
    jobs: dict[tuple[str, int | None], tuple[Any, Any, ProbeExamples]] = {}
    for layer, values in layers.items():
        jobs["probe", layer] = linear(numeric), values, examples
        if controls:
            jobs["mass-mean", layer] = mass_mean(numeric), values, examples
            projection = GaussianRandomProjection(min(RANDOM_DIRECTIONS, values.shape[1]), random_state=seed)
            jobs["random projection", layer] = linear(numeric, StandardScaler(), projection), values, examples
        jobs |= {(kind, layer): (linear(numeric), values, on) for kind, on in wrong.items()}
    jobs |= {(name, None): (probe, known, examples) for name, (probe, known) in (features or {}).items()}
    fits = [delayed(held_out)(probe, X, labelled, seed) for probe, X, labelled in jobs.values()]
    whole = [delayed(Probe.fit)(v, examples, layer=k, seed=seed) for k, v in layers.items() if controls]
    done = in_parallel([*fits, *whole], sum(X.size for _, X, _ in jobs.values()), n_jobs)
    held: dict[tuple[str, int | None], HeldOut] = dict(zip(jobs, done, strict=False))
    probes = {probe.layer: probe for probe in done[len(jobs) :]}
    held["chosen layer", None], places = at_chosen_layer([held["probe", layer] for layer in layers])
    held |= {(kind, None): prediction for kind, prediction in text.items()}

    rows = []
    for (kind, at), prediction in held.items():
        scored, selectivity, facts = measure(prediction, wrong.get(kind, examples)), None, dict[str, Any]()
        if kind == "probe" and "control task" in wrong:
            by = "r2" if numeric else "accuracy"
            selectivity = scored[by] - measure(held["control task", at], wrong["control task"])[by]
        if kind == "probe" and at in probes:
            facts["cosines"] = probes[at].cosines
        if kind == "chosen layer":
            facts["layers"] = [list(layers)[place] for place in places]
        rows.append(ProbeRow(kind, at, scored, selectivity, facts))
    return Decoded(tuple(rows), held, examples, probes)


def in_parallel(calls: Sequence[Any], numbers: int, n_jobs: int | None = None) -> list[Any]:
    """The results of joblib's delayed calls that fit on so many numbers, in `n_jobs` workers of a single thread.

    With several threads for linear algebra, fits this small wait for one another: on busy cores ten times as long.
    """
    workers = n_jobs or (max(1, cpu_count() // place()[1]) if numbers > WORTH_PROCESSES else 1)
    with threadpool_limits(1), parallel_config("loky", inner_max_num_threads=1):
        return list(shared(calls, Parallel(n_jobs=workers), max(1, len(calls))))


def control_labels(examples: ProbeExamples, seed: int) -> dict[str, ProbeExamples]:
    """The examples with `shuffled` labels (by question if constant there) and, if they have types, a `control task`."""
    rng = np.random.default_rng(seed + 1)
    _, first, index = np.unique(examples.question, return_index=True, return_inverse=True)
    of_question = examples.labels[first]
    constant = (of_question[index] == examples.labels).all()
    labels = {"shuffled": rng.permutation(of_question)[index] if constant else rng.permutation(examples.labels)}
    if examples.types is not None:
        _, types = np.unique(examples.types, return_inverse=True)
        task = rng.choice(examples.labels, size=types.max() + 1)[types]
        labels |= {"control task": task} if len(np.unique(task)) > 1 else {}
    return {kind: replace(examples, labels=wrong) for kind, wrong in labels.items()}


def text_baselines(examples: ProbeExamples, seed: int = 0, n_jobs: int | None = None) -> dict[str, HeldOut]:
    """Predictions from the text alone: its words, word pairs and signs; and its length and position."""
    examples.require_usable()
    made: dict[str, tuple[Any, np.ndarray]] = {}
    if any(text.strip() for text in examples.texts):
        pattern = r"[^\W\d]+|\d+|[^\w\s]"
        words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=pattern, sublinear_tf=True, max_features=5000)
        made["bag of words"] = linear(examples.numeric, words, weaker=100.0), np.array(examples.texts, dtype=object)
    if examples.surface is not None:
        made["length and position"] = boosted(examples.numeric), examples.surface
    calls = [delayed(held_out)(probe, X, examples, seed) for probe, X in made.values()]
    return dict(zip(made, in_parallel(calls, sum(map(len, examples.texts)), n_jobs), strict=True))
