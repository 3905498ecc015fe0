"""Vectors that other tools wrote and read: what a file holds, at which site, and how it counts layers.

The conventions are those of the tools' sources: `direction.N` of a control vector acts on the output of layer N
(llama.cpp adds nothing at layer 0), as do the layers of repeng, steering-vectors (decoder_block), CAA and saklas; row i
of persona-vectors is Hugging Face's hidden state i, so row 0 is the embedding and row i the output of layer i - 1.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from interp.directions.facts import MODEL
from interp.directions.settings import Format, require_name
from interp.errors import UserError, first_line
from interp.models.layers import SITES, Site
from interp.storage.files import atomic_write, checked, entries, reading

FORMATS: dict[str, Format] = {".gguf": "gguf", ".safetensors": "safetensors", ".pt": "steering-vectors"}
"""The format that a file's name asks for."""
_ABOUT = "interp.exported"
"""What this package adds to a file, so that it reads it back as it was: an entry that other readers pass over."""
_EXPORTED = entries(label=str, residual_norm=list[float | None], model=MODEL)
_OUTPUT: Site = "resid_post"
_PERSONA = re.compile(r"(.+)_(?:prompt_avg|response_avg|prompt_last)_diff")
_CAA = re.compile(r"vec_layer_(\d+)(?:_.+)?")
_SITES = {"": _OUTPUT, "mlp": "mlp_out", "attn": "attn_out", "self_attn": "attn_out"}
_SITES |= {"hook_resid_post": _OUTPUT, "hook_mlp_out": "mlp_out", "hook_attn_out": "attn_out"}
_SITES |= {"decoder_block": _OUTPUT, "direction": _OUTPUT}
_KEYS = (
    re.compile(r"(?P<what>direction)\.(?P<layer>\d+)"),
    re.compile(r"(?:.+\.)?(?:layers|h|blocks)\.(?P<layer>\d+)(?:\.(?P<what>\w+))?"),  # a module or a hook point
    re.compile(r"(?:layers?[_.-]?)?(?P<layer>\d+)"),  # says no site
)
# What torch, gguf and pickle raise for a damaged file, besides ValueError.
_DAMAGED: tuple[type[Exception], ...] = (
    *(RuntimeError, LookupError, EOFError, TypeError, AttributeError, ArithmeticError, ImportError),
    *(AssertionError, MemoryError, pickle.UnpicklingError, SafetensorError),
)


@dataclass(frozen=True)
class _Held:
    """What a file holds, as far as it says so."""

    taken_for: str
    vectors: Mapping[int, Any]
    """By layer, or by row where it says no layers."""
    label: str
    site: str | None = None
    rows: bool = False
    """Whether the vectors are rows that the file gives no layers to."""
    model: Mapping[str, Any] = field(default_factory=dict)
    residual_norm: Sequence[float | None] = ()


def read_foreign(
    path: str | Path, layers: Sequence[int] | None = None, site: str | None = None, label: str | None = None
) -> dict[str, Any] | None:
    """The fields of `Directions` from another tool's file; None for a file of this package, and for no such file.

    Raises `UserError` for a file that does not say its layers or its site, unless they are given, and for a damaged
    one. From `.pt` and `.pth` only tensors and arrays are read: no code in them is run.
    """
    path = Path(path)
    read = _reader(path)
    if read is None:
        if layers or site or label:
            raise UserError(f"{path}: a file of this package, or none; leave layers, site and label out")
        return None
    with reading(path, "a file of directions", "interp or a tool whose files it reads"):
        try:
            held = read(path)
        except _DAMAGED as error:
            raise ValueError(_why(error)) from None
        label, site = label or held.label, site or held.site
        require_name(label)
        vectors, n_layers, also = _placed(path, held, layers, site)
        if not vectors.keys() <= set(range(10_000)):
            raise ValueError(f"holds layer {next(layer for layer in vectors if layer not in range(10_000))}")
        each = {layer: _vector(f"layer {layer}", value) for layer, value in sorted(vectors.items())}
        if widths := {len(vector) for vector in each.values()} - {len(next(iter(each.values())))}:
            raise ValueError(f"holds vectors of {len(next(iter(each.values())))} and of {widths.pop()} numbers")
    known: Site = _OUTPUT if site == "hidden_states" else site  # type: ignore[assignment]
    norms = np.array([np.nan if norm is None else norm for norm in held.residual_norm] or [np.nan] * len(each))
    count = f"{len(each)} layer{'s' * (len(each) > 1)}, counted from 0, at {known}{also}"
    note = f"taken for {held.taken_for}: {label!r} at {count}"
    facts: dict[str, Any] = {"imported": {"note": note, "n_layers": n_layers}, "provenance": {"model": held.model}}
    return {
        "labels": (label,),
        "layers": tuple(each),
        "vectors": np.stack(list(each.values()))[None, None],
        "residual_norm": norms.astype(np.float32),
        "hook_point": SITES[known],
        "facts": facts,
    }


def _placed(
    path: Path, held: _Held, layers: Sequence[int] | None, site: str | None
) -> tuple[Mapping[int, Any], int | None, str]:
    """The vectors by layer, the number of the model's layers where the file tells, and what else to say."""
    vectors, n = held.vectors, len(held.vectors)
    if site == "hidden_states":
        if not held.rows or n < 2 or layers:
            why = "leave --layers out" if layers else "give another --site"
            raise UserError(f"{path}: {held.taken_for}; hidden states are rows that say their layers: {why}")
        said = "; row 0, the embedding, is left out, and the last row was read after the final norm"
        return {row - 1: vectors[row] for row in range(1, n)}, n - 1, said
    if held.rows and layers is not None and len(layers) != n:
        raise UserError(f"{path}: {held.taken_for}, and {len(layers)} layers; give as many, in the order of its rows")
    asks = {f"--layers {'12' if n == 1 else f'0-{n - 1}'}": held.rows and layers is None, "--site resid_post": not site}
    if missing := [option for option, needed in asks.items() if needed]:
        what = " or ".join(option.split()[0].strip("-") for option in missing)
        say = f"interp import-directions {path} {' '.join(missing)} --out directions.safetensors"
        raise UserError(f"{path}: {held.taken_for}, which does not say its {what}; say it, as in {say}")
    if held.rows and layers is not None:
        return {layer: vectors[row] for row, layer in enumerate(layers)}, None, ""
    if absent := [layer for layer in layers or () if layer not in vectors]:
        raise UserError(f"{path}: has no layer {absent[0]}; choose some of {', '.join(map(str, sorted(vectors)))}")
    return {layer: vectors[layer] for layer in layers or vectors}, None, ""


def _vector(name: str, value: Any) -> np.ndarray:
    """float32, one-dimensional and finite, or `ValueError`."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, np.floating):
        raise ValueError(f"{name} is {getattr(value, 'dtype', type(value).__name__)}, not a vector of floats")
    if (flat := value.squeeze()).ndim != 1 or not flat.size:
        raise ValueError(f"{name} has the shape {value.shape}, not that of a vector")
    if not (np.abs(flat) <= np.finfo(np.float32).max).all():
        raise ValueError(f"{name} has numbers that are not finite")
    return flat.astype(np.float32)


def _why(error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than tensors, and no code in it is run; save the vectors alone, by layer"
    return first_line(error) or type(error).__name__


def _reader(path: Path) -> Callable[[Path], _Held] | None:
    """Reads such a file; None for one of this package, and for what nobody here reads."""
    if path.is_dir():
        return _caa_folder if [*path.glob("vec_layer_*.pt")] else None
    head = b""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(9)
    if head[:4] == b"GGUF":
        return _gguf
    if head[8:] == b"{":
        with suppress(SafetensorError, OSError), safe_open(str(path), framework="pt") as tensors:
            return None if "interp" in (tensors.metadata() or {}) else _safetensors
        return None
    return _torch if head and (head[:2] == b"PK" or path.suffix in (".pt", ".pth", ".bin")) else None


def _gguf(path: Path) -> _Held:
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(path)
    names = ("general.architecture", "controlvector.model_hint", _ABOUT)
    architecture, hinted, about = (reader.fields[n].contents() if n in reader.fields else None for n in names)
    if architecture != "controlvector":
        raise ValueError(f"a GGUF file of {architecture!r}, not of a control vector")
    tensors = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    hint = {"model_type": hinted} if hinted else {}
    held = _by_name(path, tensors, "a GGUF control vector (llama.cpp, repeng)")
    return _exported(replace(held, model=hint), about)


def _safetensors(path: Path) -> _Held:
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        about = (file.metadata() or {}).get(_ABOUT)
    held = _by_name(path, tensors, "safetensors by layer")
    sidecar = path.with_suffix(".json")
    with suppress(OSError, ValueError, TypeError):
        if "saklas_version" in json.loads(sidecar.read_bytes()):
            held = replace(held, site=_OUTPUT, taken_for="a saklas profile")
    return _exported(held, about)


def _exported(held: _Held, about: str | None) -> _Held:
    """With what this package said of its own file."""
    if about is None:
        return held
    said = checked(_EXPORTED, about)
    return replace(held, label=said["label"], model=said["model"], residual_norm=said["residual_norm"])


def _torch(path: Path) -> _Held:
    import torch

    made: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(name)) for name in ("float16", "float32", "float64"))]
    rebuilt = np.empty(0).__reduce__()[0]  # repeng keeps arrays
    made += [(np.ndarray, "numpy.memmap")] + [
        (rebuilt, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")
    ]
    with torch.serialization.safe_globals(made), warnings.catch_warnings(action="ignore"):  # of an odd protocol
        found = torch.load(path, map_location="cpu", weights_only=True)
    kind, type_ = "", "decoder_block"
    if isinstance(found, dict) and "layer_activations" in found:
        found, type_, kind = found["layer_activations"], str(found.get("layer_type", type_)), "a SteeringVector"
    elif isinstance(found, dict) and isinstance(found.get("directions"), dict):
        found = found["directions"]
    if type_ not in _SITES:
        raise ValueError(f"acts on {type_}, which is no hook point here")
    if isinstance(found, dict) and found and all(isinstance(key, int) for key in found):
        kind = kind or "vectors by layer (steering-vectors, repeng)"
        return _Held(kind, found, path.stem, _SITES[type_])
    if isinstance(found, dict):
        return _by_name(path, found, "tensors by name")
    if isinstance(found, list | tuple):
        found = torch.stack([torch.as_tensor(each) for each in found])
    if (persona := _PERSONA.fullmatch(path.stem)) and getattr(found, "ndim", 0) == 2:
        return _Held("persona-vectors' hidden states", dict(enumerate(found)), persona[1], "hidden_states", True)
    if caa := _CAA.fullmatch(path.stem):
        return _Held("a CAA vector", {int(caa[1]): found}, path.absolute().parent.name or path.stem, _OUTPUT)
    return _rows(path, found, "a bare tensor")


def _caa_folder(path: Path) -> _Held:
    each = [_torch(file) for file in sorted(path.glob("vec_layer_*.pt"))]
    vectors = {layer: vector for held in each for layer, vector in held.vectors.items()}
    if len(vectors) < len(each):
        raise ValueError("holds vectors of one layer from several models; give one of its files")
    return _Held("a folder of CAA vectors", vectors, each[0].label, _OUTPUT)


def _by_name(path: Path, tensors: Mapping[Any, Any], taken_for: str) -> _Held:
    """Vectors under names that say the layer; a single tensor of another name is rows."""
    found, sites = dict[int, Any](), set[str | None]()
    for name, value in tensors.items():
        match = next(filter(None, (key.fullmatch(str(name)) for key in _KEYS)), None)
        what = (match and match.groupdict().get("what", "?")) or ""
        if match is None or (what and what not in _SITES and what != "?"):
            if len(tensors) == 1:
                return _rows(path, value, f"a tensor named {name}")
            raise ValueError(f"holds {str(name)[:60]!r}, which is no layer's vector")
        if (layer := int(match["layer"])) in found:
            raise ValueError(f"holds two vectors of layer {layer}")
        found[layer] = value
        sites.add(None if what == "?" else _SITES[what])
    if len(sites) != 1:
        raise ValueError("holds vectors of several sites" if sites else "holds no vectors")
    return _Held(taken_for, found, path.stem, sites.pop())


def _rows(path: Path, value: Any, taken_for: str) -> _Held:
    if getattr(value, "ndim", 0) not in (1, 2, 3) or 0 in value.shape:
        raise ValueError(f"holds {type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}, not vectors")
    each = value.reshape(-1, value.shape[-1]) if value.ndim < 3 else value
    said = f"{taken_for} of {len(each)} vector{'s' * (len(each) > 1)}"
    return _Held(said, dict(enumerate(each)), path.stem, None, True)


def write_foreign(
    path: str | Path,
    format: Format,
    vectors: Mapping[int, np.ndarray],
    hook_point: str,
    about: Mapping[str, Any],
    model_type: str | None,
) -> None:
    """One label's vectors by layer as another tool reads them; `UserError` for those that the format has no place for.

    `about` is what only this package reads: the label, the activations' mean lengths and the provenance of the model.
    """
    layers, note = list(vectors), json.dumps(about)
    if format != "safetensors" and hook_point != SITES[_OUTPUT]:
        raise UserError(f"{hook_point}: {format} files act on resid_post; extract there, or write safetensors")
    if format == "caa" and len(layers) > 1:
        raise UserError(f"{len(layers)} layers: a CAA file holds one; choose it with --layers")
    if format == "persona-vectors" and layers != list(range(len(layers))):
        raise UserError(f"layers {layers}: hidden states have a row for every layer from 0; extract all layers")
    with atomic_write(path) as temporary:
        if format == "gguf":
            _write_gguf(temporary, vectors, model_type, note)
        elif format == "safetensors":
            named = {hook_point.format(layer=layer): vector for layer, vector in vectors.items()}
            save_file(named, temporary, metadata={_ABOUT: note})
        else:
            import torch

            tensors = {layer: torch.from_numpy(vector) for layer, vector in vectors.items()}
            each = list(tensors.values())
            rows = torch.stack([torch.zeros_like(each[0]), *each])
            torch.save({"caa": each[0], "persona-vectors": rows}.get(format, tensors), temporary)


def _write_gguf(path: Path, vectors: Mapping[int, np.ndarray], model_type: str | None, about: str) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", model_type or "")
    writer.add_uint32("controlvector.layer_count", len(vectors))
    writer.add_string(_ABOUT, about)
    for layer, vector in vectors.items():
        writer.add_tensor(f"direction.{layer}", vector)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
