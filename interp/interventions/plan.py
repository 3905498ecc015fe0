"""What is tried against a trait: settings, ways to use directions, and the rows of a batch that come of them.

Knows prompts, directions and steerings; knows nothing about models, scores or files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from interp.debate.agents import Sampling
from interp.debate.personas import TRAIT_PERSONAS, Persona
from interp.directions.directions import Direction, Directions, made_on
from interp.errors import UserError
from interp.interventions.prompts import Prompt
from interp.models.lazy import LazyModel
from interp.steering.changes import TOKENS
from interp.steering.steering import OPERATIONS, UNITS, Steering, random_direction, require_coefficients


@dataclass(frozen=True)
class Settings:
    """What is tried, and how."""

    coefficients: tuple[float, ...] = (-2.0, -1.0, -0.5, -0.25, -0.1, -0.05, 0.1, 0.5, 1.0)
    """Besides 0, the unsteered model."""
    layers: tuple[int, ...] = ()
    """Tried one by one and all together; every layer of the model where none is given."""
    ways: tuple[str, ...] = ("add", "clamp")
    """Some of `OPERATIONS`."""
    units: str = "residual"
    """One of `interp.steering.UNITS`."""
    tokens: str = "writing"
    """One of `interp.steering.TOKENS`; by `generated`, the paper's, the first token stays unsteered."""
    n_random: int = 1
    """Random directions of the same length, as controls."""
    damage: float = 0.02
    """Most accuracy that the setting chosen on validation questions may cost."""
    benign: Persona = TRAIT_PERSONAS["guardian"]
    """The other side of the contrast."""
    guard: Persona | None = TRAIT_PERSONAS["guardian"]
    """The guarding system prompt; None to leave this remedy out."""
    sampling: Sampling = field(default_factory=lambda: Sampling(128, 0.0))

    def __post_init__(self) -> None:
        checks: list[tuple[str, str, Collection[str]]] = [("units", self.units, UNITS), ("tokens", self.tokens, TOKENS)]
        for name, given, known in [*checks, *(("way", way, OPERATIONS) for way in self.ways)]:
            if given not in known:
                raise UserError(f"{name} {given}: not known; give one of {', '.join(known)}")
        require_coefficients(self.coefficients)


@dataclass(frozen=True)
class Way:
    """Something that can be done with so much of a direction: at one layer or at several."""

    source: str
    """Where the direction is from and, unless it is added, what is done with it."""
    layer: str
    directions: tuple[Direction, ...]
    do: str

    def control(self, k: int) -> Way:
        """The same with random directions of the same length."""
        return replace(self, directions=tuple(random_direction(d, 1000 * d.layer + k) for d in self.directions))


@dataclass(frozen=True)
class Row:
    """A text to be written; `remedy` says what is done against the trait, and `source` where a direction is from."""

    prompt: Prompt
    remedy: str = "none"
    source: str | None = None
    layer: str | None = None
    coefficient: float = 0.0
    steering: Steering = field(default_factory=Steering)


def ways_of(name: str, directions: Sequence[Direction], settings: Settings) -> Iterator[Way]:
    """Each direction alone, and all together."""
    for do in settings.ways:
        source = name if do == "add" else f"{name}, {do}"
        for direction in directions:
            yield Way(source, str(direction.layer), (direction,), do)
        if len(directions) > 1:
            yield Way(source, ",".join(str(d.layer) for d in directions), tuple(directions), do)


def steered_rows(
    prompts: Sequence[Prompt], ways: Sequence[Way], settings: Settings, remedy: str = "steering"
) -> Iterator[Row]:
    for prompt in prompts:
        for way in ways:
            for coefficient in settings.coefficients:
                if coefficient:
                    steering = OPERATIONS[way.do](
                        way.directions, coefficient, units=settings.units, tokens=settings.tokens
                    )
                    yield Row(prompt, remedy, way.source, way.layer, coefficient, steering)


def in_order(rows: Iterable[Row]) -> list[Row]:
    """The rows of a prompt side by side, so that it is read once."""
    by_prompt: dict[tuple[int, ...], list[Row]] = {}
    for row in rows:
        by_prompt.setdefault((*row.prompt.asked.encode(), *row.prompt.ids), []).append(row)
    return [row for each in by_prompt.values() for row in each]


def require_owner(models: Sequence[LazyModel], directions: Mapping[str, Directions]) -> None:
    """Raises `UserError` for models of the same name, and for directions that were extracted from none of them."""
    if len({one.name for one in models}) < len(models):
        raise UserError(f"models {', '.join(one.name for one in models)}: give each once")
    for name, d in directions.items():
        if not any(made_on(d, one) for one in models):
            raise UserError(
                f"{name}: was extracted from none of the models; extract directions from them, or steer with another "
                "model's by --foreign"
            )
