"""What a configuration says, at whatever depth, of how far attention reaches and how positions are encoded."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

_LOCAL_LAYER = re.compile("sliding|local|window|chunk|compress|sparse|linear|conv|recurrent|mamba|hybrid")
_REACH = re.compile("window(?!_layers)|local_attention|attention_chunk|max_distance")


def reaches_everywhere(config: Any) -> bool:
    """Whether every layer attends to all tokens before, by positions that padding inside a text does not move."""
    for holder, key, value in _values(config.to_dict()):
        if isinstance(value, str):
            local = "types" in key and not key.startswith("mlp") and _LOCAL_LAYER.search(value) is not None
        elif isinstance(value, bool):
            local = value and key == "alibi"  # a bias that may count columns
        else:
            local = value > 0 and _REACH.search(key) is not None and holder.get("use_sliding_window") is not False
        if local:
            return False
    return True


def varying(config: Any) -> tuple[str, int, int] | None:
    """Rotary frequencies that depend on the longest text in a batch: their kind, up to what length none do, and to what
    length they are made for."""
    longest = getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    for holder, key, value in _values(config.to_dict()):
        if key == "rope_type" and value == "longrope":
            return value, int(holder["original_max_position_embeddings"]), longest
        if key == "rope_type" and "dynamic" in str(value):
            return "dynamic", longest, int(longest * holder.get("factor", 1))
    return None


def forget_longest(rotary: Any, _: Any) -> None:
    """Undo what a rotary embedding keeps of a longer text that it saw before; called before each pass."""
    for name in [name for name in vars(rotary) if name.endswith("max_seq_len_cached")]:
        setattr(rotary, name, rotary.original_max_seq_len)
    for name, value in list(rotary._buffers.items()):
        if name.endswith("original_inv_freq"):
            rotary._buffers[name.replace("original_", "")] = value


def _values(part: Any, key: str = "", holder: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, str, Any]]:
    """What holds each number or text, its key and itself; parts that see or hear are left out."""
    if isinstance(part, Mapping):
        for name, value in part.items():
            if not re.search("vision|audio|visual", str(name)):
                yield from _values(value, str(name), part)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _values(value, key, holder)
    elif isinstance(part, (str, int, float)):
        yield holder or {}, key, part
