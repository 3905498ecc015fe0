"""A model that is larger than its card: the first layers in memory, the rest read from files, layer by layer."""

from __future__ import annotations

import accelerate.utils.modeling
import numpy as np
import pytest
import torch

import interp
from interp.activations.corpus import Corpus
from interp.activations.reading import stream
from interp.debate.embedded import read_embedded
from interp.directions.directions import Direction
from interp.errors import UserError
from interp.models.model import load_model
from interp.models.random_weights import untrained
from interp.steering.steering import Steering, ablate, add

DEBATES = read_embedded("organism")[:3]


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerate.utils.modeling, "get_max_memory", lambda _=None: {"cpu": 2_000_000})


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", ["organism", "organism-imad"])
def test_any_layer_is_read_and_steered(name: str) -> None:
    whole, sharded = load_model(name, device="cpu"), load_model(name, device="shard")
    assert {sharded.hf.hf_device_map[f"model.layers.{layer}"] for layer in range(4)} == {"cpu", "disk"}
    assert sharded.device == torch.device("cpu")
    corpus = Corpus.build(DEBATES, whole.tokenizer)
    read = [np.concatenate([r.values for r in stream(model, corpus)]) for model in (whole, sharded)]
    assert np.array_equal(*read)
    prompts = [whole.tokenizer(t.prompt)["input_ids"] for t in DEBATES]
    for layer in (0, 3):
        vector = np.random.default_rng(layer).standard_normal(whole.d_model).astype(np.float32)
        direction = Direction(vector, "random", layer, whole.hook_name("resid_post", layer))
        for steering in (Steering(), add([direction], 1.0, units="unit"), ablate([direction])):
            how = {"steering": steering, "max_new_tokens": 12, "temperature": 0}
            texts = [interp.generate(model, prompts, **how) for model in (whole, sharded)]
            assert [text.ids for text in texts[0]] == [text.ids for text in texts[1]]


@pytest.mark.usefixtures("little_memory")
def test_random_weights_need_memory() -> None:
    with pytest.raises(UserError, match=r"cannot be built with random weights .*go without that control"):
        untrained(load_model("organism", device="shard"))


def test_all_of_it_fits() -> None:
    sharded = load_model("organism", device="shard")
    assert untrained(sharded).n_layers == 4
    assert str(sharded.device) == sharded.provenance["device"] == "cpu"


def test_one_process_has_all_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="device shard: takes all cards for one process; start it without a launcher"):
        load_model("organism", device="shard")
