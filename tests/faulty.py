"""A chat-completions server on loopback that does everything wrong, as its scripts say."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Does with the n-th request for a question what the n-th entry of its script says."""

    server: Faulty
    body: dict[str, Any]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        faulty = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked = next(m["content"] for m in body["messages"] if m["role"] == "user")
        question = asked[max(asked.find("Problem: "), 0) :].split("\n")[0]  # a persona may come before it
        self.body = body
        with faulty.lock:
            faulty.in_flight += 1
            faulty.most_in_flight = max(faulty.most_in_flight, faulty.in_flight)
            n = len(faulty.seen[question])
            faulty.seen[question].append((time.time(), self.path, dict(self.headers), body))
        try:
            script = faulty.scripts.get(question.removeprefix("Problem: "), faulty.default)
            script[min(n, len(script) - 1)](self)
        finally:
            with faulty.lock:
                faulty.in_flight -= 1

    def send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Faulty(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.scripts: dict[str, list[Behaviour]] = {}
        self.default: list[Behaviour] = [right]
        self.seen: dict[str, list[tuple[float, str, dict[str, str], dict[str, Any]]]] = defaultdict(list)
        self.in_flight = self.most_in_flight = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def n_seen(self) -> dict[str, int]:
        return {question.removeprefix("Problem: "): len(seen) for question, seen in self.seen.items()}

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that time out hang up


Behaviour = Callable[[Handler], None]


def completion(text: Any, **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 11, "completion_tokens": 4}, **more}).encode()


def right(handler: Handler) -> None:
    handler.send(200, completion(r"It is \boxed{3}."))


def says(body: bytes, status: int = 200, **headers: str) -> Behaviour:
    return lambda handler: handler.send(status, body, **headers)


def slow(seconds: float) -> Behaviour:
    def behave(handler: Handler) -> None:
        time.sleep(seconds)
        right(handler)

    return behave


def dripping(handler: Handler) -> None:
    """Never pauses for long and never finishes."""
    handler.send(200, b"", length=10_000)
    for _ in range(60):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def truncated(handler: Handler) -> None:
    whole = completion("It is 3.")
    handler.send(200, whole[:40], length=len(whole))
    handler.close_connection = True


def hangs_up(handler: Handler) -> None:
    handler.close_connection = True


TOO_SLOW: dict[str, tuple[Behaviour, str]] = {"slow": (slow(1.5), "timeout"), "dripping": (dripping, "timeout")}
FAULTS: dict[str, tuple[Behaviour, str]] = {
    "busy": (says(b"later", 429, retry_after="0"), "status 429"),
    "busy for long": (says(b"later", 429, retry_after="86400"), "status 429"),
    "busy for ever": (says(b"later", 429, retry_after="Fri, 31 Dec 9999 23:59:59 GMT"), "status 429"),
    "busy, it babbles": (says(b"later", 429, retry_after="nan soon"), "status 429"),
    "error": (says(b"oh", 500), "status 500"),
    "bad gateway": (says(b"<html>", 502), "status 502"),
    "down": (says(b"", 503), "status 503"),
    "gateway": (says(b"", 504), "status 504"),
    "truncated": (truncated, "truncated body"),
    "hangs up": (hangs_up, "connection lost"),
    "empty body": (says(b""), "not JSON"),
    "half JSON": (says(completion("It is 3.")[:-20]), "not JSON"),
    "page": (says(b"<html>Welcome</html>"), "not JSON"),
    "bytes": (says(bytes(range(256))), "not JSON"),
    "deep": (says(b"[" * 100_000), "not JSON"),
    "not gzip": (says(b"plainly not", content_encoding="gzip"), "not JSON"),
    "a number": (says(b"3"), "no choices"),
    "a list": (says(b"[]"), "no choices"),
    "an error inside": (says(b'{"error": {"message": "overloaded"}}'), "no choices"),
    "no choice": (says(b'{"choices": []}'), "no choices"),
    "odd choices": (says(b'{"choices": {"0": 1}, "usage": 7}'), "no choices"),
    "odd choice": (says(b'{"choices": ["3"]}'), "no choices"),
    "no message": (says(b'{"choices": [{"text": "3"}]}'), "no choices"),
    "empty": (says(completion("")), "empty answer"),
    "blank": (says(completion(" \n\t")), "empty answer"),
    "null": (says(completion(None)), "empty answer"),
    "parts": (says(completion(["3"])), "empty answer"),
}
