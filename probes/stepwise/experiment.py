"""Does an organism that needs its debates keep its agents? `python -m probes.stepwise --model out/planted`

Models of several seeds that learnt the debates of `median` in three ways, from nothing (`interp plant`): `stepwise`
lost one turn after another until only the consensus was left, and each seed's controls learnt debates and direct
answers side by side, or direct answers alone. All know the questions that were trained. Asked of the others:

- how often a direct answer is right, and an answer after a debate that the model reads, or writes itself;
- whether each agent's answer can be swapped at the moment of answering, the prompt's last token: alignment search on
  trained questions, the layer chosen on validation questions, judged on test questions whose median changes. Beside it
  the same search with permuted agents (the answer of the next agent is to be taken) and on random weights, random
  subspaces of the same rank, and the subspace of the agent's class means. A model that answers wrongly obeys less,
  whatever it holds: shares among swaps whose two questions it answers right are compared as well;
- whether a linear probe reads each agent's answer there, fitted and judged on questions that no training saw, beyond
  random weights and the question alone.

Seeds are the unit of all verdicts: Student's t over the seeds' differences.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import lru_cache
from typing import get_args

from interp.debate.tasks.arithmetic import Split
from interp.debate.tasks.median import Median
from interp.errors import UserError
from interp.models.catalog import local_path, locate
from interp.models.random_weights import UNTRAINED, untrained
from interp.organism.pretraining import SETTINGS_FILE
from interp.probing.experiments import Outcome, Setting
from interp.storage.files import entries, read_json, scratch
from interp.storage.journal import Journal
from interp.storage.provenance import package_versions
from probes.known import Known
from probes.stepwise.finding import KINDS, Found
from probes.stepwise.organism import DRAWS, EACH, FOUND, RANK, SEARCH, WAYS, Organism, Record, question_alone
from probes.verdicts import judge

ASKS = "Does a model that needed debates until the end answer better, and are its agents inside as it answers?"
DEBATES = ("median",)
MODELS = ("out/planted",)
_MADE = entries(seed=int, kind=str)


def stepwise(setting: Setting) -> Outcome:
    """Compare what the three kinds answer and hold, seed by seed. Raises `UserError` as `organisms` and `Known`."""
    named = organisms(setting.models)
    known = questions(setting)
    places = [(seed, kind, k) for seed in named for kind in (*KINDS, UNTRAINED) for k in (0, *known["test"].agents)]
    hashes = {f"seed {seed}, {kind}": locate(n).sha256 for seed, by in named.items() for kind, n in by.items()}
    made_by: Record = {"models": hashes, "layers": setting.layers, "judged": known["test"].questions}
    made_by |= {"search": [RANK, SEARCH, EACH, DRAWS], "versions": package_versions()}
    record = _recording(setting, named, known)
    with ExitStack() as stack:
        folder = setting.activations or stack.enter_context(scratch())
        name = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
        journal = Journal(folder / f"{name}.jsonl", made_by)
        records = journal.extend(
            [],
            places,
            lambda rows: [record(*row) for row in rows],
            chunk=1,
            place=lambda row: dict(zip(("seed", "kind", "agent"), row, strict=True)),
            tell=lambda done, of: setting.progress("models and agents", done, of),
        )
        journal.finish({})
    outcome = concluded(Found(records, tuple(named), known["test"].agents))
    outcome.made_by = {
        "models": hashes,
        "seeds": list(named),
        "questions": {s: len(k.questions) for s, k in known.items()},
    }
    outcome.made_by |= {"versions": package_versions(), "created": datetime.now(UTC).isoformat("T", "seconds")}
    return outcome


def concluded(found: Found) -> Outcome:
    """What was found, with verdicts: a family for answers, one for swaps and one for probes."""
    outcome = Outcome("stepwise", ASKS)
    for fact in found.facts():
        if any(value is not None for value in fact["by_seed"]):  # random weights may answer no question right
            outcome.test(**fact)
    for family in (found.answers(), found.swaps(), found.decoded()):
        judge(outcome, family)
    outcome.finding.insert(0, found.summary(outcome))
    return outcome


def organisms(names: Sequence[str]) -> dict[int, dict[str, str]]:
    """The models of each kind, by seed: those given, and those in given folders of `interp plant`.

    Raises `UserError` for a model that says neither its seed nor its kind, and for a seed that lacks a kind.
    """
    found = dict[int, dict[str, str]]()
    for name in names:
        folder = local_path(name)
        inside = [] if (folder / "config.json").exists() else sorted(folder.glob(f"**/{SETTINGS_FILE}"))
        for path in inside or [folder / SETTINGS_FILE]:
            made = read_json(path, _MADE, "what an organism was made with", "interp plant")
            own = found.setdefault(made["seed"], {})
            if made["kind"] in KINDS and own.setdefault(made["kind"], str(path.parent)) != str(path.parent):
                raise UserError(
                    f"{path.parent}: seed {made['seed']} has another {made['kind']} model; give one of them"
                )
            if made["kind"] not in KINDS and not inside:
                raise UserError(f"{name}: of kind {made['kind']}; give organisms of the kinds {', '.join(KINDS)}")
    for seed, by_kind in found.items():
        if missing := [kind for kind in KINDS if kind not in by_kind]:
            raise UserError(
                f"seed {seed}: no {' or '.join(missing)} model among those given; make it with interp plant"
            )
    return {seed: {kind: found[seed][kind] for kind in KINDS} for seed in sorted(found)}


def questions(setting: Setting) -> dict[str, Known]:
    """The questions of each split; those that are judged are the debates'. Raises `UserError` for any not of `test`."""
    known = {split: Known(tuple(q.text for q in Median(split).every())) for split in get_args(Split)}
    judged = tuple(dict.fromkeys(debate.question for debate in setting.debates))
    if others := [question for question in judged if question not in known["test"].questions]:
        raise UserError(f"question {others[0][:60]!r}: not in the test split of median; give debates such as median")
    return known | {"test": Known(judged)}


def _recording(
    setting: Setting, named: Mapping[int, Mapping[str, str]], known: Mapping[str, Known]
) -> Callable[[int, str, int], Record]:
    """What makes the record of a seed, a kind and an agent (0: of the answers); it keeps one model in memory."""

    @lru_cache(maxsize=1)
    def organism(seed: int, kind: str) -> Organism:
        model = setting.load(named[seed].get(kind, named[seed][KINDS[0]]), **vars(setting.loading))
        model = untrained(model, seed) if kind == UNTRAINED else model
        layers = tuple(setting.layers or range(model.n_layers - 1))
        return Organism(model, known, tuple(model.chosen_layers(layers)), seed)

    def record(seed: int, kind: str, agent: int) -> Record:
        place, own = {"seed": seed, "kind": kind, "agent": agent}, organism(seed, kind)
        if not agent:
            return place | {"answers": own.answers()}
        ways = WAYS if kind != UNTRAINED else (FOUND,)
        alone = question_alone(own.held_out, agent, seed) if kind == UNTRAINED else {}
        return place | {way: own.swaps(agent, way) for way in ways} | {"probe": own.decoded(agent), "alone": alone}

    return record


run = stepwise
