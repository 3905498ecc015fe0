"""What all experiments share: turns as activations, every target decoded from every model, and what was found."""

from __future__ import annotations

import copy
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
from interp.errors import Progress, UserError
from interp.models.model import Model, load_model, wrap
from interp.probing.decoding import Decoded, Features, Layers, ProbeRow, decode, text_baselines
from interp.probing.fitting import HeldOut, ProbeExamples
from interp.probing.probe import Probe
from interp.probing.settings import ProbeSettings
from interp.statistics import Interval
from interp.storage.files import scratch, write_json
from interp.storage.provenance import package_versions

FORMAT = "interp.probes/1"
TEXT_BASELINES = ("bag of words", "length and position")
UNTRAINED = "untrained"
MODELS = ("organism", "organism-sft", "organism-debategpt", "organism-imad")  # by default
POSITIONS = ("last", "tag")  # where turns are read: at the end, and at the tag, before the agent says anything


@dataclass
class Outcome:
    """What an experiment found, as figures read it in OUT/NAME.json; OUT/NAME/ has the probes at their best layers."""

    experiment: str
    asks: str
    finding: list[str] = field(default_factory=list)  # sentences, null results included
    rows: list[dict[str, Any]] = field(default_factory=list)  # a probe or control each, with its scores
    tests: list[dict[str, Any]] = field(default_factory=list)  # paired differences and effects, by name
    subspaces: list[dict[str, Any]] = field(default_factory=list)  # factors with dimension, p, angles …
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
    key: str = ""  # what tests call it, if not by its name
    seed: int | None = None  # that it is for; None is any
    controls: bool = True  # decode with controls, and compare with what the text gives away
    features: Features = field(default_factory=dict)  # known without any model, to be compared with every model
    own_features: Features = field(default_factory=dict)  # known from this model's text


Found = dict[tuple[str, str, int], Decoded]  # by model, target and seed


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
    turns = Turns(setting.debates, corpus.turns, corpus.questions, make_task(setting.task))
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
            chosen = [target for target in targets(material) if target.seed in (None, seed)]
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
                outcome.add(name, target.name, target.position, seed, decoded, shared=first)
                key = target.key or target.name
                found[name, key, seed] = decoded
                rivals = {kind: held for (kind, at), held in decoded.held.items() if at is None}
                own, measure = rivals.pop("chosen layer"), "r2" if target.examples.numeric else "auc"
                before = models[: models.index(name)] if name in models else models[:1]
                rivals |= {other: found[other, key, seed].held["chosen layer", None] for other in before}
                for other, theirs in rivals.items():
                    value = decoded.resamples.difference(own, theirs)[measure]
                    outcome.test(f"probe − {other}", value, model=name, target=key, seed=seed, measure=measure)
        also(name, model, material, values, found)
        setting.progress(f"decoding from {name}", len(chosen), len(chosen))
    read_from = ", ".join(setting.transcripts) or "memory"
    debates = {"source": read_from, "sha256": fingerprint(setting.debates), "n": len(setting.debates)}
    outcome.made_by = {"models": made, "transcripts": debates, "seeds": list(setting.seeds)}
    outcome.made_by |= {"versions": package_versions(), "created": datetime.now(UTC).isoformat("T", "seconds")}
    return found


def untrained(model: Model, seed: int = 0) -> Model:
    """A model of the same architecture and tokenizer with random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(model.hf.config)
    config._attn_implementation = model.attention
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(config, dtype=model.dtype).to(model.device)
    return wrap(made, model.tokenizer, {"name": UNTRAINED, "shape_of": model.provenance, "seed": seed})
