"""What made an output: versions, hashes of files and folders, and how two records differ."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

_MANIFEST = "interp-manifest.json"


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


_PACKAGES = ("interp", "torch", "transformers", "transformer-lens", "peft", "numpy")


def package_versions() -> dict[str, str]:
    """The versions that a result depends on, for its provenance."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def differing(a: Any, b: Any, name: str = "") -> list[str]:
    """The dotted names of the entries in which two JSON values differ, each as deep as it goes."""
    if isinstance(a, dict) and isinstance(b, dict):
        names = [key for key in {**a, **b} if a.get(key) != b.get(key)]
        return [deep for key in names for deep in differing(a.get(key), b.get(key), f"{name}.{key}".lstrip("."))]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [deep for x, y in zip(a, b, strict=True) for deep in differing(x, y, name)]
    return [] if a == b else [name]
