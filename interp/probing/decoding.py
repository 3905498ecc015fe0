"""One target decoded at every layer, with all its controls in the same call.

Knows arrays by layer, labels and which control answers which objection; knows nothing about models or
what the labels mean. Every row of the result is scored on the same folds and the same resamples:

- `probe` (logistic or ridge) and `mass-mean` at each layer, and `chosen layer`, with the layer chosen
  on the training questions;
- `shuffled`: the same probe on shuffled labels, which must find nothing;
- `control task`: the same probe on a random label for each type of example (Hewitt and Liang 2019); the
  accuracy beyond that is the *selectivity*;
- `random projection`: the same probe on a few random directions, which says how much lies everywhere;
- `bag of words` and `length and position`: what the text gives away without a model;
- whatever else is given: the base or untrained model at the same places, the question's own operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from joblib import Parallel, cpu_count, delayed, parallel_config
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler
from sklearn.random_projection import GaussianRandomProjection
from threadpoolctl import threadpool_limits

from interp.probing.fitting import Examples, HeldOut, Recipe, boosted, chosen_layer, held_out, linear, mass_mean
from interp.probing.probe import Probe
from interp.probing.scores import Resamples, Scored, reliability
from interp.statistics import Interval

Layers = Mapping[int, Float[np.ndarray, "example d_model"]]
"""The activations of the examples at each layer."""

WORTH_PROCESSES = 3e5
"""So many numbers to fit on, and fits run in processes of their own: below, sending them there costs more."""
RANDOM_DIRECTIONS = 8


@dataclass(frozen=True)
class Row:
    """One probe or control, scored."""

    kind: str
    layer: int | None
    scores: Scored
    selectivity: Interval | None = None
    reliability: Sequence[tuple[float, float, int]] = ()
    """(mean confidence, share right, examples) in ten bins."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen: regularisation by fold, layers; of probes the cosines between their weights and the mass-mean
    direction, by class."""


@dataclass(frozen=True)
class Decoded:
    """The rows of one target, and the held-out predictions of each kind and layer for further tests."""

    rows: tuple[Row, ...]
    held: dict[tuple[str, int | None], HeldOut]
    resamples: Resamples
    probes: Mapping[int, Probe] = field(default_factory=dict)
    """By layer a probe fitted on all examples, to keep and to steer by; the rows say what it is worth."""

    def row(self, kind: str, layer: int | None = None) -> Row:
        """The row of this kind and layer."""
        return next(row for row in self.rows if (row.kind, row.layer) == (kind, layer))

    @property
    def best(self) -> int:
        """The layer at which the probe did best within the training folds; to look at, not to report the score of."""
        return self.best_of([layer for kind, layer in self.held if kind == "probe" and layer is not None])

    def best_of(self, layers: Sequence[int]) -> int:
        """The best of some layers, in the same sense."""
        return max(layers, key=lambda layer: float(self.held["probe", layer].merit.mean()))


def decode(
    layers: Layers,
    examples: Examples,
    *,
    others: Mapping[str, Layers] | None = None,
    features: Mapping[str, tuple[Recipe, np.ndarray]] | None = None,
    text: Mapping[str, HeldOut] | None = None,
    controls: bool = True,
    seed: int = 0,
    n_jobs: int | None = None,
    hook_point: str = "blocks.{layer}.hook_resid_post",
) -> Decoded:
    """Decode at every layer with all controls.

    `others` are further models' activations of the same examples, and `features` what is known without a
    model (a recipe and [example, feature]). `text` is what `text_baselines`
    gave for these examples and this seed, where several models share it. Without `controls` only the probe
    runs. `n_jobs` is as for `at_once`. Raises `UserError` for fewer than ten questions or a single label.
    """
    examples.require_usable()
    resamples = Resamples(examples, seed)
    jobs: dict[tuple[str, int | None], tuple[Recipe, Any, Examples]] = {}
    wrong = control_labels(examples, seed) if controls else {}
    if text is None:
        text = text_baselines(examples, seed, n_jobs) if controls else {}
    for layer, values in layers.items():
        jobs["probe", layer] = linear(examples.numeric), values, examples
        if controls:
            jobs["mass-mean", layer] = mass_mean(examples.numeric), values, examples
            jobs["random projection", layer] = _random_projection(values, examples.numeric, seed), values, examples
            for kind, changed in wrong.items():
                jobs[kind, layer] = linear(examples.numeric), values, changed
    for name, theirs in (others or {}).items():
        for layer, values in theirs.items():
            jobs[name, layer] = linear(examples.numeric), values, examples
    for name, (recipe, known) in (features or {}).items():
        jobs[name, None] = recipe, known, examples
    fits = [delayed(held_out)(recipe, X, labelled, seed) for recipe, X, labelled in jobs.values()]
    whole = [
        delayed(Probe.fit)(values, examples, layer=layer, hook_point=hook_point, seed=seed)
        for layer, values in (layers if controls else {}).items()
    ]
    done = at_once([*fits, *whole], sum(X.size for _, X, _ in jobs.values()), n_jobs)
    held: dict[tuple[str, int | None], HeldOut] = dict(zip(jobs, done, strict=False))
    probes = {probe.layer: probe for probe in done[len(jobs) :]}
    chosen, places = chosen_layer([held["probe", layer] for layer in layers])
    numbers = list(layers)
    held["chosen layer", None] = chosen
    for kind, prediction in text.items():
        held[kind, None] = prediction

    rows = []
    for (kind, at), prediction in held.items():
        scored = wrong.get(kind, examples)
        scores = (resamples if scored is examples else Resamples(scored, seed)).score(prediction)
        selectivity = None
        if kind == "probe" and "control task" in wrong:
            control = held["control task", at]
            gap = resamples.gap(prediction, wrong["control task"], control)
            selectivity = gap["r2" if examples.numeric else "accuracy"]
        facts: dict[str, Any] = {"settings": [dict(s) for s in prediction.settings if s]}
        if kind == "probe" and at in probes:
            facts["cosines"] = probes[at].cosines
        if kind == "chosen layer":
            facts["layers"] = [numbers[p] for p in places]
        rows.append(Row(kind, at, scores, selectivity, reliability(prediction, scored), facts))
    return Decoded(tuple(rows), held, resamples, probes)


def at_once(calls: Sequence[Any], numbers: int, n_jobs: int | None = None) -> list[Any]:
    """The results of joblib's delayed calls that fit on so many numbers, each on a thread of its own.

    They run in `n_jobs` processes, by default in one, or on all cores where the numbers are many. Linear algebra
    on several threads would have fits this small wait for one another: on busy cores that took ten times as long.
    """
    workers = n_jobs or (cpu_count() if numbers > WORTH_PROCESSES else 1)
    with threadpool_limits(1), parallel_config("loky", inner_max_num_threads=1):
        return list(Parallel(n_jobs=workers)(calls))


def control_labels(examples: Examples, seed: int) -> dict[str, Examples]:
    """The examples with `shuffled` labels and, where they have types, with the labels of a `control task`.

    Labels that are the same all over a question are shuffled among questions, others among examples. A
    control task draws each type's label from the labels as they are distributed.
    """
    rng = np.random.default_rng(seed + 1)
    _, first, index = np.unique(examples.question, return_index=True, return_inverse=True)
    of_question = examples.labels[first]
    if (of_question[index] == examples.labels).all():
        shuffled = rng.permutation(of_question)[index]
    else:
        shuffled = rng.permutation(examples.labels)
    found = {"shuffled": examples.relabelled(shuffled)}
    if examples.types is not None:
        _, types = np.unique(examples.types, return_inverse=True)
        task = rng.choice(examples.labels, size=types.max() + 1)[types]
        if len(np.unique(task)) > 1:
            found["control task"] = examples.relabelled(task)
    return found


def text_baselines(examples: Examples, seed: int = 0, n_jobs: int | None = None) -> dict[str, HeldOut]:
    """Predictions from the same text: its words, pairs and signs; and its length and position alone.

    Raises `UserError` as `decode`.
    """
    examples.require_usable()
    made: dict[str, tuple[Recipe, np.ndarray]] = {}
    if examples.texts and any(text.strip() for text in examples.texts):
        words = TfidfVectorizer(
            ngram_range=(1, 2), token_pattern=r"[^\W\d]+|\d+|[^\w\s]", sublinear_tf=True, max_features=5000
        )
        made["bag of words"] = linear(examples.numeric, words, weaker=100.0), np.array(examples.texts, dtype=object)
    if examples.surface is not None:
        made["length and position"] = boosted(examples.numeric), examples.surface
    calls = [delayed(held_out)(recipe, X, examples, seed) for recipe, X in made.values()]
    return dict(zip(made, at_once(calls, sum(map(len, examples.texts)), n_jobs), strict=True))


def _random_projection(values: Float[np.ndarray, "example d_model"], numeric: bool, seed: int) -> Recipe:
    n = min(RANDOM_DIRECTIONS, values.shape[1])
    return linear(numeric, StandardScaler(), GaussianRandomProjection(n, random_state=seed))
