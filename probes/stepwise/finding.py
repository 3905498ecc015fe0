"""What the stepwise experiment shows, in words. Knows its records by name; seeds are the unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from interp.models.random_weights import UNTRAINED
from interp.probing.experiments import Outcome
from interp.statistics import Interval, Test, all_of, estimate_interval
from interp.statistics.intervals import standard_error
from interp.statistics.significance import error_test
from probes.stepwise.organism import ANSWERED, AT_ONCE, FOUND, PERMUTED, RANDOM, WAYS, Record
from probes.verdicts import Asked

KINDS = ("stepwise", "side-by-side", "direct")
"""The organism that needs its debates, and its controls."""


@dataclass(frozen=True)
class Found:
    """The records of all seeds, kinds and agents, in values by seed, facts and questions asked."""

    records: Sequence[Record]
    seeds: tuple[int, ...]
    agents: Sequence[int]

    def of(self, kind: str, agent: int, *path: str) -> np.ndarray:
        """A value by seed; NaN where it is not defined."""
        found = []
        for seed in self.seeds:
            value: Any = next(r for r in self.records if (r["seed"], r["kind"], r["agent"]) == (seed, kind, agent))
            for name in path:
                value = value[name]
            found.append(np.nan if value is None else float(value))
        return np.array(found)

    def facts(self) -> Iterator[Record]:
        """Every value by kind and agent, with its interval over seeds."""
        for kind in (*KINDS, UNTRAINED):
            for what in ANSWERED:
                yield self._fact("right answers", kind, self.of(kind, 0, "answers", what), questions=what)
            for k in self.agents:
                place = {"target": f"agent {k}"}
                for way in WAYS if kind != UNTRAINED else (FOUND,):
                    layers = self.of(kind, k, way, "layer").astype(int).tolist()
                    for part in ("obeyed", "obeyed of right"):
                        values = self.of(kind, k, way, part)
                        yield self._fact(f"swaps {part}", kind, values, **place, kind=way, layers=layers)
                yield self._fact("decoded", kind, self.of(kind, k, "probe", "decoded"), **place, kind="probe")
        for k in self.agents:
            for how in self.alone:
                values = self.of(UNTRAINED, k, "alone", how)
                yield self._fact("decoded", None, values, target=f"agent {k}", kind=how)

    def _fact(self, name: str, model: str | None, values: np.ndarray, **facts: Any) -> Record:
        by_seed = [value if np.isfinite(value) else None for value in values.tolist()]
        return {"name": name, "value": over_seeds(values), "model": model, **facts, "by_seed": by_seed}

    @property
    def alone(self) -> list[str]:
        """How the question alone is read."""
        return list(next(r["alone"] for r in self.records if r["kind"] == UNTRAINED and r["agent"]))

    def answers(self) -> list[Asked]:
        """Whether the organism answers held-out questions better than its controls."""
        shares = {kind: self.of(kind, 0, "answers", AT_ONCE) for kind in KINDS}
        return [self._beyond("stepwise answers held-out questions better than each control", shares)]

    def swaps(self) -> list[Asked]:
        """Whether swaps are obeyed beyond their controls, and more in the organism than in the others."""
        asked = []
        for kind, k in product(KINDS, self.agents):
            shares = {way: self.of(kind, k, way, "obeyed") for way in (FOUND, PERMUTED, RANDOM)}
            shares["random weights"] = self.of(UNTRAINED, k, FOUND, "obeyed")
            asked.append(
                self._beyond(f"{kind}, agent {k}: swaps of the subspace found are obeyed beyond chance", shares)
            )
        for k in self.agents:
            shares = {kind: self.of(kind, k, FOUND, "obeyed") for kind in KINDS}
            of_right = {f"{kind}, of right": self.of(kind, k, FOUND, "obeyed of right") for kind in KINDS}
            asked.append(
                self._beyond(f"agent {k}: swaps are obeyed more in stepwise than in each control", shares, of_right)
            )
        return asked

    def decoded(self) -> list[Asked]:
        """Whether probes read the agents' answers beyond their controls, and better from the organism than others."""
        asked = []
        for kind, k in product(KINDS, self.agents):
            shares = {kind: self.of(kind, k, "probe", "decoded")}
            shares["random weights"] = self.of(UNTRAINED, k, "probe", "decoded")
            shares |= {how: self.of(UNTRAINED, k, "alone", how) for how in self.alone}
            asked.append(self._beyond(f"{kind}, agent {k}: its answer is decoded beyond the question alone", shares))
        for k in self.agents:
            shares = {kind: self.of(kind, k, "probe", "decoded") for kind in KINDS}
            asked.append(
                self._beyond(f"agent {k}: its answer is decoded better from stepwise than from each control", shares)
            )
        return asked

    @staticmethod
    def _beyond(asked: str, *groups: Mapping[str, np.ndarray]) -> Asked:
        """Whether the first of each group is above all others of its group, seed by seed."""
        tests, rooms = [], []
        for group in groups:
            (_, own), *others = group.items()
            tests += [seeds_test(f"beyond {what}", own - value) for what, value in others]
            rooms += [1 - np.nanmean(value) if np.isfinite(value).any() else 0.0 for _, value in others]
        values = "; ".join(f"{what} {over_seeds(value)}" for group in groups for what, value in group.items())
        return Asked(all_of(asked, tests), float(min(rooms)), f"Shares: {values}.")

    def summary(self, outcome: Outcome) -> str:
        """The first sentence of the finding."""
        shares = ", ".join(f"{kind} {over_seeds(self.of(kind, 0, 'answers', AT_ONCE))}" for kind in KINDS)
        [better, *rest] = outcome.verdicts
        shown = {
            kind: [v.asked for v in rest if v.outcome == "shown" and v.asked.startswith(f"{kind},")] for kind in KINDS
        }
        inside = "; ".join(
            f"{kind}: {sum('obeyed' in one for one in asked)} and {sum('decoded' in one for one in asked)}"
            for kind, asked in shown.items()
        )
        return (
            f"Right direct answers to questions that no training saw: {shares}; that stepwise is better than each "
            f"control: {better.outcome}. Agents whose swaps are shown to be obeyed beyond chance as the model answers, "
            f"and whose answers are shown to be decoded beyond the question alone: {inside} of {len(self.agents)}. "
            f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}."
        )


def over_seeds(values: np.ndarray) -> Interval:
    """The mean of shares over seeds with Student's interval; seeds without a value do not count."""
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else np.nan
    found = estimate_interval(mean, known - mean)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def seeds_test(asked: str, differences: np.ndarray) -> Test:
    """Student's test of paired differences whose unit is the seed."""
    known = differences[np.isfinite(differences)]
    mean = float(known.mean()) if len(known) else np.nan
    error = standard_error(known - mean) if len(known) else np.nan
    return replace(error_test(asked, estimate_interval(mean, known - mean), error, len(known)), unit="seed")
