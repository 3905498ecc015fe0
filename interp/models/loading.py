"""A name becomes a plain Hugging Face model with its adapters merged. Knows nothing about hooks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model as load_weights_file

from interp.errors import UserError
from interp.models.catalog import SHIPPED, locate, strip_quantization_marks
from interp.models.lineage import read_lineage
from interp.models.tokens import set_way
from interp.storage.files import atomic_write
from interp.storage.hub import hub_reachable
from interp.storage.provenance import folder_sha256

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DTYPES |= {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}
_WHOLE = "model.safetensors"


@dataclass
class Plain:
    """A model without hooks: what `load_model` wraps and training trains."""

    hf: Any
    tokenizer: Any
    provenance: dict[str, Any]
    source: str


def load_plain(
    name: str, *, adapters: Sequence[str] = (), revision: str | None = None, dtype: str = "auto", device: str = "auto"
) -> Plain:
    """The plain Hugging Face model that `load_model` wraps; arguments and errors are the same.

    >>> interp.models.load_plain("organism").hf.config.num_hidden_layers
    4
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, lineage = name, read_lineage(name)
    if lineage is not None:
        if revision is not None:
            raise UserError(f"model {name}: a training checkpoint has no revisions; leave --revision {revision} out")
        lineage.check_stages()
        base, revision = lineage.base_name, lineage.base.revision if lineage.base.folder is None else None
    place = _device(device)
    if dtype not in ("auto", *DTYPES):
        raise UserError(f"dtype {dtype}: unknown; choose one of auto, fp32, bf16, fp16")
    number = DTYPES.get(dtype, torch.float32 if place.type == "cpu" else torch.bfloat16)
    checkpoint = locate(base, revision)
    arguments = checkpoint.hub_arguments
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.location, **arguments)
        arguments |= {"dtype": number, "use_safetensors": None if checkpoint.gguf_file else True}
        hf, loading = AutoModelForCausalLM.from_pretrained(checkpoint.location, output_loading_info=True, **arguments)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model {base}: cannot be loaded from {checkpoint.location} ({_first_line(error)})") from error
    if absent := [*loading["missing_keys"], *loading["mismatched_keys"]]:  # transformers would fill in random numbers
        raise UserError(f"model {base}: {checkpoint.location} lacks {len(absent)} weights, such as {absent[0]}")
    if checkpoint.gguf_file:
        strip_quantization_marks(hf)
    commit = getattr(hf.config, "_commit_hash", None) or checkpoint.revision
    provenance: dict[str, Any] = {"name": name, "revision": commit, "hash": checkpoint.sha256, "adapters": []}
    if lineage is not None:
        lineage.check_base(provenance)
        provenance["lineage"] = lineage.record()
        for stage, folder in zip(lineage.stages, lineage.stage_folders, strict=True):
            if (folder / _WHOLE).exists():  # it trained all weights
                tokenizer = _apply_tokenizer(hf, tokenizer, folder)
                load_weights_file(hf, folder / _WHOLE)
                facts = {"hash": folder_sha256(folder)}
            else:
                hf, tokenizer, facts = _apply_adapter(hf, tokenizer, str(folder))
            provenance["adapters"].append({"name": stage.name} | facts)
    # the shipped base is read as its checkpoints are, to compare them
    if Path(checkpoint.location) == SHIPPED["organism"] if lineage is None else lineage.tokenized == "pieces":
        set_way(tokenizer, "pieces")
    for adapter in adapters:
        hf, tokenizer, facts = _apply_adapter(hf, tokenizer, adapter)
        provenance["adapters"].append({"name": adapter} | facts)
    return Plain(hf.to(place), tokenizer, provenance, checkpoint.decided)


def export_merged(checkpoint: str, out: Path, dtype: str = "auto") -> None:
    """Write a checkpoint with all its stages merged into a new folder; raises `UserError` where `out` exists.

    >>> interp.models.export_merged("organism-sft", tmp_path / "merged")
    >>> interp.load_model(str(tmp_path / "merged")).n_layers
    4
    """
    if out.exists():
        raise UserError(f"{out}: exists; give a new folder")
    plain = load_plain(checkpoint, dtype=dtype, device="cpu")
    with atomic_write(out, Path.mkdir) as made:
        plain.hf.save_pretrained(made)
        plain.tokenizer.save_pretrained(made)


def _apply_adapter(hf: Any, tokenizer: Any, adapter: str) -> tuple[Any, Any, dict[str, Any]]:
    """Merge one LoRA adapter, with the tokenizer in its folder if there is one."""
    from peft import PeftModel, get_peft_model_state_dict

    folder = _adapter_folder(adapter)
    try:
        tokenizer = _apply_tokenizer(hf, tokenizer, folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # checked below
            adapted = PeftModel.from_pretrained(hf, str(folder), use_safetensors=True)
        # save_embedding_layers=False: PEFT would else look up the base on the hub
        own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            unmatched = (set(file.keys()) ^ own.keys()) - adapted.state_dict().keys()
        if unmatched:
            raise ValueError(f"{len(unmatched)} weights have no counterpart, such as {min(unmatched)}")
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"adapter {adapter}: does not fit the model ({_first_line(error)})") from error
    trained_on = adapted.peft_config["default"].base_model_name_or_path
    return adapted.merge_and_unload(), tokenizer, {"hash": folder_sha256(folder), "trained_on": trained_on}


def _apply_tokenizer(hf: Any, tokenizer: Any, folder: Path) -> Any:
    """The tokenizer in the folder, if there is one; the model gets as many embedding rows as it needs."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").exists():
        return tokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if len(tokenizer) > hf.get_input_embeddings().weight.shape[0]:
        hf.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return tokenizer


def _adapter_folder(adapter: str) -> Path:
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
            raise UserError(f"adapter {adapter}: neither a folder nor on the hub ({_first_line(error)})") from error
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).exists():
            raise UserError(f"adapter {adapter}: has no {name}; give a LoRA adapter that PEFT saved as safetensors")
    return folder


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name}: cannot be used here ({_first_line(error)}); try --device cpu") from None
    return device


def _first_line(error: BaseException) -> str:
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), type(error).__name__)
