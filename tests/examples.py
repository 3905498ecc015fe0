"""A pytest plugin: the names at hand in docstring examples."""

from __future__ import annotations

from functools import cache
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
