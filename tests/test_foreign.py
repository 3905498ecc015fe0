"""Other tools' vectors, read and written: what each file is taken for, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from benchmarks.first_hour import as_repeng
from interp.directions.directions import Directions, made_on, require_made_on
from interp.directions.extract import measured
from interp.errors import UserError
from interp.models.model import Model
from interp.steering.steering import add
from interp.storage.files import write_json

RNG = np.random.default_rng(0)
VECTORS = {layer: RNG.standard_normal(8).astype(np.float32) for layer in (1, 2, 4)}
TENSORS = {layer: torch.from_numpy(vector) for layer, vector in VECTORS.items()}
ROWS = torch.stack([torch.full((8,), float(i)) for i in range(4)])


def saved(path: Path, content: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return path


def by_layer(path: Path, form: str, metadata: dict[str, str] | None = None) -> Path:
    save_file({form.format(layer): vector for layer, vector in VECTORS.items()}, path, metadata)
    return path


def profile(path: Path) -> Path:
    """As saklas writes it."""
    write_json(path.with_suffix(".json"), {"format_version": 1, "saklas_version": "5.3.0", "method": "merge"})
    return by_layer(path, "layer_{}")


def held(directions: Directions) -> dict[int, np.ndarray]:
    assert len(directions.labels) == 1
    return {d.layer: d.vector for d in directions[directions.labels[0]]}


def same(found: dict[int, np.ndarray], expected: dict[int, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for layer, vector in expected.items():
        assert found[layer].tobytes() == vector.tobytes()


KNOWN: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "repeng": (lambda at: as_repeng(at / "v.gguf", VECTORS), "v", "a GGUF control vector"),
    "steering-vectors": (lambda at: saved(at / "v.pt", TENSORS), "v", "vectors by layer (steering-vectors"),
    "its fields": (
        lambda at: saved(at / "v.pth", {"layer_activations": TENSORS, "layer_type": "decoder_block"}),
        "v",
        "a SteeringVector",
    ),
    "repeng's arrays": (lambda at: saved(at / "v.pt", VECTORS), "v", "vectors by layer"),
    "repeng's fields": (lambda at: saved(at / "v.pt", {"model_type": "llama", "directions": VECTORS}), "v", "vectors"),
    "saklas": (lambda at: profile(at / "v.safetensors"), "v", "a saklas profile"),
    "direction.N": (lambda at: by_layer(at / "v.safetensors", "direction.{}"), "v", "safetensors by layer"),
    "modules": (lambda at: by_layer(at / "v.safetensors", "model.layers.{}"), "v", "safetensors by layer"),
    "hook points": (lambda at: by_layer(at / "v.safetensors", "blocks.{}.hook_resid_post"), "v", "safetensors"),
    "names in .pt": (lambda at: saved(at / "v.pt", {f"layers.{k}": v for k, v in TENSORS.items()}), "v", "tensors"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_files_that_say_layers_and_site(name: str, tmp_path: Path) -> None:
    write, label, taken_for = KNOWN[name]
    found = Directions.load(write(tmp_path))
    same(held(found), VECTORS)
    assert (found.labels, found.hook_point) == ((label,), "blocks.{layer}.hook_resid_post")
    assert found.note is not None
    assert found.note.startswith(f"taken for {taken_for}")
    assert repr(found).endswith(found.note)
    assert np.isnan(found.residual_norm).all()
    found.save(tmp_path / "own.safetensors")
    again = Directions.load(tmp_path / "own.safetensors")
    same(held(again), VECTORS)
    assert again.facts == found.facts
    assert np.isnan(again.residual_norm).all()


def test_persona_vectors(tmp_path: Path) -> None:
    """Row 0 is the embedding, row i the output of layer i - 1."""
    found = Directions.load(saved(tmp_path / "evil_response_avg_diff.pt", ROWS))
    assert (found.labels, found.layers) == (("evil",), (0, 1, 2))
    assert found["evil", 1].vector[0] == 2
    assert "after the final norm" in (found.note or "")
    named = Directions.load(saved(tmp_path / "x.pt", ROWS), site="hidden_states", label="evil")
    same(held(named), held(found))


def test_caa(tmp_path: Path) -> None:
    for layer, vector in TENSORS.items():
        saved(tmp_path / "sycophancy" / f"vec_layer_{layer}_Llama-2-7b-chat-hf.pt", vector.half())
    one = Directions.load(tmp_path / "sycophancy" / "vec_layer_2_Llama-2-7b-chat-hf.pt")
    assert (one.labels, one.layers) == (("sycophancy",), (2,))
    whole = Directions.load(tmp_path / "sycophancy")
    same(held(whole), {layer: vector.half().float().numpy() for layer, vector in TENSORS.items()})
    saved(tmp_path / "sycophancy" / "vec_layer_2_other.pt", TENSORS[2])
    with pytest.raises(UserError, match="from several models"):
        Directions.load(tmp_path / "sycophancy")


def test_other_sites(tmp_path: Path) -> None:
    found = Directions.load(saved(tmp_path / "v.pt", {"layer_activations": TENSORS, "layer_type": "mlp"}))
    assert found.hook_point == "blocks.{layer}.hook_mlp_out"
    found = Directions.load(by_layer(tmp_path / "w.safetensors", "model.layers.{}.self_attn"))
    assert found.hook_point == "blocks.{layer}.hook_attn_out"
    with pytest.raises(UserError, match="acts on input_layernorm"):
        Directions.load(saved(tmp_path / "v.pt", {"layer_activations": TENSORS, "layer_type": "input_layernorm"}))


def test_what_a_file_does_not_say_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "v.pt", ROWS)
    with pytest.raises(UserError, match=r"import-directions \S+v.pt --layers 0-3 --site resid_post --out"):
        Directions.load(path)
    with pytest.raises(UserError, match="not say its site; say it, as in interp"):
        Directions.load(path, layers=[3, 4, 5, 6])
    with pytest.raises(UserError, match="and 2 layers; give as many"):
        Directions.load(path, layers=[3, 4], site="resid_post")
    found = Directions.load(path, layers=[3, 4, 5, 6], site="attn_out", label="honest")
    assert (found.labels, found.layers, found["honest", 4].vector[0]) == (("honest",), (3, 4, 5, 6), 1)
    bare = saved(tmp_path / "one.pt", ROWS[1])
    with pytest.raises(UserError, match="--layers 12 --site"):
        Directions.load(bare)
    assert Directions.load(bare, layers=[12], site="resid_post").layers == (12,)
    for form in ("layer_{}", "{}", "layer{}"):
        plain = by_layer(tmp_path / "v.safetensors", form)
        with pytest.raises(UserError, match="does not say its site"):
            Directions.load(plain)
        same(held(Directions.load(plain, site="resid_post")), VECTORS)
    assert Directions.load(plain, layers=[2], site="resid_post").layers == (2,)
    with pytest.raises(UserError, match="has no layer 3; choose some of 1, 2, 4"):
        Directions.load(plain, layers=[3], site="resid_post")


class Evil:
    """Pickled, it makes a folder where it is read."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (self.place,)


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    place = tmp_path / "ran"
    for name, content in (
        ("a.pt", Evil(str(place))),
        ("b.pt", {1: Evil(str(place))}),
        ("c.pt", {"layers.1": Evil("x")}),
    ):
        with pytest.raises(UserError, match="no code in it is run"):
            Directions.load(saved(tmp_path / name, content))
    legacy = tmp_path / "d.pt"
    torch.save({1: Evil(str(place))}, legacy, _use_new_zipfile_serialization=False)
    bare = tmp_path / "e.pt"
    bare.write_bytes(pickle.dumps(Evil(str(place))))
    objects = saved(tmp_path / "f.pt", {1: np.array([Evil(str(place))], dtype=object)})
    for path in (legacy, bare, objects):
        with pytest.raises(UserError):
            Directions.load(path)
    assert not place.exists()


WRONG: dict[str, Callable[[Path], Path]] = {
    "not finite": lambda at: saved(at / "v.pt", {1: torch.tensor([1.0, float("nan")])}),
    "infinite": lambda at: as_repeng(at / "v.gguf", {1: np.array([np.inf, 1], np.float32)}),
    "too long for float32": lambda at: saved(at / "v.pt", {1: torch.tensor([1e300], dtype=torch.float64)}),
    "integers": lambda at: saved(at / "v.pt", {1: torch.arange(4)}),
    "widths": lambda at: saved(at / "v.pt", {1: torch.ones(4), 2: torch.ones(5)}),
    "matrices": lambda at: saved(at / "v.pt", {1: torch.ones(4, 4)}),
    "no layers": lambda at: saved(at / "v.pt", {}),
    "empty rows": lambda at: saved(at / "v.pt", torch.zeros(0, 4)),
    "empty vectors": lambda at: saved(at / "v.pt", {1: torch.zeros(0)}),
    "a number": lambda at: saved(at / "v.pt", 3),
    "a text": lambda at: saved(at / "v.pt", "x"),
    "texts": lambda at: saved(at / "v.pt", {1: "x"}),
    "negative layers": lambda at: saved(at / "v.pt", {-1: torch.ones(4)}),
    "a layer beyond any": lambda at: saved(at / "v.pt", {10**9: torch.ones(4)}),
    "weights": lambda at: saved(at / "v.pt", {"model.layers.1.mlp.up_proj.weight": torch.ones(4), "x": torch.ones(4)}),
    "a model": lambda at: as_repeng(at / "v.gguf", VECTORS, "llama"),
    "two sites": lambda at: saved(at / "v.pt", {"blocks.1.hook_mlp_out": torch.ones(4), "direction.2": torch.ones(4)}),
    "one layer twice": lambda at: saved(at / "v.pt", {"layers.1": torch.ones(4), "direction.1": torch.ones(4)}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_vector(name: str, tmp_path: Path) -> None:
    path = WRONG[name](tmp_path)
    with pytest.raises(UserError, match="not a file of directions") as raised:
        Directions.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["repeng", "steering-vectors", "direction.N", "repeng's arrays"])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    """Cut anywhere, and with bytes changed anywhere: read as something, or refused in one line."""
    path = KNOWN[name][0](tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    versions = [whole[:n] for n in rng.integers(1, len(whole), 60)]
    for _ in range(120):
        changed = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            changed[at] = rng.integers(256)
        versions.append(bytes(changed))
    refused = []
    for version in versions:
        path.write_bytes(version)
        try:
            Directions.load(path)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) >= 50
    assert not [line for line in refused if "\n" in line]


@pytest.fixture
def found() -> Directions:
    vectors = RNG.standard_normal((1, 2, 3, 8)).astype(np.float32)
    norms = np.array([1.5, 2.5, 3.25], np.float32)
    model = {"name": "small", "hash": "abc", "model_type": "llama", "adapters": [{"name": "a", "hash": "x"}]}
    facts = {"provenance": {"model": model}}
    return Directions(("agent 1", "agent 2"), (0, 1, 2), vectors, norms, "blocks.{layer}.hook_resid_post", facts)


@pytest.mark.parametrize("name", ["v.gguf", "v.safetensors", "v.pt"])
def test_round_trips(name: str, found: Directions, tmp_path: Path) -> None:
    """Bit by bit; a file of one label needs none named."""
    path = tmp_path / name
    with pytest.raises(UserError, match="choose it with --direction-of"):
        found.export(path)
    layers = found.export(path, 2)
    again = Directions.load(path)
    assert list(again.layers) == layers == ([1, 2] if name == "v.gguf" else [0, 1, 2])
    same(held(again), {layer: found[2, layer].vector for layer in layers})
    if name != "v.pt":
        assert again.labels == ("agent 2",)
        assert again.residual_norm.tobytes() == found.residual_norm[-len(layers) :].tobytes()
        assert again.facts["provenance"]["model"]["hash"] == "abc"
    again.export(tmp_path / f"again-{name}", model_type="llama")
    same(held(Directions.load(tmp_path / f"again-{name}")), held(again))


def test_each_format_s_layout(found: Directions, tmp_path: Path) -> None:
    found.export(tmp_path / "v.gguf", 2)
    reader = GGUFReader(tmp_path / "v.gguf")
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert reader.fields["controlvector.layer_count"].contents() == 2
    assert [t.name for t in reader.tensors] == ["direction.1", "direction.2"]
    np.testing.assert_array_equal(reader.tensors[0].data, found[2, 1].vector)
    found.export(tmp_path / "evil_response_avg_diff.pt", 2, format="persona-vectors")
    rows = torch.load(tmp_path / "evil_response_avg_diff.pt", weights_only=True)
    assert rows.shape == (4, 8)
    np.testing.assert_array_equal(rows[3], found[2, 2].vector)
    same(held(Directions.load(tmp_path / "evil_response_avg_diff.pt")), held(replaced(found)))
    found.export(tmp_path / "vec_layer_1_m.pt", 2, format="caa", layers=[1])
    np.testing.assert_array_equal(torch.load(tmp_path / "vec_layer_1_m.pt", weights_only=True), found[2, 1].vector)


def replaced(found: Directions) -> Directions:
    """Those of agent 2 alone."""
    return replace(found, labels=("agent 2",), vectors=found.vectors[:, 1:])


def test_what_a_format_has_no_place_for(found: Directions, tmp_path: Path) -> None:
    elsewhere = replace(found, hook_point="blocks.{layer}.hook_mlp_out")
    for directions, how, expected in (
        (found, {"format": "caa"}, "3 layers: a CAA file holds one"),
        (found, {"format": "persona-vectors", "layers": [1, 2]}, "a row for every layer from 0"),
        (found, {"format": "gguf", "layers": [0]}, "layer 0: has no place"),
        (elsewhere, {"format": "gguf"}, "gguf files act on resid_post"),
        (found, {}, "its name asks for no format"),
        (replace(found, facts={}), {"format": "gguf"}, "give --model-type"),
    ):
        with pytest.raises(UserError, match=expected):
            directions.export(tmp_path / "x", 1, **how)  # type: ignore[arg-type]
    assert not [*tmp_path.iterdir()]
    elsewhere.export(tmp_path / "v.safetensors", 1)
    assert Directions.load(tmp_path / "v.safetensors").hook_point == elsewhere.hook_point


def test_which_model_they_fit(tiny: Model, tmp_path: Path) -> None:
    width, n = tiny.d_model, tiny.n_layers
    right = Directions.load(saved(tmp_path / "evil_response_avg_diff.pt", torch.ones(n + 1, width)))
    assert made_on(right, tiny)
    for rows, columns in ((n + 1, width + 1), (n, width), (n + 2, width)):
        wrong = Directions.load(saved(tmp_path / "evil_response_avg_diff.pt", torch.ones(rows, columns)))
        with pytest.raises(UserError, match="give the model it was made on"):
            require_made_on(wrong, tiny)
    deep = Directions.load(saved(tmp_path / "v.pt", {n: torch.ones(width)}))
    assert not made_on(deep, tiny)


def test_units_are_measured_where_a_file_says_none(tiny: Model, tmp_path: Path) -> None:
    imported = Directions.load(saved(tmp_path / "v.pt", {2: torch.ones(tiny.d_model)}))
    with pytest.raises(UserError, match="finite numbers"):
        add(imported["v", 2], 0.2)
    told = measured(imported, tiny, [[5, 6, 7], [8, 9]])
    names, read = [tiny.hook_name("resid_post", 2)], []
    with torch.no_grad(), tiny.bridge.hooks(fwd_hooks=[(names[0], lambda v, hook: read.append(v.clone()))]):
        for ids in ([5, 6, 7], [8, 9]):
            tiny.hf(torch.tensor([ids]))
    lengths = torch.cat([value[0, 1:].norm(dim=-1) for value in read])
    assert told.residual_norm[0] == pytest.approx(float(lengths.mean()), rel=1e-5)
    assert told.spread is not None
    assert np.trace(told.spread[0].astype(np.float64) @ told.spread[0].T) == pytest.approx(1, abs=1e-2)
    assert measured(told, tiny, [[5]]) is told


def test_steering_and_importing_by_command(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    config = json.loads((model_folder / "config.json").read_text())
    width, n = config["hidden_size"], config["num_hidden_layers"]
    path = as_repeng(tmp_path / "honest.gguf", {1: RNG.standard_normal(width).astype(np.float32)})
    asked = ("--model", model_folder, "--prompt", "1+1", "--max-new-tokens", 4)
    code, said, wrong = interp("steer", "--directions", path, *asked)
    assert code == 0, wrong
    assert "taken for a GGUF control vector (llama.cpp, repeng): 'honest' at 1 layer, counted from 0" in said
    rows = saved(tmp_path / "v.pt", torch.ones(n, width))
    code, _, wrong = interp("steer", "--directions", rows, *asked)
    assert (code, wrong.count("\n")) == (2, 1)
    command = wrong[wrong.index("interp import-directions") :].split()[1:]
    own = tmp_path / "own.safetensors"
    code, said, wrong = interp(*command[:-1], own, "--label", "kind")
    assert code == 0, wrong
    code, said, wrong = interp("steer", "--directions", own, *asked, "--layers", 1, "--direction-of", "kind")
    assert code == 0, wrong
    for out in ("w.gguf", "w.pt", "w.safetensors", "w.gguf"):
        code, said, wrong = interp("export-directions", own, "--out", tmp_path / out, "--model-type", "llama")
        assert code == 0, wrong
    assert "wrote" in said
    code, said, _ = interp("export-directions", own, "--out", tmp_path / "w.pt")
    assert code == 2  # nothing in a .pt says who wrote it


def test_bfloat16(tmp_path: Path) -> None:
    save_tensors({f"direction.{k}": v.bfloat16() for k, v in TENSORS.items()}, tmp_path / "v.safetensors")
    found = held(Directions.load(tmp_path / "v.safetensors"))
    same(found, {k: v.bfloat16().float().numpy() for k, v in TENSORS.items()})
