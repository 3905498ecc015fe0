"""A name becomes a model with hooks, checked at the door.

Knows nothing about transcripts or directions. A model is a TransformerLens `TransformerBridge` over
the Hugging Face model, with its adapters applied in order; hook points keep TransformerLens's names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.models.layers import SITES, Site
from interp.models.loading import _first_line, load_plain

# How far the logits with hooks may be from the plain model's, relative to the largest logit: room for
# another order of summation, nothing more.
_LOGIT_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
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
    """What steers the model at the moment, the outermost first; `interp.steering.hooks` keeps it."""
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

    def chosen_layers(self, layers: Sequence[int] | None) -> tuple[int, ...]:
        """The layers given, or all for None; raises `UserError` unless there is at least one and the model has each."""
        chosen = tuple(range(self.n_layers)) if layers is None else tuple(layers)
        if not chosen or len(set(chosen)) < len(chosen):
            raise UserError(f"layers {', '.join(map(str, chosen)) or 'none'}: give at least one, and each once")
        for layer in chosen:
            self.hook_name("resid_post", layer)
        return chosen

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
    bridge.cfg.default_prepend_bos = bridge.cfg.tokenizer_prepends_bos  # read texts as the tokenizer does
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
