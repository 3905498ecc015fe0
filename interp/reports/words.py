"""Numbers and lists as a reader sees them. Knows nothing about what they measure."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

Names = Sequence[str]
Show = Callable[[float], str]
"""How a number is written: `percent` or `number`."""
_PER_CENT = "\u00a0%"


def read_words(name: str) -> dict[str, Any]:
    """The sentences of `NAME.toml`."""
    return tomllib.loads((resources.files("interp.reports") / f"{name}.toml").read_text("utf-8"))


def percent(value: float) -> str:
    """A share with one decimal and its unit, which a line break does not separate.

    >>> percent(0.9964), between(0.912, 0.984, percent), estimate(-0.5, -0.61, -0.4, number)
    ('99.6\\xa0%', '91.2 to 98.4\\xa0%', '−0.50 (−0.61 to −0.40)')
    """
    return f"{100 * value:.1f}{_PER_CENT}"


def number(value: float) -> str:
    """Two decimals and a real minus sign, but none before a zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def between(low: float, high: float, show: Show) -> str:
    """Both ends as `show` writes them, the unit once: 91.2 to 98.4 %."""
    return f"{show(low).removesuffix(_PER_CENT)} to {show(high)}"


def estimate(mean: float | None, low: float | None, high: float | None, show: Show) -> str:
    """A value with its interval in parentheses, if it has one."""
    if mean is None:
        return "not defined"
    return show(mean) if low is None or high is None else f"{show(mean)} ({between(low, high, show)})"


def rounded(value: float | None, digits: int = 2) -> str:
    """A number in a terminal's table; a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def bracketed(mean: float | None, low: float | None, high: float | None, digits: int = 2) -> str:
    """A number in a terminal's table with its interval: 0.91 [0.87, 0.95]."""
    return f"{rounded(mean, digits)} [{rounded(low, digits)}, {rounded(high, digits)}]"


def ratio(a: float, b: float) -> str:
    """How many times b goes into a; a dash where b is 0."""
    return f"{a / b:.2f}" if b else "–"


def joined_words(words: Names) -> str:
    """One, two and three."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
