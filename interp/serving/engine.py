"""One thread that owns the model and writes all texts that were asked for; requests wait for it in asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from interp.generation.drawing import Drawing
from interp.generation.rows import Ids
from interp.generation.sampling import Generated
from interp.generation.stream import Asked, Stream
from interp.models.model import Model
from interp.steering.changes import Change

MOST_CALLS = 16


class Refused(Exception):  # noqa: N818 - an answer, no fault of the server's
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


class Text(NamedTuple):
    """A text to write."""

    prompt: Ids
    room: int
    changes: Sequence[Change]
    drawing: Drawing
    seed: int
    stop: Sequence[str]


class Piece(NamedTuple):
    """What has been written of a text since the piece before."""

    index: int
    text: str
    reason: str | None = None
    """Why the text ends here, if it does."""
    n_tokens: int = 0
    """Of the whole text, where it ends."""


class Speech:
    """Tokens as text, of which no character that was told is taken back, up to the first of the stop strings."""

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop, self._start, self._told, self._held = tokenizer, stop, 0, 0, ""

    def hear(self, ids: Ids, *, ends: bool = False) -> tuple[str, bool]:
        """What can be told once there are these tokens, and whether a stop string ends the text."""
        before, now = (self._decoded(ids[self._start : n]) for n in (self._told, len(ids)))
        if ends or (len(now) > len(before) and not now.endswith("\ufffd")):  # else in the middle of a character
            self._held += now[len(before) :]
            self._start, self._told = self._told, len(ids)
        at = min((place for stop in self._stop if (place := self._held.find(stop)) >= 0), default=None)
        begins = (n for n in range(1, len(self._held) + 1) for s in self._stop if s.startswith(self._held[-n:]))
        n = len(self._held) - (0 if ends else max(begins, default=0)) if at is None else at
        told, self._held = self._held[:n], "" if at is not None else self._held[n:]
        return told, at is not None

    def _decoded(self, ids: Ids) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


@dataclass(eq=False)
class Job:
    """The texts of one request; whoever asked reads `pieces` and sets `cancelled` when it goes away."""

    n: int
    ends: float
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Piece] = field(default_factory=asyncio.Queue)
    cancelled: bool = False

    def tell(self, piece: Piece) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.queue.put_nowait, piece)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Every piece of every text; raises `Refused` if the server stops."""
        left = self.n
        while left:
            piece = await self.queue.get()
            if piece.reason == "stopped":
                raise Refused(503, "the server is stopping")
            left -= piece.reason is not None
            yield piece


@dataclass(eq=False)
class _Row:
    """One text of a job, as the thread writes it."""

    job: Job
    index: int
    text: Text
    speech: Speech
    reason: str = ""

    @property
    def over(self) -> bool:
        """Whether it ends although more could be written."""
        late = "timeout" if time.monotonic() > self.job.ends else ""
        self.reason = "cancelled" if self.job.cancelled else self.reason or late
        return bool(self.reason)

    def heard(self, ids: Ids) -> bool:
        if self.over or not ids:
            return self.over
        piece, stopped = self.speech.hear(ids)
        if stopped:
            self.reason = "stop"
            self.job.tell(Piece(self.index, piece))
        elif piece:
            self.job.tell(Piece(self.index, piece))
        return stopped

    def end(self, written: Generated) -> None:
        rest = "" if self.reason == "stop" else self.speech.hear(written.ids, ends=True)[0]
        reason = "stop" if written.ended else "length" if written.finite else "overflow"
        self.job.tell(Piece(self.index, rest, self.reason or reason, written.n_tokens))


class Engine:
    """Writes up to `n_rows` texts at once; another `queue_limit` wait."""

    def __init__(self, model: Model, n_rows: int, queue_limit: int) -> None:
        self.model, self.n_rows, self.queue_limit = model, n_rows, queue_limit
        self.waiting: deque[_Row] = deque()
        self.writing: dict[Asked, _Row] = {}
        self.calls: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self.stopped = False
        self._changed = threading.Condition()
        self.thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self.thread.start()

    def submit(self, texts: Sequence[Text], seconds: float) -> Job:
        """Texts to write, told piece by piece. Raises `Refused` where too many wait."""
        job = Job(len(texts), time.monotonic() + seconds, asyncio.get_running_loop())
        rows = [_Row(job, i, t, Speech(self.model.tokenizer, t.stop)) for i, t in enumerate(texts)]
        with self._changed:
            if self.stopped:
                raise Refused(503, "the server is stopping")
            room = self.n_rows - len(self.writing) + self.queue_limit - len(self.waiting)
            if len(rows) > room:
                raise Refused(
                    429, f"{len(self.waiting)} texts are waiting; try again later", code="rate_limit_exceeded"
                )
            self.waiting += rows
            self._changed.notify()
        return job

    async def call(self, function: Callable[[], Any]) -> Any:
        """What a function of the model returns, called between two tokens. Raises `Refused` where too many wait."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def answer(method: str, value: Any) -> None:
            if not future.done():
                getattr(future, method)(value)

        with self._changed:
            if self.stopped or len(self.calls) >= MOST_CALLS:
                raise Refused(503 if self.stopped else 429, "the server is busy; try again later")
            self.calls.append((function, lambda told: loop.call_soon_threadsafe(answer, *told)))
            self._changed.notify()
        return await future

    def stop(self) -> None:
        """End all texts where they are."""
        self.stopped = True
        with self._changed:
            self._changed.notify()

    def _work(self) -> None:
        try:
            with Stream(self.model, self.n_rows) as stream:
                while self._wait():
                    while self.calls:
                        function, answer = self.calls.popleft()
                        with stream.aside():
                            answer(_answered(function))
                    self._begin(stream)
                    for asked, written in stream.step():
                        self.writing.pop(asked).end(written)
        finally:
            self.stopped = True
            for row in (*self.writing.values(), *self.waiting):
                row.job.tell(Piece(row.index, "", "stopped"))
            while self.calls:
                self.calls.popleft()[1](("set_exception", Refused(503, "the server is stopping")))

    def _wait(self) -> bool:
        """Wait until there is something to do; False when it is time to stop."""
        with self._changed:
            while not (self.stopped or self.waiting or self.writing or self.calls):
                self._changed.wait()
        return not self.stopped

    def _begin(self, stream: Stream) -> None:
        """Let texts that wait join, as many as there is room for."""
        with self._changed:
            for row in [row for row in self.waiting if row.over]:
                self.waiting.remove(row)
                row.end(Generated([], 0, True))
            n = min(len(stream.free), len(self.waiting))
            rows = [self.waiting.popleft() for _ in range(n)]
            begun = {Asked(*row.text[:5], row.heard): row for row in rows}
            self.writing |= begun
        if begun:
            stream.enter([*begun])


def _answered(function: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "set_result", function()
    except Exception as error:  # raised where it was asked for
        return "set_exception", error
