"""A model with hooks, checked when it is made. Knows nothing about transcripts or directions."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from interp.errors import UserError, first_line
from interp.models.catalog import locate
from interp.models.engine import open_engine
from interp.models.layers import SITES, Site
from interp.models.lineage import read_lineage
from interp.models.loading import load_plain
from interp.models.positions import forget_longest, varying
from interp.storage.provenance import folder_sha256

# How far logits with hooks may be from the plain model's, relative to the largest: room for another summation order.
LOGIT_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
# What transformers and TransformerLens raise for an architecture that is not as they expect.
_UNWRAPPABLE = (ValueError, LookupError, AttributeError, RuntimeError, TypeError, ImportError, AssertionError)


def first_device(hf: Any) -> torch.device:
    """The device that a model begins on; what is left in files is on none."""
    found: torch.device = next(hf.parameters()).device
    return torch.device(hf.get_input_embeddings()._hf_hook.execution_device) if found.type == "meta" else found


@dataclass
class Model:
    """A causal language model with TransformerLens's hooks, made by `load_model` or `wrap`.

    >>> model.n_layers, model.d_model
    (4, 128)
    """

    bridge: Any
    """The `TransformerBridge`, for everything TransformerLens can do."""
    tokenizer: Any
    provenance: dict[str, Any] = field(default_factory=dict)
    attention: str = "sdpa"
    """The attention of the plain model, used when no attention hook is live."""
    source: str = "built in memory"
    engine: Any = None
    """The `interp.models.engine.Engine` that holds it, if not this process."""
    steered: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)
    """What steers the model now, outermost first; kept by `interp.steering.hooks`."""
    notes: list[str] = field(default_factory=list, init=False)
    """What is done in another way than for most models, in sentences."""
    batching: int | None = field(default=None, init=False, repr=False, compare=False)
    """How rows are read together, once `interp.generation` has found out."""
    sits: bool | None = field(default=None, init=False, repr=False, compare=False)
    """Whether rows can be written in seats, once it has found out."""
    seats: Any = field(default=None, init=False, repr=False, compare=False)
    """Those it was last written in."""
    _lean: _Lean | None = field(default=None, init=False, repr=False, compare=False)
    hooks_before: int = field(default_factory=lambda: RemovableHandle.next_id, init=False, repr=False, compare=False)
    """The hooks with lower numbers are TransformerLens's own."""

    @property
    def name(self) -> str:
        return str(self.provenance["name"])

    @property
    def hf(self) -> Any:
        return self.bridge.original_model

    @property
    def n_layers(self) -> int:
        return int(self.bridge.cfg.n_layers)

    @property
    def d_model(self) -> int:
        return int(self.bridge.cfg.d_model)

    @cached_property
    def takes(self) -> Mapping[str, Any]:
        """The arguments of its forward pass, by name."""
        return inspect.signature(self.hf.forward).parameters

    @cached_property
    def varying(self) -> tuple[str, int, int] | None:
        """`interp.models.positions.varying` of its configuration."""
        return varying(self.hf.config)

    @property
    def context_length(self) -> int | None:
        """In tokens; None where the configuration sets no limit."""
        limit = getattr(self.hf.config.get_text_config(), "max_position_embeddings", None)
        return self.varying[2] if limit and self.varying else int(limit) if limit else None

    @property
    def device(self) -> torch.device:
        """Where tokens go in and logits come out; layers may be elsewhere."""
        return first_device(self.hf)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.hf.parameters()).dtype

    def chosen_layers(self, layers: Sequence[int] | None) -> tuple[int, ...]:
        """The layers given, or all for None; raises `UserError` for none, for a repeated one and for one it lacks."""
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

    def alone(self, length: int) -> bool:
        """Whether a text of this length changes the positions of shorter ones in its batch."""
        return self.varying is not None and length > self.varying[1]

    @contextmanager
    def only_hooked(self, *, deaf: bool = False) -> Iterator[None]:
        """Within this context the hook points that nobody hooks, now or later, are left out, in half the time.

        Where all hooks are at outputs of components (residual stream, attention, MLP), the rest runs as the plain model
        with its own attention kernel, to the bit. Any other hook brings the whole bridge back. `deaf` leaves out all.
        """
        if self.engine is not None:
            yield
            return
        outer, lean = self._lean, self._lean or _Lean(self)
        self._lean, lean.deaf, was_deaf = lean, deaf, lean.deaf
        passes = set() if outer else {self.hf, self.hf.base_model}
        handles = [module.register_forward_pre_hook(lean.look) for module in passes]
        try:
            lean.look()
            yield
        finally:
            self._lean, lean.deaf = outer, was_deaf
            for handle in handles:
                handle.remove()
            if outer is None:
                lean.put_back()


class _Lean:
    """The bridge without the components whose output nobody reads; before each pass it looks who does."""

    def __init__(self, model: Model) -> None:
        from transformer_lens.hook_points import HookPoint
        from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

        self.deaf = False
        self._model = model
        self._hooked: set[int] | None = None
        self._replaced: list[tuple[nn.Module, str, nn.Module]] = []
        self._bridge_attention = model.hf.config._attn_implementation
        modules = [m for m in model.bridge.modules() if isinstance(m, (HookPoint, GeneralizedComponent))]
        each = [(m, (m._forward_pre_hooks, m._forward_hooks, m._backward_hooks)) for m in modules]
        self._hooks = [(id(m), hooks) for m, kinds in each for hooks in kinds]

    def look(self, *_: Any) -> None:
        """See who reads, and leave out the rest."""
        since = sys.maxsize if self.deaf else self._model.hooks_before
        hooked = {listener for listener, hooks in self._hooks if hooks and max(hooks) >= since}
        if hooked != self._hooked:
            self.put_back()
            self._hooked = set(hooked)
            self._unwrap(self._model.hf, hooked)
            if hooked:  # not at the output of a component
                self.put_back()
            else:
                self._model.hf.config._attn_implementation = self._model.attention

    def put_back(self) -> None:
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
    """A plain component followed by one hook point; otherwise acts as the component."""

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


@dataclass(frozen=True)
class LazyModel:
    """A model that is not in memory until `load` is called.

    >>> interp.models.LazyModel.named("organism").provenance["dtype"]
    'auto'
    """

    name: str
    provenance: dict[str, Any]
    """The part of a loaded model's provenance that is known before loading."""
    load: Callable[[], Model]

    @staticmethod
    def named(
        name: str, *, adapters: Sequence[str] = (), revision: str | None = None, dtype: str = "auto", **loading: str
    ) -> LazyModel:
        """One for `load_model`, with its arguments; raises `UserError` at once where there is no such model."""
        lineage = read_lineage(name)
        if lineage is None:
            found = locate(name, revision)
            facts: dict[str, Any] = {"hash": found.sha256, "revision": found.revision}
        else:
            facts = {"hash": lineage.locate_base().sha256, "lineage": lineage.record()}
        stages = [{"name": stage.name, "hash": stage.hash} for stage in (lineage.stages if lineage else ())]
        applied = [{"name": a, "hash": folder_sha256(Path(a)) if Path(a).is_dir() else None} for a in adapters]
        load = partial(load_model, name, adapters=adapters, revision=revision, dtype=dtype, **loading)
        return LazyModel(name, {"name": name, **facts, "adapters": [*stages, *applied], "dtype": dtype}, load)


def load_model(
    name: str,
    *,
    adapters: Sequence[str] = (),
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    engine: str = "interp",
) -> Model:
    """Load a preset, hub id, folder, training checkpoint or GGUF file, with LoRA adapters merged in the given order.

    `dtype` is fp32, bf16, fp16 or auto (fp32 on a CPU, else bf16); `device` any torch device, auto (a GPU if there is
    one) or shard (all GPUs, then the CPU's memory, then the model's files). `engine` is interp, or the backend of
    interp-engine that holds the model (vllm, vllm-static, eager), which only generates, and is read and steered at its
    hook points. Raises `UserError` where something is missing or does not fit, and as `wrap` does.

    >>> interp.load_model("organism-imad").provenance["adapters"][-1]["name"]
    'imad'
    """
    if engine != "interp":
        return Model(**open_engine(engine, name, adapters=adapters, revision=revision, dtype=dtype, device=device))
    plain = load_plain(name, adapters=adapters, revision=revision, dtype=dtype, device=device)
    return replace(wrap(plain.hf, plain.tokenizer, plain.provenance), source=plain.source)


def lazy_models(models: Iterable[Model | LazyModel]) -> list[LazyModel]:
    """All models as lazy ones; a model in memory stays there."""
    return [m if isinstance(m, LazyModel) else LazyModel(m.name, m.provenance, lambda m=m: m) for m in models]  # type: ignore[misc]


def wrap(hf: Any, tokenizer: Any, provenance: dict[str, Any] | None = None) -> Model:
    """Put hooks on a Hugging Face causal language model, in place.

    Raises `UserError` where TransformerLens cannot wrap it, or the hooks change the logits or are not what they say.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> small = LlamaForCausalLM(LlamaConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, vocab_size=9))
    >>> interp.wrap(small, model.tokenizer).n_layers
    1
    """
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module, detect_tokenizer_bos_eos

    hf.eval().requires_grad_(False)
    kind, first = type(hf).__name__, next(hf.parameters())
    unknown: dict[str, Any] = {"revision": None, "hash": None, "adapters": [], "name": kind}
    number = {"dtype": str(first.dtype).removeprefix("torch."), "device": str(first_device(hf))}
    provenance = unknown | (provenance or {}) | number | {"model_type": hf.config.model_type}
    for module in hf.modules():
        if "dynamic" in str(getattr(module, "rope_type", "")):
            module.register_forward_pre_hook(forget_longest)
    plain = {}
    try:
        last = hf.get_input_embeddings().weight.shape[0] - 1
        ids = torch.linspace(0, last, 12, device=first_device(hf)).long()[None]
        attention = hf.config._attn_implementation
        for implementation in (attention, "eager"):  # the bridge computes attention eagerly
            hf.set_attn_implementation(implementation)
            with torch.no_grad():
                plain[implementation] = hf(ids, output_hidden_states=True, use_cache=False)
        # without the tokenizer, which TransformerLens would replace with one that opens every text with a BOS token
        bridge = build_bridge_from_module(hf, kind, hf_config=copy.deepcopy(hf.config), model_name=provenance["name"])
        bridge.tokenizer = tokenizer
        bridge.cfg.tokenizer_prepends_bos, bridge.cfg.tokenizer_appends_eos = detect_tokenizer_bos_eos(tokenizer)
        bridge.cfg.default_prepend_bos = bridge.cfg.tokenizer_prepends_bos  # read texts as the tokenizer does
        model = Model(bridge, tokenizer, provenance, attention)
        _check(model, ids, plain)
    except _UNWRAPPABLE as error:
        reason = f"TransformerLens cannot wrap {kind} ({first_line(error)}); choose another architecture"
        raise UserError(f"model {provenance['name']}: {reason}") from error
    return model


def _check(model: Model, ids: Tensor, plain: dict[str, Any]) -> None:
    """Refuse a model whose hooks do not mean what their names say; `plain` is its output, by attention."""
    names = [model.hook_name("resid_post", layer) for layer in range(model.n_layers)]
    if missing := [n for n in names if n not in model.bridge.hook_dict]:
        raise UserError(f"model {model.name}: TransformerLens gives it no hook point {missing[0]}")
    read: dict[str, Tensor] = {}
    keep = [(name, lambda value, hook, name=name: read.update({name: value})) for name in names]
    with torch.no_grad():
        with model.bridge.hooks(fwd_hooks=keep):
            bridged = model.hf(ids, use_cache=False).logits
        model.hooks_before = RemovableHandle.next_id  # TransformerLens adds hooks of its own at the first pass
        read.clear()
        with model.only_hooked(), model.bridge.hooks(fwd_hooks=keep):
            lean = model.hf(ids, use_cache=False).logits
    for implementation, logits in (("eager", bridged), (model.attention, lean)):
        expected = plain[implementation].logits
        off = float((logits - expected).abs().max() / expected.abs().max())
        if not off <= LOGIT_TOLERANCE.get(model.dtype, 1e-2):  # NaN is refused too
            differs = f"its logits differ by {off:.2%} from the plain model's"
            raise UserError(f"model {model.name}: with hooks ({implementation} attention) {differs}")
    for name in names:
        shape, expected = tuple(getattr(read.get(name), "shape", ())), (*ids.shape, model.d_model)
        if shape != expected:
            raise UserError(f"model {model.name}: {name} gives {shape or 'no tensor'}, expected {expected}")
    states = plain[model.attention].hidden_states
    embedded = not read[names[0]].equal(states[0])  # the states start with the embeddings, but for Mamba and RWKV
    for layer, name in enumerate(names[:-1]):  # the last of the states is normalised
        if not read[name].equal(states[layer + embedded]):
            raise UserError(f"model {model.name}: {name} is not the output of layer {layer}")
