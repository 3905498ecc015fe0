"""What an experiment found: OUT/NAME.json, which figures read, and OUT/NAME/ with the probes at their best layers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from interp.probing.decoding import Decoded, ProbeRow
from interp.probing.fitting import ProbeExamples
from interp.probing.probe import Probe
from interp.statistics import Interval
from interp.storage.files import write_json

FORMAT = "interp.probes/1"
TEXT_BASELINES = ("bag of words", "length and position")


@dataclass
class Outcome:
    """What an experiment found; values are {"mean", "low", "high"}, with the 95 % interval over questions."""

    experiment: str
    asks: str
    finding: list[str] = field(default_factory=list)
    """Sentences, null results included."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """A probe or control each: model, target, position, kind, layer, seed, scores …"""
    tests: list[dict[str, Any]] = field(default_factory=list)
    """Paired differences and effects: name, model, target, measure, value …"""
    subspaces: list[dict[str, Any]] = field(default_factory=list)
    """Factors with dimension, p, share of variance, angles."""
    made_by: dict[str, Any] = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict, repr=False)

    def add(self, model: str, target: str, position: str, seed: int, found: Decoded, *, shared: bool = True) -> None:
        """Keep all rows of a target; without `shared`, only those that depend on the model."""
        if found.probes:
            probe = found.probes[found.best()]
            about = {"experiment": self.experiment, "model": model, "target": target, "position": position}
            name = re.sub(r"[^a-z0-9]+", "-", f"{Path(model).name} {target} {position}".lower()).strip("-")
            self.probes.setdefault(name, replace(probe, facts={**probe.facts, **about, "seed": seed}))
        for row in found.rows:
            without_model = row.layer is None and row.kind != "chosen layer" and "it wrote" not in row.kind
            if shared or not without_model:
                self.add_row(None if without_model else model, target, position, seed, found.resamples.examples, row)

    def add_row(
        self, model: str | None, target: str, position: str, seed: int, examples: ProbeExamples, row: ProbeRow
    ) -> None:
        """Keep one row."""
        about = {"model": model, "target": target, "position": position, "kind": row.kind, "layer": row.layer}
        n = {"examples": len(examples), "questions": len(np.unique(examples.question))}
        found = {name: value for name, value in asdict(row).items() if name in ("scores", "selectivity", "reliability")}
        self.rows.append({**about, "seed": seed, "classes": list(examples.classes), **n, **found, **row.facts})

    def test(self, name: str, value: Interval, **facts: Any) -> None:
        """Keep a difference or effect with its interval."""
        self.tests.append({"name": name, **facts, "value": asdict(value)})

    def scores(self, kind: str, measure: str, **wanted: Any) -> Interval | None:
        """A measure of the rows of a kind: means over seeds of the values and of their intervals' ends."""
        return _mean([row["scores"][measure] for row in matching(self.rows, kind=kind, **wanted)])

    def difference(self, name: str, **wanted: Any) -> Interval | None:
        """The same for tests."""
        return _mean([test["value"] for test in matching(self.tests, name=name, **wanted)])

    def beyond_text(self, models: Sequence[str], targets: Sequence[str]) -> Iterator[tuple[str, str, Interval, str]]:
        """Models with targets, the probe's AUC, and in words by how much it exceeds the text's better baseline."""
        for target, name in product(targets, models):
            own = self.scores("chosen layer", "auc", model=name, target=target)
            tests = {w: self.difference(f"probe − {w}", model=name, target=target) for w in TEXT_BASELINES}
            known = [(value.mean, what, value) for what, value in tests.items() if value is not None]
            if own is not None and known:
                _, what, value = min(known)
                verdict = "more than" if value.low > 0 else "not shown to be more than"
                yield name, target, own, f"{verdict} its text gives away ({what}: by {in_words(value)})"

    def write(self, folder: str | Path) -> Path:
        """Write OUT/NAME.json, and the probes in OUT/NAME/."""
        path = Path(folder) / f"{self.experiment}.json"
        content = {name: value for name, value in vars(self).items() if name != "probes"}
        write_json(path, {"format": FORMAT, **content}, indent=None)
        for name, probe in self.probes.items():
            probe.save(path.with_suffix("") / f"{name}.safetensors")
        return path


def in_words(value: Interval | None) -> str:
    """A value with its interval, for a sentence."""
    return "not measured" if value is None else f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def matching(rows: Sequence[Mapping[str, Any]], **wanted: Any) -> list[Mapping[str, Any]]:
    """The rows or tests with these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def _mean(values: Sequence[Mapping[str, float]]) -> Interval | None:
    ends = ("mean", "low", "high")
    return Interval(*(float(np.mean([value[end] for value in values])) for end in ends)) if values else None
