"""A trained checkpoint with its stages merged, as an ordinary folder for other tools."""

from __future__ import annotations

import tempfile
from pathlib import Path

from interp.errors import UserError
from interp.models.loading import load_plain


def export_merged(checkpoint: str, out: Path, dtype: str = "auto") -> None:
    """Write a checkpoint with all its stages merged into a new folder; raises `UserError` where `out` exists.

    >>> interp.models.export_merged("organism-sft", tmp_path / "merged")
    >>> interp.load_model(str(tmp_path / "merged")).n_layers
    4
    """
    if out.exists():
        raise UserError(f"{out}: exists; give a new folder")
    plain = load_plain(checkpoint, dtype=dtype, device="cpu")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / out.name
        plain.hf.save_pretrained(made)
        plain.tokenizer.save_pretrained(made)
        made.rename(out)
