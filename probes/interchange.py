"""Agents swapped between questions: `python -m probes.interchange --model organism-planted --model organism-unplanted`

A model answers a question directly while the part of its residual stream that lies in agent k's subspace is taken from
its run on another question, at the prompt's last token. Does it say what the debate would have said, had agent k
answered as in the other question? Swaps after which it would have said something else show that the subspace holds the
agent's answer; swaps after which it would have said the same must leave the answer.

The subspaces are those given, or those planted in the first model; all models get the same ones. The controls are the
other agents' subspaces, random ones of the same rank from the covariance of the activations there, the other models,
and random weights. Several planted models can be given, each followed by its twins: each has its own subspaces, and its
own family of verdicts. Questions are those of `median`, whose debates are known in full; the embedded ones were in no
training of a planted model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from interp.directions.directions import Direction
from interp.directions.subspace_files import read_subspaces
from interp.errors import UserError
from interp.models.catalog import local_path
from interp.probing.experiments import Outcome, Setting
from interp.statistics import (
    all_of,
    difference_interval,
    difference_test,
    draws_needed,
    limit_test,
    mean_interval,
    rank_test,
)
from interp.training.planting import PLANTED_FILE
from probes.known import Answering, Known, basis_of
from probes.verdicts import Asked, judge

ASKS = "If agent k's subspace is swapped between questions, does the answer follow?"
DEBATES = ("median",)
MODELS = ("organism-planted", "organism-unplanted")
SOURCES = 4
"""Questions that each question's swaps are from."""
MAY_COST = 0.05
"""Share of the right answers that swaps may cost where the consensus stays."""

Shares = Float[np.ndarray, " question"]


@dataclass(frozen=True)
class Swapped:
    """What one model says after swaps of one agent's subspace, by question."""

    obeyed: Shares
    """Where the consensus changes: whether the answer is the one expected."""
    others: Mapping[int, Shares]
    """The same by other agent's subspace."""
    random: Float[np.ndarray, "draw question"]
    lost: Shares
    """Where the consensus stays, of questions that are answered rightly: the share that is not any more."""


def interchange(setting: Setting) -> Outcome:
    """Swap each agent's subspace in each model.

    Raises `UserError` without subspaces, for debates that are not of `median`, and as `Answering`.
    """
    outcome, groups = Outcome("interchange", ASKS), [setting.models] if setting.subspaces else by_truth(setting.models)
    known = Known(tuple(dict.fromkeys(debate.question for debate in setting.debates)))
    models = dict[str, object]()
    for run, group in enumerate(groups):
        here = replace(setting, models=group)
        subspaces = given(here)
        n_random = draws_needed(len(subspaces) * (len(group) + setting.untrained + 1))
        found = dict[str, dict[int, Swapped]]()
        for name, model in here.each_model():
            about = {"model": name, "run": run}
            models.setdefault(name, model.provenance)
            answering = Answering(model, known, next(iter(subspaces.values()))[0].hook_point)
            right = (answering.unchanged == known.consensus).astype(float)
            outcome.test("right answers at once", mean_interval(right), **about)
            found[name] = {}
            for place, k in enumerate(subspaces):
                setting.progress(f"swapping in {name}", place, len(subspaces))
                found[name][k] = swapped(answering, subspaces, k, n_random, setting.seeds[0])
                _keep(outcome, found[name][k], {**about, "agent": k, "rank": len(subspaces[k])})
            setting.progress(f"swapping in {name}", len(subspaces), len(subspaces))
        judge(outcome, list(claims(found, f" of {group[0]}" * (len(groups) > 1))))
    outcome.made_by = {"runs": [list(group) for group in groups], "models": models, "seeds": [setting.seeds[0]]}
    outcome.made_by |= {"questions": len(known.questions), "random subspaces": n_random}
    outcome.made_by |= {"subspaces": str(setting.subspaces or "planted")}
    return outcome


def truth_file(model: str) -> Path:
    """Where a model says what is planted in it."""
    return local_path(model) / PLANTED_FILE


def by_truth(models: Sequence[str]) -> list[tuple[str, ...]]:
    """Each planted model with the models that follow it. Raises `UserError` if their numbers differ."""
    groups = list[tuple[str, ...]]()
    for name in models:
        if not groups or truth_file(name).is_file():
            groups.append(())
        groups[-1] += (name,)
    if len(sizes := {len(group) for group in groups}) > 1:
        counts = " and ".join(map(str, sorted(sizes)))
        raise UserError(f"planted models are followed by other models in groups of {counts}; give each as many")
    return groups


def given(setting: Setting) -> dict[int, list[Direction]]:
    """The subspaces of the file given, or of that beside the first model."""
    path = Path(setting.subspaces) if setting.subspaces else truth_file(setting.models[0])
    if not path.is_file():
        raise UserError(f"model {setting.models[0]}: no {path.name} beside its weights; give subspaces (--subspaces)")
    return by_agent(path)


def by_agent(path: Path) -> dict[int, list[Direction]]:
    """The subspaces of `agent_1`, `agent_2` … by the agent's number. Raises `UserError` for other names."""
    known = read_subspaces(path)
    if strange := [name for name in known if not re.fullmatch("agent_[1-9]", name)]:
        raise UserError(f"{path}: a subspace named {strange[0]}; name them agent_1, agent_2 …")
    return {int(name.removeprefix("agent_")): directions for name, directions in known.items()}


def swapped(
    answering: Answering, subspaces: Mapping[int, Sequence[Direction]], agent: int, n_random: int, seed: int
) -> Swapped:
    """Swap the agent's answers, in its own subspace and in the controls'."""
    known = answering.known
    swaps, idle = (known.swaps(agent, seed, changed=changed, each=SOURCES) for changed in (True, False))
    bases = {k: basis_of(directions) for k, directions in subspaces.items()}

    def obeyed(basis: np.ndarray) -> Shares:
        return swaps.obeyed(answering.swapped(swaps, basis))

    right = idle.obeyed(answering.unchanged[idle.rows]) == 1
    lost = 1 - idle.obeyed(answering.swapped(idle, bases[agent]))
    return Swapped(
        obeyed(bases[agent]),
        {k: obeyed(basis) for k, basis in bases.items() if k != agent},
        np.stack([obeyed(basis) for basis in answering.random(len(bases[agent]), n_random, seed)]),
        lost[right],
    )


def _keep(outcome: Outcome, found: Swapped, about: Mapping[str, object]) -> None:
    n, idle = len(found.obeyed), len(found.lost)
    outcome.test("obeyed", mean_interval(found.obeyed), **about, questions=n)
    for k, shares in found.others.items():
        outcome.test("obeyed", mean_interval(shares), **about, questions=n, subspace=f"agent {k}")
    drawn = mean_interval(found.random.mean(axis=0))
    outcome.test("obeyed", drawn, **about, questions=n, subspace="random", best=float(found.random.mean(axis=1).max()))
    if idle:
        outcome.test("lost where the consensus stays", difference_interval(found.lost), **about, questions=idle)


def claims(found: Mapping[str, Mapping[int, Swapped]], whose: str = "") -> Iterator[Asked]:
    """Of the first model, that swaps work beyond all controls and cost nothing; of others, beyond random subspaces.

    `whose` says which model's subspaces the others get.
    """
    (first, own), *others = found.items()
    for k, of in own.items():
        tests = [rank_test("random subspaces", of.obeyed, of.random)]
        tests += [difference_test(f"agent {j}'s subspace", of.obeyed - shares) for j, shares in of.others.items()]
        tests += [difference_test(name, of.obeyed - theirs[k].obeyed) for name, theirs in others]
        rivals = f"random subspaces, other agents'{''.join(f', {name}' for name, _ in others)}"
        what = f"{first}: swaps of agent {k}'s subspace are obeyed beyond {rivals}"
        yield Asked(all_of(what, tests), 1 - float(of.random.mean()), _values(of))
    for k, of in own.items():
        if len(of.lost) < 2:
            continue
        what = f"{first}: swaps of agent {k}'s subspace cost less than {MAY_COST:.0%} where the consensus stays"
        yield Asked(limit_test(what, of.lost, MAY_COST), MAY_COST)
    for name, theirs in others:
        for k, of in theirs.items():
            what = f"{name}: swaps of agent {k}'s subspace{whose} are obeyed beyond random subspaces"
            test = rank_test(what, of.obeyed, of.random)
            yield Asked(test, 1 - float(of.random.mean()), _values(of))


def _values(found: Swapped) -> str:
    others = ", ".join(f"agent {k}'s {shares.mean():.2f}" for k, shares in found.others.items())
    random = f"random {found.random.mean():.2f}, at most {found.random.mean(axis=1).max():.2f}"
    return f"Obeyed: {mean_interval(found.obeyed)}; {others}; {random}."


run = interchange

if __name__ == "__main__":
    from probes.verb import main

    main("interchange")
