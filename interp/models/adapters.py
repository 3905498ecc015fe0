"""Adapters become part of a model's weights, which are then held against PEFT's own unmerged model."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from interp.errors import UserError, first_line
from interp.storage.files import checked
from interp.storage.hub import hub_reachable
from interp.storage.provenance import folder_sha256

# How far merged logits may be from unmerged ones, relative to the largest: room for rounding (measured on SmolLM2).
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# These load other models by the names in their configuration, before they say that they cannot be merged.
_LOADS_MORE = ("XLORA", "SHADOW")
# Of LoRA's ways to begin: the base had something subtracted that cannot be found again (with pissa and olora it can).
_CHANGE_BASE = ("pissa_niter", "corda", "lora_ga")
# What transformers and PEFT raise for folders that they cannot use.
RAISED = (
    *(OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, ArithmeticError),
    *(SafetensorError, StrictDataclassError, struct.error),
)


def merge_adapter(hf: Any, tokenizer: Any, adapter: str) -> tuple[Any, Any, dict[str, Any]]:
    """Merge an adapter, with the tokenizer in its folder if there is one; gives model, tokenizer and provenance.

    Raises `UserError` for an adapter that does not fit, cannot be merged, or gives other logits when it is.
    """
    from peft import PeftModel, get_peft_model_state_dict

    folder, kind, fault = _folder(adapter), "its configuration", "cannot be used"
    try:
        config, kind = _config(folder)
        if getattr(hf, "quantization_method", None) is not None:
            raise ValueError("the model's weights are quantized; give the model in full precision")
        fault = "does not fit the model"
        with warnings.catch_warnings(), redirect_stderr(StringIO()):  # some kinds show how far they are
            warnings.simplefilter("ignore")  # what they warn of is checked here
            saved = weight_shapes(folder / _WEIGHTS)
            tokenizer, new = fit_vocabulary(hf, tokenizer, folder, saved, "base_model.model.")
            embedding, *head = _ends(hf)
            adapted = PeftModel.from_pretrained(hf, str(folder), use_safetensors=True)
            # save_embedding_layers=False: PEFT would else look up the base on the hub
            own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
            known = own.keys() | {name.replace(".default.", ".") for name in adapted.state_dict()}
            if unmatched := (own.keys() - saved.keys()) | (saved.keys() - known):
                raise ValueError(f"{len(unmatched)} weights have no counterpart, such as {min(unmatched)}")
            fault = "cannot be merged"
            expected = _logits(adapted)
            tied = [end for end in head if end.weight is embedding.weight]
            for end in tied:  # else what is merged into one would reach the other
                end.weight = nn.Parameter(end.weight.detach().clone(), requires_grad=False)
            merged = adapted.merge_and_unload()
        if left := [module for module in merged.modules() if type(module).__module__.startswith("peft.")]:
            raise ValueError(f"{type(left[0]).__name__} stays in the model")
        if tied:
            _tie_again(merged)
        if any(bool(parameter[new:].isnan().any()) for end in _ends(merged) for parameter in end.parameters()):
            raise ValueError("it has new tokens without their embeddings; save it with save_embedding_layers=True")
        off = float((_logits(merged) - expected).abs().max() / expected.abs().max())
        if not off <= _TOLERANCE.get(merged.dtype, 1e-4):  # NaN is refused too
            raise ValueError(f"merged, it changes the logits by {off:.2%}; give another kind of adapter")
    except RAISED as error:
        raise UserError(f"adapter {adapter}: {fault} ({kind}: {first_line(error)})") from error
    return merged, tokenizer, {"hash": folder_sha256(folder), "trained_on": config.get("base_model_name_or_path")}


def fit_vocabulary(
    hf: Any, tokenizer: Any, folder: Path, saved: Mapping[str, list[int]], prefix: str = ""
) -> tuple[Any, int]:
    """The tokenizer in the folder, or the given one, and the first row of the embeddings that is new.

    The embeddings get as many rows as the folder's `saved` weights have (shapes by name, after a prefix), or, without
    any, as its new tokens need. New rows are NaN, so that one that is not loaded afterwards shows.
    """
    from transformers import AutoTokenizer

    before = tokenizer.get_vocab()
    if (folder / "tokenizer_config.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    vocabulary, special = tokenizer.get_vocab(), tokenizer.get_added_vocab()
    ends = _ends(hf)
    names = [f"{prefix}{name}" for name, module in hf.named_modules() if module in ends]
    whole = {f"{name}{layer}.weight" for name in names for layer in ("", ".base_layer")}
    rows = [shape[0] for key, shape in saved.items() if key in whole]
    first_new = ends[0].weight.shape[0]
    # tokens of the model's own for which it has no row are no new ones
    needed = max((i + 1 for t, i in vocabulary.items() if before.get(t) != i), default=0)
    n = rows[0] if rows else max(first_new, needed)
    if needed > n:
        raise ValueError(f"its tokenizer has {needed} tokens, its embeddings {n} rows")
    if moved := [t for t, i in before.items() if not rows and t not in special and vocabulary.get(t, i) != i]:
        ids = f"{vocabulary[moved[0]]}, in the model's {before[moved[0]]}"
        raise ValueError(f"in its tokenizer {moved[0]!r} is {ids}")
    if n != first_new:
        hf.resize_token_embeddings(n, mean_resizing=False)
        for parameter in (parameter for end in _ends(hf) for parameter in end.parameters()):
            parameter.data[first_new:] = torch.nan
    return tokenizer, first_new


def weight_shapes(path: Path) -> dict[str, list[int]]:
    """The shapes in a safetensors file, by name."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118


def _ends(hf: Any) -> list[Any]:
    """The embedding, and the head if there is one."""
    return [end for end in (hf.get_input_embeddings(), hf.get_output_embeddings()) if end is not None]


def _tie_again(model: Any) -> None:
    """Tie both ends of a model again if they are still the same, and say in its configuration whether they are."""
    embedding, head = _ends(model)
    same = embedding.weight.equal(head.weight)
    if same:
        head.weight = embedding.weight
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = same


def _logits(model: Any) -> Tensor:
    """Of a few tokens from all over the vocabulary."""
    last = model.get_input_embeddings().weight.shape[0] - 1
    with torch.no_grad():
        return model(input_ids=torch.linspace(0, last, 12).long()[None], use_cache=False).logits.float()


def _config(folder: Path) -> tuple[dict[str, Any], str]:
    """An adapter's configuration, and its kind in words; raises `ValueError` where it cannot be merged by its kind."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

    config = checked(dict[str, Any], (folder / _CONFIG).read_bytes())
    kind, init = str(config.get("peft_type")), str(config.get("init_lora_weights"))
    ours, advice = f"PEFT {version('peft')} does not know", "install the version that made it"
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ValueError(f"{ours} the kind {kind}; {advice}")
    if kind in _LOADS_MORE or not hasattr(PEFT_TYPE_TO_TUNER_MAPPING[kind], "merge_and_unload"):
        raise ValueError(f"{kind} cannot be merged into weights; give a LoRA adapter")
    fields = PEFT_TYPE_TO_CONFIG_MAPPING[kind].__dataclass_fields__
    if lost := [n for n, v in config.items() if v and n not in fields and n != "runtime_config" and n[:5] != "init_"]:
        raise ValueError(f"{ours} the setting {lost[0]}; {advice}")
    if init.startswith(_CHANGE_BASE):
        raise ValueError(f"{init} changed the base and does not say how; convert it to LoRA when you save it")
    options = [name for name, value in config.items() if value is True and name in fields and not fields[name].default]
    return config, ", ".join([kind, *(name for name in options if name != "inference_mode")])


def _folder(adapter: str) -> Path:
    """The adapter's folder, fetched from the hub where it is not local."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    folder = Path(adapter).expanduser()
    if not adapter.strip() or not folder.is_dir():
        if not hub_reachable():
            raise UserError(f"adapter {adapter}: no such folder, and the hub cannot be reached")
        try:
            folder = Path(snapshot_download(adapter, allow_patterns=["*.json", "*.safetensors", "*.jinja"]))
        except (HFValidationError, HfHubHTTPError, OSError) as error:
            raise UserError(f"adapter {adapter}: neither a folder nor on the hub ({first_line(error)})") from error
    if not (folder / _CONFIG).exists():
        raise UserError(f"adapter {adapter}: has no {_CONFIG}; give an adapter that PEFT saved")
    if not (folder / _WEIGHTS).exists():
        raise UserError(f"adapter {adapter}: has no {_WEIGHTS} (pickles are not loaded); save it as safetensors")
    return folder
