"""Numbers and lists as a reader sees them: percentages, intervals, ratios, joined words."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.2f}" if b else "–"


def _interval(mean: float | None, low: float | None, high: float | None, digits: int = 2) -> str:
    return f"{_rounded(mean, digits)} [{_rounded(low, digits)}, {_rounded(high, digits)}]"


def _rounded(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


_PER_CENT = "\u00a0%"


def percent(value: float) -> str:
    """A share as readers see it: 0.996 is 99.6 %, on one line."""
    return f"{100 * value:.1f}{_PER_CENT}"


def number(value: float) -> str:
    """Two decimals and a real minus sign, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def interval(low: float, high: float, show: Callable[[float], str]) -> str:
    """Both ends as `show` writes them, the unit once: 91.2 to 98.4 %."""
    return f"{show(low).removesuffix(_PER_CENT)} to {show(high)}"


def estimate(mean: float | None, low: float | None, high: float | None, show: Callable[[float], str]) -> str:
    """A value with its interval in brackets, as far as they are defined."""
    if mean is None:
        return "not defined"
    return show(mean) if low is None or high is None else f"{show(mean)} ({interval(low, high, show)})"


def joined_words(words: Sequence[str]) -> str:
    """One, two and three."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
