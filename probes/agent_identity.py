"""Which agent is speaking? `python -m probes.agent_identity --model … --transcripts organism-rotated --out …`

Read at the last token of each turn. If personas keep their seats, then seat, persona and place in the round are the
same, and the finding says so. If they rotate, the persona is predicted in a seat where the probe never saw it, the
seat under a persona never seen there, and the seat in another round. The subspaces of seat, persona and round are
fitted together, with their dimensions, shares of variance and angles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product

import numpy as np
from joblib import delayed

from interp.directions.subspaces import Factors, Subspace, principal_angles, within_question
from interp.models.model import Model
from interp.probing.decoding import Layers, ProbeRow, in_parallel
from interp.probing.experiments import CHOSEN, Found, Outcome, Setting, Target, Turns, survey
from interp.probing.fitting import HeldOut, ProbeExamples, at_chosen_layer, erasure, held_out, linear
from interp.probing.scores import measure
from interp.statistics import deal
from probes.angles import angle_range, compare_subspaces, random_angles, spread_subspace
from probes.factors import factor_subspace, whole_subspace
from probes.verdicts import Asked, beyond_text, judge

ASKS = "Which agent is speaking: its seat, its persona, or its place in the transcript?"
DEBATES = ("organism-rotated",)


def agent_identity(setting: Setting) -> Outcome:
    """Decode seat, persona and place from turns, and split them where the personas rotate."""
    outcome = Outcome("agent_identity", ASKS)
    base: dict[tuple[int, str], Subspace] = {}

    def also(name: str, _: Model, turns: Turns, values: Mapping[str, Layers], __: Found) -> None:
        for seed in setting.seeds:
            _transfers(outcome, name, turns, values["last"], seed, setting.jobs)
        _subspaces(outcome, name, turns, values["last"], base, setting.seeds[0])

    found = survey(setting, outcome, targets, also=also)
    chances = {}
    for (_, target, _, _), decoded in found.items():
        labels = decoded.examples.labels
        chances[target] = float(np.bincount(labels).max() / len(labels))  # of the commonest class
    judge(outcome, _asked(outcome, setting.models, chances))
    if "persona" not in chances:
        outcome.finding.append(
            "With personas fixed in their seats, what is read may be the persona, the seat or the place: give debates "
            "with rotated personas to tell them apart."
        )
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


def _transfers(outcome: Outcome, model: str, turns: Turns, layers: Layers, seed: int, jobs: int | None) -> None:
    """Probes tested on a seat, persona or round that they were not fitted on."""
    table = turns.table
    wanted = []
    if rotates(turns):
        wanted = [("persona", "seat", np.asarray(table.agent)), ("seat", "persona", np.array(table.persona))]
    if len(np.unique(table.round)) > 1:
        wanted.append(("seat", "round", np.asarray(table.round)))
    by_name = {target.name: target for target in targets(turns)}
    for name, new, levels in wanted:
        examples = by_name[name].examples
        calls = [delayed(across)(values, examples, levels, seed) for values in layers.values()]
        held = in_parallel(calls, sum(values.size for values in layers.values()) * len(np.unique(levels)), jobs)
        rows = [("probe", layer, prediction) for layer, prediction in zip(layers, held, strict=True)]
        for kind, layer, prediction in (*rows, (CHOSEN, None, at_chosen_layer(held)[0])):
            row = ProbeRow(f"{kind}, new {new}", layer, measure(prediction, examples))
            outcome.add_row(model, by_name[name], seed, row)


def across(values: np.ndarray, examples: ProbeExamples, levels: np.ndarray, seed: int) -> HeldOut:
    """Predict the examples of each level by probes fitted on the other levels and on other questions."""
    predicted, merit = np.zeros((len(examples), len(examples.classes))), []
    for level in np.unique(levels):
        held = held_out(linear(False), values, examples, seed, fitted_on=levels != level)
        predicted[levels == level] = held.predicted[levels == level]
        merit.append(held.merit)
    return HeldOut(predicted, held.fold, np.mean(merit, axis=0))


def _subspaces(
    outcome: Outcome, model: str, turns: Turns, layers: Layers, base: dict[tuple[int, str], Subspace], seed: int
) -> None:
    """Each factor's subspace at each layer, its angles, and what a probe reads after its erasure.

    Angles to the other factors, to the layer before, between rounds, and to the same factor in the first model, which
    `base` keeps; each with random and shuffled controls.
    """
    table = turns.table
    levels = {"seat": np.unique(table.agent, return_inverse=True)[1]}
    if rotates(turns):
        levels["persona"] = np.unique(np.array(table.persona), return_inverse=True)[1]
    if len(np.unique(table.round)) > 1:
        levels["round"] = np.unique(table.round, return_inverse=True)[1]
    question, before = table.question, dict[str, Subspace]()
    first_model, half = not base, deal(question, 2, seed) == 0
    for layer, values in layers.items():
        found = {name: factor_subspace(values, levels, name, question, seed=seed) for name in levels}
        for name, factor in found.items():
            own = factor.subspace
            to: dict[str, tuple[Subspace, str]] = {
                f"the {other}": (found[other].subspace, other) for other in levels if other != name
            }
            to |= {
                f"the {name} in the layer before": (before.get(name, own.first(0)), name),
                f"the {name} in the first model": (own.first(0) if first_model else base[layer, name], name),
            }
            angles = {
                where: asdict(compare_subspaces(theirs, own, values, levels[name], question, n=20, seed=seed))
                for where, (theirs, _) in to.items()
                if own.dimension and theirs.dimension
            }
            examples = ProbeExamples(levels[name], question, tuple(map(str, np.unique(levels[name]))))
            left = measure(held_out(linear(False), values, examples, seed, front=erasure), examples)
            outcome.subspaces.append(
                {
                    "model": model,
                    "layer": layer,
                    "factor": name,
                    "dimension": own.dimension,
                    "gains": list(factor.gains),
                    "p": factor.p,
                    "share_of_variance": factor.share_of_variance,
                    "angles": angles,
                    "angles_of_halves": _parts(values, levels, name, question, half, own.dimension),
                    "angles_of_rounds": _parts(values, levels, name, question, table.round == 1, own.dimension),
                    "after_erasure": {name: asdict(value.interval) for name, value in left.items()},
                }
            )
        before = {name: factor.subspace for name, factor in found.items()}
        if first_model:
            base |= {(layer, name): subspace for name, subspace in before.items()}
        outcome.subspaces.append(_spreads(model, layer, values, turns, seed))


def _parts(
    values: np.ndarray, levels: Factors, name: str, question: np.ndarray, part: np.ndarray, dimension: int
) -> list[float]:
    """The angles between a factor's subspaces in two parts of the turns; none if a part lacks a level."""
    halves = []
    for rows in (part, ~part):
        here = {n: x[rows] for n, x in levels.items() if len(np.unique(x[rows])) > 1}
        if name not in here or any(here[n].max() != levels[n].max() for n in here):
            return []
        halves.append(whole_subspace(values[rows], here, name, question[rows]).first(dimension))
    return [round(float(angle), 2) for angle in principal_angles(*halves)]


def _spreads(model: str, layer: int, values: np.ndarray, turns: Turns, seed: int) -> dict[str, object]:
    """How each agent's turns spread, and the angles between agents, with those to random subspaces."""
    table = turns.table
    centred = within_question(values, table.question)
    spreads = {
        f"agent {k}": spread_subspace(centred[table.agent == k], table.question[table.agent == k], seed=seed)
        for k in np.unique(table.agent)
    }
    names = list(spreads)
    angles = {}
    for i, first in enumerate(names):
        for second in names[:i]:
            found = principal_angles(spreads[second], spreads[first])
            chance = random_angles(spreads[second], spreads[first].dimension, centred, 20, seed)
            angles[f"{second}, {first}"] = {"angles": found.round(2).tolist(), "random": angle_range(chance)}
    return {
        "model": model,
        "layer": layer,
        "factor": "spread of each agent's turns",
        "dimensions": {name: spread.dimension for name, spread in spreads.items()},
        "angles": angles,
    }


def _asked(outcome: Outcome, models: Sequence[str], chances: Mapping[str, float]) -> list[Asked]:
    """Whether each target is read beyond the text, and better than by chance where the probe was not fitted."""
    asked = beyond_text(outcome, models, tuple(chances), "accuracy")
    for (target, new), model in product((("seat", "persona"), ("persona", "seat"), ("seat", "round")), models):
        moved = outcome.measured("accuracy", kind=f"{CHOSEN}, new {new}", model=model, target=target)
        if moved is not None:
            chance = chances[target]
            test = (moved - chance).test(f"{model}: the {target} is read in a {new} that the probe never saw")
            asked.append(Asked(test, 1 - chance, f"Accuracy: {moved.interval}; chance {chance:.2f}."))
    return asked


run = agent_identity

if __name__ == "__main__":
    from probes.verb import main

    main("agent_identity")
