"""What an experiment found, in the one layout that figures read.

Knows rows, tests and sentences, and how they are written; knows nothing about what was asked. OUT/NAME.json has

    format, experiment, asks      what this is
    finding                       sentences, null results included
    rows                          a probe or control each: model, target, position, kind, layer, seed, scores …
    tests                         paired differences and effects: name, model, target, measure, value, …
    subspaces                     factors with dimension, p, share of variance, angles (where there are any)
    made_by                       models, transcripts, seeds, versions

and beside it, in OUT/NAME/, lies each model's and target's probe at its best layer (`interp.probing`). A value
with its 95 % interval over questions is {"mean", "low", "high"} everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from interp.probing.decoding import Decoded
from interp.probing.probe import Probe
from interp.statistics import Interval
from interp.storage.files import write_json

FORMAT = "interp.probes/1"


@dataclass
class Outcome:
    """What an experiment found, as JSON will have it."""

    experiment: str
    asks: str
    finding: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    tests: list[dict[str, Any]] = field(default_factory=list)
    subspaces: list[dict[str, Any]] = field(default_factory=list)
    made_by: dict[str, Any] = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict, repr=False)
    """By name the probes to keep: of each model and target that of the best layer."""

    def add(self, model: str, target: str, position: str, seed: int, found: Decoded, *, shared: bool = True) -> None:
        """Keep all rows of a target; without `shared` not those that no model has a part in."""
        examples = found.resamples.examples
        if found.probes:
            probe = found.probes[found.best]
            about = {"experiment": self.experiment, "model": model, "target": target, "position": position}
            kept = replace(probe, facts={**probe.facts, **about, "seed": seed})
            self.probes.setdefault(_file_name(f"{Path(model).name} {target} {position}"), kept)
        for row in found.rows:
            without_model = row.layer is None and row.kind != "chosen layer" and "it wrote" not in row.kind
            if without_model and not shared:
                continue
            self.rows.append(
                {
                    "model": None if without_model else model,
                    "target": target,
                    "position": position,
                    "kind": row.kind,
                    "layer": row.layer,
                    "seed": seed,
                    "classes": list(examples.classes),
                    "examples": len(examples),
                    "questions": len(np.unique(examples.question)),
                    "scores": {name: asdict(value) for name, value in row.scores.items()},
                    "selectivity": None if row.selectivity is None else asdict(row.selectivity),
                    "reliability": [list(bin_) for bin_ in row.reliability],
                    **row.facts,
                }
            )

    def test(self, name: str, value: Interval, **facts: Any) -> None:
        """Keep a difference or effect with its interval."""
        self.tests.append({"name": name, **facts, "value": asdict(value)})

    def scores(self, kind: str, measure: str, **wanted: Any) -> Interval | None:
        """Mean over seeds of a measure of the rows of a kind, with the mean of their intervals' ends."""
        found = [
            row["scores"][measure]
            for row in self.rows
            if row["kind"] == kind and all(row[name] == value for name, value in wanted.items())
        ]
        if not found:
            return None
        return Interval(*(float(np.mean([score[end] for score in found])) for end in ("mean", "low", "high")))

    def difference(self, name: str, **wanted: Any) -> Interval | None:
        """The same for tests."""
        found = [
            test["value"]
            for test in self.tests
            if test["name"] == name and all(test.get(key) == value for key, value in wanted.items())
        ]
        if not found:
            return None
        return Interval(*(float(np.mean([value[end] for value in found])) for end in ("mean", "low", "high")))

    def beyond_text(self, models: Sequence[str], targets: Sequence[str]) -> Iterator[tuple[str, str, Interval, str]]:
        """Models with targets, the probe's AUC, and by how much, in words, it exceeds what the text gives away.

        Held against is the better of what its words, and its length and place, tell of this target.
        """
        for target in targets:
            for name in models:
                own = self.scores("chosen layer", "auc", model=name, target=target)
                against = {
                    what: self.difference(f"probe − {what}", model=name, target=target)
                    for what in ("bag of words", "length and position")
                }
                known = {what: value for what, value in against.items() if value is not None}
                if own is not None and known:
                    what = min(known, key=lambda what: known[what].mean)
                    verdict = "more than" if known[what].low > 0 else "not shown to be more than"
                    yield name, target, own, f"{verdict} its text gives away ({what}: by {said(known[what])})"

    def write(self, folder: str | Path) -> Path:
        """OUT/NAME.json, and the probes in OUT/NAME/; a kill leaves each old file or the new one."""
        path = Path(folder) / f"{self.experiment}.json"
        content = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "probes"}
        write_json(path, {"format": FORMAT, **content}, indent=None)
        for name, probe in self.probes.items():
            probe.save(path.with_suffix("") / f"{name}.safetensors")
        return path


def _file_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def said(value: Interval | None, digits: int = 2) -> str:
    """A value with its interval, in words for a finding."""
    if value is None:
        return "not measured"
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
