"""How a model is served, as settings. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass

from interp.errors import UserError
from interp.options import option


@dataclass(frozen=True)
class ServeSettings:
    """Where requests come in, and what one of them may take.

    >>> interp.serving.ServeSettings(host="0.0.0.0")
    Traceback (most recent call last):
    interp.errors.UserError: host 0.0.0.0: others could read it; leave --host out, and use ssh -L from another machine
    """

    port: int = option(8000, min=0, max=65535)
    """Port to listen at; 0 takes a free one."""
    host: str = option("127.0.0.1")
    """Address to listen at: this machine's own, 127.0.0.1 or localhost."""
    text_limit: int = option(2048, min=1)
    """Most tokens that one text may have."""
    time_limit: float = option(300.0, min=1)
    """Seconds after which a text ends, waiting included."""
    queue_limit: int = option(64, min=1)
    """Most texts that wait while others are written; more are refused."""

    def __post_init__(self) -> None:
        if self.host not in ("127.0.0.1", "localhost"):
            advice = "leave --host out, and use ssh -L from another machine"
            raise UserError(f"host {self.host}: others could read it; {advice}")
