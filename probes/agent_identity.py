"""Which agent is speaking? `python -m probes.agent_identity --model … --transcripts organism-rotated --out …`

Read at the last token of each turn. With personas fixed in their seats seat, persona and place in the round are
one and the same, and the result says so. With rotating personas they come apart: the persona is predicted in a
seat that the probe never saw it in, the seat under a persona never seen there, and the seat in another round,
where the same place in the transcript belongs to another turn. The subspaces of seat, persona and round are
fitted together, with their dimensions, shares of variance and angles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from interp.decoding import Decoded, Layers
from interp.probe_scores import Resamples
from interp.probing import Examples, HeldOut, chosen_layer, held_out, linear
from interp.subspaces import compare_subspaces, erased_probe, factor_subspace, principal_angles, whole_subspace
from probes.experiment import Outcome, Setting, Target, Turns, main, said, survey

ASKS = "Which agent is speaking: its seat, its persona, or its place in the transcript?"


def agent_identity(setting: Setting) -> Outcome:
    """Decode seat, persona and place from turns, and split them where the personas rotate."""
    outcome = Outcome("agent_identity", ASKS)

    def also(model: str, turns: Turns, values: Mapping[str, Layers]) -> None:
        for seed in setting.seeds:
            _transfers(outcome, model, turns, values["last"], seed)
        _subspaces(outcome, model, turns, values["last"], setting.seeds[0])

    found = survey(setting, outcome, targets, also=also)
    for name in setting.models:
        outcome.finding += _finding(outcome, name, found, setting)
    return outcome


def targets(turns: Turns) -> Sequence[Target]:
    """Seat, persona and place in the transcript (how many turns came before)."""
    table = turns.table
    rows = np.arange(len(table))
    found = [Target("seat", turns.examples(rows, [f"agent {a}" for a in table.agent]), rows)]
    if rotates(turns):
        found.append(Target("persona", turns.examples(rows, list(table.persona)), rows))
    place = (table.round - 1) * table.agent.max() + table.agent
    if len(np.unique(table.round)) > 1:
        found.append(Target("place", turns.examples(rows, [f"turn {p}" for p in place]), rows))
    return found


def rotates(turns: Turns) -> bool:
    """Whether some persona sits in different seats."""
    table = turns.table
    known = all(table.persona)
    return known and len(set(zip(table.persona, table.agent.tolist(), strict=True))) > len(set(table.persona))


def _transfers(outcome: Outcome, model: str, turns: Turns, layers: Layers, seed: int) -> None:
    """Probes held against a seat, persona or round that they were not fitted on."""
    table = turns.table
    wanted = []
    if rotates(turns):
        wanted = [("persona", "seat", np.asarray(table.agent)), ("seat", "persona", np.array(table.persona))]
    if len(np.unique(table.round)) > 1:
        wanted.append(("seat", "round", np.asarray(table.round)))
    by_name = {target.name: target.examples for target in targets(turns)}
    for name, new, levels in wanted:
        examples = by_name[name]
        resamples = Resamples(examples, seed)
        held = [across(values, examples, levels, seed) for values in layers.values()]
        for layer, prediction in zip(layers, held, strict=True):
            _row(outcome, model, name, f"probe, new {new}", layer, seed, examples, resamples, prediction)
        chosen, _ = chosen_layer(held)
        _row(outcome, model, name, f"chosen layer, new {new}", None, seed, examples, resamples, chosen)


def across(values: np.ndarray, examples: Examples, levels: np.ndarray, seed: int) -> HeldOut:
    """Predict the examples of each level by probes fitted on the other levels, and on other questions."""
    predicted, merit = np.zeros((len(examples), len(examples.classes))), []
    for level in np.unique(levels):
        held = held_out(linear(False), values, examples, seed, fitted_on=levels != level)
        predicted[levels == level] = held.predicted[levels == level]
        merit.append(held.merit)
    return HeldOut(predicted, held.fold, np.mean(merit, axis=0), held.settings)


def _row(
    outcome: Outcome,
    model: str,
    target: str,
    kind: str,
    layer: int | None,
    seed: int,
    examples: Examples,
    resamples: Resamples,
    held: HeldOut,
) -> None:
    outcome.rows.append(
        {
            "model": model,
            "target": target,
            "position": "last",
            "kind": kind,
            "layer": layer,
            "seed": seed,
            "classes": list(examples.classes),
            "examples": len(examples),
            "questions": len(np.unique(examples.question)),
            "scores": {name: asdict(value) for name, value in resamples.score(held).items()},
            "selectivity": None,
            "reliability": [],
        }
    )


def _subspaces(outcome: Outcome, model: str, turns: Turns, layers: Layers, seed: int) -> None:
    """Of each factor at each layer the subspace, and what is left of it after its erasure."""
    table = turns.table
    levels = {"seat": np.unique(table.agent, return_inverse=True)[1]}
    if rotates(turns):
        levels["persona"] = np.unique(np.array(table.persona), return_inverse=True)[1]
    if len(np.unique(table.round)) > 1:
        levels["round"] = np.unique(table.round, return_inverse=True)[1]
    question = table.question
    for layer, values in layers.items():
        found = {name: factor_subspace(values, levels, name, question, seed=seed) for name in levels}
        for name, factor in found.items():
            classes = tuple(map(str, np.unique(levels[name])))
            examples = Examples(levels[name], question, classes)
            left = Resamples(examples, seed).score(erased_probe(linear(False), values, examples, seed))
            angles = {}
            for other, theirs in found.items():
                if other != name and factor.subspace.dimension and theirs.subspace.dimension:
                    compared = compare_subspaces(
                        factor.subspace, theirs.subspace, values, levels[other], question, seed=seed
                    )
                    angles[other] = asdict(compared)
            halves = [
                whole_subspace(values[h], {n: x[h] for n, x in levels.items()}, name, question[h])
                for h in (question % 2 == 0, question % 2 == 1)
            ]
            parts = [half.first(factor.subspace.dimension) for half in halves]
            outcome.subspaces.append(
                {
                    "model": model,
                    "layer": layer,
                    "factor": name,
                    "dimension": factor.subspace.dimension,
                    "gains": list(factor.gains),
                    "p": factor.p,
                    "share_of_variance": factor.share_of_variance,
                    "angles": angles,
                    "angles_of_halves": principal_angles(parts[0], parts[1]).round(2).tolist(),
                    "after_erasure": {measure: asdict(value) for measure, value in left.items()},
                }
            )


def _finding(outcome: Outcome, name: str, found: Mapping[tuple[str, str, int], Decoded], setting: Setting) -> list[str]:
    sentences = []
    for target, new in (("seat", "persona"), ("persona", "seat"), ("seat", "round")):
        own = outcome.scores("chosen layer", "accuracy", model=name, target=target)
        moved = outcome.scores(f"chosen layer, new {new}", "accuracy", model=name, target=target)
        if own is None or moved is None:
            continue
        decoded = found[name, target, setting.seeds[0]]
        chance = 1 / len(decoded.resamples.examples.classes)
        survives = "holds" if moved.low > chance else "does not hold"
        words = outcome.scores("bag of words", "accuracy", target=target)
        sentences.append(
            f"{name}: the {target} is read with accuracy {said(own)} (its words alone: {said(words)}); this "
            f"{survives} in a {new} that the probe never saw ({said(moved)}, chance {chance:.2f})."
        )
    if not sentences:
        own = outcome.scores("chosen layer", "accuracy", model=name, target="seat")
        sentences.append(
            f"{name}: the agent is read with accuracy {said(own)}; with personas fixed in their seats this may be "
            "the persona, the seat or the place: give debates with rotated personas to tell them apart."
        )
    return sentences


run = agent_identity

if __name__ == "__main__":
    main(run, ASKS)
