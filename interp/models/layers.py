"""Layers and hook points as users name them. Knows names and numbers; loads nothing."""

from __future__ import annotations

from typing import Literal

from interp.errors import UserError

Site = Literal["resid_post", "attn_out", "mlp_out"]
SITES: dict[str, str] = {
    "resid_post": "blocks.{layer}.hook_resid_post",
    "attn_out": "blocks.{layer}.hook_attn_out",
    "mlp_out": "blocks.{layer}.hook_mlp_out",
}
"""TransformerLens's hook points, at which activations are read and directions are added."""

_MOST = 10_000
"""More layers than any model has: a range is not written out beyond them."""


def parse_layers(text: str) -> tuple[int, ...] | None:
    """Numbers and ranges such as `0,10-15` (both ends included) in ascending order; None for `all`.

    >>> parse_layers("0,10-12")
    (0, 10, 11, 12)
    """
    if text == "all":
        return None
    chosen: set[int] = set()
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if not low.isdecimal() or (high and not high.isdecimal()) or (high and int(high) < int(low)):
            raise UserError(f"{text!r}: cannot read {part!r}; give all, or numbers and ranges such as 0,10-15")
        if (last := int(high or low)) >= _MOST:
            raise UserError(f"{text!r}: no model has a layer {last}")
        chosen |= set(range(int(low), last + 1))
    return tuple(sorted(chosen))
