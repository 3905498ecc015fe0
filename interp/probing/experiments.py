"""What all experiments share: models in turn, turns as activations, every target decoded from every model."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
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
from interp.probing.decoding import Decoded, Features, Layers, decode, text_baselines
from interp.probing.fitting import HeldOut, ProbeExamples
from interp.probing.outcome import Outcome
from interp.probing.settings import ProbeSettings
from interp.storage.provenance import package_versions

UNTRAINED = "untrained"
MODELS = ("organism", "organism-sft", "organism-debategpt", "organism-imad")
"""The default models."""
POSITIONS = ("last", "tag")
"""Where turns are read: at their last token, and at their tag, before the agent says anything."""


@dataclass(frozen=True)
class Setting(ProbeSettings):
    """What an experiment runs on: its settings, with the debates read."""

    debates: Sequence[Transcript] = ()
    activations: Path | None = None
    """Folder for activations, which later runs on the same turns and model reuse; None keeps nothing."""
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
    rows: Int[np.ndarray, " example"]
    """The rows of the activations that are the examples."""
    position: str = "last"
    key: str = ""
    """What tests call it, if not by its name."""
    seed: int | None = None
    """The seed that it is for; None is any."""
    controls: bool = True
    """Whether it is decoded with controls and compared with what the text gives away."""
    features: Features = field(default_factory=dict)
    """What is known without any model, to be compared with every model."""
    own_features: Features = field(default_factory=dict)
    """What is known from this model's text."""


Found = dict[tuple[str, str, int], Decoded]
"""By model, target and seed."""


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
    with TemporaryDirectory() as folder:
        path = (setting.activations or Path(folder)) / f"{name}.safetensors"
        store = read_activations(model, corpus, path, **how, progress=setting.progress)
        return turns, {at: {layer: store[layer, at] for layer in store.layers} for at in POSITIONS}


def survey(
    setting: Setting,
    outcome: Outcome,
    targets: Callable[[Any], Sequence[Target]],
    also: Callable[[str, Model, Any, Mapping[str, Layers], Found], None] = lambda *_: None,
    read: Callable[[str, Model], tuple[Any, Mapping[str, Layers]]] | None = None,
) -> Found:
    """Decode every target from every model with every seed.

    `read` gives what a model reads (by default turns), from which `targets` are made, and the activations by position;
    `also` sees each model after its targets were decoded.
    """
    read = read or (lambda _, model: read_turns(setting, model))
    found: Found = {}
    without_model: dict[tuple[str, int], dict[str, HeldOut]] = {}
    made: dict[str, Any] = {}
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
                found[name, target.key or target.name, seed] = decoded
                _compare(outcome, found, name, target.key or target.name, seed, setting.models)
        also(name, model, material, values, found)
        setting.progress(f"decoding from {name}", len(chosen), len(chosen))
    read_from = ", ".join(setting.transcripts) or "memory"
    debates = {"source": read_from, "sha256": fingerprint(setting.debates), "n": len(setting.debates)}
    outcome.made_by = {"models": made, "transcripts": debates, "seeds": list(setting.seeds)}
    outcome.made_by |= {"versions": package_versions(), "created": datetime.now(UTC).isoformat("T", "seconds")}
    return found


def _compare(outcome: Outcome, found: Found, model: str, target: str, seed: int, models: Sequence[str]) -> None:
    """Test a model's probe at the chosen layer against those of the models before it, and what needs no model."""
    decoded = found[model, target, seed]
    own = decoded.held["chosen layer", None]
    measure = "r2" if decoded.resamples.examples.numeric else "auc"
    against = {kind: held for (kind, layer), held in decoded.held.items() if layer is None and kind != "chosen layer"}
    before = models[: models.index(model)] if model in models else models[:1]
    against |= {other: found[other, target, seed].held["chosen layer", None] for other in before}
    for other, theirs in against.items():
        value = decoded.resamples.difference(own, theirs)[measure]
        outcome.test(f"probe − {other}", value, model=model, target=target, seed=seed, measure=measure)


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
