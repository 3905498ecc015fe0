"""Layers and hook points as users name them. Knows names and numbers; loads nothing."""

from __future__ import annotations

from typing import Literal, get_args

from interp.errors import UserError

Site = Literal["resid_post", "attn_out", "mlp_out"]
SITES: dict[str, str] = {site: f"blocks.{{layer}}.hook_{site}" for site in get_args(Site)}
"""TransformerLens's hook points."""


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
        last = high or low
        if not (low.isdecimal() and last.isdecimal() and int(low) <= int(last)):
            raise UserError(f"{text!r}: cannot read {part!r}; give all, or numbers and ranges such as 0,10-15")
        if int(last) >= 10_000:  # a range is not written out beyond that
            raise UserError(f"{text!r}: no model has a layer {int(last)}")
        chosen |= set(range(int(low), int(last) + 1))
    return tuple(sorted(chosen))
