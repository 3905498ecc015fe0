"""What a steering does, as settings. Knows names and numbers; loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from interp.errors import UserError
from interp.models.layers import parse_layers
from interp.options import check_choices, listed_numbers, one_of, option

Units = Literal["residual", "unit", "raw"]
OPERATIONS = ("add", "ablate", "clamp")
Tokens = Literal["generated", "writing", "prompt", "last", "everywhere", "after-first", "turns"]


@dataclass(frozen=True)
class Placement:
    """Where and how much to steer."""

    layers: tuple[int, ...] | None = option(
        (), parse=lambda text: parse_layers(text) if text else (), shown="the best in the file"
    )
    """Layers: all, or numbers and ranges such as 0,10-15."""
    coefficients: tuple[float, ...] = option((0.2,), parse=listed_numbers)
    """Coefficients, separated by commas, one or one per direction; negative ones subtract."""
    units: Units = "residual"
    """Unit of the coefficients: mean length of the activations at the layer, unit vector, or raw mean difference."""
    tokens: Tokens = "generated"
    """Tokens to steer: generated ones, those and the last of the prompt (writing), the prompt, its last token,
    everywhere, all but the first, or an agent's turns as the model writes them."""
    turns_of: int | None = option(None, min=1)
    """Agent whose turns to steer, with --tokens turns."""
    keep_norm: bool = False
    """Scale each steered token to the length that it had."""

    def __post_init__(self) -> None:
        check_choices(self)
        if not self.coefficients or not all(map(isfinite, self.coefficients)):
            raise UserError(f"coefficients {self.coefficients}: give finite numbers")
        if (self.tokens == "turns") != (self.turns_of is not None):
            given = f"tokens {self.tokens}, turns-of {self.turns_of}"
            raise UserError(f"{given}: give --tokens turns and --turns-of together")


@dataclass(frozen=True)
class SteeringSettings(Placement):
    """What is done with directions, where and how much.

    >>> interp.steering.SteeringSettings(tokens="turns", turns_of=2).coefficients
    (0.2,)
    """

    operation: str = option("add", metavar="[add|ablate|clamp|FILE.py:FUNCTION]")
    """Add the direction, ablate it (project it out), clamp the projection on it to the coefficient, or call a function
    of your own: (values, unit directions, coefficient) → values."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if ":" not in self.operation:
            one_of("operation", self.operation, OPERATIONS)
