"""What an experiment found, in the layout that figures read: OUT/NAME.json with

    format, experiment, asks      what this is
    finding                       sentences, null results included
    rows                          a probe or control each: model, target, position, kind, layer, seed, scores …
    tests                         paired differences and effects: name, model, target, measure, value, …
    subspaces                     factors with dimension, p, share of variance, angles (if there are any)
    made_by                       models, transcripts, seeds, versions

and OUT/NAME/ with each model's and target's probe at its best layer. A value with its 95 % interval over questions
is {"mean", "low", "high"} everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from interp.probing.decoding import Decoded, ProbeRow
from interp.probing.fitting import ProbeExamples
from interp.probing.probe import Probe
from interp.statistics import Interval
from interp.storage.files import write_json

FORMAT = "interp.probes/1"


@dataclass
class Outcome:
    """What an experiment found.

    >>> outcome = interp.probing.Outcome("mine", "Is it there?")
    >>> outcome.test("gain", interp.statistics.Interval(0.1, 0.02, 0.2), model="organism")
    >>> interp.probing.in_words(outcome.difference("gain", model="organism"))
    '0.10 [0.02, 0.20]'
    >>> outcome.write(tmp_path).name
    'mine.json'
    """

    experiment: str
    asks: str
    finding: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    tests: list[dict[str, Any]] = field(default_factory=list)
    subspaces: list[dict[str, Any]] = field(default_factory=list)
    made_by: dict[str, Any] = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict, repr=False)
    """The probes to keep, by name: for each model and target that of the best layer."""

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
        self.rows.append(
            {
                "model": model,
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
        """A measure of the rows of a kind: means over seeds of the values and of their intervals' ends."""
        return _mean(row["scores"][measure] for row in _matching(self.rows, kind=kind, **wanted))

    def difference(self, name: str, **wanted: Any) -> Interval | None:
        """The same for tests."""
        return _mean(test["value"] for test in _matching(self.tests, name=name, **wanted))

    def beyond_text(self, models: Sequence[str], targets: Sequence[str]) -> Iterator[tuple[str, str, Interval, str]]:
        """Models with targets, the probe's AUC, and in words by how much it exceeds what the text gives away.

        The text's words, or its length and position, whichever tell more about this target.
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
                    yield name, target, own, f"{verdict} its text gives away ({what}: by {in_words(known[what])})"

    def write(self, folder: str | Path) -> Path:
        """Write OUT/NAME.json, and the probes in OUT/NAME/."""
        path = Path(folder) / f"{self.experiment}.json"
        content = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "probes"}
        write_json(path, {"format": FORMAT, **content}, indent=None)
        for name, probe in self.probes.items():
            probe.save(path.with_suffix("") / f"{name}.safetensors")
        return path


def in_words(value: Interval | None, digits: int = 2) -> str:
    """A value with its interval, for a sentence.

    >>> interp.probing.in_words(None)
    'not measured'
    """
    if value is None:
        return "not measured"
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _matching(rows: Sequence[Mapping[str, Any]], **wanted: Any) -> Iterator[Mapping[str, Any]]:
    return (row for row in rows if all(row.get(name) == value for name, value in wanted.items()))


def _mean(values: Iterable[Mapping[str, float]]) -> Interval | None:
    found = list(values)
    if not found:
        return None
    return Interval(*(float(np.mean([value[end] for value in found])) for end in ("mean", "low", "high")))
