"""A pytest plugin: the names at hand in docstring examples."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
import interp.probing


@cache
def _organism() -> tuple[Any, Any, Any]:
    torch.set_num_threads(1)
    model, transcripts = interp.load_model("organism"), interp.find_transcripts("organism")
    return model, transcripts, interp.extract_directions(model, transcripts[:20]).directions


@pytest.fixture(autouse=True)
def _examples(request: pytest.FixtureRequest) -> None:
    """The names that every example may use; see CONTRIBUTING.md."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    names: dict[str, Any] = request.getfixturevalue("doctest_namespace")
    names["model"], names["transcripts"], names["found"] = _organism()
    directions = names["found"].vectors[0, :, 1]
    where = (names["found"].labels, 1, "blocks.1.hook_resid_post", 1.0)
    names["probe"] = interp.probing.Probe(directions, np.zeros(3), directions, *where)
    folder: Path = request.getfixturevalue("tmp_path")
    names |= {"interp": interp, "np": np, "torch": torch, "tmp_path": folder}


def calibrated() -> dict[str, Any]:
    """Cells of two kinds of data, one of which fails."""
    cells = [
        {"what": what, "function": "f", "measure": measure, "setting": {"questions": n}, "value": value, "holds": holds}
        for what, measure, n, value, holds in (
            ("right answers", "coverage", 10, 0.96, True),
            ("right answers", "coverage", 48, 0.7, False),
            ("a family", "false positives", 48, 0.04, True),
        )
    ]
    return {"cells": [cell | {"error": 0.01, "data_sets": 1000} for cell in cells]}


def stepwise_records(better: float, swaps: float, decoded: float) -> Any:
    """Records of five seeds in which the stepwise kind does so much better than its controls, give or take a little."""
    from interp.models.random_weights import UNTRAINED
    from probes.stepwise.finding import KINDS, Found
    from probes.stepwise.organism import ANSWERED, FOUND, WAYS

    rng, made = np.random.default_rng(0), list[dict[str, Any]]()
    for seed in range(5):
        for kind in (*KINDS, UNTRAINED):

            def value(base: float, more: float, own: bool = kind == KINDS[0]) -> float:
                return base + more * own + 0.002 * rng.standard_normal()

            place = {"seed": seed, "kind": kind}
            made.append({**place, "agent": 0, "answers": {what: value(0.5, better) for what in ANSWERED}})
            for k in (1, 2, 3):
                shares = {way: value(0.2, swaps * (way == FOUND)) for way in WAYS}
                ways = {way: {"obeyed": v, "obeyed of right": v, "layer": 1} for way, v in shares.items()}
                alone = {"operands": value(0.3, 0)} if kind == UNTRAINED else {}
                made.append({**place, "agent": k, **ways, "probe": {"decoded": value(0.3, decoded)}, "alone": alone})
    return Found(made, tuple(range(5)), (1, 2, 3))


def stepwise_found() -> dict[str, Any]:
    """What `probes.stepwise` writes."""
    from probes.stepwise.experiment import concluded

    outcome = concluded(stepwise_records(0.2, 0.2, 0.0))
    return {
        **{name: getattr(outcome, name) for name in ("experiment", "asks", "finding", "rows", "tests")},
        "verdicts": [verdict.record() for verdict in outcome.verdicts],
    }


def recovery_records(*runs: float) -> list[dict[str, Any]]:
    """Records of `probes.recovery`: in each run the share of a planted model's questions where what is found works."""
    from probes.recovery.uses import INTERCHANGE, READ, SUPPRESS, USES
    from probes.recovery.ways import PERMUTED, PLANTED, SEARCH

    rng, n, half = np.random.default_rng(0), 60, {"mean": 0.5, "low": 0.4, "high": 0.6}
    fates = dict.fromkeys(("the lie wins", "the honest answer", "lost where the lie decides nothing"), half)
    made = []
    for run, works in enumerate(runs):
        for model, way in product((f"seed-{run}/planted", "untrained"), (PLANTED, SEARCH, PERMUTED)):
            share = works if model != "untrained" and way != PERMUTED else 0.0
            used: dict[str, Any] = {}
            for use in USES if way != PERMUTED else (INTERCHANGE,):
                own = (rng.random(n) < share).astype(float).tolist()
                own[0] = None if use == SUPPRESS else own[0]
                used[use] = {"at": "blocks.1.hook_resid_post", "rank": 2, "coefficient": 1.0, "validation": {"2": 0.9}}
                used[use] |= {"by_agent": [own] * 3, "own": own}
                used[use] |= {"random_draws": [0.0001 * i for i in range(159)], "random_questions": [0.05] * n}
                if use == READ:
                    used[use]["question alone"] = {"operands": [0.1] * n}
                if use == SUPPRESS:
                    used[use]["of the lie"] = {"by": dict.fromkeys(("before", "silenced", "ideal", "+1"), fates)}
                    used[use]["of the lie"]["chosen"] = "+1"
            record = {"run": run, "seed": 0, "model": model, "way": way, "uses": used}
            made.append(record | ({"angles": {"1": [10.0, 20.0]}} if way == SEARCH else {}))
    return made


def recovery_found(*runs: float) -> dict[str, Any]:
    """What `probes.recovery` writes."""
    from interp.probing.experiments import Outcome
    from probes.recovery.finding import conclude

    outcome = Outcome("recovery", "What finds them?")
    conclude(outcome, recovery_records(*runs))
    return {
        **{name: getattr(outcome, name) for name in ("experiment", "asks", "finding", "rows", "tests")},
        "verdicts": [verdict.record() for verdict in outcome.verdicts],
    }
