"""What is kept beside directions, as it is checked when a file is read back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypeVar, cast

import numpy as np
from annotated_types import Ge, Lt, MinLen
from pydantic import AfterValidator, FiniteFloat, with_config
from typing_extensions import TypedDict

from interp.models.layers import SITES
from interp.storage.files import Whole

Many = TypeVar("Many", bound=Sequence[Hashable])
_open = with_config({"extra": "allow"})


def distinct(values: Many) -> Many:
    """Raises `ValueError` for a value that is there twice."""
    if twice := next((value for i, value in enumerate(values) if value in values[:i]), None):
        raise ValueError(f"{twice} is there twice")
    return values


def _site(hook_point: str) -> str:
    if hook_point not in SITES.values():
        raise ValueError(f"{hook_point} is none of {', '.join(SITES.values())}")
    return hook_point


Names = Annotated[tuple[str, ...], MinLen(1), AfterValidator(distinct)]
Layers = Annotated[tuple[Annotated[int, Ge(0), Lt(10_000)], ...], MinLen(1), AfterValidator(distinct)]
HookPoint = Annotated[str, AfterValidator(_site)]
Number = FiniteFloat | None
"""None where it is not defined."""


@_open
class Estimates(TypedDict):
    """Of each label at each layer."""

    mean: list[list[Number]]
    low: list[list[Number]]
    high: list[list[Number]]


@_open
class Chosen(TypedDict):
    """Of each label, at layers chosen on other questions."""

    mean: list[Number]
    low: list[Number]
    high: list[Number]
    layers: list[Whole]


@_open
class Measured(TypedDict, total=False):
    """The evidence of some rounds."""

    groups: Whole
    questions: Whole
    separation: Estimates
    separation_shuffled: Estimates
    separation_random: Estimates
    reliability: Estimates
    reliability_shuffled: Estimates
    cosine: list[list[list[Number]]]
    chosen_layer: Chosen


@_open
class _Adapter(TypedDict):
    name: NotRequired[str]
    hash: str | None


@_open
class _Stages(TypedDict):
    stages: list[Any]


@_open
class _Model(TypedDict, total=False):
    name: str
    hash: str | None
    model_type: str
    adapters: list[_Adapter]
    lineage: _Stages


@_open
class Provenance(TypedDict, total=False):
    """What made the directions."""

    model: _Model
    transcripts: dict[str, Any]
    settings: dict[str, Any]


@_open
class _Facts(TypedDict, total=False):
    by: str
    labels: Names
    layers: Layers
    questions: Whole
    turns: Whole
    question_hashes: list[str]
    norm: list[list[Number]]
    residual_norm: list[Number]
    evidence: dict[str, Measured]
    best_layers: list[Whole]
    provenance: Provenance


def _fitting(facts: _Facts) -> _Facts:
    """Raises `ValueError` unless everything measured is of the labels at the layers."""
    n, layers = len(facts.get("labels", ())), facts.get("layers", ())
    whole: dict[str, tuple[Any, tuple[int, ...]]] = {"norm": (facts.get("norm"), (n, len(layers)))}
    whole["residual_norm"] = facts.get("residual_norm"), (len(layers),)
    named = [*facts.get("best_layers", ())]
    for rounds, measured in facts.get("evidence", {}).items():
        for name, value in cast(Mapping[str, Any], measured).items():
            if name in ("separation", "reliability") or name.endswith(("_shuffled", "_random")):
                whole |= {f"{rounds}.{name}.{part}": (of, (n, len(layers))) for part, of in value.items()}
        chosen = measured.get("chosen_layer", {})
        whole |= {f"{rounds}.{part}": (chosen.get(part), (n,)) for part in ("mean", "low", "high")}
        whole[f"{rounds}.cosine"] = measured.get("cosine"), (len(layers), n, n)
        named += chosen.get("layers", [])
    for name, (values, shape) in whole.items():
        if values is not None and np.shape(values) != shape:
            raise ValueError(f"{name} is not of {n} labels at {len(layers)} layers")
    if other := set(named) - {*layers}:
        raise ValueError(f"layer {min(other)} is none of its layers")
    return facts


Facts = Annotated[_Facts, AfterValidator(_fitting)]
"""The content of `directions.json`."""
