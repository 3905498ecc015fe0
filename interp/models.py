"""A name becomes a model with hooks, checked at the door.

Knows nothing about transcripts or directions. A model is a TransformerLens `TransformerBridge` over
the Hugging Face model, with its adapters applied in order; hook points keep TransformerLens's names.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model as load_weights_file
from torch import Tensor, nn

from interp.checkpoints import (
    folder_sha256,
    hub_reachable,
    locate,
    strip_quantization_marks,
)
from interp.errors import UserError
from interp.lineage import read_lineage

Site = Literal["resid_post", "attn_out", "mlp_out"]
SITES: dict[str, str] = {
    "resid_post": "blocks.{layer}.hook_resid_post",
    "attn_out": "blocks.{layer}.hook_attn_out",
    "mlp_out": "blocks.{layer}.hook_mlp_out",
}
"""Where activations are read and directions are added: TransformerLens's hook points."""

DTYPES = {
    "fp32": torch.float32,
    "float32": torch.float32,
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
}

# How far the logits with hooks may be from the plain model's, relative to the largest logit: room for
# another order of summation, nothing more.
_LOGIT_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}

_WHOLE = "model.safetensors"
_UNKNOWN: dict[str, Any] = {"revision": None, "hash": None, "adapters": []}


@dataclass
class Model:
    """A causal language model with hooks; make one with `load_model` or `wrap`."""

    bridge: Any
    """The `TransformerBridge`: everything that TransformerLens can do with a model."""
    tokenizer: Any
    provenance: dict[str, Any] = field(default_factory=dict)
    attention: str = "sdpa"
    """The attention implementation of the plain model, used when no attention hook is live."""
    source: str = "built in memory"
    """One sentence on where the weights were found; what they are, the provenance says."""
    steered: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)
    """What steers the model at the moment, the outermost first; `interp.steered` keeps it."""
    _lean: _Lean | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        return str(self.provenance["name"])

    @property
    def hf(self) -> Any:
        """The Hugging Face model that the bridge wraps."""
        return self.bridge.original_model

    @property
    def n_layers(self) -> int:
        return int(self.bridge.cfg.n_layers)

    @property
    def d_model(self) -> int:
        return int(self.bridge.cfg.d_model)

    @property
    def context_length(self) -> int | None:
        """Most tokens that the model reads at once, or None where its configuration sets no limit."""
        limit = getattr(self.hf.config.get_text_config(), "max_position_embeddings", None)
        return int(limit) if limit else None

    @property
    def device(self) -> torch.device:
        return next(self.hf.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.hf.parameters()).dtype

    def hook_name(self, site: Site, layer: int) -> str:
        """The name of a hook point; raises `UserError` for a layer that the model lacks."""
        if not 0 <= layer < self.n_layers:
            raise UserError(f"layer {layer}: {self.name} has layers 0 to {self.n_layers - 1}")
        return SITES[site].format(layer=layer)

    @contextmanager
    def only_hooks(self, names: Sequence[str]) -> Iterator[None]:
        """Within this context only the named hook points are live, and all else runs as the plain model.

        The bridge re-implements attention step by step so that every intermediate value has a hook;
        that doubles the time of a forward pass. Where only outputs of components are hooked (the
        residual stream, attention output, MLP output), those components alone keep their hook and the
        rest is the plain model with its own attention kernel: same numbers as the plain model's, to
        the bit. A hook point that is not a component's output leaves the whole bridge in place. Inside
        another such context the hook points of both are live.
        """
        outer = self._lean
        if outer is not None:
            outer.undo()
        self._lean = _Lean(self, {*names, *(() if outer is None else outer.names)})
        try:
            self._lean.do()
            yield
        finally:
            self._lean.undo()
            self._lean = outer
            if outer is not None:
                outer.do()


class _Lean:
    """The bridge without the components that have none of the named hook points at their output."""

    def __init__(self, model: Model, names: set[str]) -> None:
        self.names = names
        self._model = model
        self._replaced: list[tuple[nn.Module, str, nn.Module]] = []
        self._bridge_attention = model.hf.config._attn_implementation

    def do(self) -> None:
        wanted = {id(self._model.bridge.hook_dict[name]) for name in self.names}
        self._unwrap(self._model.hf, wanted)
        if wanted:
            self.undo()
        else:
            self._model.hf.config._attn_implementation = self._model.attention

    def undo(self) -> None:
        for parent, name, child in self._replaced:
            parent._modules[name] = child
        self._replaced.clear()
        self._model.hf.config._attn_implementation = self._bridge_attention

    def _unwrap(self, parent: nn.Module, wanted: set[int]) -> None:
        from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

        for name, child in list(parent.named_children()):
            target = child
            if isinstance(child, GeneralizedComponent):
                target = child.original_component
                self._replaced.append((parent, name, child))
                hooked = id(child.hook_out) in wanted
                parent._modules[name] = _Hooked(target, child.hook_out) if hooked else target
                wanted.discard(id(child.hook_out))
            self._unwrap(target, wanted)


class _Hooked(nn.Module):
    """A plain component followed by one hook point; stands in for the component everywhere else."""

    def __init__(self, component: nn.Module, hook_point: nn.Module) -> None:
        super().__init__()
        self.component = component
        self.hook_point = hook_point

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = self.component(*args, **kwargs)
        return (self.hook_point(out[0]), *out[1:]) if isinstance(out, tuple) else self.hook_point(out)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("component"), name)


def load_model(
    name: str,
    *,
    adapters: Sequence[str] = (),
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
) -> Model:
    """Load a preset, hub id, folder or GGUF file with its LoRA adapters merged in the given order.

    A folder with a `lineage.json` is a checkpoint of training: its base is loaded and its stages are
    merged in order, which gives the model that was trained to the bit, on the device and in the dtype of
    its training. It is refused where its base or a stage is not the one that it names.

    `dtype` is fp32, bf16 or fp16 ("auto": fp32 on a CPU, bf16 elsewhere); `device` anything that torch
    knows ("auto": a GPU where there is one). Raises `UserError` for what cannot be found, read or
    fitted, and when the hooks do not mean what their names say.
    """
    plain = load_plain(name, adapters=adapters, revision=revision, dtype=dtype, device=device)
    return replace(wrap(plain.hf, plain.tokenizer, plain.provenance), source=plain.source)


@dataclass
class Plain:
    """A model without hooks, its adapters merged: what `load_model` wraps and training trains."""

    hf: Any
    tokenizer: Any
    provenance: dict[str, Any]
    source: str


def load_plain(
    name: str,
    *,
    adapters: Sequence[str] = (),
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
) -> Plain:
    """What `load_model` loads, as the plain Hugging Face model; arguments and errors are the same."""
    lineage = read_lineage(name)
    if lineage is None:
        return _load_weights(name, (), adapters, revision, dtype, device)
    if revision is not None:
        raise UserError(f"model {name}: a checkpoint of training has no revisions; leave --revision {revision} out")
    lineage.check_stages()
    of_hub = lineage.base.revision if lineage.base.folder is None else None
    plain = _load_weights(lineage.base_name, lineage.stage_folders, adapters, of_hub, dtype, device)
    lineage.check_base(plain.provenance)
    facts = {"name": name, "lineage": lineage.record()}
    for applied, stage in zip(plain.provenance["adapters"], lineage.stages, strict=False):
        applied["name"] = stage.name
    return replace(plain, provenance=plain.provenance | facts)


def _load_weights(
    name: str, stages: Sequence[Path], adapters: Sequence[str], revision: str | None, dtype: str, device: str
) -> Plain:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = _device(device)
    number = _dtype(dtype, place)
    checkpoint = locate(name, revision)
    arguments = checkpoint.hub_arguments
    if checkpoint.gguf_file:
        arguments["gguf_file"] = checkpoint.gguf_file
    what = "its tokenizer"
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.location, **arguments)
        what = "it"
        hf, loading = AutoModelForCausalLM.from_pretrained(
            checkpoint.location,
            dtype=number,
            use_safetensors=None if checkpoint.gguf_file else True,
            output_loading_info=True,
            **arguments,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"model {name}: {what} cannot be loaded from {checkpoint.location} ({_first_line(error)})"
        ) from error
    absent = [*loading["missing_keys"], *loading["mismatched_keys"]]
    if absent:  # transformers would go on with random numbers in their place
        raise UserError(f"model {name}: {checkpoint.location} lacks {len(absent)} weights, such as {absent[0]}")
    if checkpoint.gguf_file:
        strip_quantization_marks(hf)
    applied: list[dict[str, Any]] = []
    for stage in stages:
        apply = _apply_whole_weights if (stage / _WHOLE).exists() else _apply_adapter
        hf, tokenizer, facts = apply(hf, tokenizer, str(stage))
        applied.append(facts)
    for adapter in adapters:
        hf, tokenizer, facts = _apply_adapter(hf, tokenizer, adapter)
        applied.append(facts)
    provenance = {
        "name": name,
        "revision": getattr(hf.config, "_commit_hash", None) or checkpoint.revision,
        "hash": checkpoint.sha256,
        "adapters": applied,
    }
    return Plain(hf.to(place), tokenizer, provenance, checkpoint.decided)


def wrap(hf: Any, tokenizer: Any, provenance: dict[str, Any] | None = None) -> Model:
    """Put hooks on a Hugging Face causal language model (in place) and check them.

    Raises `UserError` when TransformerLens cannot wrap the architecture, when the wrapped model's
    logits are not the plain model's, or when a residual-stream hook is missing or is not the
    residual stream.
    """
    from transformer_lens.model_bridge.sources._bridge_builder import (
        build_bridge_from_module,
        detect_tokenizer_bos_eos,
    )

    hf.eval().requires_grad_(False)
    provenance = _UNKNOWN | {"name": type(hf).__name__} | (provenance or {})
    first = next(hf.parameters())
    provenance |= {"dtype": str(first.dtype).removeprefix("torch."), "device": str(first.device)}
    provenance["model_type"] = hf.config.model_type
    n_vocabulary = hf.get_input_embeddings().weight.shape[0]
    ids = torch.linspace(0, n_vocabulary - 1, 12, device=first.device).long()[None]
    attention = hf.config._attn_implementation
    plain = {}
    for implementation in (attention, "eager"):  # the bridge computes attention eagerly
        hf.set_attn_implementation(implementation)
        with torch.no_grad():
            plain[implementation] = hf(ids, output_hidden_states=True, use_cache=False)
    try:
        # Without its tokenizer: TransformerLens would replace it by one that opens every text with a
        # token of its own, and ask the hub for that.
        bridge = build_bridge_from_module(
            hf, type(hf).__name__, hf_config=copy.deepcopy(hf.config), model_name=provenance["name"]
        )
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise UserError(
            f"model {provenance['name']}: TransformerLens cannot wrap {type(hf).__name__} ({_first_line(error)})"
        ) from error
    bridge.tokenizer = tokenizer
    bridge.cfg.tokenizer_prepends_bos, bridge.cfg.tokenizer_appends_eos = detect_tokenizer_bos_eos(tokenizer)
    model = Model(bridge, tokenizer, provenance, attention)
    _check(model, ids, plain)
    return model


def _check(model: Model, ids: Tensor, plain: dict[str, Any]) -> None:
    """Refuse a model whose hooks do not mean what their names say.

    `plain` holds the unwrapped model's outputs on `ids`, by attention implementation.
    """
    names = [model.hook_name("resid_post", layer) for layer in range(model.n_layers)]
    missing = [n for n in names if n not in model.bridge.hook_dict]
    if missing:
        raise UserError(f"model {model.name}: TransformerLens gives it no hook point {missing[0]}")
    read: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: Any) -> None:
        read[hook.name.replace("hook_out", "hook_resid_post")] = value

    tolerance = _LOGIT_TOLERANCE.get(model.dtype, 1e-2)
    with torch.no_grad(), model.bridge.hooks(fwd_hooks=[(n, keep) for n in names]):
        bridged = model.hf(ids, use_cache=False).logits
        with model.only_hooks(names):
            read.clear()
            lean = model.hf(ids, use_cache=False).logits
    for implementation, logits in (("eager", bridged), (model.attention, lean)):
        expected = plain[implementation].logits
        off = float((logits - expected).abs().max() / expected.abs().max())
        if not off <= tolerance:
            raise UserError(
                f"model {model.name}: with hooks ({implementation} attention) its logits differ by {off:.2%} "
                f"from the plain model's"
            )
    hidden_states = plain[model.attention].hidden_states
    # hidden_states[i + 1] is the output of layer i, except for the last, which Hugging Face normalises first.
    for layer, name in enumerate(names):
        value = read.get(name)
        if value is None or value.shape != (*ids.shape, model.d_model):
            shape = "nothing" if value is None else tuple(value.shape)
            raise UserError(f"model {model.name}: {name} gives {shape}, expected {(*ids.shape, model.d_model)}")
        if layer < model.n_layers - 1 and not torch.equal(value, hidden_states[layer + 1]):
            raise UserError(f"model {model.name}: {name} is not the output of layer {layer}")


def _apply_adapter(hf: Any, tokenizer: Any, adapter: str) -> tuple[Any, Any, dict[str, Any]]:
    """Merge one LoRA adapter, with the tokenizer that lies beside it if there is one."""
    from peft import PeftModel, get_peft_model_state_dict

    folder = _adapter_folder(adapter)
    try:
        tokenizer = _apply_tokenizer(hf, tokenizer, folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they would say is checked below, and refused
            adapted = PeftModel.from_pretrained(hf, str(folder), use_safetensors=True)
        # Unless told, PEFT would look on the hub for the base by its name, whether its vocabulary grew.
        own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            homeless = (set(file.keys()) ^ own.keys()) - adapted.state_dict().keys()  # whole embeddings have a home
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"adapter {adapter}: does not fit the model ({_first_line(error)})") from error
    if homeless:
        raise UserError(
            f"adapter {adapter}: does not fit the model ({len(homeless)} weights have no counterpart, "
            f"such as {min(homeless)})"
        )
    facts = {
        "name": adapter,
        "hash": folder_sha256(folder),
        "trained_on": adapted.peft_config["default"].base_model_name_or_path,
    }
    return adapted.merge_and_unload(), tokenizer, facts


def _apply_whole_weights(hf: Any, tokenizer: Any, stage: str) -> tuple[Any, Any, dict[str, Any]]:
    """Put the weights of a stage that trained all of them in the model's place."""
    folder = Path(stage)
    tokenizer = _apply_tokenizer(hf, tokenizer, folder)
    load_weights_file(hf, folder / _WHOLE)
    return hf, tokenizer, {"name": stage, "hash": folder_sha256(folder)}


def _apply_tokenizer(hf: Any, tokenizer: Any, folder: Path) -> Any:
    """The tokenizer in the folder, where there is one, with as many embedding rows as it needs."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").exists():
        return tokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if len(tokenizer) > hf.get_input_embeddings().weight.shape[0]:
        hf.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return tokenizer


def _adapter_folder(adapter: str) -> Path:
    """The adapter's folder, fetched from the hub where it is not a local one."""
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


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise UserError(f"dtype {name}: not known; give auto, fp32, bf16 or fp16")
    return DTYPES[name]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
