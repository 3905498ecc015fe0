"""What is kept beside directions, as it is checked when a file is read back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from annotated_types import Ge, Lt, MinLen
from pydantic import AfterValidator, FiniteFloat

from interp.models.layers import SITES
from interp.storage.files import Whole, entries

Many = TypeVar("Many", bound=Sequence[Hashable])


def distinct(values: Many) -> Many:
    """Raises `ValueError` for a value that is there twice."""
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{twice[0]} is there twice")
    return values


def _site(hook_point: str) -> str:
    if hook_point not in SITES.values():
        raise ValueError(f"{hook_point} is none of {', '.join(SITES.values())}")
    return hook_point


Names = Annotated[tuple[str, ...], MinLen(1), AfterValidator(distinct)]
Layers = Annotated[tuple[Annotated[int, Ge(0), Lt(10_000)], ...], MinLen(1), AfterValidator(distinct)]
HookPoint = Annotated[str, AfterValidator(_site)]

_PARTS = ("mean", "low", "high")
_ROW = list[FiniteFloat | None]  # None where it is not defined
_ESTIMATES = entries(mean=list[_ROW], low=list[_ROW], high=list[_ROW])
_CHOSEN = entries(mean=_ROW, low=_ROW, high=_ROW, layers=list[Whole])
_CONTROLS = dict.fromkeys(("untrained", "text"), entries(mean=_ROW, low=_ROW, high=_ROW))
_VERDICT = entries(asked=str, outcome=str, words=str)
_SEPARATION = ("separation", "separation_untrained", "separation_shuffled", "separation_random")
MEASURED = (*_SEPARATION, "reliability", "reliability_shuffled")
_ROUNDS = {"groups": Whole, "questions": Whole, "cosine": list[list[_ROW]], "chosen_layer": _CHOSEN}
_ROUNDS |= {"controls": entries(**_CONTROLS), "beyond_controls": list[_VERDICT]}  # type: ignore[valid-type]
_EVIDENCE = entries(False, **_ROUNDS, **dict.fromkeys(MEASURED, _ESTIMATES))
_HASHED, _STAGED = entries(hash=str | None), entries(stages=list[Any])
MODEL = entries(False, name=str, model_type=str, adapters=list[_HASHED], lineage=_STAGED)  # type: ignore[valid-type]
_PROVENANCE = entries(False, model=MODEL, transcripts=dict[str, Any], settings=dict[str, Any])
_COUNTS = dict.fromkeys(("questions", "turns", "transcripts"), Whole)
_LISTS = {"question_hashes": list[str], "best_layers": list[Whole], "norm": list[_ROW], "residual_norm": _ROW}
_WRITTEN = list[Annotated[tuple[str, FiniteFloat], AfterValidator(list)]]  # as JSON has it
_LENS = entries(promotes=Annotated[_WRITTEN, MinLen(1)], suppresses=_WRITTEN)
_SHARES = {"as_large": list[FiniteFloat], "random_largest": list[FiniteFloat]}
_PROMOTED = entries(layer=Whole, labels=list[_LENS], random=list[_LENS], **_SHARES)  # type: ignore[valid-type]
_IMPORTED = entries(note=str, n_layers=Whole | None)
_MEASURED = {"evidence": dict[str, _EVIDENCE], "promoted": _PROMOTED, "imported": _IMPORTED}  # type: ignore[valid-type]
FACTS = {"by": str, "provenance": _PROVENANCE, **_MEASURED, **_COUNTS, **_LISTS}
"""By name, what a file may say about its directions."""


def require_fitting(facts: Mapping[str, Any], labels: Sequence[str], layers: Sequence[int]) -> None:
    """Raises `ValueError` unless everything measured is of these labels at these layers."""
    n, m, named = len(labels), len(layers), list(facts.get("best_layers", ()))
    sized = [("norm", facts.get("norm"), (n, m)), ("residual_norm", facts.get("residual_norm"), (m,))]
    for rounds, found in facts.get("evidence", {}).items():
        chosen = found.get("chosen_layer", {})
        named += chosen.get("layers", ())
        sized.append((f"{rounds}.cosine", found.get("cosine"), (m, n, n)))
        whole = {"chosen_layer": chosen, **found.get("controls", {})}
        sized += [(f"{rounds}.{name}", of.get(part), (n,)) for name, of in whole.items() for part in _PARTS]
        asked = [each["asked"] for each in found.get("beyond_controls", ())]
        sized.append((f"{rounds}.beyond_controls", asked or None, (n,)))
        estimates = ((name, found[name]) for name in MEASURED if name in found)
        sized += [(f"{rounds}.{name}", of[part], (n, m)) for name, of in estimates for part in _PARTS]
    if lenses := facts.get("promoted"):
        named.append(lenses["layer"])
        sized += [(f"promoted.{part}", range(len(lenses[part])), (n,)) for part in ("labels", "as_large")]
    for name, values, shape in sized:
        if values is not None and np.shape(values) != shape:
            raise ValueError(f"{name} is not of {n} labels at {m} layers")
    if any([*facts.get(name, own)] != [*own] for name, own in (("labels", labels), ("layers", layers))):
        raise ValueError("facts of other labels or layers")
    if other := set(named) - {*layers}:
        raise ValueError(f"layer {min(other)} is none of its layers")
