"""From a model and transcripts to directions with their evidence: the whole of `interp extract-directions`.

Knows the order of the steps and the layout of the output folder; each step is elsewhere.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
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
from interp.directions.contrast import By, Contrast, differences
from interp.directions.directions import Directions, question_hash
from interp.directions.evidence import Design, Estimate, Evidence, chosen_layer, evaluate
from interp.errors import Progress, UserError
from interp.models.model import SITES, Model, Site
from interp.storage.files import write_json
from interp.storage.provenance import differing

DIRECTIONS_FILE = "directions.safetensors"


@dataclass(frozen=True)
class Extraction:
    """Directions and the held-out projections that their report draws."""

    directions: Directions
    projections: Projections


def extract_directions(
    model: Model,
    transcripts: Sequence[Transcript],
    out: str | Path | None = None,
    *,
    source: str = "memory",
    layers: Sequence[int] | None = None,
    site: Site = "resid_post",
    position: str = "last",
    by: By = "agent",
    by_round: bool = False,
    batch_tokens: int = 2048,
    skip_long: bool = False,
    keep_activations: bool = False,
    restart: bool = False,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Extraction:
    """Read every turn in one pass a transcript, contrast the agents, and measure what was found.

    Writes `directions.safetensors` and `directions.json` into `out` (nothing where it
    is None). Activations are kept in `out` while they are being read, so that the same call after a
    kill goes on; afterwards only with `keep_activations`. Raises `UserError` for what cannot be used, and, unless
    `restart` says to begin anew, where `out` holds directions that were made of or with anything else.
    """
    data = {"source": source, "sha256": fingerprint(transcripts)}
    with ExitStack() as stack:
        folder = Path(out) if out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not restart:
            made_by = {
                "model": model.provenance,
                "transcripts": data["sha256"],
                "layers": list(model.chosen_layers(layers)),
                "hook_point": SITES[site],
                "position": position,
                "by": by,
                "by_round": by_round,
                "seed": seed,
            }
            _require_same(folder, made_by)
        corpus = Corpus.build(transcripts, model.tokenizer, model.context_length, skip_long=skip_long)
        # found out before anything is read: a corpus without a single usable group
        Contrast.build(corpus.turns, corpus.questions, by, text_needed=position != "tag")
        activations = folder / "activations.safetensors"
        keep_activations |= activations.exists() and not restart  # they were kept before
        store = read_activations(
            model,
            corpus,
            activations,
            layers=layers,
            site=site,
            positions=(position,),
            batch_tokens=batch_tokens,
            restart=restart,
            data=data,
            progress=progress,
        )
        found = measure(
            store,
            position=position,
            by=by,
            by_round=by_round,
            skipped=corpus.skipped,
            seed=seed,
            progress=progress,
        )
        if out:
            found.directions.save(folder / DIRECTIONS_FILE)
            write_json(folder / "directions.json", found.directions.facts)
        if not keep_activations:
            discard(activations)
        return found


def _require_same(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Raises `UserError` where a folder holds directions that a run made by this would not write again."""
    if not (folder / DIRECTIONS_FILE).exists():
        return
    facts = Directions.load(folder / DIRECTIONS_FILE).facts
    provenance = facts["provenance"]
    before = {
        "model": provenance["model"],
        "transcripts": provenance.get("transcripts", {}).get("sha256"),
        **{name: facts.get(name) for name in ("layers", "hook_point", "position", "by")},
        "by_round": len(facts.get("evidence", ())) > 1,
        "seed": provenance.get("seed"),
    }
    if names := differing(before, json.loads(json.dumps(made_by))):
        settings = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
        raise UserError(
            f"{folder}: holds directions of {provenance['model']['name']} from {facts['questions']:,} questions, made "
            f"with other settings ({settings}); give another --out, or replace them by --restart"
        )


def measure(
    store: ActivationStore,
    *,
    position: str = "last",
    by: By = "agent",
    by_round: bool = False,
    skipped: Sequence[Skip] = (),
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Extraction:
    """Directions and their evidence from stored activations, one layer in memory at a time."""
    if position not in store.positions:
        raise UserError(f"position {position}: the store holds {', '.join(store.positions)}")
    contrast = Contrast.build(store.turns, store.questions, by, text_needed=position != "tag")
    design = Design.draw(contrast.question, len(contrast.labels), seed)
    rounds = {"all": np.full(len(contrast.rows), True)}
    if by_round:
        rounds |= {str(r): contrast.round == r for r in contrast.rounds}
    vectors: list[list[np.ndarray]] = []
    norms: list[float] = []
    evidence: dict[str, list[Evidence]] = {name: [] for name in rounds}
    for i, layer in enumerate(store.layers):
        values = np.array(store[layer][:, store.positions.index(position)])[contrast.rows]
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
        hook_point=store.facts["hook_point"],
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
        "by": by,
        "labels": list(contrast.labels),
        "layers": list(store.layers),
        "position": position,
        "hook_point": store.facts["hook_point"],
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
            **store.facts["provenance"],
            "seed": seed,
            "created": datetime.now(UTC).isoformat("T", "seconds"),
        },
    }
    return Extraction(replace(directions, facts=facts), _projections(store, contrast, evidence["all"]))


def _projections(store: ActivationStore, contrast: Contrast, evidence: Sequence[Evidence]) -> Projections:
    """Every used turn along the first two labels' directions, all layers."""
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
    """Every estimate of every layer as plain lists [label][layer]."""
    names = ("reliability", "reliability_shuffled", "separation", "separation_shuffled", "separation_random")
    curves = {}
    for name in names:
        estimates: list[Estimate] = [getattr(e, name) for e in evidence]
        curves[name] = {
            part: _plain(np.stack([getattr(e, part) for e in estimates], axis=1)) for part in ("mean", "low", "high")
        }
    return curves


def _chosen(layers: Sequence[int], evidence: Sequence[Evidence], design: Design) -> dict[str, Any]:
    """Separation when the layer is chosen on other questions, and which layers that were."""
    separation, chosen = chosen_layer(evidence, design)
    return {part: _plain(values) for part, values in asdict(separation).items()} | {
        "layers": [layers[i] for i in chosen]
    }


def _best_layers(layers: Sequence[int], evidence: Sequence[Evidence], n: int = 5) -> list[int]:
    """Layers by mean separation over the labels, ties by mean reliability; none where that is not defined."""
    scores = [(round(float(e.separation.mean.mean()), 6), float(e.reliability.mean.mean())) for e in evidence]
    defined = [i for i in range(len(layers)) if np.isfinite(scores[i]).all()]
    return [layers[i] for i in sorted(defined, key=scores.__getitem__, reverse=True)[:n]]


def _plain(values: np.ndarray) -> Any:
    """Nested lists for JSON, to six digits; None where a number is not defined."""
    rounded = np.round(values.astype(np.float64), 6).astype(object)
    rounded[~np.isfinite(values)] = None
    return rounded.tolist()


@dataclass(frozen=True)
class Projections:
    """Turns seen along two directions, at every layer.

    Cross-fitted: each turn is projected onto unit directions that were fitted without its question,
    and centred within its question and round. In units of the activations read.
    """

    axes: tuple[str, str]
    """The labels of the two directions."""
    layers: Sequence[int]
    x: Float[np.ndarray, "layer turn"]
    y: Float[np.ndarray, "layer turn"]
    label: Int[np.ndarray, " turn"]
    """Which of the facts' labels the turn has, counted from 0."""
    round: Int[np.ndarray, " turn"]
    question: Sequence[str]
