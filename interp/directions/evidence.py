"""How far a direction can be trusted: reliability, separation, and their chance levels. Knows arrays at one layer.

Turns of one question are not independent: folds and intervals are over questions, and a turn is only scored with
directions fitted without its question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from scipy.stats import t as student_t

from interp.statistics import deal
from interp.statistics.old import counts, percentiles

Sums = Float[np.ndarray, "fold label d_model"]
N_FOLDS = 10
N_CONTROLS = 20
N_BOOTSTRAP = 1000


@dataclass(frozen=True)
class Estimate:
    """A value with a 95 % interval per label; NaN where undefined."""

    mean: Float[np.ndarray, " label"]
    low: Float[np.ndarray, " label"]
    high: Float[np.ndarray, " label"]


@dataclass(frozen=True)
class Evidence:
    """The evidence for one layer's directions, and the same with labels shuffled within each question."""

    reliability: Estimate
    """Cosine of the directions of two halves of the questions; the interval is a jackknife over folds."""
    reliability_shuffled: Estimate
    separation: Estimate
    """Probability that the label's own turn lies further along its direction than another's in its group."""
    separation_shuffled: Estimate
    separation_random: Estimate
    """Along random directions, each signed to agree with the training questions' mean difference."""
    wins: Float[np.ndarray, "group label"]
    """The share of the group's other turns below the label's own."""
    merit: Float[np.ndarray, " fold"]
    """Mean separation on the other folds, by directions fitted without this one: for choosing a layer."""
    projections: Float[np.ndarray, "group label direction"]
    """Each turn, centred within its group, on unit directions fitted without its question."""


@dataclass(frozen=True)
class Design:
    """The random part of the evaluation, drawn once for all layers."""

    question: Int[np.ndarray, " group"]
    fold: Int[np.ndarray, " group"]
    owner: Int[np.ndarray, "draw group label"]
    """Whose turn each label gets: its own in draw 0, a shuffle of the question's labels in the others."""
    resamples: Int[np.ndarray, "resample question"]
    """How often each question is in each bootstrap sample."""
    seed: int

    @staticmethod
    def draw(question: Int[np.ndarray, " group"], n_labels: int, seed: int) -> Design:
        rng = np.random.default_rng(seed)
        unique, index = np.unique(question, return_inverse=True)
        fold = deal(question, min(N_FOLDS, len(unique)), rng)
        identity = np.broadcast_to(np.arange(n_labels), (1, len(question), n_labels))
        by_question = np.broadcast_to(np.arange(n_labels), (N_CONTROLS, len(unique), n_labels))
        shuffled = rng.permuted(by_question, axis=-1).astype(np.int8)[:, index]
        owner = np.concatenate([identity.astype(np.int8), shuffled])
        parts = (counts(len(unique), rng, n) for n in [N_BOOTSTRAP // 20] * 20)  # as one call draws them
        return Design(index, fold, owner, np.concatenate([part.astype(np.int16) for part in parts]), seed)

    def select(self, groups: Bool[np.ndarray, " group"]) -> Design:
        return Design(self.question[groups], self.fold[groups], self.owner[:, groups], self.resamples, self.seed)


class Differences(Protocol):
    """Each label's turn minus the others' at one layer: an array, or something that reads some groups at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, groups: np.ndarray, /) -> Float[np.ndarray, "group label d_model"]: ...


def evaluate(difference: Differences, design: Design) -> Evidence:
    """Evaluate the mean over groups of `difference` at one layer; every estimate is NaN with a single question.

    In memory are the groups of one fold at a time.
    """
    n_groups, n_labels, d_model = difference.shape
    n_draws, folds = len(design.owner), np.unique(design.fold)
    random = np.random.default_rng(design.seed).standard_normal((N_CONTROLS, d_model)).astype(np.float32)
    # Sums over each fold of the differences that a draw gives to each label.
    fold_sums = np.zeros((len(folds), n_draws, n_labels, d_model))
    for i, fold in enumerate(folds):
        groups = np.flatnonzero(design.fold == fold)
        given = np.zeros((n_draws, n_labels, len(groups), n_labels), dtype=np.float32)
        draw, group, label = np.ogrid[:n_draws, : len(groups), :n_labels]
        given[draw, label, group, design.owner[:, groups]] = 1
        of_fold = rearrange(difference[groups], "g a d -> (g a) d")
        fold_sums[i] = rearrange(rearrange(given, "k a g b -> (k a) (g b)") @ of_fold, "(k a) d -> k a d", k=n_draws)
    total = fold_sums.sum(axis=0)
    wins = np.full((n_groups, n_labels), np.nan)
    won = np.zeros((n_draws + N_CONTROLS, n_labels))
    merits = np.zeros((len(folds), len(folds)))  # sums of wins on one fold by directions without it and another
    projections = np.empty((n_groups, n_labels, n_labels), dtype=np.float32)
    for i, fold in enumerate(folds):
        groups = np.flatnonzero(design.fold == fold)
        of_fold = difference[groups]
        held_out = total - fold_sums[i]
        unit = held_out / np.maximum(np.linalg.norm(held_out, axis=-1, keepdims=True), 1e-30)
        along = of_fold @ rearrange(unit.astype(np.float32), "k a d -> d (k a)")
        on_random = rearrange(of_fold, "g b d -> (g b) d") @ random.T
        turned = np.sign(random @ held_out[0].T)
        scores = np.concatenate(
            [
                rearrange(along, "g b (k a) -> g b k a", k=n_draws),
                rearrange(on_random, "(g b) k -> g b k", b=n_labels)[..., None] * turned.astype(np.float32),
            ],
            axis=2,
        )
        shape = (N_CONTROLS, len(groups), n_labels)
        owner = np.concatenate([design.owner[:, groups], np.broadcast_to(design.owner[:1, groups], shape)])
        of_draws = _wins(scores, owner)
        wins[groups], won = of_draws[0], won + of_draws.sum(axis=1)
        projections[groups] = scores[:, :, 0] * np.float32((n_labels - 1) / n_labels)
        for j in range(len(folds)):
            direction = (total[0] - fold_sums[j, 0] - fold_sums[i, 0]).astype(np.float32)
            merits[i, j] = _wins((of_fold @ direction.T)[:, :, None], design.owner[:1, groups]).sum()
    auc = won / n_groups
    if len(folds) < 2:
        wins, auc = np.full_like(wins, np.nan), np.full_like(auc, np.nan)
    shuffled = np.stack([_split_half(fold_sums[:, k]) for k in range(1, n_draws)])
    reliability = _jackknife(fold_sums[:, 0]), _over_draws(shuffled)
    separation = _separation(wins, design), _over_draws(auc[1:n_draws]), _over_draws(auc[n_draws:])
    sizes = np.array([(design.fold == fold).sum() * n_labels for fold in folds])
    np.fill_diagonal(merits, 0)
    merit = merits.sum(axis=0) / np.maximum(sizes.sum() - sizes, 1)
    merit = merit if len(folds) > 2 else np.full(len(folds), np.nan)
    return Evidence(*reliability, *separation, wins, merit, projections)


def chosen_layer(evidence: Sequence[Evidence], design: Design) -> tuple[Estimate, list[int]]:
    """Separation at a layer chosen, for each fold, on the others, and the layers (indices); NaN below three folds."""
    merit = np.stack([e.merit for e in evidence])
    if not np.isfinite(merit).all():
        return _separation(np.full_like(evidence[0].wins, np.nan), design), []
    best = merit.argmax(axis=0)
    layer_of_group = best[np.searchsorted(np.unique(design.fold), design.fold)]
    wins = np.stack([e.wins for e in evidence])[layer_of_group, np.arange(len(layer_of_group))]
    return _separation(wins, design), sorted(set(best.tolist()))


def _separation(wins: Float[np.ndarray, "group label"], design: Design) -> Estimate:
    """Mean of the wins, with an interval from resampling questions."""
    mean, n_questions = wins.mean(axis=0), design.resamples.shape[1]
    groups = np.bincount(design.question, minlength=n_questions)
    won = np.stack([np.bincount(design.question, own, n_questions) for own in wins.T], axis=1)
    parts = (some.astype(np.float64) for some in np.array_split(design.resamples, 20))
    resampled = np.concatenate([some @ won / np.maximum(some @ groups, 1)[:, None] for some in parts])
    low, high = percentiles(resampled)
    # Where all groups agree, all resamples do: the bound that this many agreeing questions allow.
    reach = 0.025 ** (1 / len(np.unique(design.question)))
    return Estimate(mean, np.where(mean == 1, reach, low), np.where(mean == 0, 1 - reach, high))


def _wins(
    scores: Float[np.ndarray, "group turn draw label"], own: Int[np.ndarray, "draw group label"]
) -> Float[np.ndarray, "draw group label"]:
    """How often, within each group, a label's own turn scores above the others' (ties half)."""
    n_labels = scores.shape[1]
    by_draw = rearrange(scores, "g b k a -> k g a b")
    mine = np.take_along_axis(by_draw, own[..., None], axis=-1)
    above = (mine > by_draw).sum(axis=-1) + 0.5 * ((mine == by_draw).sum(axis=-1) - 1)
    return above / (n_labels - 1)


def _split_half(fold_sums: Sums) -> Float[np.ndarray, " label"]:
    """Mean cosine between the directions of two halves, over all ways to halve the folds."""
    n = len(fold_sums)
    if n < 2:
        return np.full(fold_sums.shape[1], np.nan)
    by_label = rearrange(fold_sums, "f a d -> a f d")
    gram = by_label @ rearrange(by_label, "a f d -> a d f")
    half = np.array([np.isin(np.arange(n), chosen) for chosen in combinations(range(n), n // 2)], dtype=float)
    if n % 2 == 0:
        half = half[: len(half) // 2]  # the others are their complements
    rest = 1 - half
    product = einsum(half, gram, rest, "s f, a f e, s e -> s a")
    norms = [np.sqrt(einsum(h, gram, h, "s f, a f e, s e -> s a")) for h in (half, rest)]
    return (product / np.maximum(norms[0] * norms[1], 1e-30)).mean(axis=0)


def _jackknife(fold_sums: Sums) -> Estimate:
    """Split-half cosine with an interval from leaving out one fold of questions at a time."""
    n, value = len(fold_sums), _split_half(fold_sums)
    if n < 3:
        return Estimate(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    without = np.stack([_split_half(np.delete(fold_sums, f, axis=0)) for f in range(n)])
    error = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    reach = student_t.ppf(0.975, n - 1) * error
    return Estimate(value, np.maximum(value - reach, -1), np.minimum(value + reach, 1))


def _over_draws(values: Float[np.ndarray, "draw label"]) -> Estimate:
    """Mean and 95 % range over the draws of a control."""
    return Estimate(values.mean(axis=0), *percentiles(values))
