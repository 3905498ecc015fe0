"""What several verbs do with their options: see that they are known, and read them."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from interp.errors import UserError


def one_of(option: str, given: str, known: Collection[str]) -> None:
    """Raises `UserError` for a value that is not known."""
    if given not in known:
        raise UserError(f"{option} {given}: not known; give one of {', '.join(known)}")


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers with commas between, in ascending order."""
    try:
        return tuple(sorted({float(number) for number in text.split(",")}))
    except ValueError:
        raise UserError(f"{option} {text}: give numbers with commas between, as in -8,-4,4,8") from None


def json_object(option: str, text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f'{option} {text}: is no JSON object; give one such as {{"reasoning_effort": "low"}}')
    return value
