"""A model is known by what it computes: not by how a version of transformers writes its settings, nor where it lies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_hf, make_tokenizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from interp.directions.directions import Directions, made_on
from interp.errors import UserError
from interp.models import catalog
from interp.models.catalog import KNOWN_MODELS, locate, model_sha256
from interp.models.lineage import Lineage, has_base, read_lineage, write_checkpoint, write_lineage
from interp.models.loading import load_plain
from interp.models.model import LazyModel, load_model
from interp.storage.provenance import MANIFEST, folder_sha256

WHEEL = "smollm2-135m"


def rewritten(file: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(dict(reversed((json.loads(path.read_text()) | changes).items())), indent=4))

    return change


def another_version(folder: Path) -> None:
    """The same model as another version of transformers writes it."""
    rewritten("config.json", transformers_version="5.17.0", torch_dtype="float32", new_option=None, use_cache=False)(
        folder
    )
    rewritten("generation_config.json", transformers_version="5.17.0")(folder)
    rewritten("tokenizer_config.json", backend="tokenizers", is_local=False, unk_token=None)(folder)
    rewritten("tokenizer.json")(folder)


def with_noise(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] += 0.001
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


SAME: dict[str, Callable[[Path], None]] = {
    "another version": another_version,
    "results beside it": lambda folder: (folder / "all_results.json").write_text("{}") and None,
    "a text beside it": lambda folder: (folder / "notes.txt").write_text("good") and None,
}
OTHER: dict[str, Callable[[Path], None]] = {
    "weights": with_noise,
    "rotary base": rewritten("config.json", rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    "end token": rewritten("generation_config.json", eos_token_id=7),
    "tokenizer": rewritten("tokenizer.json", pre_tokenizer=None),
    "chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}") and None,
    "configuration that is no JSON": lambda folder: (folder / "config.json").write_text("{") and None,
}


@pytest.fixture
def base(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "base"))


@pytest.mark.parametrize("name", [*SAME, *OTHER])
def test_a_folder_is_known_by_what_decides_the_model(name: str, base: Path) -> None:
    before, files = model_sha256(base), folder_sha256(base)
    (SAME | OTHER)[name](base)
    assert (model_sha256(base) == before) is (name in SAME)
    assert folder_sha256(base) != files
    assert locate(str(base)).sha256 == model_sha256(base)


def train(base: str, folder: Path) -> Lineage:
    """A checkpoint of one stage on a base."""
    plain = load_plain(base)
    facts = {**plain.provenance}
    plain.hf.name_or_path = plain.hf.config._name_or_path = ""
    adapted = get_peft_model(plain.hf, LoraConfig(r=2, target_modules=["q_proj"]))
    torch.nn.init.normal_(adapted.base_model.model.model.layers[0].self_attn.q_proj.lora_B.default.weight)
    with write_checkpoint(folder, base, facts, None, "sft", {"tokenized": "text"}) as own:
        adapted.save_pretrained(own)
    lineage = read_lineage(str(folder))
    assert lineage is not None
    return lineage


def as_before(lineage: Lineage, sha256: str) -> None:
    """The lineage as earlier versions wrote it: the hash is over all files."""
    record = lineage.record()
    del record["base"]["hashed"]
    record["base"]["hash"] = sha256
    (lineage.folder / "lineage.json").write_text(json.dumps(record))


@pytest.mark.parametrize("name", SAME)
def test_a_checkpoint_loads_on_its_base_however_that_is_written(name: str, base: Path, tmp_path: Path) -> None:
    lineage = train(str(base), tmp_path / "sft")
    assert (lineage.base.hash, lineage.base.hashed) == (model_sha256(base), "model")
    SAME[name](base)
    model = load_model(str(tmp_path / "sft"))
    assert model.provenance["hash"] == LazyModel.named(str(tmp_path / "sft")).provenance["hash"] == lineage.base.hash
    with_noise(base)
    for load in (load_plain, LazyModel.named):
        with pytest.raises(UserError, match=r"has the hash .* as in training; restore that base"):
            load(str(tmp_path / "sft"))


def test_a_checkpoint_of_an_earlier_version_loads(base: Path, tmp_path: Path) -> None:
    lineage = train(str(base), tmp_path / "sft")
    as_before(lineage, folder_sha256(base))
    assert load_plain(str(tmp_path / "sft")).provenance["hash"] == model_sha256(base)
    assert has_base(str(tmp_path / "sft"), folder_sha256(base))
    assert has_base(str(base), folder_sha256(base))
    assert not has_base(str(base), "0" * 64)
    as_before(lineage, "0" * 64)
    with pytest.raises(UserError, match="not 000000000000 as in training"):
        load_plain(str(tmp_path / "sft"))


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model where the one that was converted from the wheel is kept."""
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "hub_reachable", lambda: False)
    monkeypatch.setattr(catalog, "in_hub_cache", lambda *_: False)
    known = KNOWN_MODELS[WHEEL].wheel
    assert known is not None
    folder = tmp_path / "cache" / f"{WHEEL}-{known.sha256[:12]}"
    make_hf("llama").save_pretrained(folder)
    make_tokenizer("bytes").save_pretrained(folder)
    (folder / MANIFEST).write_text(json.dumps({"sha256": folder_sha256(folder)}))
    return folder


def test_a_model_from_a_wheel_is_known_by_what_the_wheel_holds(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = KNOWN_MODELS[WHEEL].wheel
    assert pinned is not None
    lineage, here = train(WHEEL, tmp_path / "sft"), folder_sha256(wheel)
    assert (lineage.base.name, lineage.base.hash, lineage.base.folder) == (WHEEL, pinned.sha256, None)
    # as on a machine with another version
    another_version(wheel)
    (wheel / MANIFEST).write_text(json.dumps({"sha256": folder_sha256(wheel)}))
    assert folder_sha256(wheel) != here
    assert load_plain(WHEEL).provenance["hash"] == pinned.sha256
    monkeypatch.setattr(catalog, "hub_reachable", lambda: pytest.fail("the hub has other weights"))
    assert load_plain(str(tmp_path / "sft")).provenance["hash"] == pinned.sha256
    as_before(lineage, here)  # which is not to be had on this machine
    assert load_plain(str(tmp_path / "sft")).provenance["hash"] == pinned.sha256
    write_lineage(replace(lineage, base=replace(lineage.base, hash="0" * 64)))
    with pytest.raises(UserError, match="not 000000000000 as in training"):
        load_plain(str(tmp_path / "sft"))


def test_directions_of_an_earlier_version_belong_to_their_model() -> None:
    model = load_model("organism")
    before = "48a24f390e1988f68b29f0b3d831335795ec96a68371a961e5bad4aca33ac1b9"
    assert model.provenance["hash"] != before
    vectors, norm = np.ones((1, 1, 1, 128), np.float32), np.ones(1, np.float32)
    for sha256, same in ((model.provenance["hash"], True), (before, True), ("0" * 64, False)):
        facts = {"provenance": {"model": {"name": "organism", "hash": sha256, "adapters": []}}}
        found = Directions(("agent 1",), (0,), vectors, norm, "blocks.{layer}.hook_resid_post", facts, ("all",))
        assert made_on(found, model) is same
