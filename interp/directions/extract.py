"""From a model and transcripts to directions with their evidence: what `interp extract-directions` runs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int

from interp.activations.corpus import Corpus, Skip
from interp.activations.store import ActivationStore, discard, read_activations
from interp.debate.transcript import Transcript, fingerprint
from interp.directions.contrast import Contrast, differences
from interp.directions.directions import Directions, question_hash
from interp.directions.evidence import Design, Evidence, chosen_layer, evaluate
from interp.directions.settings import ExtractionSettings
from interp.errors import Progress, UserError
from interp.models.model import Model
from interp.storage.files import write_json
from interp.storage.provenance import differing

DIRECTIONS_FILE = "directions.safetensors"
_HARMLESS = ("batch_tokens", "skip_long", "keep_activations")
"""Settings that change nothing in the directions."""


@dataclass(frozen=True)
class Projections:
    """Every turn used, along two labels' directions at each layer.

    Cross-fitted: a turn is projected onto unit directions fitted without its question, and centred within its
    question and round. In units of the activations.
    """

    axes: tuple[str, str]
    """The labels of the two directions."""
    layers: Sequence[int]
    x: Float[np.ndarray, "layer turn"]
    y: Float[np.ndarray, "layer turn"]
    label: Int[np.ndarray, " turn"]
    """The turn's label, as an index into the directions' labels."""
    round: Int[np.ndarray, " turn"]
    question: Sequence[str]


@dataclass(frozen=True)
class Extraction:
    """Directions, and the held-out projections that their report draws."""

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
    """Read every turn, in one pass per transcript, contrast the agents, and measure how well they separate.

    Keyword arguments change fields of `ExtractionSettings`. With `out`, writes `directions.safetensors` and
    `directions.json` there; a killed call resumes from the activations it kept there. Raises `UserError` for unusable
    input, and, without `restart`, where `out` holds directions made from anything else.

    >>> interp.extract_directions(model, transcripts[:4], layers=[2, 3]).directions.layers
    (2, 3)
    """
    settings = replace(settings or ExtractionSettings(), **changes)
    settings = replace(settings, layers=model.chosen_layers(settings.layers))
    data = {"source": source, "sha256": fingerprint(transcripts)}
    with ExitStack() as stack:
        folder = Path(out) if out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not restart and (folder / DIRECTIONS_FILE).exists():
            _require_same(folder, model, data["sha256"], settings)
        corpus = Corpus.build(transcripts, model.tokenizer, model.context_length, skip_long=settings.skip_long)
        contrast = Contrast.build(corpus.turns, corpus.questions, settings.by, text_needed=settings.position != "tag")
        activations = folder / "activations.safetensors"
        keep = settings.keep_activations or (activations.exists() and not restart)
        store = read_activations(
            model,
            corpus,
            activations,
            layers=settings.layers,
            site=settings.site,
            positions=(settings.position,),
            batch_tokens=settings.batch_tokens,
            restart=restart,
            data=data,
            progress=progress,
        )
        found = measure(store, contrast, settings, skipped=corpus.skipped, progress=progress)
        if out:
            found.directions.save(folder / DIRECTIONS_FILE)
            write_json(folder / "directions.json", found.directions.facts)
        if not keep:
            discard(activations)
        return found


def _require_same(folder: Path, model: Model, transcripts: str, settings: ExtractionSettings) -> None:
    """Raises `UserError` where a folder holds directions that these settings would not give again."""
    facts = Directions.load(folder / DIRECTIONS_FILE).facts
    provenance = facts["provenance"]
    sha256 = provenance.get("transcripts", {}).get("sha256")
    before = {"model": provenance["model"], "transcripts": sha256, **provenance.get("settings", {})}
    now = {"model": model.provenance, "transcripts": transcripts, **asdict(settings)}
    names = dict.fromkeys(name.partition(".")[0] for name in differing(before, now))
    if different := [name for name in names if name not in _HARMLESS]:
        raise UserError(
            f"{folder}: holds directions of {provenance['model']['name']} from {facts['questions']:,} questions, made "
            f"with other settings ({', '.join(different)}); give another --out, or replace them with --restart"
        )


def measure(
    store: ActivationStore,
    contrast: Contrast,
    settings: ExtractionSettings,
    *,
    skipped: Sequence[Skip] = (),
    progress: Progress = lambda *_: None,
) -> Extraction:
    """Directions and their evidence from stored activations, with one layer in memory at a time."""
    design = Design.draw(contrast.question, len(contrast.labels), settings.seed)
    rounds = {"all": np.full(len(contrast.rows), True)}
    if settings.by_round:
        rounds |= {str(r): contrast.round == r for r in contrast.rounds}
    vectors: list[list[np.ndarray]] = []
    norms: list[float] = []
    evidence: dict[str, list[Evidence]] = {name: [] for name in rounds}
    for i, layer in enumerate(store.layers):
        values = store[layer, settings.position][contrast.rows]
        norms.append(float(np.linalg.norm(values, axis=-1).mean()))
        difference = differences(values)
        vectors.append([])
        for name, groups in rounds.items():
            vectors[-1].append(difference[groups].mean(axis=0, dtype=np.float64))
            evidence[name].append(evaluate(difference[groups], design.select(groups)))
        progress("measuring directions", i + 1, len(store.layers))

    directions = Directions(
        labels=contrast.labels,
        layers=store.layers,
        vectors=np.asarray(vectors, dtype=np.float32).transpose(1, 2, 0, 3),
        residual_norm=np.asarray(norms, dtype=np.float32),
        hook_point=store.hook_point,
        facts={},
        rounds=tuple(rounds),
    )
    summary = {
        name: {
            "groups": int(groups.sum()),
            "questions": len(np.unique(contrast.question[groups])),
            **_curves(evidence[name]),
            "chosen_layer": _chosen(store.layers, evidence[name], design.select(groups)),
            "cosine": _plain(directions.cosines(name)),
        }
        for name, groups in rounds.items()
    }
    facts = {
        "by": settings.by,
        "labels": list(contrast.labels),
        "layers": list(store.layers),
        "position": settings.position,
        "hook_point": store.hook_point,
        "transcripts": len(np.unique(store.turns.transcript)),
        "questions": len(store.questions),
        "question_hashes": [question_hash(question) for question in store.questions],
        "turns": len(store.turns),
        "skipped": [asdict(skip) for skip in (*skipped, *contrast.skipped)],
        "norm": _plain(directions.norms[0]),
        "residual_norm": _plain(directions.residual_norm),
        "evidence": summary,
        "best_layers": _best_layers(store.layers, evidence["all"]),
        "provenance": {
            **store.provenance,
            "settings": asdict(settings) | {"layers": list(store.layers)},
            "created": datetime.now(UTC).isoformat("T", "seconds"),
        },
    }
    return Extraction(replace(directions, facts=facts), _projections(store, contrast, evidence["all"]))


def _projections(store: ActivationStore, contrast: Contrast, evidence: Sequence[Evidence]) -> Projections:
    """Every turn used, along the first two labels' directions at all layers."""
    along = np.stack([e.projections[..., :2] for e in evidence])
    x, y = rearrange(along, "layer group label direction -> direction layer (group label)")
    n_groups, n_labels = contrast.rows.shape
    return Projections(
        axes=(contrast.labels[0], contrast.labels[1]),
        layers=store.layers,
        x=x,
        y=y,
        label=np.tile(np.arange(n_labels), n_groups),
        round=np.repeat(contrast.round, n_labels),
        question=[store.questions[q] for q in np.repeat(contrast.question, n_labels)],
    )


def _curves(evidence: Sequence[Evidence]) -> dict[str, Any]:
    """All estimates as plain lists [label][layer]."""
    names = ("reliability", "reliability_shuffled", "separation", "separation_shuffled", "separation_random")
    return {
        name: {
            part: _plain(np.stack([getattr(getattr(e, name), part) for e in evidence], axis=1))
            for part in ("mean", "low", "high")
        }
        for name in names
    }


def _chosen(layers: Sequence[int], evidence: Sequence[Evidence], design: Design) -> dict[str, Any]:
    """Separation at the layer chosen on other questions, and the layers chosen."""
    separation, chosen = chosen_layer(evidence, design)
    return {part: _plain(each) for part, each in asdict(separation).items()} | {"layers": [layers[i] for i in chosen]}


def _best_layers(layers: Sequence[int], evidence: Sequence[Evidence], n: int = 5) -> list[int]:
    """Layers by mean separation over the labels, ties by mean reliability; none where undefined."""
    scores = [(round(float(e.separation.mean.mean()), 6), float(e.reliability.mean.mean())) for e in evidence]
    defined = [i for i in range(len(layers)) if np.isfinite(scores[i]).all()]
    return [layers[i] for i in sorted(defined, key=scores.__getitem__, reverse=True)[:n]]


def _plain(values: np.ndarray) -> Any:
    """Nested lists for JSON, to six digits; None where undefined."""
    rounded = np.round(values.astype(np.float64), 6).astype(object)
    rounded[~np.isfinite(values)] = None
    return rounded.tolist()
