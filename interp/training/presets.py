"""The presets of training, by name, and the settings kept with a run."""

from __future__ import annotations

import json
import tomllib
from difflib import get_close_matches
from pathlib import Path

from interp.errors import UserError
from interp.models.catalog import could_be_model
from interp.storage.provenance import differing
from interp.training.settings import Preset, read_preset

PRESET_FILE = "preset.json"
_DATA = Path(__file__).parents[1] / "data" / "presets.toml"
PRESETS = {
    name: read_preset({"name": name} | record, f"{_DATA}: {name}.")
    for name, record in tomllib.loads(_DATA.read_text(encoding="utf-8")).items()
}
"""Two that run on a laptop, and the paper's three with its hyperparameters.

>>> list(interp.training.PRESETS)
['organism', 'smollm2-135m', 'llama-3.1-8b', 'qwen2.5-7b', 'mistral-nemo-12b']
"""


def preset(name: str) -> Preset:
    """A preset by name, or the paper's settings for any other model. Raises `UserError` for an empty name.

    >>> interp.training.preset("organism").grpo.descent.last_limit
    16
    """
    if not name.strip():
        raise UserError(f"--preset: empty; choose one of {', '.join(PRESETS)}, or give a model")
    return PRESETS.get(name) or Preset(name=name, model=name)


def require_model(chosen: Preset) -> None:
    """Raises `UserError` for a preset of an unknown name whose model cannot exist: it may be misspelt."""
    if chosen.name not in PRESETS and not could_be_model(chosen.model):
        near = ", ".join(get_close_matches(chosen.name.lower(), PRESETS, cutoff=0.4) or PRESETS)
        wrong = f"--preset {chosen.name}: no preset, and no folder, file or hub id (owner/name) of a model"
        raise UserError(f"{wrong}; the nearest presets: {near}")


def kept_preset(out: str | Path) -> Preset:
    """The settings of the run in a folder. Raises `UserError` if it has none, or those of another version.

    >>> from interp.models.catalog import SHIPPED
    >>> interp.training.kept_preset(SHIPPED["organism"].parent / "results").name
    'organism'
    """
    path = Path(out) / PRESET_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{out}: no {PRESET_FILE} there; give the --out of interp train") from None
    kept = read_preset(record, f"{path}: ")
    record.pop("pretraining", None)
    if different := differing(kept.record(), record):
        wrong = f"{path}: written by another version of interp, whose settings differ in {different[0]}"
        raise UserError(f"{wrong}; train again with this version and another --out")
    return kept
