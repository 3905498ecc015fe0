"""Ways of finding the subspace that holds an agent's answer, from questions that judge nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from interp.activations.corpus import Corpus
from interp.activations.reading import stream
from interp.debate.tasks.median import Median
from interp.directions.directions import Direction
from interp.directions.extract import extract_directions
from interp.directions.settings import ExtractionSettings, Position
from interp.directions.subspaces import Subspace, principal_angles, span
from interp.interventions.alignment import search
from interp.interventions.swaps import Swap
from interp.models.model import Model
from interp.probing.fitting import ProbeExamples
from interp.probing.probe import Probe
from probes.factors import whole_subspace
from probes.known import Answering, Basis, Known, basis_of

RANKS = (1, 2, 3, 4, 8, 16)
N_DEBATES = 300
"""Debates that are read for directions."""
STEPS, BATCH = 250, 256
Found = Mapping[int, Basis]
"""By agent an orthonormal basis."""
Split = Literal["train", "validation", "test"]

PLANTED = "planted"
LAST, MEAN, READ = "agents, last token", "agents, over the turn", "answers, in debates"
ANSWERS, PROBE, SEARCH = "answers", "probe", "alignment search"
PERMUTED = "alignment search, permuted"
WAYS = {
    PLANTED: "the subspace that training planted",
    LAST: "mean difference between agents at the last token of their turns, while the model reads debates",
    MEAN: "the same over all tokens of their turns",
    READ: "mean differences between an agent's answers at the last token of its turns, while the model reads debates",
    ANSWERS: "mean differences between an agent's answers at the last token of the prompt",
    PROBE: "a linear probe for the agent's answer there",
    SEARCH: "distributed alignment search there",
    PERMUTED: "the same search for swaps in which the agent would take the next agent's answer",
}


@dataclass
class Material:
    """One model with the questions that it is asked, by split."""

    model: Model
    known: Mapping[Split, Known]
    truth: Found
    """What is planted, if anything is known to be."""
    seed: int
    uses: dict[Any, Any] = field(default_factory=dict)
    _answering: dict[tuple[Split, str], Answering] = field(default_factory=dict)

    def answering(self, split: Split, hook_point: str) -> Answering:
        """The model's answers to the questions of a split, changed at this hook point."""
        key = split, hook_point
        if key not in self._answering:
            self._answering[key] = Answering(self.model, self.known[split], hook_point)
        return self._answering[key]

    @cached_property
    def debates(self) -> Known:
        """Training questions whose debates are read."""
        questions = self.known["train"].questions
        some = np.random.default_rng(self.seed).permutation(len(questions))[:N_DEBATES]
        return Known(tuple(questions[i] for i in some))

    def levels(self, known: Known) -> dict[str, np.ndarray]:
        """The agents' answers as levels of factors."""
        return {str(k): known.answers[:, k - 1] for k in known.agents}


def find(material: Material, way: str, hook_point: str, rank: int | None = None) -> dict[int, Found]:
    """What a way finds at a hook point, by rank: what it has, the first of `RANKS` that it has, or that one rank."""
    if way == PLANTED:
        return {len(next(iter(material.truth.values()))): material.truth}
    if way in (LAST, MEAN):
        return {1: _between_agents(material, "last" if way == LAST else "mean", layer_of(hook_point))}
    if way in (SEARCH, PERMUTED):
        agents, permuted = material.known["train"].agents, way == PERMUTED
        each = (rank,) if rank else RANKS
        return {r: {k: searched(material, hook_point, r, k, permuted=permuted) for k in agents} for r in each}
    whole = {READ: _read_in_debates, ANSWERS: _between_answers, PROBE: _probed}[way](material, hook_point)
    most = min(subspace.dimension for subspace in whole.values())
    return {r: {k: each.basis[:r] for k, each in whole.items()} for r in RANKS if r <= most}


def _between_agents(material: Material, position: Position, layer: int) -> Found:
    debates = [Median().debate(question) for question in material.debates.questions]
    how = ExtractionSettings(layers=(layer,), position=position, controls=False, seed=material.seed)
    found = extract_directions(material.model, debates, settings=how).directions
    return {k: basis_of([found[k, layer]]) for k in material.debates.agents}


def _read_in_debates(material: Material, hook_point: str) -> dict[int, Subspace]:
    known, layer = material.debates, layer_of(hook_point)
    corpus = Corpus.build([Median().debate(question) for question in known.questions], material.model.tokenizer)
    values = np.zeros((len(corpus.turns.agent), material.model.d_model), dtype=np.float32)
    for readings in stream(material.model, corpus, layers=[layer]):
        values[readings.rows] = readings.values[:, 0, 0]
    levels, each = material.levels(known), np.zeros(len(known.questions), dtype=int)  # a turn a debate
    return {k: whole_subspace(values[corpus.turns.agent == k], levels, str(k), each) for k in known.agents}


def _between_answers(material: Material, hook_point: str) -> dict[int, Subspace]:
    known, values = material.known["train"], material.answering("train", hook_point).values
    levels = material.levels(known)
    return {k: whole_subspace(values, levels, str(k), np.zeros(len(values), dtype=int)) for k in known.agents}


def _probed(material: Material, hook_point: str) -> dict[int, Subspace]:
    known, values = material.known["train"], material.answering("train", hook_point).values
    found, question = dict[int, Subspace](), np.arange(len(values))
    for k in known.agents:
        classes, labels = np.unique(known.answers[:, k - 1], return_inverse=True)
        examples = ProbeExamples(labels, question, tuple(map(str, classes)))
        weights = Probe.fit(values, examples, layer=layer_of(hook_point), seed=material.seed).weights
        found[k] = span(weights - weights.mean(axis=0))
    return found


def searched(material: Material, hook_point: str, rank: int, agent: int, *, permuted: bool) -> Basis:
    """What a search finds for one agent."""
    swaps = learnt(material.known["train"], agent, material.seed, permuted)
    how: dict[str, Any] = {"layer": layer_of(hook_point), "rank": rank, "seed": material.seed}
    return basis_of(search(material.model, swaps, steps=STEPS, batch_size=BATCH, **how))


def learnt(known: Known, agent: int, seed: int, permuted: bool) -> list[Swap]:
    """What a search for an agent's subspace learns from: swaps, two in three of which change the consensus."""
    texts, made = [Median().opening(question) for question in known.questions], list[Swap]()
    for changed in (True, False):
        swaps = known.swaps(agent, seed, changed=changed, permuted=permuted)
        each = list(zip(swaps.rows, swaps.sources, swaps.expected, strict=True))
        some = [Swap(texts[row], texts[source], str(answer)) for row, source, answer in each]
        made += some if changed else some[: len(made) // 2]
    return made


def layer_of(hook_point: str) -> int:
    return int(hook_point.split(".")[1])


def directions(basis: Basis, at: str, agent: int) -> list[Direction]:
    return [Direction(row, f"agent {agent}", layer_of(at), at) for row in basis.astype(np.float32)]


def angles_between(first: Basis, second: Basis) -> list[float]:
    return [round(float(angle), 2) for angle in principal_angles(span(first), span(second))]
