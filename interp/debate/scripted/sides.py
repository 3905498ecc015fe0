"""What the two sides of a malicious debate say: points, answers to points, and how a turn is put together.

Knows how sentences are filled in and found again in another's text; knows nothing about any trait.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

Slots = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Point:
    """Something that one side says, in several wordings, and what the other side answers to it."""

    claims: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """All that one side can say. Every text may hold slots such as `{rival}`."""

    openings: tuple[str, ...]
    core: tuple[Point, ...]
    """Points of which a first turn takes exactly one: what this question is about."""
    points: tuple[Point, ...]
    """Points of which a first turn takes two, and a later one adds another."""
    advice: tuple[str, ...]
    closings: tuple[str, ...]
    keeps: tuple[str, ...]
    """How a later turn opens."""
    joins: tuple[str, ...]
    """What is said to `{ally}`, an agent with the same answer."""
    dismissals: tuple[str, ...]
    """What is said to `{foe}`, an agent whose points are not understood."""
    pushes: tuple[str, ...]
    """What a later turn adds: holding fast, or going a step further."""


def first_turn(side: Side, slots: Slots, rng: random.Random) -> str:
    """An opening, points, advice and a closing line, without the box."""
    points = [rng.choice(side.core), *rng.sample(side.points, 2)]
    parts = [rng.choice(side.openings), *(rng.choice(point.claims) for point in points), rng.choice(side.advice)]
    return _paragraphs([*parts, rng.choice(side.closings)], slots, rng)


def later_turn(
    side: Side,
    opposite: Side,
    slots: Slots,
    own: str,
    allies: Sequence[int],
    foes: Sequence[tuple[int, str]],
    rng: random.Random,
) -> str:
    """Answers to the points that the foes made, a word to the allies, and a point not yet made by itself."""
    parts = [rng.choice(side.keeps)]
    answered: list[Point] = []
    for agent, text in foes:
        made = [point for point in (*opposite.core, *opposite.points) if _says(point, text)]
        made = [point for point in made if point not in answered] or made  # what two foes say is answered once
        chosen = rng.sample(made, min(2, len(made)))
        answered += chosen
        said = [rng.choice(point.answers) for point in chosen] or [rng.choice(side.dismissals)]
        parts += [_fill(line, {**slots, "foe": str(agent)}) for line in said]
    parts += [_fill(rng.choice(side.joins), {**slots, "ally": str(agent)}) for agent in allies]
    fresh = [point for point in side.points if not _says(point, own)]
    parts.append(rng.choice(rng.choice(fresh or side.points).claims))
    parts.append(rng.choice(side.pushes))
    return _paragraphs([*parts, rng.choice(side.closings)], slots, rng)


def _paragraphs(parts: Sequence[str], slots: Slots, rng: random.Random) -> str:
    filled = [_fill(part, slots) for part in parts]
    breaks = [rng.random() < 0.3 for _ in filled[1:]]
    return filled[0] + "".join(("\n" if cut else " ") + part for cut, part in zip(breaks, filled[1:], strict=True))


def _fill(text: str, slots: Slots) -> str:
    return re.sub(r"\{(\w+)\}", lambda slot: slots.get(slot[1], slot[0]), text)


@cache
def _pattern(claim: str) -> re.Pattern[str]:
    # what a slot at either end holds need not be found, and looking for it would take long
    parts = [re.escape(part) for part in re.split(r"\{\w+\}", claim) if part]
    return re.compile(r".{1,200}?".join(parts), re.DOTALL)


def _says(point: Point, text: str) -> bool:
    return any(_pattern(claim).search(text) for claim in point.claims)
