"""What all experiments share: models in turn, turns as activations, every target decoded from every model.

Knows how an experiment is started (`python -m probes.NAME`, `interp probe NAME`);
knows nothing about what any of them asks.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from interp.activations import parse_layers
from interp.corpus import Corpus, TurnTable
from interp.debate.embedded import find_transcripts
from interp.debate.transcript import Transcript, fingerprint
from interp.decoding import Decoded, Layers, decode, text_baselines
from interp.errors import UserError
from interp.extraction import read_activations
from interp.journal import package_versions
from interp.models import Model, load_model, wrap
from interp.probing import Examples
from interp.progress import Progress
from probes.outcome import Outcome

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Setting:
    """What an experiment runs on."""

    models: Sequence[str]
    """Names; the first is the base, which the others are held against."""
    transcripts: Sequence[Transcript]
    source: str = "memory"
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


def read_turns(
    setting: Setting, model: Model, positions: Sequence[str]
) -> tuple[Turns, dict[str, dict[int, Float[np.ndarray, "turn d_model"]]]]:
    """The table of turns as this model's tokenizer cuts them, and by position and layer their activations."""
    corpus = Corpus.build(setting.transcripts, model.tokenizer, model.context_length)
    turns = Turns(setting.transcripts, corpus.turns, corpus.questions)
    if (corpus.turns.start == corpus.turns.stop).any():
        raise UserError("a turn has no text: leave debates with empty turns out")
    with TemporaryDirectory() as folder:
        store = read_activations(
            model,
            corpus,
            Path(folder) / "activations.safetensors",
            layers=parse_layers(setting.layers, model.n_layers),
            positions=positions,
            batch_tokens=setting.batch_tokens,
            progress=setting.progress,
        )
        values = {
            position: {layer: np.array(store[layer][:, i]) for layer in store.layers}
            for i, position in enumerate(positions)
        }
    return turns, values


def survey(
    setting: Setting,
    outcome: Outcome,
    targets: Callable[[Turns], Sequence[Target]],
    positions: Sequence[str] = ("last",),
    also: Callable[[str, Turns, Mapping[str, Layers]], None] = lambda *_: None,
) -> dict[tuple[str, str, int], Decoded]:
    """Decode every target of turns in every model with every seed; `also` sees each model's activations.

    Each model's chosen-layer probe is tested against the first model's, and against the bag of words.
    """
    found: dict[tuple[str, str, int], Decoded] = {}
    texts: dict[tuple[str, int], Any] = {}
    made: dict[str, Any] = {}
    for name, model in setting.each_model():
        turns, values = read_turns(setting, model, positions)
        made[name] = model.provenance
        chosen = targets(turns)
        for i, target in enumerate(chosen):
            layers = {layer: v[target.rows] for layer, v in values[target.position].items()}
            for seed in setting.seeds:
                setting.progress(f"decoding from {name}", i, len(chosen))
                if (target.name, seed) not in texts:
                    texts[target.name, seed] = text_baselines(target.examples, seed)
                decoded = decode(
                    layers, target.examples, text=texts[target.name, seed], seed=seed, n_jobs=setting.n_jobs
                )
                first = name == setting.models[0]
                outcome.add(name, target.name, target.position, seed, decoded, shared=first)
                found[name, target.name, seed] = decoded
                compare(outcome, found, name, target.name, seed, setting.models[0])
        also(name, turns, values)
        setting.progress(f"decoding from {name}", len(chosen), len(chosen))
    finish(outcome, setting, made)
    return found


def compare(
    outcome: Outcome, found: Mapping[tuple[str, str, int], Decoded], model: str, target: str, seed: int, base: str
) -> None:
    """Test a model's chosen-layer probe against the base's and against what the text gives away."""
    decoded = found[model, target, seed]
    own = decoded.held["chosen layer", None]
    measure = "r2" if decoded.resamples.examples.numeric else "auc"
    against = {kind: held for (kind, layer), held in decoded.held.items() if layer is None and kind != "chosen layer"}
    if model != base:
        against["the first model"] = found[base, target, seed].held["chosen layer", None]
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
    return wrap(made, model.tokenizer, {"name": UNTRAINED})


def read_all(sources: Sequence[str]) -> list[Transcript]:
    """The transcripts of several files or embedded sets, one after the other."""
    return [t for name in sources for t in find_transcripts(name)]


def start(
    run: Callable[[Setting], Outcome],
    *,
    models: Sequence[str],
    transcripts: Sequence[str],
    out: str | Path,
    seeds: Sequence[int] = (0,),
    limit: int | None = None,
    progress: Progress = lambda *_: None,
    **settings: Any,
) -> tuple[Outcome, Path]:
    """Run an experiment from names, and write its result."""
    debates = read_all(transcripts)[:limit]
    setting = Setting(tuple(models), debates, ", ".join(transcripts), tuple(seeds), progress=progress, **settings)
    outcome = run(setting)
    return outcome, outcome.write(out)


def main(run: Callable[[Setting], Outcome], about: str) -> None:
    """The command line of an experiment."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--model", action="append", required=True, help="the base first; repeat for several")
    parser.add_argument("--transcripts", action="append", required=True, help="debates; repeat for several")
    parser.add_argument("--out", default="out/probes")
    parser.add_argument("--seed", action="append", type=int, help="repeat for several; default 0")
    parser.add_argument("--limit", type=int, help="use only the first N transcripts")
    parser.add_argument("--layers", default="all", help="numbers and ranges such as 10-20")
    parser.add_argument("--jobs", type=int, help="processes for fits")
    parser.add_argument("--no-untrained", action="store_true", help="leave the untrained model out")
    given = parser.parse_args()
    try:
        outcome, path = start(
            run,
            models=given.model,
            transcripts=given.transcripts,
            out=given.out,
            seeds=given.seed or (0,),
            limit=given.limit,
            layers=given.layers,
            n_jobs=given.jobs,
            untrained=not given.no_untrained,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(*outcome.finding, f"wrote {path}", sep="\n")
