"""The one exception that is the user's to mend.

Knows nothing about where it is raised. `interp.cli` prints its message as one line and exits with
status 2; any other exception is a bug and keeps its traceback.
"""


class UserError(Exception):
    """What was given, what is wanted and what to do, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
