"""The one exception that the user can fix; any other is a bug and keeps its traceback."""

from __future__ import annotations

import re
from collections.abc import Callable


class UserError(Exception):
    """What was given, what is wrong with it and what to do, in one line; the command line exits with this status.

    >>> raise interp.UserError("layer 40: organism has layers 0 to 3")
    Traceback (most recent call last):
    interp.errors.UserError: layer 40: organism has layers 0 to 3
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(plain(" ".join(message.split())))
        self.status = status


class TimeUp(Exception):  # noqa: N818 - no error
    """A time budget is used up. What was done is kept, and the same call goes on from there."""


_ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Text in which characters that would act on a terminal (escapes, bells, reversed writing) are spelled out."""
    return _ACTING.sub(lambda found: ascii(found[0])[1:-1], text)


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def reworded(message: str) -> str:
    """What a validation by pydantic says, as lines of errors put it."""
    return re.sub(r"Value error, |, unable to parse \w+ as an? \w+", "", message).replace("Input should be", "must be")


def first_line(error: BaseException) -> str:
    """What an exception says first, for a line that says more."""
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), type(error).__name__)
