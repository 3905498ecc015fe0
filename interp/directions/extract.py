"""From a model and transcripts to directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int

from interp.activations.corpus import Corpus
from interp.activations.reading import read_tokens
from interp.activations.store import ActivationStore, discard, read_activations
from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript, fingerprint
from interp.directions.contrast import Contrast, differences
from interp.directions.directions import Directions, question_hash
from interp.directions.estimators import estimate
from interp.directions.evidence import (
    N_CONTROLS,
    PAIRS,
    TURNS,
    Design,
    Differences,
    Estimate,
    Evidence,
    Wins,
    at_chosen_layer,
    beyond,
    evaluate,
    of_first,
    separated,
)
from interp.directions.settings import ExtractionSettings, FitSettings
from interp.directions.subspaces import MOST_EXAMPLES, drawn, spread
from interp.directions.text import TextDifferences, text_controls
from interp.directions.tokens import promoted
from interp.errors import Progress, UserError
from interp.models.model import Model
from interp.models.random_weights import room_beside, untrained
from interp.models.tokens import Encoder
from interp.processes import shared
from interp.storage.files import scratch, write_json
from interp.storage.provenance import differing

DIRECTIONS_FILE = "directions.safetensors"
UNTRAINED_FILE = "untrained.safetensors"
_HARMLESS = ("batch_tokens", "skip_long", "keep_activations")  # they change nothing in the directions


@dataclass(frozen=True)
class Projections:
    """Every turn used, centred within its group, along two labels' unit directions fitted without its question."""

    labels: Sequence[str]
    """What `label` counts; the first two are the axes."""
    layers: Sequence[int]
    x: Float[np.ndarray, "layer turn"]
    y: Float[np.ndarray, "layer turn"]
    label: Int[np.ndarray, " turn"]
    round: Int[np.ndarray, " turn"]
    question: Sequence[str]


@dataclass(frozen=True)
class Extraction:
    """Directions, and the projections that their report draws."""

    directions: Directions
    projections: Projections


def extract_directions(
    model: Model,
    transcripts: Sequence[Transcript],
    out: str | Path | None = None,
    settings: ExtractionSettings | None = None,
    *,
    source: str = "memory",
    restart: bool = False,
    progress: Progress = lambda *_: None,
    **changes: Any,
) -> Extraction:
    """Read every turn, contrast the agents, and measure how well they separate.

    An untrained model and the text alone are measured in the same way; `controls=False` leaves them out.

    Keyword arguments change fields of `ExtractionSettings`. `out` gets `directions.safetensors` and `directions.json`;
    a killed call resumes there. Raises `UserError` for unusable input, and, without `restart`, where `out` holds
    directions made from anything else.

    >>> interp.extract_directions(model, transcripts[:4], layers=[2, 3]).directions.layers
    (2, 3)
    """
    settings = replace(settings or ExtractionSettings(), **changes)
    data = {"source": source, "sha256": fingerprint(transcripts)}

    def compared() -> tuple[Corpus, Contrast]:
        corpus = Corpus.build(transcripts, model.tokenizer, model.context_length, skip_long=settings.skip_long)
        contrast = Contrast.build(corpus.turns, corpus.questions, settings.by, text_needed=settings.position != "tag")
        return corpus, replace(contrast, skipped=(*corpus.skipped, *contrast.skipped))

    return extracted(model, compared, out, settings, data, restart=restart, progress=progress)


def extracted(
    model: Model,
    compared: Callable[[], tuple[Corpus, Contrast]],
    out: str | Path | None,
    settings: ExtractionSettings | FitSettings,
    data: dict[str, str],
    *,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> Extraction:
    """Read what `compared` gives, made from `data`, and measure it, in a folder that a killed call resumes in."""
    settings = replace(settings, layers=model.chosen_layers(settings.layers))
    if settings.controls and model.engine is not None:
        raise model.engine.refusal("has no untrained model to compare with; go without controls (--no-controls)")
    with ExitStack() as stack:
        folder = Path(out) if out else stack.enter_context(scratch())
        if not restart and (folder / DIRECTIONS_FILE).exists():
            facts = Directions.load(folder / DIRECTIONS_FILE).facts
            made = facts["provenance"]
            sha256 = made.get("transcripts", {}).get("sha256")
            before = {"model": made["model"], "transcripts": sha256, "controls": False, **made.get("settings", {})}
            now = {"model": model.provenance, "transcripts": data["sha256"], **asdict(settings)}
            names = dict.fromkeys(name.partition(".")[0] for name in differing(before, now))
            harmless = (*_HARMLESS, "controls") if settings.controls else _HARMLESS  # they may be added
            if different := [name for name in names if name not in harmless]:
                holds = f"holds directions of {made['model']['name']} from {facts['questions']:,} questions, made with"
                other = f"other settings ({', '.join(different)})"
                raise UserError(f"{folder}: {holds} {other}; give another --out, or replace them with --restart")
        corpus, contrast = compared()
        paths = [folder / "activations.safetensors", folder / UNTRAINED_FILE]
        keep = settings.keep_activations or (paths[0].exists() and not restart)
        reading: dict[str, Any] = {name: getattr(settings, name) for name in ("layers", "site", "batch_tokens")}
        reading |= {"positions": (settings.position,), "data": data, "restart": restart, "keep": keep}
        store = read_activations(model, corpus, paths[0], **reading, progress=progress)
        controls = None
        if settings.controls:
            say: Progress = lambda what, *done: progress(f"{what} of an untrained model", *done)  # noqa: E731
            with room_beside(model):
                beside = read_activations(untrained(model, settings.seed), corpus, paths[1], **reading, progress=say)
            controls = Controls(beside, text_controls(corpus, contrast, settings.position))
        found = measure(store, contrast, settings, controls, progress=progress)
        facts = {**found.directions.facts, "tokenization": asdict(corpus.tokenization)}
        facts |= promoted(model, found.directions, seed=settings.seed)
        found = replace(found, directions=replace(found.directions, facts=facts))
        if out:
            found.directions.save(folder / DIRECTIONS_FILE)
            write_json(folder / "directions.json", found.directions.facts)
        for path in () if keep else paths:
            discard(path)
        return found


@dataclass(frozen=True)
class Controls:
    """What is evaluated beside a model, on the same folds."""

    untrained: ActivationStore
    text: Sequence[TextDifferences]


@dataclass(frozen=True)
class _Stored:
    """Differences at a layer, read from the store where they are asked for."""

    store: ActivationStore
    layer: int
    position: str
    rows: Int[np.ndarray, "group label"]

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.rows.shape, len(self[np.arange(1)][0, 0])

    def __getitem__(self, groups: np.ndarray) -> Float[np.ndarray, "group label d_model"]:
        return differences(self.store.rows(self.layer, self.position, self.rows[groups]))


def measure(
    store: ActivationStore,
    contrast: Contrast,
    settings: ExtractionSettings | FitSettings,
    controls: Controls | None = None,
    *,
    progress: Progress = lambda *_: None,
) -> Extraction:
    """Directions and their evidence from stored activations, with few turns of one layer in memory at a time."""
    labels, estimator = (contrast.named,) if contrast.named else contrast.labels, settings.estimator

    def evidence_of(difference: Differences, design: Design, random: np.ndarray | None = None) -> Evidence:
        found = evaluate(difference, design, random, estimator)
        return of_first(found) if contrast.named else found

    design = Design.draw(contrast.question, len(contrast.labels), settings.seed)
    rounds = {"all": np.full(len(contrast.rows), True)}
    if settings.by_round:
        rounds |= {str(r): contrast.round == r for r in np.unique(contrast.round)}
    most = min(MOST_EXAMPLES // len(contrast.labels), len(contrast.rows))
    some = contrast.rows[np.sort(np.random.default_rng(settings.seed).choice(len(contrast.rows), most, replace=False))]
    varying = spread(lambda i: store.rows(store.layers[i], settings.position, some), len(store.layers))

    def measured(i: int) -> tuple[list[np.ndarray], float, dict[str, Evidence], dict[str, Evidence]]:
        """At one layer: each round's vectors, the mean norm, each round's evidence, and an untrained model's."""
        layer, lengths, sums = store.layers[i], list[np.ndarray](), [np.float64(0)] * len(rounds)
        for start in range(0, len(contrast.rows), 1024):
            part = slice(start, start + 1024)
            values = store.rows(layer, settings.position, contrast.rows[part])
            lengths.append(np.linalg.norm(values, axis=-1))
            difference = differences(values)
            sums = [
                total + difference[groups[part]].sum(axis=0, dtype=np.float64)
                for total, groups in zip(sums, rounds.values(), strict=True)
            ]
        random, found, beside = drawn(varying[i], N_CONTROLS, settings.seed), dict[str, Any](), dict[str, Any]()
        for name, groups in rounds.items():
            where, selected = (layer, settings.position, contrast.rows[groups]), design.select(groups)
            found[name] = evidence_of(_Stored(store, *where), selected, random)
            if controls is not None:
                beside[name] = evidence_of(_Stored(controls.untrained, *where), selected.bare)
        mean = [total / groups.sum() for total, groups in zip(sums, rounds.values(), strict=True)]
        if contrast.named:
            whole = _Stored(store, layer, settings.position, contrast.rows)
            mean = [estimate(estimator, whole[np.arange(len(contrast.rows))][:, 0])[None]]
        return mean, float(np.concatenate(lengths).mean()), found, beside

    each_layer = []
    for one in shared(range(len(store.layers)), lambda some: map(measured, some), 1):
        each_layer.append(one)
        progress("measuring directions", len(each_layer), len(store.layers))
    vectors, norms, found, beside = zip(*each_layer, strict=True)
    evidence = {name: [at[name] for at in found] for name in rounds}
    untrained = {name: [at[name] for at in beside if at] for name in rounds}
    by_round = np.asarray(vectors, dtype=np.float32).transpose(1, 2, 0, 3)
    norm = np.asarray(norms, dtype=np.float32)
    names = tuple(rounds)
    directions = Directions(labels, store.layers, by_round, norm, store.hook_point, {}, names, varying)
    claimed = (PAIRS, "group") if contrast.named else (TURNS, "question")
    summary: dict[str, Any] = {}
    for name, groups in rounds.items():
        selected = design.select(groups)
        wins, chosen = at_chosen_layer(evidence[name], selected)
        summary[name] = {
            "groups": int(groups.sum()),
            "questions": len(wins),
            **_curves(evidence[name]),
            "chosen_layer": _estimate(wins) | {"layers": [store.layers[i] for i in chosen]},
            "cosine": _plain(directions.cosines(name)),
        }
        if controls is not None:
            text = [evidence_of(replace(kind, rows=kind.rows[groups]), selected.bare) for kind in controls.text]
            each = {"an untrained model": untrained[name], "the text": text}
            of_each = {what: at_chosen_layer(of, selected, each=True)[0] for what, of in each.items()}
            summary[name] |= {
                "separation_untrained": _curves(untrained[name])["separation"],
                "controls": dict(zip(("untrained", "text"), map(_estimate, of_each.values()), strict=True)),
                "beyond_controls": [verdict.record() for verdict in beyond(labels, wins, of_each, *claimed)],
            }
    # by mean separation over the labels, ties by mean reliability
    scores = [(round(float(e.separation.mean.mean()), 6), float(e.reliability.mean.mean())) for e in evidence["all"]]
    defined = [i for i, score in enumerate(scores) if np.isfinite(score).all()]
    best = sorted(defined, key=scores.__getitem__, reverse=True)[:5]
    facts = {
        "by": settings.by,
        "labels": list(labels),
        "layers": list(store.layers),
        "position": settings.position,
        "hook_point": store.hook_point,
        "transcripts": len(np.unique(store.turns.transcript)),
        "questions": len(store.questions),
        "question_hashes": [question_hash(question) for question in store.questions],
        "turns": len(store.turns),
        "skipped": [asdict(skip) for skip in contrast.skipped],
        "norm": _plain(directions.norms[0]),
        "residual_norm": _plain(directions.residual_norm),
        "evidence": summary,
        "best_layers": [store.layers[i] for i in best],
        "provenance": {
            **store.provenance,
            **({"untrained": controls.untrained.provenance["model"]} if controls else {}),
            "settings": asdict(settings) | {"layers": list(store.layers)},
            "created": datetime.now(UTC).isoformat("T", "seconds"),
        },
    }
    along = np.stack([e.projections[..., :2] for e in evidence["all"]])
    x, y = rearrange(along, "layer group label direction -> direction layer (group label)")
    n_groups, n_labels = contrast.rows.shape
    label, round_ = np.tile(np.arange(n_labels), n_groups), np.repeat(contrast.round, n_labels)
    asked = [store.questions[q] for q in np.repeat(contrast.question, n_labels)]
    projections = Projections(contrast.labels, store.layers, x, y, label, round_, asked)
    return Extraction(replace(directions, facts=facts), projections)


def beginnings(model: Model) -> list[list[int]]:
    """Of three embedded debates, as token ids: where any text will do."""
    encode, longest = Encoder(model.tokenizer), min(256, model.context_length or 256)
    return [encode.transcript(transcript).ids[:longest] for transcript in read_embedded("scripted")[:3]]


def measured(directions: Directions, model: Model, prompts: Sequence[Sequence[int]] = ()) -> Directions:
    """The directions, told how long the model's activations are and how they vary, where their file does not say it.

    Read at the tokens of these prompts, or of `beginnings`, but the first, many times as long as others; at most 1024.

    >>> _ = found.export(tmp_path / "agent2.pt", 2)
    >>> imported = interp.Directions.load(tmp_path / "agent2.pt")
    >>> bool(interp.directions.measured(imported, model, [[5, 6, 7]]).residual_norm[2] > 1)
    True
    """
    if np.isfinite(directions.residual_norm).all():
        return directions
    names = [directions.hook_point.format(layer=layer) for layer in model.chosen_layers(directions.layers)]
    prompts = prompts or beginnings(model)
    some = prompts[: 1 + int(np.searchsorted(np.cumsum([*map(len, prompts)]), MOST_EXAMPLES))]
    places = [(ids, range(min(1, len(ids) - 1), len(ids))) for ids in some]
    values = np.concatenate(read_tokens(model, names, places))[:MOST_EXAMPLES]
    norms = np.linalg.norm(values, axis=-1).mean(axis=0).astype(np.float32)
    varying = spread(lambda layer: values[:, None, layer], len(names))
    return replace(directions, residual_norm=norms, spread=varying)


def _curves(evidence: Sequence[Evidence]) -> dict[str, Any]:
    """All estimates as plain lists [label][layer]."""
    names = [name for name, value in vars(evidence[0]).items() if isinstance(value, Estimate)]
    estimates = {name: [vars(getattr(e, name)) for e in evidence] for name in names}
    return {
        name: {part: _plain(np.stack([layer[part] for layer in layers], axis=1)) for part in layers[0]}
        for name, layers in estimates.items()
    }


def _estimate(wins: Wins) -> dict[str, Any]:
    return {part: _plain(value) for part, value in vars(separated(wins)).items()}


def _plain(values: np.ndarray) -> Any:
    """Nested lists for JSON, to six digits; None where undefined."""
    rounded = np.round(values.astype(np.float64), 6).astype(object)
    rounded[~np.isfinite(values)] = None
    return rounded.tolist()
