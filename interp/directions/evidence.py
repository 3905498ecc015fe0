"""How far a direction can be trusted: reliability, separation, and their chance levels. Knows arrays at one layer.

Turns of one question are not independent: folds and intervals are over questions, and a turn is only scored with
directions fitted without its question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from scipy.stats import t as student_t

from interp.directions.estimators import FITS, reduced
from interp.statistics import Verdict, all_of, deal, difference_test, judge, mean_interval

Sums = Float[np.ndarray, "fold label d_model"]
Wins = Float[np.ndarray, "question label"]
"""The share of the other turns that lie below the label's own along its direction, each question's groups averaged."""
N_FOLDS = 10
N_CONTROLS = 20
_N_HALVINGS = 5
"""Ways to halve the folds, for an estimator that has to be fitted again to each half."""


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
    """Along the random directions given, each signed to agree with the training questions' direction."""
    wins: Wins
    merit: Float[np.ndarray, "fold label"]
    """Mean separation on the other folds, by directions fitted without this one: for choosing a layer."""
    projections: Float[np.ndarray, "group label direction"]
    """Each turn, centred within its group, on unit directions fitted without its question."""


@dataclass(frozen=True)
class Design:
    """The folds, and the random part of the evaluation, drawn once for all layers."""

    question: Int[np.ndarray, " group"]
    """Counted from 0, without gaps."""
    fold: Int[np.ndarray, " group"]
    owner: Int[np.ndarray, "draw group label"]
    """Whose turn each label gets: its own in draw 0, a shuffle of the question's labels in the others."""

    @staticmethod
    def draw(question: Int[np.ndarray, " group"], n_labels: int, seed: int) -> Design:
        rng = np.random.default_rng(seed)
        unique, index = np.unique(question, return_inverse=True)
        fold = deal(question, min(N_FOLDS, len(unique)), rng)
        identity = np.broadcast_to(np.arange(n_labels), (1, len(question), n_labels))
        by_question = np.broadcast_to(np.arange(n_labels), (N_CONTROLS, len(unique), n_labels))
        shuffled = rng.permuted(by_question, axis=-1).astype(np.int8)[:, index]
        return Design(index, fold, np.concatenate([identity.astype(np.int8), shuffled]))

    def select(self, groups: Bool[np.ndarray, " group"]) -> Design:
        question = np.unique(self.question[groups], return_inverse=True)[1]
        return replace(self, question=question, fold=self.fold[groups], owner=self.owner[:, groups])

    @property
    def bare(self) -> Design:
        """The same folds without shuffled labels, for what is itself a control."""
        return replace(self, owner=self.owner[:1])

    def by_question(self, values: Float[np.ndarray, "group label"]) -> Wins:
        """The mean over each question's groups."""
        sums = np.stack([np.bincount(self.question, column) for column in values.T], axis=1)
        return np.asarray(sums / np.bincount(self.question)[:, None])


class Differences(Protocol):
    """Each label's turn minus the others' at one layer: an array, or something that reads some groups at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, groups: np.ndarray, /) -> Float[np.ndarray, "group label d_model"]: ...


class _Fits:
    """Directions of any folds: sums over them, or another estimator's of two labels, fitted again and again."""

    def __init__(self, difference: Differences, design: Design, estimator: str, width: int) -> None:
        (_, n_labels, d_model), n_draws = difference.shape, len(design.owner)
        self.folds, self.fit, self.width = np.unique(design.fold), FITS.get(estimator), width
        if self.fit is not None:
            self.own, self.sign, self.fold = difference[:, 0], 1 - 2 * design.owner[:, :, :1], design.fold  # type: ignore[index]
            return
        # Sums over each fold of the differences that a draw gives to each label.
        self.sums = np.zeros((len(self.folds), n_draws, n_labels, d_model))
        for i, fold in enumerate(self.folds):
            groups = np.flatnonzero(design.fold == fold)
            given = np.zeros((n_draws, n_labels, len(groups), n_labels), dtype=np.float32)
            draw, group, label = np.ogrid[:n_draws, : len(groups), :n_labels]
            given[draw, label, group, design.owner[:, groups]] = 1
            of_fold = rearrange(difference[groups], "g a d -> (g a) d")
            self.sums[i] = (rearrange(given, "k a g b -> (k a) (g b)") @ of_fold).reshape(n_draws, n_labels, -1)
        self.total = self.sums.sum(axis=0)

    def without(self, folds: Sequence[int], draw: int) -> Float[np.ndarray, "label d_model"]:
        """With all folds but these, of which there may be no others."""
        if self.fit is None:
            return np.asarray(self.total[draw] - self.sums[sorted({*folds}), draw].sum(axis=0))
        some = ~np.isin(self.fold, self.folds[list(folds)])
        found = self.fit(self.sign[draw, some] * self.own[some], self.width) if some.any() else 0 * self.own[0]
        return np.stack([found, -found])

    def split_half(self, draw: int, left_out: int | None = None) -> Float[np.ndarray, " label"]:
        """Mean cosine between the directions of two halves of the folds."""
        folds = np.delete(np.arange(len(self.folds)), () if left_out is None else left_out)
        if self.fit is None or len(folds) < 2:
            return _split_half(self.sums[folds, draw]) if self.fit is None else np.full(2, np.nan)
        apart, halves = {*range(len(self.folds))} - {*folds.tolist()}, _halves(len(folds)) > 0
        some = halves[np.linspace(0, len(halves) - 1, min(_N_HALVINGS, len(halves))).astype(int)]
        each = (
            (self.without([*folds[half], *apart], draw), self.without([*folds[~half], *apart], draw)) for half in some
        )
        return np.mean([(a * b).sum(axis=1) for a, b in each], axis=0)


def evaluate(
    difference: Differences,
    design: Design,
    random: Float[np.ndarray, "draw d_model"] | None = None,
    estimator: str = "mean_difference",
) -> Evidence:
    """Evaluate directions at one layer, fitted to `difference` as the estimator does; NaN with a single question.

    With mean differences the groups of one fold at a time are in memory; all others need two labels.
    """
    n_groups, n_labels, d_model = difference.shape
    n_draws, folds = len(design.owner), np.unique(design.fold)
    random = np.zeros((0, d_model)) if random is None else random
    if estimator in FITS:  # in the span of the differences, where all scores are the same
        own, basis = reduced(difference[np.arange(n_groups)][:, 0])
        difference, random = np.stack([own, -own], axis=1), random @ basis.T
    fits = _Fits(difference, design, estimator, d_model)
    wins = np.full((n_groups, n_labels), np.nan)
    weight = 1 / np.bincount(design.question)[design.question] / (design.question.max() + 1)
    won = np.zeros((n_draws + len(random), n_labels))
    # Shares of wins on one fold by directions without it and another.
    merits = np.zeros((len(folds), len(folds), n_labels))
    projections = np.empty((n_groups, n_labels, n_labels), dtype=np.float32)
    for i, fold in enumerate(folds):
        groups = np.flatnonzero(design.fold == fold)
        left = np.concatenate([fits.without([i], draw) for draw in range(n_draws)])
        without = np.stack([fits.without([i, other], 0) for other in range(len(folds))])  # for choosing a layer
        unit = left / np.maximum(np.linalg.norm(left, axis=-1, keepdims=True), 1e-30)
        directions = np.concatenate([unit, random, rearrange(without, "f a d -> (f a) d")]).astype(np.float32)
        along = np.asarray(difference[groups] @ directions.T)
        given, on_random, others = np.split(along, [len(unit), len(unit) + len(random)], axis=2)
        turned = np.sign(random @ left[:n_labels].T).astype(np.float32)
        scores = np.concatenate(
            [
                rearrange(given, "g b (k a) -> g b k a", k=n_draws),
                on_random[..., None] * turned,
                rearrange(others, "g b (f a) -> g b f a", a=n_labels),
            ],
            axis=2,
        )
        shape = (len(random) + len(folds), len(groups), n_labels)
        owner = np.concatenate([design.owner[:, groups], np.broadcast_to(design.owner[:1, groups], shape)])
        of_draws = _wins(scores, owner)
        wins[groups] = of_draws[0]
        shares = einsum(of_draws, weight[groups], "k g a, g -> k a")
        won += shares[: len(won)]
        merits[i] = shares[len(won) :]
        projections[groups] = scores[:, :, 0] * np.float32((n_labels - 1) / n_labels)
    if len(folds) < 2:
        wins, won = np.full_like(wins, np.nan), np.full_like(won, np.nan)
    shuffled = [fits.split_half(draw) for draw in range(1, n_draws)]
    apart = [fits.split_half(0, left_out=fold) for fold in range(len(folds))]
    reliability = _jackknife(fits.split_half(0), np.stack(apart)), _over_draws(np.reshape(shuffled, (-1, n_labels)))
    by_question = design.by_question(wins)
    separation = separated(by_question), _over_draws(won[1:n_draws]), _over_draws(won[n_draws:])
    merits[np.diag_indices(len(folds))] = 0
    seen = 1 - np.array([weight[design.fold == fold].sum() for fold in folds])
    merit = merits.sum(axis=0) / seen[:, None] if len(folds) > 2 else np.full((len(folds), n_labels), np.nan)
    return Evidence(*reliability, *separation, by_question, merit, projections)


def of_first(evidence: Evidence) -> Evidence:
    """The evidence of the first of two labels; that of the second is the same, of the reverse direction."""
    estimates = {name: vars(value) for name, value in vars(evidence).items() if isinstance(value, Estimate)}
    cut: dict[str, Any] = {name: Estimate(*(part[:1] for part in parts.values())) for name, parts in estimates.items()}
    return replace(evidence, **cut, wins=evidence.wins[:, :1], merit=evidence.merit[:, :1])


def at_chosen_layer(evidence: Sequence[Evidence], design: Design, *, each: bool = False) -> tuple[Wins, list[int]]:
    """Wins at a layer chosen, for each fold, on the others, and the layers (indices); NaN below three folds.

    One layer for all labels, or `each` label's own: for a control, which may be as strong as it can.
    """
    merit = np.stack([e.merit for e in evidence])
    if not np.isfinite(merit).all():
        return np.full_like(evidence[0].wins, np.nan), []
    merit = merit if each else np.broadcast_to(merit.mean(axis=2, keepdims=True), merit.shape)
    best = merit.argmax(axis=0)
    fold = np.searchsorted(np.unique(design.fold), design.fold)[np.unique(design.question, return_index=True)[1]]
    wins = np.take_along_axis(np.stack([e.wins for e in evidence]), best[fold][None], axis=0)[0]
    return wins, sorted(set(best.ravel().tolist()))


def separated(wins: Wins) -> Estimate:
    """The mean of the wins, with an interval over questions."""
    found = [mean_interval(own, coupled=True) for own in wins.T]
    return Estimate(*(np.array([getattr(one, part) for one in found]) for part in ("mean", "low", "high")))


TURNS = "{label}’s turns lie further along its direction"
PAIRS = "positives lie further along the direction of {label}"


def beyond(
    labels: Sequence[str], own: Wins, controls: Mapping[str, Wins], claim: str = TURNS, unit: str = "question"
) -> list[Verdict]:
    """Whether each label separates better than by every control: paired over questions, Holm over the labels."""
    joint = []
    for k, label in enumerate(labels):
        each = ((name, own[:, k] - wins[:, k]) for name, wins in controls.items())
        tests = [difference_test(f"against {name}", by, coupled=True) for name, by in each]
        than = f"than {' and '.join(controls)} explain"
        joint.append(replace(all_of(f"{claim.format(label=label)} {than}", tests), unit=unit))
    room = 1 - np.max([wins.mean(axis=0) for wins in controls.values()], axis=0)
    return judge(joint, headroom=room.tolist())


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
    half = _halves(n)
    rest = 1 - half
    product = einsum(half, gram, rest, "s f, a f e, s e -> s a")
    norms = [np.sqrt(einsum(h, gram, h, "s f, a f e, s e -> s a")) for h in (half, rest)]
    return (product / np.maximum(norms[0] * norms[1], 1e-30)).mean(axis=0)


@cache
def _halves(n: int) -> Float[np.ndarray, "way fold"]:
    """All ways to halve n folds; of an even number, without the complements."""
    half = np.array([np.isin(np.arange(n), chosen) for chosen in combinations(range(n), n // 2)], dtype=float)
    return half[: len(half) // 2] if n % 2 == 0 else half


def _jackknife(value: Float[np.ndarray, " label"], without: Float[np.ndarray, "fold label"]) -> Estimate:
    """Split-half cosine with an interval from leaving out one fold of questions at a time."""
    n = len(without)
    if n < 3:
        return Estimate(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    error = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    reach = student_t.ppf(0.975, n - 1) * error
    return Estimate(value, np.maximum(value - reach, -1), np.minimum(value + reach, 1))


def _over_draws(values: Float[np.ndarray, "draw label"]) -> Estimate:
    """Mean and 95 % range over the draws of a control; NaN without any."""
    values = values if len(values) else np.full((1, values.shape[1]), np.nan)
    return Estimate(values.mean(axis=0), *np.quantile(values, (0.025, 0.975), axis=0))
