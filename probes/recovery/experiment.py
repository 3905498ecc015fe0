"""The recovery table: `python -m probes.recovery --model organism-planted --model organism-unplanted`

Every way of finding an agent's subspace and every use of it, on models in which the truth is known: one in which each
agent's answer was planted in a known subspace, its twin in which nothing was, and random weights. This is what the
instrument can see.

What is fitted is fitted on training questions; ranks and coefficients are chosen on validation questions, each the
smallest within 0.05 of the best; verdicts are about the questions of the debates given, which neither saw. Every use is
measured beside random subspaces of the same rank from the covariance of the activations, alignment search also beside
the same search for swaps in which the agent would take another agent's answer. One family of verdicts is that of all
ways to one use in one model; over several runs, what is shown in each of them counts as shown.

Directions read while a model reads debates are used while it answers at once, as in the paper: the planted model tells
whether they can transfer. Of the checks in arXiv 2311.17030 these are made: random weights, permuted agents, held-out
swaps, and parts of what is found swapped alone: that which later layers read, and those near to and far from the truth.

Several planted models can be given, each followed by its twins; each has its own truth beside its weights. Without one,
there are no angles, and the layer is chosen, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.debate.tasks.median import LIAR, SILENT, Median
from interp.debate.transcript import fingerprint
from interp.directions.directions import Direction
from interp.directions.subspace_files import read_subspaces, write_subspaces
from interp.models.catalog import locate
from interp.models.random_weights import UNTRAINED, untrained
from interp.probing.experiments import Outcome, Setting
from interp.statistics import draws_needed, mean_interval
from interp.storage.files import scratch
from interp.storage.journal import Journal
from interp.storage.provenance import package_versions
from probes.interchange import by_agent, by_truth, truth_file
from probes.known import Basis, Known, basis_of
from probes.readable import readable
from probes.recovery.finding import conclude
from probes.recovery.uses import (
    ADD,
    ALONG,
    COEFFICIENTS,
    INTERCHANGE,
    LOST,
    READ,
    SUPPRESS,
    USES,
    WINS,
    Uses,
    listed,
    over,
    share,
)
from probes.recovery.ways import (
    PERMUTED,
    PLANTED,
    RANKS,
    SEARCH,
    STEPS,
    WAYS,
    Found,
    Material,
    Split,
    angles_between,
    directions,
    find,
    learnt,
)

ASKS = "Where it is known that and where agents are inside, what finds them, and what can be done with what is found?"
DEBATES = ("median",)
MODELS = ("organism-planted", "organism-unplanted")
CLOSE = 0.05
"""How close to the best a smaller rank, or a smaller coefficient, must come to be taken."""
SOURCES = 3
"""Swaps of each test question."""
ELSEWHERE = 8
"""The rank of searches at other layers, and of those that searches are compared with."""
N_ANGLES, N_GRADIENTS, NEAR = 20, 256, 30
N_RANDOM = draws_needed(len(WAYS))
MAY_COST = 0.05
"""Share of the answers that moving along the liar's direction may cost where the lie decides nothing."""


@dataclass(frozen=True)
class Run:
    """A planted model, the others that are compared with it, and a seed."""

    models: tuple[str, ...]
    seed: int

    @property
    def truth(self) -> dict[int, list[Direction]]:
        """What is planted in the first model, by agent; nothing if it does not say."""
        path = truth_file(self.models[0])
        return by_agent(path) if path.is_file() else {}


@dataclass(frozen=True)
class Job:
    """One search, or everything about one way in one model: a record of the journal."""

    run: int
    model: str
    way: str
    rank: int | None = None
    """Of a search, which is judged later; None for the judgement."""
    hook_point: str | None = None

    @property
    def name(self) -> str:
        """The name of the file that keeps what a search found."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16] + ".safetensors"


def bases(path: Path) -> Found:
    """The subspaces of a file by agent."""
    return {k: basis_of(of) for k, of in by_agent(path).items()}


def recovery(setting: Setting) -> Outcome:
    """Find agents' subspaces in every way and put them to every use. Raises `UserError` as `Known` and `Answering`."""
    outcome, each = Outcome("recovery", ASKS), runs(setting)
    workshop = Workshop(setting, each)
    jobs = list(workshop.jobs())
    outcome.made_by = workshop.made_by
    with scratch() as folder:
        workshop.folder = setting.activations or folder
        name = hashlib.sha256(json.dumps(workshop.made_by).encode()).hexdigest()[:16]
        journal, records = Journal(workshop.folder / f"{name}.jsonl", workshop.made_by), list[dict[str, Any]]()

        def tell(done: int, total: int) -> None:
            setting.progress("finding and using subspaces", done, total)

        journal.extend(records, jobs, lambda some: list(map(workshop.work, some)), chunk=1, place=asdict, tell=tell)
        journal.finish({})
        for job, record in zip(jobs, records, strict=True):
            if job.way == SEARCH and job.rank is None:
                used = record["uses"][INTERCHANGE]
                path = workshop.folder / replace(job, rank=used["rank"], hook_point=used["at"]).name
                outcome.found[f"{job.run}-{Path(job.model).name}-alignment-search"] = read_subspaces(path)
                record["parts"] = parts(workshop.material(job.run, job.model), used["at"], bases(path))
            if job.way == PERMUTED and job.rank is None and each[job.run].truth:
                at = record["uses"][INTERCHANGE]["at"]
                record["known"] = listed(next_agents(workshop.material(job.run, job.model), at))
    outcome.made_by |= {"versions": package_versions(), "created": datetime.now(UTC).isoformat("T", "seconds")}
    conclude(outcome, [record for record in records if "uses" in record])
    return outcome


def runs(setting: Setting) -> list[Run]:
    """Each planted model begins a run, which its twins follow, once for each seed."""
    return [Run(group, seed) for group in by_truth(setting.models) for seed in setting.seeds]


class Workshop:
    """Does the jobs of a setting, with one model in memory at a time."""

    def __init__(self, setting: Setting, each: Sequence[Run]) -> None:
        self.setting, self.runs, self.folder = setting, each, Path()
        test = tuple(dict.fromkeys(debate.question for debate in setting.debates))
        fitting: tuple[Split, ...] = ("train", "validation")
        splits = {split: [question.text for question in Median(split).every()] for split in fitting}
        self.known: dict[Split, Known] = {"test": Known(test)}
        self.known |= {split: Known(tuple(q for q in every if q not in set(test))) for split, every in splits.items()}
        hashes = {name: locate(name).sha256 for run in each for name in run.models}
        self.made_by: dict[str, Any] = {
            "runs": [asdict(run) for run in each],
            "models": hashes,
            "layers": setting.layers,
        }
        self.made_by |= {"transcripts": {"sha256": fingerprint(setting.debates), "n": len(test)}}
        self.made_by |= {"ranks": list(RANKS), "steps": STEPS, "random subspaces": N_RANDOM}
        self._material: tuple[tuple[int, str], Material] | None = None

    def jobs(self) -> Iterator[Job]:
        """All searches in a model, then all its ways; in the first also searches at the other layers."""
        for number, run in enumerate(self.runs):
            for name in (*run.models, *(UNTRAINED,) * self.setting.untrained):
                here = self.hook_points(number)
                for way in (SEARCH, PERMUTED):
                    ranks = self.ranks(number, name, way)
                    yield from (Job(number, name, way, rank, hook_point) for hook_point in here for rank in ranks)
                if name == run.models[0]:
                    others = [at for at in self.layers(number) if at not in here]
                    yield from (Job(number, name, SEARCH, ELSEWHERE, hook_point) for hook_point in others)
                yield from (Job(number, name, way) for way in WAYS if way != PLANTED or run.truth)

    def ranks(self, number: int, name: str, way: str) -> tuple[int, ...]:
        """The ranks of searches: several where the truth lies, one in what they are compared with."""
        return RANKS if way == SEARCH and name == self.runs[number].models[0] else (ELSEWHERE,)

    def layers(self, number: int) -> list[str]:
        """The hook points that are looked at."""
        model = self.material(number, self.runs[number].models[0]).model
        return [model.hook_name("resid_post", layer) for layer in model.chosen_layers(self.setting.layers)]

    def hook_points(self, number: int) -> list[str]:
        """Where subspaces are found and used: where the truth lies, or at every layer."""
        truth = self.runs[number].truth
        return [next(iter(truth.values()))[0].hook_point] if truth else self.layers(number)

    def material(self, number: int, name: str) -> Material:
        """A model with its questions; the last one is kept."""
        if self._material is None or self._material[0] != (number, name):
            run = self.runs[number]
            model = self.setting.load(run.models[0] if name == UNTRAINED else name, **vars(self.setting.loading))
            model = untrained(model, run.seed) if name == UNTRAINED else model
            truth = bases(truth_file(run.models[0])) if run.truth else {}
            self._material = (number, name), Material(model, self.known, truth, run.seed)
        return self._material[1]

    def work(self, job: Job) -> dict[str, Any]:
        """Do a job, and say what came out."""
        material = self.material(job.run, job.model)
        record = asdict(job) | {"seed": self.runs[job.run].seed}
        if job.rank is not None:
            assert job.hook_point is not None
            [found] = find(material, job.way, job.hook_point, job.rank).values()
            self.keep(job, found)
            uses = Uses(material, job.hook_point, "validation")
            return record | {"validation": share(uses.measured(INTERCHANGE, found, permuted=job.way == PERMUTED))}
        return record | Judged(self, material, job).record()

    def keep(self, job: Job, found: Found) -> None:
        """Write what a search found, for the judgement and for a resumed run."""
        named = {f"agent_{k}": directions(basis, str(job.hook_point), k) for k, basis in found.items()}
        about = {"model": {"name": job.model}, "way": job.way, "seed": self.runs[job.run].seed}
        write_subspaces(self.folder / job.name, named, provenance=about)

    def found(self, job: Job, material: Material, hook_point: str) -> dict[int, Found]:
        """What the way of a job found at a hook point, by rank; of a search, what it kept."""
        if job.way not in (SEARCH, PERMUTED):
            return find(material, job.way, hook_point)
        ranks = self.ranks(job.run, job.model, job.way)
        return {r: bases(self.folder / replace(job, rank=r, hook_point=hook_point).name) for r in ranks}

    def elsewhere(self, job: Job, material: Material, hook_point: str) -> list[Found]:
        """What the way found at another layer, if it looked there."""
        if job.way != SEARCH:
            return list(find(material, job.way, hook_point).values())
        path = self.folder / replace(job, rank=ELSEWHERE, hook_point=hook_point).name
        return [bases(path)] if path.is_file() else []


@dataclass(frozen=True)
class Choice:
    """What is chosen on validation questions."""

    at: str
    rank: int
    coefficient: float = 1.0


class Judged:
    """One way in one model: what is chosen for each use, and what comes of it on the test questions."""

    def __init__(self, workshop: Workshop, material: Material, job: Job) -> None:
        self.workshop, self.material, self.job, self.permuted = workshop, material, job, job.way == PERMUTED
        self.found = {at: workshop.found(job, material, at) for at in workshop.hook_points(job.run)}
        self.others = [at for at in workshop.layers(job.run) if at not in self.found]
        self.n_random = N_RANDOM

    def uses(self, split: Split, at: str) -> Uses:
        key = split, at
        if key not in self.material.uses:
            self.material.uses[key] = Uses(self.material, at, split, SOURCES if split == "test" else 1)
        return self.material.uses[key]

    def record(self) -> dict[str, Any]:
        made = {use: self.used(use) for use in (USES if not self.permuted else (INTERCHANGE,))}
        return {"uses": made} | self.angles(made[INTERCHANGE]) | self.elsewhere()

    def chosen(self, use: str) -> tuple[Choice, dict[str, float]]:
        """The smallest rank and coefficient within `CLOSE` of the best, and the best of each rank."""
        tried = dict[Choice, float]()
        for at, by_rank in self.found.items():
            for rank, found in by_rank.items():
                for coefficient in COEFFICIENTS if use == ADD else (1.0,):
                    measured = self.uses("validation", at).measured(use, found, coefficient, permuted=self.permuted)
                    tried[Choice(at, rank, coefficient)] = share(measured)
        best = max(tried.values())
        close = [choice for choice, value in tried.items() if value >= best - CLOSE]
        ranks = sorted({choice.rank for choice in tried})
        of_ranks = {str(rank): max(v for c, v in tried.items() if c.rank == rank) for rank in ranks}
        return min(close, key=lambda c: (c.rank, c.coefficient)), of_ranks

    def used(self, use: str) -> dict[str, Any]:
        """One use at its choice: by question, beside random subspaces."""
        choice, by_rank = self.chosen(use)
        uses, found = self.uses("test", choice.at), self.found[choice.at][choice.rank]
        own = uses.measured(use, found, choice.coefficient, permuted=self.permuted)
        random = uses.drawn(use, choice.rank, self.n_random, choice.coefficient, self.permuted)
        made = {
            **asdict(choice),
            "validation": by_rank,
            "by_agent": [listed(of) for of in own],
            "own": listed(over(own)),
        }
        made |= {"random_draws": listed(np.nanmean(random, axis=1)), "random_questions": listed(random.mean(axis=0))}
        if use == READ:
            made["question alone"] = {what: listed(over(of)) for what, of in uses.from_question.items()}
        if use == SUPPRESS:
            made["of the lie"] = self.of_the_lie(choice.at, found[LIAR])
        return made

    def of_the_lie(self, at: str, basis: Basis) -> dict[str, Any]:
        """What becomes of the lie: untouched, silenced, ideally, and moved along the subspace's first direction."""
        test, validation = self.uses("test", at), self.uses("validation", at)
        ideal = test.known.replaced(np.arange(len(test.known.questions)), LIAR, SILENT)
        tried = {c: validation.of_lie(validation.moved(basis[0], c)) for c in ALONG}
        cheap = {c: of[WINS].mean() for c, of in tried.items() if of[LOST].sum() <= MAY_COST * len(of[LOST])}
        made = {"before": test.answering.unchanged, "silenced": test.silenced(basis), "ideal": ideal}
        made |= {f"{c:+g}": test.moved(basis[0], c) for c in ALONG}
        facts = {how: test.of_lie(said) for how, said in made.items()}
        known = {how: {what: mean_interval(v).record() for what, v in of.items()} for how, of in facts.items()}
        return {"by": known, "chosen": f"{min(cheap, key=cheap.__getitem__):+g}" if cheap else None}

    def angles(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """The principal angles between what is found, and swapped best, and the truth, by agent."""
        found, truth = self.found[choice["at"]][choice["rank"]], self.material.truth
        made: dict[str, Any] = {}
        if truth and self.job.way != PLANTED:
            made["angles"] = {k: angles_between(found[k], truth[k]) for k in truth}
            drawn = list(self.uses("test", choice["at"]).answering.random(choice["rank"], N_ANGLES, self.material.seed))
            made["random angles"] = {
                k: np.mean([angles_between(basis, truth[k]) for basis in drawn], axis=0).tolist() for k in truth
            }
        return made

    def elsewhere(self) -> dict[str, Any]:
        """The best share of validation swaps obeyed at each other layer that was searched."""
        made = {}
        for at in self.others if self.job.way not in (PLANTED, PERMUTED) else ():
            found = self.workshop.elsewhere(self.job, self.material, at)
            uses = self.uses("validation", at)
            if found:
                made[at] = max(share(uses.measured(INTERCHANGE, each)) for each in found)
        return {"elsewhere": made}


def parts(material: Material, at: str, found: Found) -> dict[str, Any]:
    """What parts of a found subspace do when swapped alone: that which later layers read, by gradients; and, of its
    principal vectors to the truth, those within `NEAR` degrees and the others.
    """
    split: dict[str, Found] = {"read": {k: read_part(material, at, k, basis) for k, basis in found.items()}}
    for k, truth in material.truth.items():
        rows, cosines, _ = np.linalg.svd(found[k] @ truth.T)
        near = int((cosines >= np.cos(np.radians(NEAR))).sum())
        for what, some in (("near", rows.T[:near]), ("far", rows.T[near:])):
            split[what] = {**split.get(what, {}), k: some @ found[k]}
    uses, made = Uses(material, at, "test", SOURCES), dict[str, Any]()
    for what, each in split.items():
        own = over(uses.measured(INTERCHANGE, each))
        ranks = {k: len(basis) for k, basis in each.items()}
        made[what] = {"ranks": ranks, "value": asdict(mean_interval(own[~np.isnan(own)]))}
    return made


def next_agents(material: Material, at: str) -> Float[np.ndarray, " question"]:
    """How far swapping the next agent's planted subspace goes in swaps in which an agent is to take its answer."""
    agents = list(material.truth)
    shifted = dict(zip(agents, [material.truth[k] for k in (*agents[1:], agents[0])], strict=True))
    return over(Uses(material, at, "test", SOURCES).measured(INTERCHANGE, shifted, permuted=True))


def read_part(material: Material, at: str, agent: int, basis: Basis) -> Basis:
    swaps = learnt(material.known["train"], agent, material.seed, permuted=False)[:N_GRADIENTS]
    return basis_of(readable(material.model, swaps, directions(basis, at, agent)))


run = recovery
