"""Sentences that agents and tasks draw from, kept as TOML in `interp/data/scripted`."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any


def read_sentences(name: str) -> dict[str, Any]:
    """The tables of `NAME.toml`."""
    return tomllib.loads((resources.files("interp") / "data" / "scripted" / f"{name}.toml").read_text("utf-8"))
