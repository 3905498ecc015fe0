"""The socket, and the server on it until it is interrupted."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from interp.errors import UserError
from interp.models.model import Model
from interp.serving.app import HEAD_BYTES, Files, Service

TOKEN = "INTERP_SERVE_TOKEN"
HEADERS = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store")]
HEAD_SECONDS = 10.0


class Connection(H11Protocol):
    """Closed where the head of a request is not here in time."""

    late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.data_received(b"")

    def send_400_response(self, msg: str) -> None:
        if getattr(sys.exception(), "error_status_hint", 400) == 431:  # of h11's
            head = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            self.transport.write(head)
            return self.transport.close()
        super().send_400_response(msg)

    def data_received(self, data: bytes) -> None:
        if data:
            super().data_received(data)
        if self.conn.their_state is not h11.IDLE and self.late:
            self.late.cancel()
            self.late = None
        elif self.conn.their_state is h11.IDLE and not self.late:
            self.late = self.loop.call_later(HEAD_SECONDS, self.transport.close)


class Server(uvicorn.Server):
    """A model, and directions by the name and path of their files, behind a socket made by `listen`.

    `limits` are those of `interp.serving.app.Service`.

    >>> with interp.serving.listen(0) as listening:
    ...     server = interp.serving.Server(model, {"found": (tmp_path / "found.safetensors", found)}, listening)
    ...     server.service.engine.stop()  # in place of server.until_stopped()
    ...     server.service.engine.thread.join()
    >>> server.host.partition(":")[0]
    '127.0.0.1'
    """

    def __init__(self, model: Model, loaded: Files, listening: socket.socket, **limits: Any) -> None:
        self.listening, self.token = listening, os.environ.get(TOKEN) or secrets.token_urlsafe(24)
        self.host = f"127.0.0.1:{listening.getsockname()[1]}"
        self.service = Service(model, loaded, **limits)
        app = self.service.app(self.token, [self.host, self.host.replace("127.0.0.1", "localhost")])
        how: dict[str, Any] = {"http": Connection, "ws": "none", "lifespan": "off", "server_header": False}
        how |= {"access_log": False, "log_level": "error"}  # addresses hold the token
        how |= {"limit_concurrency": 256, "h11_max_incomplete_event_size": HEAD_BYTES, "timeout_graceful_shutdown": 3}
        logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each piece for one who has gone away
        super().__init__(uvicorn.Config(app, headers=HEADERS, **how))

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.service.engine.stop()  # texts end, so that nobody waits for them
        super().handle_exit(sig, frame)

    def until_stopped(self) -> None:
        """Serve until interrupted, or until `should_exit` is set."""
        try:
            self.run([self.listening])
        except KeyboardInterrupt:  # raised once more when all is done
            pass
        finally:
            self.service.engine.stop()
            self.service.engine.thread.join(10)


def listen(port: int) -> socket.socket:
    """A socket that only this machine reaches; port 0 takes a free one. Raises `UserError` for a port that is taken.

    >>> interp.serving.listen(0).getsockname()[0]
    '127.0.0.1'
    """
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UserError(f"--port {port}: {os.strerror(error.errno or 0)}; give another --port") from None
    return listening
