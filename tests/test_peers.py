"""What `benchmarks.peers` compares; llama.cpp's part runs where INTERP_PEERS names its folder of environments."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import cosines, llama_cpp, prompts, texts
from interp.models.catalog import locate


def test_pairs_and_prompts() -> None:
    pairs = texts(64)
    assert len(set(pairs)) == 64
    assert all(positive.split()[-1] == negative.split()[-1] for positive, negative in pairs)
    assert len(set(prompts(32))) == 32


def test_cosines() -> None:
    ours = {"0": [1.0, 0.0], "1": [1.0, 1.0], "2": [1.0, 0.0]}
    theirs = {"0": [2.0, 0.0], "1": [1.0, -1.0], "2": [-1.0, 0.0]}
    np.testing.assert_allclose(cosines(ours, theirs, 2), [1, 0], atol=1e-12)


def test_llama_cpp_reads_an_export_and_steers_the_same_layer() -> None:
    python = Path(os.environ.get("INTERP_PEERS", "")) / "llama.cpp" / "bin" / "python"
    if not python.is_absolute() or not python.exists():
        pytest.skip(
            "no environment with llama.cpp; python -m benchmarks.peers makes one, and INTERP_PEERS names its folder"
        )
    found = llama_cpp(python, str(Path(locate("smollm2-135m").location)), 15)
    alike = found["cosine_of_change_by_our_layer"]
    assert found["cosine_unsteered"] > 0.999
    assert alike["15"] > 0.97
    assert max(alike[str(k)] for k in (13, 14, 16, 17)) < 0.93
