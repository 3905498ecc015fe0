"""An organism at the moment of answering: what it answers, which swaps it obeys, what probes read from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from interp.activations.reading import read_last
from interp.debate.tasks.median import Median
from interp.directions.subspaces import effects, span
from interp.generation.sampling import generate
from interp.interventions.alignment import search
from interp.interventions.swaps import Swap
from interp.models.model import Model
from interp.probing.fitting import ProbeExamples, at_chosen_layer, held_out, linear
from interp.probing.scores import measure
from probes.known import Answering, Known, Swaps, basis_of
from probes.silent_agents.debated import Debated
from probes.silent_agents.experiment import question_features

RANK = 8
SEARCH: dict[str, Any] = {"steps": 100, "batch_size": 128}
EACH: dict[str, int] = {"train": 2, "validation": 4, "test": 4}
"""Swaps of each question, at most."""
DRAWS = 5
"""Random subspaces."""
FOUND, PERMUTED, MEANS, RANDOM = WAYS = ("alignment search", "permuted agents", "class means", "random subspaces")
"""How subspaces are found."""
AT_ONCE, TRAINED, READ, WRITTEN = ANSWERED = (
    "held out",
    "trained",
    "held out, debate read",
    "held out, debate written",
)
ALONE = ("operands", "operands and pairs")
"""How the question alone is read; gradient boosting reads it less well."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Organism:
    """One model at the prompts' last tokens; what takes time is kept."""

    model: Model
    known: Mapping[str, Known]
    layers: tuple[int, ...]
    seed: int

    @cached_property
    def held_out(self) -> Known:
        return Known(self.known["validation"].questions + self.known["test"].questions)

    @cached_property
    def answering(self) -> dict[tuple[str, int], Answering]:
        hooks = {layer: self.model.hook_name("resid_post", layer) for layer in self.layers}
        return {(s, n): Answering(self.model, known, at) for s, known in self.known.items() for n, at in hooks.items()}

    def answers(self) -> dict[str, float]:
        """Shares of right answers: given at once, and after a debate."""
        at_once = {s: self.answering[s, self.layers[0]].unchanged == known.consensus for s, known in self.known.items()}
        debates, task = [Median().debate(question) for question in self.held_out.questions], Median()
        read = [(d.prompt + d.render()).partition("\\boxed{")[0] + "\\boxed{" for d in debates]
        begun = [d.prompt + d.render().partition("\n")[0] for d in debates]
        shares = {TRAINED: at_once["train"], AT_ONCE: np.concatenate([at_once["validation"], at_once["test"]])}
        for how, texts, start, n_new in ((READ, read, "\\boxed{", 2), (WRITTEN, begun, "", 24)):
            written = generate(self.model, texts, max_new_tokens=n_new, batch_size=256)
            graded = zip(written, debates, strict=True)
            shares[how] = np.array([task.grade(start + out.text, str(d.gold_answer)) for out, d in graded])
        return {how: float(right.mean()) for how, right in shares.items()}

    def swaps(self, agent: int, way: str) -> Record:
        """How a subspace found in this way does on test questions, at the layer that does best on validation."""
        permuted = way == PERMUTED
        asked = {s: known.swaps(agent, self.seed, each=EACH[s], permuted=permuted) for s, known in self.known.items()}
        bases = {layer: list(self._found(agent, way, layer, asked["train"])) for layer in self.layers}
        tried = [self._obeyed("validation", layer, asked["validation"], bases[layer])[0] for layer in self.layers]
        layer = self.layers[int(np.argmax(tried))]
        obeyed, of_right = self._obeyed("test", layer, asked["test"], bases[layer])
        return {"obeyed": obeyed, "obeyed of right": of_right, "layer": layer, "validation": tried}

    def _found(self, agent: int, way: str, layer: int, swaps: Swaps) -> Iterator[np.ndarray]:
        at = self.answering["train", layer]
        if way == RANDOM:
            yield from at.random(RANK, DRAWS, self.seed)
        elif way == MEANS:
            levels = {f"agent {k}": self.known["train"].answers[:, k - 1] for k in self.known["train"].agents}
            yield span(effects(at.values, levels)[f"agent {agent}"]).first(RANK).basis
        else:
            yield basis_of(search(self.model, self._texts(swaps), layer=layer, rank=RANK, **SEARCH, seed=self.seed))

    def _texts(self, swaps: Swaps) -> list[Swap]:
        openings = [Median().opening(question) for question in self.known["train"].questions]
        each = zip(swaps.rows, swaps.sources, swaps.expected, strict=True)
        return [Swap(openings[row], openings[source], str(expected)) for row, source, expected in each]

    def _obeyed(self, split: str, layer: int, swaps: Swaps, bases: Sequence[np.ndarray]) -> tuple[float, float | None]:
        """The share of swaps obeyed, over questions; and of those whose two questions are answered right."""
        at = self.answering[split, layer]
        right = at.unchanged == self.known[split].consensus
        both = right[swaps.rows] & right[swaps.sources]
        said = [at.swapped(swaps, basis) for basis in bases]
        obeyed = float(np.mean([swaps.obeyed(one).mean() for one in said]))
        of_right = float(np.mean([(one == swaps.expected)[both] for one in said])) if both.any() else None
        return obeyed, of_right

    def decoded(self, agent: int) -> Record:
        """How well a linear probe reads the agent's answer to questions that no training saw, at its best layer."""
        layers = range(self.model.n_layers)
        values = read_last(self.model, [Median().opening(question) for question in self.held_out.questions])
        examples = labelled(self.held_out, agent)
        tried = [held_out(linear(False), values[:, layer], examples, self.seed) for layer in layers]
        held, places = at_chosen_layer(tried)
        return {"decoded": measure(held, examples)["accuracy"].value, "layers": places}


def labelled(known: Known, agent: int) -> ProbeExamples:
    """An agent's answers, as classes."""
    classes, labels = np.unique(known.answers[:, agent - 1], return_inverse=True)
    return ProbeExamples(labels, np.arange(len(labels)), tuple(map(str, classes)))


def question_alone(known: Known, agent: int, seed: int) -> dict[str, float]:
    """How well the operands, and pairs of them, give the agent's answer, read linearly as the model is."""
    debated = Debated.read([Median().debate(question) for question in known.questions], Median())
    examples, features = labelled(known, agent), question_features(debated, False)
    held = {how: held_out(*features[how], examples, seed) for how in ALONE if how in features}
    return {how: measure(one, examples)["accuracy"].value for how, one in held.items()}
