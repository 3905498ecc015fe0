"""Subspaces of the residual stream: bases, their dimension, and the angles between them; and random ones.

A factor (agent, persona, round) spans its subspace by the effects of its levels on the mean activation; all factors are
fitted together, so that those not fully crossed do not absorb each other's effects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh, subspace_angles

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.models.layers import SITES, Site

Values = Float[np.ndarray, "example d_model"]
Levels = Int[np.ndarray, " example"]
Factors = Mapping[str, Levels]
"""Levels of each factor, counted from 0."""
N_SPREAD = 64
"""Rows kept of how activations vary: 0.997 of the variance in the organism, and 17 MB with 32 layers of 4,096."""
MOST_EXAMPLES = 1024


@dataclass(frozen=True)
class Subspace:
    """An orthonormal basis, by rows; it may have dimension 0."""

    basis: Float[np.ndarray, "k d_model"]
    sizes: Float[np.ndarray, " k"]
    """Singular values of the effects (or directions) that span it, in descending order."""

    @property
    def dimension(self) -> int:
        return len(self.basis)

    def first(self, k: int) -> Subspace:
        return Subspace(self.basis[:k], self.sizes[:k])

    def coordinates(self, values: Float[np.ndarray, "*rest d_model"]) -> Float[np.ndarray, "*rest k"]:
        return np.asarray(values @ self.basis.T)

    def without(self, values: Float[np.ndarray, "*rest d_model"]) -> Float[np.ndarray, "*rest d_model"]:
        """The activations with the subspace projected out."""
        return np.asarray(values - self.coordinates(values) @ self.basis)


def span(vectors: Float[np.ndarray, "n d_model"] | Sequence[Direction]) -> Subspace:
    """The subspace of several directions, by singular value decomposition.

    >>> interp.directions.span([found[agent, 2] for agent in (1, 2, 3)]).dimension
    2
    """
    rows = vectors if isinstance(vectors, np.ndarray) else np.stack([d.vector for d in vectors])
    _, sizes, basis = np.linalg.svd(np.asarray(rows, dtype=np.float64), full_matrices=False)
    kept = sizes > 1e-6 * max(sizes[0], 1e-300)
    return Subspace(basis[kept], sizes[kept])


def directions_in(
    subspace: Subspace, rank: int, values: Values, *, label: str, layer: int, site: Site = "resid_post"
) -> list[Direction]:
    """The first `rank` directions of a subspace, told how long the activations there are and how they vary.

    >>> answer = interp.directions.span(interp.directions.effects(np.eye(9), {"agent 1": np.arange(9) % 3})["agent 1"])
    >>> interp.directions.directions_in(answer, 2, np.eye(9), label="agent 1", layer=3)[1].hook_point
    'blocks.3.hook_resid_post'
    """
    if not 1 <= rank <= subspace.dimension:
        raise UserError(f"rank {rank}: the subspace of {label} has {subspace.dimension} dimensions; give at most that")
    norm, varying = np.linalg.norm(values, axis=1).mean(), spread(lambda _: values[:MOST_EXAMPLES, None], 1)[0]
    where = label, layer, SITES[site].format(layer=layer), float(norm), varying
    return [Direction(row, *where) for row in subspace.basis[:rank].astype(np.float32)]


def effects(values: Values, factors: Factors, question: Levels | None = None) -> dict[str, Values]:
    """The effect of each factor's levels on the mean activation (within questions, if given); a factor's sum to zero.

    Raises `UserError` where factors cannot be separated, such as seats and personas that never rotate.

    >>> levels = {"agent": np.tile([0, 1], 5)}
    >>> interp.directions.effects(np.eye(10, 2)[:, :1] * 10, levels)["agent"].ravel()
    array([ 1., -1.])
    """
    question = np.zeros(len(values), dtype=np.int64) if question is None else question
    centred, coded = within_question(values, question), {n: coded_levels(of, question) for n, of in factors.items()}
    design = _design(coded)
    if np.linalg.matrix_rank(design.T @ design, tol=1e-8 * len(design)) < design.shape[1]:
        raise UserError(f"{', '.join(coded)}: always change together; let the personas rotate through the seats")
    return {name: reader(coded, name) @ centred for name in coded}


def within_question(values: Values, question: Levels) -> Values:
    """The activations minus their question's mean."""
    _, index, count = np.unique(question, return_inverse=True, return_counts=True)
    sums = np.zeros((len(count), values.shape[1]))
    np.add.at(sums, index, values)
    return np.asarray(values - (sums / count[:, None])[index])


def principal_angles(first: Subspace, second: Subspace) -> Float[np.ndarray, " angle"]:
    """The angles between two subspaces in degrees, ascending; as many as the smaller has dimensions.

    >>> first, second = (interp.directions.span(np.eye(3)[rows]) for rows in ([0, 1], [1, 2]))
    >>> interp.directions.principal_angles(first, second)
    array([ 0., 90.])
    """
    if not first.dimension or not second.dimension:
        return np.zeros(0)
    return np.sort(np.degrees(subspace_angles(first.basis.T, second.basis.T)))


def spread(
    read: Callable[[int], Float[np.ndarray, "group label d_model"]], n_layers: int
) -> Float[np.ndarray, "layer k d_model"]:
    """How activations vary at each layer: up to 64 rows S with SᵀS their covariance, divided by its trace.

    Each label is centred on its own mean: what labels differ in is what their directions say, and would make random
    directions copies of these. Questions and rounds stay in. The k rows are the largest principal components of all
    layers together, so that the same weights at several layers are the same mixture of examples, and a random
    direction goes through the layers as an agent's does. `read` gives some groups' activations at a layer's place.
    """

    def centred(layer: int) -> Values:
        values = read(layer).astype(np.float64)
        values = (values - values.mean(axis=0)).reshape(-1, values.shape[-1])
        return np.asarray(values / max(float(np.linalg.norm(values)), 1e-300))

    gram = sum(each @ each.T for each in map(centred, range(n_layers)))
    last = len(gram) - 1
    weights = eigh(gram, subset_by_index=(max(0, last + 1 - N_SPREAD), last))[1].T[::-1]
    return np.stack([weights @ centred(layer) for layer in range(n_layers)]).astype(np.float16)


def drawn(spread: Float[np.ndarray, "k d_model"], n: int, seed: int = 0) -> Float[np.ndarray, "draw d_model"]:
    """Random vectors with the covariance SᵀS of the rows; fewer of the same seed are the first of more."""
    weights = np.random.default_rng(seed).standard_normal((n, len(spread)))
    return np.stack([one @ spread.astype(np.float64) for one in weights])  # together, the last digit depends on n


def random_directions(like: Direction, n: int, seed: int = 0, *, isotropic: bool = False) -> list[Direction]:
    """Directions drawn from the activations' covariance (`spread`) at the same hook point, each as long: controls.

    The same seed at several layers gives the same mixtures of examples. Raises `UserError` where the direction does
    not know how the activations vary; `isotropic` ones, a weaker control, need not know.

    >>> controls = interp.directions.random_directions(found[2, 1], 99)
    >>> len(controls), controls[0].label, bool(np.isclose(controls[0].norm, found[2, 1].norm))
    (99, 'random 1', True)
    """
    if not n:
        return []
    free = np.random.default_rng(seed).standard_normal
    vectors = free((n, len(like.vector))) if isotropic else drawn(_spread_of(like), n, seed)
    lengths = like.norm / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    named = enumerate((vectors * lengths).astype(np.float32), start=1)
    return [replace(like, vector=vector, label=f"random {k}") for k, vector in named]


def random_subspace(like: Direction, rank: int, seed: int = 0) -> list[Direction]:
    """Orthonormal directions that span a random subspace, drawn as `random_directions`: a control for `ablate`.

    Raises `UserError` where the activations vary in fewer dimensions.

    >>> interp.ablate(interp.directions.random_subspace(found[2, 1], 2)).changes[0].basis.shape
    (2, 128)
    """
    found = span(drawn(_spread_of(like), rank, seed))
    if found.dimension < rank:
        raise UserError(f"rank {rank}: the activations at {like.hook_point} vary in {found.dimension} dimensions only")
    rows = enumerate(found.basis.astype(np.float32), start=1)
    return [replace(like, vector=vector, label=f"random {k}") for k, vector in rows]


def _spread_of(like: Direction) -> Float[np.ndarray, "k d_model"]:
    if like.spread is None or (like.norm and not like.spread.any()):
        unknown = "random directions are drawn from how the activations vary, which its file does not say"
        raise UserError(f"{like.label} at {like.hook_point}: {unknown}; extract it again, from several questions")
    return like.spread


def coded_levels(levels: Levels, question: Levels) -> np.ndarray:
    """The coded levels [example, level − 1] minus their question's mean."""
    n = int(levels.max()) + 1
    return within_question(np.eye(n)[levels][:, :-1] - (levels == n - 1)[:, None], question)


def _design(coded: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(list(coded.values()), axis=1)


def reader(coded: Mapping[str, np.ndarray], name: str) -> Float[np.ndarray, "level example"]:
    """The matrix from centred activations to the effects of one factor, all fitted together."""
    design = _design(coded)
    solve = np.linalg.pinv(design.T @ design, hermitian=True) @ design.T
    ends = np.cumsum([columns.shape[1] for columns in coded.values()])[:-1]
    own = np.split(solve, ends)[list(coded).index(name)]
    return np.concatenate([own, -own.sum(axis=0, keepdims=True)])
