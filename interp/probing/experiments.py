"""What all experiments share: models in turn, turns as activations, every target decoded from every model.

Knows nothing about what any experiment asks, nor how it is started.
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
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript, fingerprint
from interp.errors import Progress, UserError
from interp.models.layers import parse_layers
from interp.models.model import Model, load_model, wrap
from interp.probing.decoding import Decoded, Layers, decode, text_baselines
from interp.probing.fitting import Examples
from interp.probing.outcome import Outcome
from interp.storage.provenance import package_versions

UNTRAINED = "untrained"
MODELS = ("organism", "organism-sft", "organism-debategpt", "organism-imad")
"""What is asked unless other models are given."""
POSITIONS = ("last", "tag")
"""Where turns are read: at their last token, and at their tag, before they say anything."""


@dataclass(frozen=True)
class Setting:
    """What an experiment runs on."""

    models: Sequence[str]
    """Names; the first is the base, which the others are held against."""
    transcripts: Sequence[Transcript]
    source: str = "memory"
    task: Task = field(default_factory=Arithmetic)
    """What was debated: its grader says which answers are the same."""
    activations: Path | None = None
    """Where activations lie, for whoever reads the same turns of the same model next, a run that was killed included;
    None keeps nothing."""
    seeds: Sequence[int] = (0,)
    untrained: bool = True
    """Whether the first model with random weights is a control."""
    layers: str = "all"
    """As in extract-directions: numbers and ranges."""
    n_jobs: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int = 4096
    load: Callable[..., Model] = load_model
    progress: Progress = lambda *_: None

    def each_model(self) -> Iterator[tuple[str, Model]]:
        """The models in turn, one in memory at a time; the untrained one after the first."""
        for i, name in enumerate(self.models):
            model = self.load(name, device=self.device, dtype=self.dtype)
            yield name, model
            if i == 0 and self.untrained:
                yield UNTRAINED, untrained(model)

    @property
    def last(self) -> str:
        """The model that the experiment is about."""
        return self.models[-1]


@dataclass(frozen=True)
class Target:
    """Something to decode from turns, and where the turns are read."""

    name: str
    examples: Examples
    rows: Int[np.ndarray, " example"]
    """The examples' rows in the table of turns."""
    position: str = "last"


@dataclass(frozen=True)
class Turns:
    """The turns of the transcripts with their texts, whoever reads them."""

    transcripts: Sequence[Transcript]
    table: TurnTable
    questions: tuple[str, ...]
    task: Task = field(default_factory=Arithmetic)

    @property
    def texts(self) -> list[str]:
        return [turn.text for transcript in self.transcripts for turn in transcript.turns]

    def surface(self, rows: Int[np.ndarray, " example"], position: str) -> Float[np.ndarray, "example feature"]:
        """Round and place in the transcript, in tokens; and how long the turn is, where it is over."""
        t = self.table
        known = [t.round, t.tag] if position == "tag" else [t.round, t.tag, t.stop - t.start]
        return np.stack(known, axis=1)[rows].astype(np.float64)

    def last_words(self) -> Int[np.ndarray, " turn"]:
        """The type of each turn for control tasks: what its text ends with, as a number."""
        ends = [text[-12:] for text in self.texts]
        return np.unique(ends, return_inverse=True)[1]

    def examples(
        self,
        rows: np.ndarray,
        labels: Sequence[str] | np.ndarray,
        texts: Sequence[str] | None = None,
        position: str = "last",
    ) -> Examples:
        """Examples of the turns in these rows, with labels as strings (or numbers).

        Read at the tag, a turn has not been written: give as `texts` what stands before it.
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
        return Examples(values, self.table.question[rows], classes, tuple(said), where, types)


def read_turns(setting: Setting, model: Model) -> tuple[Turns, dict[str, Layers]]:
    """The table of turns as this model's tokenizer cuts them, and by position and layer their activations."""
    corpus = Corpus.build(setting.transcripts, model.tokenizer, model.context_length)
    turns = Turns(setting.transcripts, corpus.turns, corpus.questions, setting.task)
    if (corpus.turns.start == corpus.turns.stop).any():
        raise UserError("a turn has no text: leave debates with empty turns out")
    made_by = [model.provenance, fingerprint(setting.transcripts), setting.layers, package_versions()]
    name = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
    with ExitStack() as stack:
        store = read_activations(
            model,
            corpus,
            (setting.activations or Path(stack.enter_context(TemporaryDirectory()))) / f"{name}.safetensors",
            layers=parse_layers(setting.layers),
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
    targets: Callable[[Turns], Sequence[Target]],
    also: Callable[[str, Turns, Mapping[str, Layers]], None] = lambda *_: None,
) -> dict[tuple[str, str, int], Decoded]:
    """Decode every target of turns in every model with every seed; `also` sees each model's activations.

    Each model's chosen-layer probe is tested against those of the models before it, and against the bag of words.
    """
    found: dict[tuple[str, str, int], Decoded] = {}
    texts: dict[tuple[str, int], Any] = {}
    made: dict[str, Any] = {}
    for name, model in setting.each_model():
        turns, values = read_turns(setting, model)
        made[name] = model.provenance
        chosen = targets(turns)
        for i, target in enumerate(chosen):
            layers = {layer: v[target.rows] for layer, v in values[target.position].items()}
            for seed in setting.seeds:
                setting.progress(f"decoding from {name}", i, len(chosen))
                if (target.name, seed) not in texts:
                    texts[target.name, seed] = text_baselines(target.examples, seed, setting.n_jobs)
                decoded = decode(
                    layers,
                    target.examples,
                    text=texts[target.name, seed],
                    controls=name != UNTRAINED,
                    seed=seed,
                    n_jobs=setting.n_jobs,
                )
                outcome.add(name, target.name, target.position, seed, decoded, shared=name == setting.models[0])
                found[name, target.name, seed] = decoded
                compare(outcome, found, name, target.name, seed, setting.models)
        also(name, turns, values)
        setting.progress(f"decoding from {name}", len(chosen), len(chosen))
    finish(outcome, setting, made)
    return found


def compare(
    outcome: Outcome,
    found: Mapping[tuple[str, str, int], Decoded],
    model: str,
    target: str,
    seed: int,
    models: Sequence[str],
) -> None:
    """Test a model's chosen-layer probe against those of the models before it, and against what needs no model."""
    decoded = found[model, target, seed]
    own = decoded.held["chosen layer", None]
    measure = "r2" if decoded.resamples.examples.numeric else "auc"
    against = {kind: held for (kind, layer), held in decoded.held.items() if layer is None and kind != "chosen layer"}
    before = models[: models.index(model)] if model in models else models[:1]
    against |= {other: found[other, target, seed].held["chosen layer", None] for other in before}
    for other, theirs in against.items():
        value = decoded.resamples.difference(own, theirs)[measure]
        outcome.test(f"probe − {other}", value, model=model, target=target, seed=seed, measure=measure)


def finish(outcome: Outcome, setting: Setting, models: Mapping[str, Any]) -> None:
    """Say what made the result."""
    outcome.made_by = {
        "models": dict(models),
        "transcripts": {
            "source": setting.source,
            "sha256": fingerprint(setting.transcripts),
            "n": len(setting.transcripts),
        },
        "seeds": list(setting.seeds),
        "versions": package_versions(),
        "created": datetime.now(UTC).isoformat("T", "seconds"),
    }


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
