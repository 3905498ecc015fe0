"""Every kind of adapter becomes what PEFT's unmerged model is, or is refused in one line; and so is every folder."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import BASES, IDS, KINDS, ROWS, Kind, bigger_tokenizer, lora, save_base

from interp.errors import UserError
from interp.models.loading import load_plain
from interp.models.model import load_model
from interp.reports.terminal import quiet_libraries


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each base, by kind."""
    folder = tmp_path_factory.mktemp("bases")
    for kind in BASES:
        save_base(kind, folder / kind)
    return folder


def logits(hf: Any) -> torch.Tensor:
    with torch.no_grad():
        return hf(IDS).logits


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", KINDS)
def test_an_adapter_is_merged_exactly_or_refused_in_one_line(
    name: str, bases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    kind = KINDS[name]
    expected = kind.write(bases / kind.base, tmp_path / "adapter")
    quiet_libraries()
    torch.manual_seed(7)  # whatever is drawn at loading is drawn otherwise than in training
    capfd.readouterr()
    recwarn.clear()
    given: dict[str, Any] = {"name": str(bases / kind.base), "adapters": [str(tmp_path / "adapter")]}
    if expected is None:
        with pytest.raises(UserError, match=kind.refused) as caught:
            load_plain(**given)
        assert str(caught.value).startswith(f"adapter {tmp_path / 'adapter'}: ")
    else:
        hf = load_plain(**given).hf
        assert off(logits(hf), expected) < 1e-5
        ends = [end.weight for end in (hf.get_input_embeddings(), hf.get_output_embeddings())]
        assert hf.config.tie_word_embeddings is (ends[0] is ends[1])
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["tied: lora on the head", "tied: tokens", "new rows, saved whole, tied"])
def test_what_was_merged_can_be_saved_wrapped_and_adapted_again(name: str, bases: Path, tmp_path: Path) -> None:
    kind, (base, one, two) = KINDS[name], (str(bases / "tied"), str(tmp_path / "one"), str(tmp_path / "two"))
    expected = kind.write(bases / "tied", tmp_path / "one")
    assert expected is not None
    assert off(logits(load_model(base, adapters=[one]).hf), expected) < 1e-4
    merged = load_plain(base, adapters=[one])
    merged.hf.save_pretrained(tmp_path / "merged")
    merged.tokenizer.save_pretrained(tmp_path / "merged")
    assert torch.equal(logits(load_plain(str(tmp_path / "merged")).hf), logits(merged.hf))
    more = Kind(lora(target_modules=["embed_tokens", "v_proj"])).write(tmp_path / "merged", tmp_path / "two")
    assert more is not None
    assert off(logits(load_plain(base, adapters=[one, two]).hf), more) < 1e-5


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_leaves_room_for_rounding_only(dtype: str, bases: Path, tmp_path: Path) -> None:
    Kind(lora(target_modules="all-linear")).write(bases / "llama", tmp_path / "fine")
    load_plain(str(bases / "llama"), adapters=[str(tmp_path / "fine")], dtype=dtype)
    repeated = KINDS["lora on repeated layers"]
    repeated.write(bases / "llama", tmp_path / "repeated")
    with pytest.raises(UserError, match="LORA: merged, it changes the logits"):
        load_plain(str(bases / "llama"), adapters=[str(tmp_path / "repeated")], dtype=dtype)


def test_a_token_without_a_row_is_named_when_it_is_read(bases: Path, tmp_path: Path) -> None:
    """As in Gemma 3, whose tokenizer has one token more than the model has rows."""
    shutil.copytree(bases / "llama", tmp_path / "base")
    bigger_tokenizer(ROWS + 1).save_pretrained(tmp_path / "base")
    Kind(lora(), tokens=ROWS + 1).write(tmp_path / "base", tmp_path / "adapter")  # that token is not new
    for adapters in ([], [str(tmp_path / "adapter")]):
        model = load_model(str(tmp_path / "base"), adapters=adapters)
        ids = torch.tensor([model.tokenizer("It is 3.")["input_ids"]])
        model.hf(ids)
        with pytest.raises(UserError, match=r"has no embedding for '<\|new \d+\|>' of its tokenizer"):
            model.hf(torch.cat([ids, torch.tensor([[ROWS]])], 1))


FOLDERS: dict[str, tuple[dict[str, Any], str]] = {
    "bitsandbytes": ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "pip install"),
    "8 bit": ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "pip install.*bitsand"),
    "gptq": ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}, "GPTQ.*optimum"),
    "awq": ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "AWQ.*pip install gptqmodel"),
    "hqq": ({"quantization_config": {"quant_method": "hqq"}}, "HQQ"),
    "quanto": ({"quantization_config": {"quant_method": "quanto", "weights": "int8"}}, "pip install optimum-quanto"),
    "compressed": ({"quantization_config": {"quant_method": "compressed-tensors"}}, "pip install compressed-tensors"),
    "torchao": (
        {
            "quantization_config": {
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}},
            }
        },
        "torchao.*install it with pip",
    ),
    "aqlm": ({"quantization_config": {"quant_method": "aqlm"}}, "pip install aqlm"),
    "a quantization that nobody knows": ({"quantization_config": {"quant_method": "q3"}}, "does not know how.*: q3"),
    "a quantization without a name": ({"quantization_config": {"bits": 4}}, "quant_method"),
    "flash attention 2": ({"attn_implementation": "flash_attention_2"}, "FlashAttention2.*install flash-attn"),
    "flash attention 3": ({"_attn_implementation": "flash_attention_3"}, "FlashAttention3.*install flash-attn"),
    "attention from the hub": ({"attn_implementation": "kernels-community/flash-attn"}, "code from the hub.*not run"),
    "attention that nobody knows": ({"attn_implementation": "nonsense"}, "nonsense"),
    "architecture": ({"model_type": "frobnicator"}, "`frobnicator`.*try a newer transformers"),
    "no architecture": ({"model_type": None}, "cannot be loaded"),
    "code": (
        {"model_type": "frob", "auto_map": {"AutoConfig": "frob.Config", "AutoModelForCausalLM": "frob.Model"}},
        "no code from a model's folder is run",
    ),
    "encoder and decoder": ({"model_type": "t5"}, "T5Config.*AutoModelForCausalLM"),
    "images": ({"model_type": "vit"}, "ViTConfig.*AutoModelForCausalLM"),
    "a wider model": ({"hidden_size": 64}, "lacks 21 weights of the sizes in its config.json, such as lm_head.weight"),
    "a deeper model": ({"num_hidden_layers": 3}, "lacks 9 weights"),
    "more rows": ({"vocab_size": 2000}, "lacks 2 weights"),
    "no heads": ({"num_attention_heads": 0}, "cannot be loaded"),
    "heads in words": ({"num_attention_heads": "four"}, "cannot be loaded.*num_attention_heads"),
    "activation": ({"hidden_act": "nonsense"}, "nonsense"),
    "number": ({"dtype": "nonsense"}, "nonsense"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_cannot_be_loaded_is_named_in_one_line(name: str, bases: Path, tmp_path: Path) -> None:
    changes, message = FOLDERS[name]
    shutil.copytree(bases / "llama", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(UserError, match=message) as caught:
        load_plain(str(tmp_path / "model"))
    assert str(caught.value).startswith(f"model {tmp_path / 'model'}: ")


BROKEN: dict[str, tuple[str, bytes | None]] = {
    "half a configuration": ("config.json", b'{"model_type": "lla'),
    "a list": ("config.json", b"[]"),
    "half a tokenizer": ("tokenizer.json", b"{"),
    "an empty tokenizer": ("tokenizer.json", b"{}"),
    "no tokenizer": ("tokenizer.json", None),
    "a tokenizer's settings in a list": ("tokenizer_config.json", b"[]"),
    "no weights": ("model.safetensors", b""),
    "half the weights": ("model.safetensors", b"\xff\x00\x00\x00\x00\x00\x00\x00{"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_named_in_one_line(name: str, bases: Path, tmp_path: Path) -> None:
    file, content = BROKEN[name]
    shutil.copytree(bases / "llama", tmp_path / "model")
    (tmp_path / "model" / file).unlink()
    if content is not None:
        (tmp_path / "model" / file).write_bytes(content)
    with pytest.raises(UserError, match=r"model .*: cannot be loaded from"):
        load_plain(str(tmp_path / "model"))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF nonsense", b"\x00" * 64])
def test_a_broken_gguf_file_is_named_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(UserError, match=r"model .*model.gguf: cannot be loaded from"):
        load_plain(str(tmp_path / "model.gguf"))


def test_a_gguf_file_without_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"model .*model.gguf: cannot be loaded from .*gguf"):
        load_plain(str(tmp_path / "model.gguf"))
