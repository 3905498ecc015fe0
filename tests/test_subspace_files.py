from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from interp.directions.directions import Direction
from interp.directions.subspace_files import read_subspaces, write_subspaces
from interp.errors import UserError
from interp.storage.arrays import write_arrays

HERE = "blocks.2.hook_resid_post"


def basis(rank: int, seed: int = 0, hook_point: str = HERE, norm: float = 3.5) -> list[Direction]:
    rows = np.linalg.qr(np.random.default_rng(seed).standard_normal((12, rank)))[0].T.astype(np.float32)
    return [Direction(row, f"row {k}", int(hook_point.split(".")[1]), hook_point, norm) for k, row in enumerate(rows)]


def test_what_is_written_comes_back_and_says_where_it_lies(tmp_path: Path) -> None:
    given = {"agent_1": basis(3), "agent_2": basis(1, seed=1)}
    write_subspaces(tmp_path / "a.safetensors", given, provenance={"model": {"name": "organism"}, "seed": 4})
    found = read_subspaces(tmp_path / "a.safetensors")
    assert list(found) == ["agent_1", "agent_2"]
    for name, each in given.items():
        assert np.array_equal([d.vector for d in each], [d.vector for d in found[name]])
        assert {(d.layer, d.hook_point, d.residual_norm) for d in found[name]} == {(2, HERE, 3.5)}
    arrays = load_file(tmp_path / "a.safetensors")
    assert {name: (a.shape, a.dtype) for name, a in arrays.items()} == {
        "agent_1": ((3, 12), np.float32),
        "agent_2": ((1, 12), np.float32),
    }
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "format": "interp.subspaces/1",
        "ranks": {"agent_1": 3, "agent_2": 1},
        "layer": 2,
        "hook_point": HERE,
        "position": "answer",
        "residual_norm": 3.5,
        "model": {"name": "organism"},
        "provenance": {"seed": 4},
    }


def test_without_a_known_length_it_stays_unknown(tmp_path: Path) -> None:
    write_subspaces(tmp_path / "a.safetensors", {"agent_1": basis(2, norm=float("nan"))})
    assert all(np.isnan(d.residual_norm) for d in read_subspaces(tmp_path / "a.safetensors")["agent_1"])


def test_what_is_no_file_of_subspaces_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "a.safetensors", basis(2, hook_point="blocks.1.hook_resid_post")
    skewed = [replace(d, vector=d.vector * np.float32(1.01)) for d in basis(2)]
    not_numbers = [replace(d, vector=d.vector * np.float32("nan")) for d in basis(1)]
    wrong = [
        (path, {}, "subspaces at no hook point"),
        (path, {"agent_1": []}, "subspaces at no hook point"),
        (path, {"agent_1": basis(1), "agent_2": elsewhere}, "one hook point"),
        (path, {"agent_1": skewed}, "rows of agent_1 are not orthonormal"),
        (path, {"agent_1": not_numbers}, "rows of agent_1 are not orthonormal"),
        (tmp_path / "a.json", {"agent_1": basis(1)}, "ends in .safetensors"),
    ]
    for where, given, message in wrong:
        with pytest.raises(UserError, match=message):
            write_subspaces(where, given)
    assert os.listdir(tmp_path) == []
    with pytest.raises(UserError, match="no such file; make it with"):
        read_subspaces(path)


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_subspaces(path, {"agent_1": basis(2), "agent_2": basis(1, seed=1)})
    about, arrays = json.loads((tmp_path / "a.json").read_text()), load_file(path)
    changes = [
        ({}, {"agent_1": arrays["agent_1"] * 2}, "rows of agent_1 are not orthonormal"),
        ({}, {"agent_2": arrays["agent_2"][:, :5] / np.linalg.norm(arrays["agent_2"][:, :5])}, "agent_2 is float32"),
        ({"ranks": {"agent_1": 2}}, {}, "holds agent_1, agent_2, not agent_1"),
        ({"ranks": {"agent_1": 0, "agent_2": 1}}, {}, "ranks.agent_1"),
        ({"layer": 1}, {}, "is no hook point of layer 1"),
        ({"hook_point": "blocks.2.hook_nowhere"}, {}, "is no hook point of layer 2"),
        ({"format": "interp.probe/1"}, {}, "format"),
    ]
    for said, held, message in changes:
        write_arrays(path, {**about, **said}, {**arrays, **held})
        with pytest.raises(UserError, match=message) as raised:
            read_subspaces(path)
        assert str(raised.value).count("\n") == 0
