"""The one exception that the user can fix; any other is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Callable


class UserError(Exception):
    """What was given, what is wrong with it and what to do, in one line; the command line exits with status 2.

    >>> raise interp.UserError("layer 40: organism has layers 0 to 3")
    Traceback (most recent call last):
    interp.errors.UserError: layer 40: organism has layers 0 to 3
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""
