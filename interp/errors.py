"""The one exception that is the user's to mend.

Knows nothing about where it is raised. `interp.cli` prints its message as one line and exits with
status 2; any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Callable


class UserError(Exception):
    """What was given, what is wanted and what to do, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""
