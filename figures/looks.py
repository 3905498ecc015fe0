"""What a model is called and which colour it has, the same in every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

# Safe for the colour-blind, and no agent's colours: those of Tol's "muted" scheme (2021).


class ModelLook(NamedTuple):
    """A model's label and colour in every figure."""

    label: str
    colour: str


_ROLES = {
    "debategpt": ModelLook("DebateGPT", "#44aa99"),
    "sft": ModelLook("SFT", "#aa4499"),
    "imad": ModelLook("internalized", "#332288"),
    "untrained": ModelLook("untrained", "#cc6677"),
}
_BASE = ModelLook("base", "#b98a00")
_OTHERS = ("#332288", "#882255", "#117733", "#88ccee", "#999933")


def model_looks(names: Sequence[str]) -> dict[str, ModelLook]:
    """The look of each model, the base first.

    Trained models are recognised by name (`…-imad`, `seed-0/sft`), and so is `untrained`. Others after the first,
    and a second one of a kind, keep the last two parts of their names and get an unused colour.
    """
    looks: dict[str, ModelLook] = {}
    for i, name in enumerate(names):
        short, taken = _short(name), {look.colour for look in looks.values()}
        fitting = [look for role, look in _ROLES.items() if short.endswith(role) and look.colour not in taken]
        unused = [ModelLook(short, colour) for colour in _OTHERS if colour not in taken]
        looks[name] = [*fitting, *([_BASE] if i == 0 else unused), ModelLook(short, _OTHERS[0])][0]
    return looks


def _short(name: str) -> str:
    return "/".join(PurePath(name).parts[-2:]).replace("<", "‹")  # plotly reads names as HTML


def who_is_who(looks: Mapping[str, ModelLook]) -> str:
    """What the labels stand for, for a caption: base is organism, internalized is organism-imad."""
    return ", ".join(f"{look.label} is {_short(name)}" for name, look in looks.items() if look.label != _short(name))
