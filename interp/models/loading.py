"""A name becomes a plain Hugging Face model with its adapters merged. Knows nothing about hooks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import finalize

import torch
from safetensors.torch import load_model as load_weights_file

from interp.errors import UserError, first_line
from interp.models.adapters import RAISED, fit_vocabulary, merge_adapter, weight_shapes
from interp.models.catalog import SHIPPED, locate, strip_quantization_marks
from interp.models.lineage import read_lineage
from interp.models.tokens import tokenize_as
from interp.storage.files import atomic_write, scratch
from interp.storage.provenance import folder_sha256

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DTYPES |= {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}
SHARD = "shard"
_WHOLE = "model.safetensors"
_ADVICE = {
    "custom code": "; give a model that transformers knows: no code from a model's folder is run",
    "not recognize this architecture": "; try a newer transformers",
    "FlashAttention": "; install flash-attn, or let its config.json ask for sdpa",
    "No module named": "; install it with pip",
}


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
        base = lineage.base_name
    place = _device("auto" if device == SHARD else device)
    if dtype not in ("auto", *DTYPES):
        raise UserError(f"dtype {dtype}: unknown; choose one of auto, fp32, bf16, fp16")
    number = DTYPES.get(dtype, torch.float32 if place.type == "cpu" else torch.bfloat16)
    checkpoint = lineage.locate_base() if lineage else locate(base, revision)
    if sharded := device == SHARD:
        offloaded = _offload_folder(kept := ExitStack())
    arguments = checkpoint.hub_arguments
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.location, **arguments)
        if checkpoint.gguf_file is None:
            arguments |= {"use_safetensors": True} | _demanded(checkpoint.location, arguments, place)
        if sharded and not (lineage or adapters):  # what is merged with adapters is in memory first
            arguments |= {"device_map": "auto", "offload_folder": offloaded}
        # mismatched sizes are reported below
        arguments |= {"dtype": number, "output_loading_info": True, "ignore_mismatched_sizes": True}
        hf, loading = AutoModelForCausalLM.from_pretrained(checkpoint.location, **arguments)
    except RAISED as error:
        reason, advice = first_line(error), next((advice for sign, advice in _ADVICE.items() if sign in str(error)), "")
        raise UserError(f"model {base}: cannot be loaded from {checkpoint.location} ({reason}){advice}") from error
    # transformers would fill in random numbers
    if absent := sorted([*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])]):
        lacks = f"{checkpoint.location} lacks {len(absent)} weights of the sizes in its config.json"
        raise UserError(f"model {base}: {lacks}, such as {absent[0]}")
    if checkpoint.gguf_file:
        strip_quantization_marks(hf)
    commit = getattr(hf.config, "_commit_hash", None) or checkpoint.revision
    provenance: dict[str, Any] = {"name": name, "revision": commit, "hash": checkpoint.sha256, "adapters": []}
    if lineage is not None:
        lineage.require_base("revision", commit, lineage.base.revision)
        provenance["lineage"] = lineage.record()
        for stage, folder in zip(lineage.stages, lineage.stage_folders, strict=True):
            if (folder / _WHOLE).exists():  # it trained all weights
                tokenizer, _ = fit_vocabulary(hf, tokenizer, folder, weight_shapes(folder / _WHOLE))
                load_weights_file(hf, folder / _WHOLE)
                facts = {"hash": folder_sha256(folder)}
            else:
                hf, tokenizer, facts = merge_adapter(hf, tokenizer, str(folder))
            provenance["adapters"].append({"name": stage.name} | facts)
    # the shipped base is read as its checkpoints are, to compare them
    if Path(checkpoint.location) == SHIPPED["organism"] if lineage is None else lineage.tokenized == "pieces":
        tokenize_as(tokenizer, "pieces")
    for adapter in adapters:
        hf, tokenizer, facts = merge_adapter(hf, tokenizer, adapter)
        provenance["adapters"].append({"name": adapter} | facts)
    rows = hf.get_input_embeddings().weight.shape[0]
    if max(tokenizer.get_vocab().values()) >= rows:
        hf.get_input_embeddings().register_forward_pre_hook(partial(_require_rows, tokenizer, name, rows))
    if sharded:
        finalize(hf, kept.close)
        hf = hf if hasattr(hf, "hf_device_map") else shard(hf, offloaded)
    elif "device_map" not in arguments:
        hf = hf.to(place)
    return Plain(hf, tokenizer, provenance, checkpoint.decided)


def shard(hf: Any, offloaded: str | None = None) -> Any:
    """A model in the CPU's memory, over all cards; what has no room there stays, or goes to the folder `offloaded`."""
    from accelerate import dispatch_model, infer_auto_device_map

    where = infer_auto_device_map(hf, no_split_module_classes=list(hf._no_split_modules or ()), dtype=hf.dtype)
    hf.hf_device_map = where
    return dispatch_model(hf, where, offload_dir=offloaded)


def export_merged(checkpoint: str, out: Path, dtype: str = "auto", change: Callable[[Any], None] | None = None) -> None:
    """Write a checkpoint with all its stages merged into a new folder; raises `UserError` where `out` exists.

    `change` is made to the model, in fp32, before it is written.

    >>> interp.models.export_merged("organism-sft", tmp_path / "merged")
    >>> interp.load_model(str(tmp_path / "merged")).n_layers
    4
    """
    if out.exists():
        raise UserError(f"{out}: exists; give a new folder")
    plain = load_plain(checkpoint, dtype=dtype if change is None else "fp32", device="cpu")
    if change is not None:
        change(plain.hf)
        plain.hf.to(DTYPES.get(dtype, torch.float32))
    with atomic_write(out, Path.mkdir) as made:
        plain.hf.save_pretrained(made)
        plain.tokenizer.save_pretrained(made)


def _require_rows(tokenizer: Any, name: str, rows: int, _: Any, given: tuple[Any, ...]) -> None:
    """Before the embedding of a model that has fewer rows than its tokenizer has tokens."""
    if (last := int(given[0].max())) >= rows:
        token = tokenizer.convert_ids_to_tokens(last)
        raise UserError(f"model {name}: has no embedding for {token!r} of its tokenizer; leave it out of the texts")


def _demanded(location: str, arguments: dict[str, Any], place: torch.device) -> dict[str, Any]:
    """How a model has to be loaded by its configuration; raises `ValueError` for what transformers would pass over."""
    from transformers import PreTrainedConfig
    from transformers.quantizers import AutoHfQuantizer

    config, _ = PreTrainedConfig.get_config_dict(location, **arguments)
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    for part in parts:
        attention = str(part.get("attn_implementation") or part.get("_attn_implementation"))
        if "/" in attention:
            raise ValueError(f"its attention {attention} is code from the hub, which is not run")
    quantized = [part["quantization_config"] for part in parts if part.get("quantization_config")]
    if unknown := [how for how in quantized if not AutoHfQuantizer.supports_quant_method(how)]:
        raise ValueError(f"transformers does not know how its weights are quantized: {unknown[0]['quant_method']}")
    return {"device_map": {"": str(place)}} if quantized else {}  # they cannot be moved later


def _offload_folder(kept: ExitStack) -> str:
    """Where transformers puts what has no room in memory and is not in the model's files as it is."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(f"device {SHARD}: takes all cards for one process; start it without a launcher")
    return str(kept.enter_context(scratch()))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name}: cannot be used here ({first_line(error)}); try --device cpu") from None
    return device
