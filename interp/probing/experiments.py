"""What all experiments share: turns as activations, every target decoded from every model, and what was found."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from interp.activations.corpus import Corpus, TurnTable
from interp.activations.store import read_activations
from interp.debate.tasks import make_task
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript, fingerprint
from interp.directions.directions import Direction
from interp.directions.subspace_files import write_subspaces
from interp.errors import Progress, UserError
from interp.models.model import Model, load_model
from interp.models.random_weights import UNTRAINED, untrained
from interp.probing.decoding import Decoded, Features, Layers, ProbeRow, decode, text_baselines
from interp.probing.fitting import HeldOut, ProbeExamples
from interp.probing.probe import Probe
from interp.probing.scores import Measured, over_seeds
from interp.probing.settings import ProbeSettings
from interp.statistics import Interval, Verdict
from interp.storage.files import scratch, write_json
from interp.storage.provenance import package_versions

FORMAT = "interp.probes/2"
TEXT_BASELINES = ("bag of words", "length and position")
CHOSEN = "chosen layer"
MODELS = ("organism", "organism-sft", "organism-debategpt", "organism-imad")  # by default
POSITIONS = ("last", "tag")  # where turns are read: at the end, and at the tag, before the agent says anything


@dataclass(frozen=True)
class Row:
    """What a row is of: without a model what needs none, without a layer what has none."""

    model: str | None
    target: str
    position: str
    kind: str
    layer: int | None


@dataclass
class Outcome:
    """What an experiment found, as figures read it in OUT/NAME.json; OUT/NAME/ has the probes at their best layers."""

    experiment: str
    asks: str
    finding: list[str] = field(default_factory=list)  # sentences: the verdicts, and values beside them
    verdicts: list[Verdict] = field(default_factory=list)
    tests: list[dict[str, Any]] = field(default_factory=list)  # paired differences and effects, by name
    subspaces: list[dict[str, Any]] = field(default_factory=list)  # factors with dimension, p, angles …
    made_by: dict[str, Any] = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict, repr=False)
    kept: dict[Row, dict[int, ProbeRow]] = field(default_factory=dict, repr=False)  # by seed
    about: dict[Row, dict[str, Any]] = field(default_factory=dict, repr=False)
    found: dict[str, Mapping[str, Sequence[Direction]]] = field(default_factory=dict, repr=False)  # subspaces, to keep
    tables: list[Any] = field(default_factory=list, repr=False)  # to print, besides those of rows

    def add(self, model: str, target: Target, seed: int, found: Decoded, *, shared: bool = True) -> None:
        """Keep all rows of a target; without `shared`, only those that depend on the model."""
        if found.probes:
            probe = found.probes[found.best()]
            about = {"experiment": self.experiment, "model": model, "target": target.name, "position": target.position}
            name = re.sub(r"[^a-z0-9]+", "-", f"{Path(model).name} {target.name} {target.position}".lower()).strip("-")
            self.probes.setdefault(name, replace(probe, facts={**probe.facts, **about, "seed": seed}))
        for row in found.rows:
            without_model = row.layer is None and row.kind != "chosen layer" and row.kind not in target.own_features
            if shared or not without_model:
                self.add_row(None if without_model else model, target, seed, row)

    def add_row(self, model: str | None, target: Target, seed: int, row: ProbeRow) -> None:
        """Keep one row."""
        key = Row(model, target.name, target.position, row.kind, row.layer)
        examples = target.examples
        n = {"examples": len(examples), "questions": len(np.unique(examples.question))}
        self.about[key] = {"classes": list(examples.classes), **n}
        self.kept.setdefault(key, {})[seed] = row

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A probe or control each, with its scores: means over seeds, for these deals of the folds."""
        made = []
        for key, by_seed in self.kept.items():
            kept, first = list(by_seed.values()), next(iter(by_seed.values()))
            scores = {name: over_seeds([row.measures[name] for row in kept]) for name in first.measures}
            selective = [row.selectivity for row in kept if row.selectivity is not None]
            facts = dict(first.facts)
            if "layers" in facts:  # of the folds of all seeds
                facts |= {"layers": [layer for row in kept for layer in row.facts["layers"]]}
            found = {"scores": {name: asdict(value.interval) for name, value in scores.items()}, **facts}
            found["selectivity"] = asdict(over_seeds(selective).interval) if selective else None
            made.append({**asdict(key), **self.about[key], "seeds": list(by_seed), **found})
        return made

    def test(self, name: str, value: Interval, **facts: Any) -> None:
        """Keep a difference or effect with its interval."""
        self.tests.append({"name": name, **facts, "value": asdict(value)})

    def measured(self, measure: str, **wanted: Any) -> Measured | None:
        """The mean, over seeds, of a measure of the rows that have these values (see `Row`); None if there are none."""
        keys = [key for key in self.kept if all(getattr(key, name) == value for name, value in wanted.items())]
        rows = [row for key in keys for row in self.kept[key].values()]
        return over_seeds([row.measures[measure] for row in rows]) if rows else None

    def write(self, folder: str | Path) -> Path:
        """Write OUT/NAME.json, and the probes in OUT/NAME/."""
        path = Path(folder) / f"{self.experiment}.json"
        content = {name: getattr(self, name) for name in ("experiment", "asks", "finding", "rows", "tests")}
        content |= {"verdicts": [verdict.record() for verdict in self.verdicts]}
        content |= {"subspaces": self.subspaces, "made_by": self.made_by}
        write_json(path, {"format": FORMAT, **content}, indent=None)
        for name, probe in self.probes.items():
            probe.save(path.with_suffix("") / f"{name}.safetensors")
        for name, subspaces in self.found.items():
            write_subspaces(path.with_suffix("") / f"{name}.safetensors", subspaces)
        return path


@dataclass(frozen=True)
class Setting(ProbeSettings):
    """What an experiment runs on: its settings, with the debates read.

    >>> setting = interp.probing.Setting(("organism",), debates=transcripts, untrained=False)
    >>> [model.n_layers for _, model in setting.each_model()]
    [4]
    """

    debates: Sequence[Transcript] = ()
    activations: Path | None = None  # a folder, if later runs on the same turns and model may reuse them
    batch_tokens: int = 4096
    load: Callable[..., Model] = load_model
    progress: Progress = lambda *_: None

    @property
    def asked(self) -> Task:
        """The task given, or else the one that the questions look like."""
        median = all(re.fullmatch(r"\d+,\d+,\d+", debate.question) for debate in self.debates)
        return make_task(self.task or ("median" if median else "arithmetic"))

    def each_model(self) -> Iterator[tuple[str, Model]]:
        """The models in turn, one in memory at a time; the untrained one after the first."""
        for i, name in enumerate(self.models):
            model = self.load(name, **vars(self.loading))
            yield name, model
            if i == 0 and self.untrained:
                yield UNTRAINED, untrained(model)


@dataclass(frozen=True)
class Target:
    """Something to decode, and where it is read."""

    name: str
    examples: ProbeExamples
    rows: Int[np.ndarray, " example"]  # of the activations: the examples
    position: str = "last"
    controls: bool = True  # decode with controls, and compare with what the text gives away
    features: Features = field(default_factory=dict)  # known without any model, to be compared with every model
    own_features: Features = field(default_factory=dict)  # known from this model's text


Found = dict[tuple[str, str, str, int], Decoded]  # by model, target, position and seed


@dataclass(frozen=True)
class Turns:
    """The turns of the transcripts and their texts."""

    transcripts: Sequence[Transcript]
    table: TurnTable
    questions: tuple[str, ...]
    task: Task = field(default_factory=Arithmetic)

    @cached_property
    def texts(self) -> list[str]:
        return [turn.text for transcript in self.transcripts for turn in transcript.turns]

    def examples(
        self, rows: np.ndarray, labels: Sequence[str] | np.ndarray, texts: Sequence[str] = (), position: str = "last"
    ) -> ProbeExamples:
        """Examples of the turns in these rows, with labels as strings or numbers.

        At its tag a turn is not written yet: give the text before it as `texts`. The surface is the round and the place
        in tokens, and at a turn's end its length; types for control tasks are the ends of turns.
        """
        table, values, classes = self.table, np.asarray(labels), np.array([])
        own, at_tag = [self.texts[row] for row in rows], position == "tag"
        if values.dtype.kind != "f":
            classes, values = np.unique(values.astype(str), return_inverse=True)
        known = [table.round, table.tag, *([] if at_tag else [table.stop - table.start])]
        surface = np.stack(known, axis=1)[rows].astype(np.float64)
        said = tuple(texts or own)
        types = np.unique(said if at_tag else [text[-12:] for text in own], return_inverse=True)[1]
        return ProbeExamples(values, table.question[rows], tuple(classes.tolist()), said, surface, types)


def read_turns(setting: Setting, model: Model) -> tuple[Turns, dict[str, Layers]]:
    """The turns in this model's tokens, and their activations by position and layer."""
    corpus = Corpus.build(setting.debates, model.tokenizer, model.context_length)
    turns = Turns(setting.debates, corpus.turns, corpus.questions, setting.asked)
    if (corpus.turns.start == corpus.turns.stop).any():
        raise UserError("a turn has no text: leave out debates with empty turns")
    made_by = [model.provenance, fingerprint(setting.debates), setting.layers, package_versions()]
    name = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
    how: dict[str, Any] = {"layers": setting.layers, "positions": POSITIONS, "batch_tokens": setting.batch_tokens}
    with scratch() as folder:
        path = (setting.activations or folder) / f"{name}.safetensors"
        store = read_activations(model, corpus, path, **how, progress=setting.progress)
        return turns, {at: {layer: store[layer, at] for layer in store.layers} for at in POSITIONS}


def survey(
    setting: Setting,
    outcome: Outcome,
    targets: Callable[[Any], Sequence[Target]],
    also: Callable[[str, Model, Any, Mapping[str, Layers], Found], None] = lambda *_: None,
    read: Callable[[str, Model], tuple[Any, Mapping[str, Layers]]] | None = None,
) -> Found:
    """Decode every target from every model, and test it against the models before and against what needs no model.

    `read` gives what a model reads (by default turns), from which `targets` are made, and the activations by position;
    `also` sees each model after its targets were decoded.
    """
    read = read or (lambda _, model: read_turns(setting, model))
    found: Found = {}
    without_model: dict[tuple[str, int], dict[str, HeldOut]] = {}
    made, models = dict[str, Any](), setting.models
    for name, model in setting.each_model():
        material, values = read(name, model)
        made[name] = model.provenance
        for seed in setting.seeds:
            chosen = targets(material)
            for i, target in enumerate(chosen):
                setting.progress(f"decoding from {name}", i, len(chosen))
                first = (target.name, seed) not in without_model
                known = without_model.setdefault((target.name, seed), {})
                if first and target.controls:
                    known |= text_baselines(target.examples, seed, setting.jobs)
                layers = {layer: v[target.rows] for layer, v in values[target.position].items()}
                controls = target.controls and name != UNTRAINED
                features = {**(target.features if first else {}), **(target.own_features if controls else {})}
                how: dict[str, Any] = {"controls": controls, "seed": seed, "n_jobs": setting.jobs}
                decoded = decode(layers, target.examples, features=features, text=known, **how)
                if first:
                    known |= {kind: decoded.held[kind, None] for kind in target.features}
                outcome.add(name, target, seed, decoded, shared=first)
                found[name, target.name, target.position, seed] = decoded
        also(name, model, material, values, found)
        setting.progress(f"decoding from {name}", len(chosen), len(chosen))
    for name, target in product(made, chosen):
        by, at = "r2" if target.examples.numeric else "auc", {"target": target.name, "position": target.position}
        own, before = (
            outcome.measured(by, kind=CHOSEN, model=name, **at),
            models[: models.index(name) if name in models else 1],
        )
        wanted: dict[str, dict[str, str]] = {kind: {"kind": kind} for kind in (*TEXT_BASELINES, *target.features)}
        wanted |= {kind: {"kind": kind, "model": name} for kind in target.own_features}
        wanted |= {other: {"kind": CHOSEN, "model": other, **at} for other in (UNTRAINED, *before) if other != name}
        for other, which in wanted.items():
            theirs = outcome.measured(by, **{"target": target.name, **which})
            if own is not None and theirs is not None:
                outcome.test(f"probe − {other}", (own - theirs).interval, model=name, measure=by, **at)
    read_from = ", ".join(setting.transcripts) or "memory"
    debates = {"source": read_from, "sha256": fingerprint(setting.debates), "n": len(setting.debates)}
    outcome.made_by = {"models": made, "transcripts": debates, "seeds": list(setting.seeds)}
    outcome.made_by |= {"versions": package_versions(), "created": datetime.now(UTC).isoformat("T", "seconds")}
    return found
