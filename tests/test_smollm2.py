"""One look at the real model: the preset loads, has its shape, and its agents separate."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from interp.checkpoints import locate
from interp.debate.embedded import read_embedded
from interp.errors import UserError
from interp.extraction import extract_directions
from interp.models import load_model


@pytest.fixture
def all_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("all_threads")
def test_directions_out_of_a_real_model() -> None:
    try:
        locate("smollm2-135m")
    except UserError as error:
        pytest.skip(f"the model cannot be had here: {error}")
    model = load_model("smollm2-135m", dtype="bf16")
    assert (model.n_layers, model.d_model, model.context_length) == (30, 576, 8192)
    found = extract_directions(model, read_embedded("scripted")[:10], layers=(0, 16), position="mean")
    evidence = found.directions.facts["evidence"]["all"]
    separation, shuffled = (np.array(evidence[name]["mean"]) for name in ("separation", "separation_shuffled"))
    assert separation[:, 1].min() > 0.8  # whole turns in three styles are easy to tell apart
    assert abs(shuffled - 0.5).max() < 0.2
