"""What an output was made from: versions, hashes of files and folders, and how two records differ."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

MANIFEST = "interp-manifest.json"
"""Beside converted weights; not part of the model."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """SHA-256 over the files of a model's folder (weights, configuration, tokenizer), by file name."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".safetensors", ".json", ".jinja", ".model", ".txt"} and path.name != MANIFEST:
            digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    packages = ("interp", "torch", "transformers", "transformer-lens", "peft", "numpy")
    return {name: importlib.metadata.version(name) for name in packages}


def differing(a: Any, b: Any, name: str = "") -> list[str]:
    """The dotted names of the innermost entries in which two JSON values differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        pairs = {key: (a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)}
        return [deep for key, pair in pairs.items() for deep in differing(*pair, f"{name}.{key}".lstrip("."))]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [deep for x, y in zip(a, b, strict=True) for deep in differing(x, y, name)]
    return [] if a == b else [name]
