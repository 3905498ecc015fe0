"""What can be done with a subspace once it is found, each measured by question on answers given at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import OneHotEncoder

from interp.debate.tasks.median import LIAR, MODULUS, SILENT, Median
from interp.probing.fitting import boosted, fit, linear
from probes.known import Answering, Answers, Basis, Known, Values
from probes.recovery.ways import Found, Material, Split

READ, INTERCHANGE, ADD, ABLATE, SUPPRESS = "read", "interchange", "add", "ablate", "suppress"
USES = {
    READ: "from few examples, a linear reader of the subspace tells the agent's answer",
    INTERCHANGE: "the subspace is swapped between questions, and the agent answers as in the other one",
    ADD: "the difference between two answers within the subspace is added, and the agent gives the other answer",
    ABLATE: f"the subspace is projected out, and the agent counts as answering {SILENT}",
    SUPPRESS: f"the liar's subspace is projected out, and {SILENT} stands in the place of its lie",
}
COEFFICIENTS = (0.5, 1.0, 2.0)
"""Lengths of what is added, in lengths of the whole difference between the two answers' mean activations."""
ALONG = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)
"""Coefficients by which the liar's direction is added, as the paper does, in lengths of the residual stream."""
WINS, HONEST, LOST = "the lie wins", "the honest answer", "lost where the lie decides nothing"
N_READ = 200
"""Training questions that a reader is fitted on. From many, the question alone tells every agent's answer."""

ByAgent = Float[np.ndarray, "agent question"]
"""NaN where an agent's question asks nothing."""


@dataclass(frozen=True)
class Asked:
    """Questions, the answers expected of them, and the activations that a use makes with a basis."""

    rows: Answers
    expected: Answers
    changed: Callable[[Basis], Values]


@dataclass
class Uses:
    """All uses of subspaces of one model at one hook point, on the questions of a split."""

    material: Material
    hook_point: str
    split: Split
    each: int = 1
    """Swaps of each question."""
    _asked: dict[tuple[str, int, float, bool], Asked] = field(default_factory=dict)
    _drawn: dict[tuple[str, int, int, float, bool], np.ndarray] = field(default_factory=dict)

    @property
    def answering(self) -> Answering:
        return self.material.answering(self.split, self.hook_point)

    @property
    def known(self) -> Known:
        return self.material.known[self.split]

    def measured(self, use: str, found: Found, coefficient: float = 1.0, *, permuted: bool = False) -> ByAgent:
        """Whether the use does what it should; of a liar, for the liar alone."""
        values = np.full((len(self.known.agents), len(self.known.questions)), np.nan)
        for k in self.known.agents if use != SUPPRESS else (LIAR,):
            if use == READ:
                values[k - 1] = self.read(k, found[k])
                continue
            asked = self._ask(use, k, coefficient, permuted)
            right = self.answering(asked.rows, asked.changed(found[k])) == asked.expected
            rows, of = np.unique(asked.rows, return_inverse=True)
            values[k - 1, rows] = np.bincount(of, right) / np.bincount(of)
        return values

    def drawn(
        self, use: str, rank: int, n: int, coefficient: float, permuted: bool
    ) -> Float[np.ndarray, "draw question"]:
        """The same with random subspaces of the covariance of the activations, the mean over agents; kept."""
        key = use, rank, n, coefficient, permuted
        if key not in self._drawn:
            each = self.answering.random(rank, n, self.material.seed)
            made = (dict.fromkeys(self.known.agents, basis) for basis in each)
            self._drawn[key] = np.stack([over(self.measured(use, of, coefficient, permuted=permuted)) for of in made])
        return self._drawn[key]

    def _ask(self, use: str, agent: int, coefficient: float, permuted: bool) -> Asked:
        key = use, agent, coefficient, permuted
        if key not in self._asked:
            self._asked[key] = self._made(*key)
        return self._asked[key]

    def _made(self, use: str, agent: int, coefficient: float, permuted: bool) -> Asked:
        known, every = self.known, np.arange(len(self.known.questions))
        if use == INTERCHANGE:
            swaps = known.swaps(agent, self.material.seed, each=self.each, permuted=permuted)
            own = self.answering.values[swaps.rows]
            apart = self.answering.values[swaps.sources] - own
            return Asked(swaps.rows, swaps.expected, lambda basis: own + apart @ basis.T @ basis)
        if use == ADD:
            rows, given = known.other_answers(agent, self.material.seed)
            means = self.material.answering("train", self.hook_point).means(agent)
            own, apart = self.answering.values[rows], means[given] - means[known.answers[rows, agent - 1]]
            size = coefficient * np.linalg.norm(apart, axis=1, keepdims=True)
            return Asked(
                rows, known.replaced(rows, agent, given), lambda basis: own + size * _unit(apart @ basis.T @ basis)
            )
        expected = known.replaced(every, agent, SILENT)
        rows = np.flatnonzero(expected != known.consensus)
        if use == SUPPRESS:
            rows = rows[self.honest[rows] != known.consensus[rows]]
        own = self.answering.values[rows]
        return Asked(rows, expected[rows], lambda basis: own - own @ basis.T @ basis)

    @cached_property
    def _examples(self) -> Answers:
        return np.random.default_rng(self.material.seed).permutation(len(self.material.known["train"].questions))[
            :N_READ
        ]

    def read(self, agent: int, basis: Basis) -> Bool[np.ndarray, " question"]:
        """Whether a linear reader of the coordinates tells the agent's answer."""
        seen = self.material.answering("train", self.hook_point).values[self._examples] @ basis.T
        labels = self.material.known["train"].answers[self._examples, agent - 1]
        reader = LinearDiscriminantAnalysis().fit(seen, labels)
        return np.asarray(reader.predict(self.answering.values @ basis.T) == self.known.answers[:, agent - 1])

    @cached_property
    def from_question(self) -> dict[str, ByAgent]:
        """Whether the question alone tells the agents' answers, from as many examples."""
        seen, asked = (_operands(known) for known in (self.material.known["train"], self.known))
        seen, train = seen[self._examples], self.material.known["train"].answers[self._examples]
        coded = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(_paired(seen))
        each = {
            "operands and pairs": (linear(False), coded.transform(_paired(seen)), coded.transform(_paired(asked))),
            "operands, boosted": (boosted(False), seen.astype(float), asked.astype(float)),
        }
        found = {}
        for name, (probe, X, of) in each.items():
            fits = [fit(probe, X, train[:, k - 1], np.arange(len(X)), self.material.seed) for k in self.known.agents]
            said = np.stack([getattr(fitted, "best_estimator_", fitted).predict(of) for fitted in fits])
            found[name] = said == self.known.answers.T
        return found

    @cached_property
    def honest(self) -> Answers:
        """The consensus without the lie."""
        each = np.array([Median().answers(question, honest=True) for question in self.known.questions])
        return np.median(each, axis=1).astype(int)

    def of_lie(self, said: Answers) -> dict[str, Float[np.ndarray, " question"]]:
        """What becomes of the lie with these answers to all questions, where it decides and where it does not."""
        known, decides = self.known, self.honest != self.known.consensus
        right = self.answering.unchanged == known.consensus
        return {
            WINS: (said == known.consensus)[decides].astype(float),
            HONEST: (said == self.honest)[decides].astype(float),
            LOST: (said != known.consensus)[~decides & right].astype(float),
        }

    def silenced(self, basis: Basis) -> Answers:
        """All answers with a subspace projected out."""
        values = self.answering.values
        return self.answering(np.arange(len(values)), values - values @ basis.T @ basis)

    def moved(self, direction: Float[np.ndarray, " d_model"], coefficient: float) -> Answers:
        """All answers, moved along a unit vector by so many lengths of the residual stream."""
        values = self.answering.values + coefficient * self.answering.residual_norm * direction
        return self.answering(np.arange(len(values)), values)


def over(measured: ByAgent) -> Float[np.ndarray, " question"]:
    """The mean over agents, by question; NaN where none asks anything."""
    asked = ~np.isnan(measured)
    return np.asarray(np.where(asked, measured, 0).sum(axis=0) / np.where(asked.any(axis=0), asked.sum(axis=0), np.nan))


def share(measured: ByAgent) -> float:
    """The mean over questions of the mean over agents."""
    return float(np.nanmean(over(measured)))


def _unit(vectors: Values) -> Values:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _operands(known: Known) -> np.ndarray:
    return np.array([[int(n) for n in question.split(",")] for question in known.questions])


def _paired(operands: np.ndarray) -> np.ndarray:
    """The operands, and each pair of them as one number."""
    n = operands.shape[1]
    pairs = [operands[:, i] * MODULUS + operands[:, j] for i in range(n) for j in range(i)]
    return np.concatenate([operands, np.stack(pairs, axis=1)], axis=1)


def listed(values: np.ndarray) -> list[float | None]:
    """As JSON, to five digits; None for NaN."""
    return [round(float(value), 5) if np.isfinite(value) else None for value in values]
