"""What all experiments share: models in turn, turns as activations, every target decoded from every model.

Knows nothing about what an experiment asks.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float, Int

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
    """What an experiment runs on: its settings, with the debates read.

    >>> setting = interp.probing.Setting(("organism",), debates=transcripts, untrained=False)
    >>> [model.n_layers for _, model in setting.each_model()]
    [4]
    """

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

    @property
    def texts(self) -> list[str]:
        return [turn.text for transcript in self.transcripts for turn in transcript.turns]

    def surface(self, rows: Int[np.ndarray, " example"], position: str) -> Float[np.ndarray, "example feature"]:
        """Round and place in the transcript, in tokens; read at its end, also the turn's length."""
        t = self.table
        known = [t.round, t.tag] if position == "tag" else [t.round, t.tag, t.stop - t.start]
        return np.stack(known, axis=1)[rows].astype(np.float64)

    def last_words(self) -> Int[np.ndarray, " turn"]:
        """The type of each turn for control tasks: the end of its text, as a number."""
        ends = [text[-12:] for text in self.texts]
        return np.unique(ends, return_inverse=True)[1]

    def examples(
        self,
        rows: np.ndarray,
        labels: Sequence[str] | np.ndarray,
        texts: Sequence[str] | None = None,
        position: str = "last",
    ) -> ProbeExamples:
        """Examples of the turns in these rows, with labels as strings or numbers.

        At its tag a turn is not written yet: give the text before it as `texts`.
        """
        own = self.texts
        values = np.asarray(labels)
        classes: tuple[str, ...] = ()
        if values.dtype.kind != "f":
            names, values = np.unique(values.astype(str), return_inverse=True)
            classes = tuple(names.tolist())
        said = [own[row] for row in rows] if texts is None else texts
        where = self.surface(rows, position)
        types = self.last_words()[rows] if position == "last" else np.unique(said, return_inverse=True)[1]
        return ProbeExamples(values, self.table.question[rows], classes, tuple(said), where, types)


def read_turns(setting: Setting, model: Model) -> tuple[Turns, dict[str, Layers]]:
    """The turns in this model's tokens, and their activations by position and layer."""
    corpus = Corpus.build(setting.debates, model.tokenizer, model.context_length)
    turns = Turns(setting.debates, corpus.turns, corpus.questions, make_task(setting.task))
    if (corpus.turns.start == corpus.turns.stop).any():
        raise UserError("a turn has no text: leave out debates with empty turns")
    made_by = [model.provenance, fingerprint(setting.debates), setting.layers, package_versions()]
    name = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
    with ExitStack() as stack:
        store = read_activations(
            model,
            corpus,
            (setting.activations or Path(stack.enter_context(TemporaryDirectory()))) / f"{name}.safetensors",
            layers=setting.layers,
            positions=POSITIONS,
            batch_tokens=setting.batch_tokens,
            progress=setting.progress,
        )
        values: dict[str, Layers] = {
            position: {layer: store[layer, position] for layer in store.layers} for position in POSITIONS
        }
    return turns, values


def survey(
    setting: Setting,
    outcome: Outcome,
    targets: Callable[[Any], Sequence[Target]],
    also: Callable[[str, Model, Any, Mapping[str, Layers], Found], None] = lambda *_: None,
    read: Callable[[str, Model], tuple[Any, Mapping[str, Layers]]] | None = None,
) -> Found:
    """Decode every target from every model with every seed.

    `read` gives what a model reads (by default turns) and the activations by position; `targets` takes the former.
    `also` sees each model after its targets were decoded. Each model's probe at the chosen layer is tested against
    those of the models before it, and against what needs no model.
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
                controls = target.controls and name != UNTRAINED
                first = (target.name, seed) not in without_model
                if first:
                    known = text_baselines(target.examples, seed, setting.jobs) if target.controls else {}
                    without_model[target.name, seed] = known
                decoded = decode(
                    {layer: v[target.rows] for layer, v in values[target.position].items()},
                    target.examples,
                    text=without_model[target.name, seed],
                    features={**(target.features if first else {}), **(target.own_features if controls else {})},
                    controls=controls,
                    seed=seed,
                    n_jobs=setting.jobs,
                )
                if first:
                    without_model[target.name, seed] |= {kind: decoded.held[kind, None] for kind in target.features}
                outcome.add(name, target.name, target.position, seed, decoded, shared=first)
                found[name, target.key or target.name, seed] = decoded
                _compare(outcome, found, name, target.key or target.name, seed, setting.models)
        also(name, model, material, values, found)
        setting.progress(f"decoding from {name}", len(chosen), len(chosen))
    outcome.made_by = {
        "models": made,
        "transcripts": {
            "source": ", ".join(setting.transcripts) or "memory",
            "sha256": fingerprint(setting.debates),
            "n": len(setting.debates),
        },
        "seeds": list(setting.seeds),
        "versions": package_versions(),
        "created": datetime.now(UTC).isoformat("T", "seconds"),
    }
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
