"""One thread that owns the model and writes all texts that were asked for; requests wait for it in asyncio."""

from __future__ import annotations

import asyncio
import queue
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from interp.generation.rows import Ids
from interp.generation.sampling import Generated
from interp.generation.stream import Asked, streaming
from interp.models.model import Model


class Refused(Exception):  # noqa: N818 - an answer, no fault of the server's
    """A request that is answered with an error: its status, what is wrong, where, and OpenAI's name for it."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


BYTE = re.compile("<0x[0-9A-F]{2}>")
STOPPING = Refused(503, "the server is stopping")


class Piece(NamedTuple):
    """What has been written of a text since the piece before; the last one says why it ends, and all its tokens."""

    at: int
    text: str
    reason: str | None = None
    n_tokens: int = 0


class Job:
    """The texts of one request; whoever asked sets `cancelled` when it goes away."""

    def __init__(self, seconds: float) -> None:
        self.ends, self.cancelled = time.monotonic() + seconds, False
        self.loop, self.queue = asyncio.get_running_loop(), asyncio.Queue[Piece]()

    def tell(self, *piece: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.queue.put_nowait, Piece(*piece))

    async def pieces(self, n: int) -> AsyncIterator[Piece]:
        """Every piece of its n texts; raises `Refused` if the server stops."""
        while n:
            piece = await self.queue.get()
            if piece.reason == "stopped":
                raise STOPPING
            n -= piece.reason is not None
            yield piece


@dataclass(eq=False)
class Text(Asked):
    """A text that is told as it is written, up to the first of the stop strings; nothing told is taken back."""

    tokenizer: Any
    stop: Sequence[str]
    job: Job = field(init=False)
    at: int = 0
    reason: str = ""
    _start: int = 0
    _told: int = 0
    _held: str = ""

    @property
    def over(self) -> bool:
        """Whether it ends although more could be written."""
        late = "timeout" if time.monotonic() > self.job.ends else ""
        self.reason = "cancelled" if self.job.cancelled else self.reason or late
        return bool(self.reason)

    def until(self, text: Ids) -> bool:
        if not self.over and text and (piece := self._heard(text)):
            self.job.tell(self.at, piece)
        return bool(self.reason)

    def end(self, written: Generated) -> None:
        rest = "" if self.reason == "stop" else self._heard(written.ids, ends=True)
        reason = "stop" if written.ended else "length" if written.finite else "overflow"
        self.job.tell(self.at, rest, self.reason or reason, written.n_tokens)

    def _heard(self, ids: Ids, *, ends: bool = False) -> str:
        """What can be told once there are these tokens."""
        before, now = (str(self.tokenizer.decode(list(ids[self._start : n]))) for n in (self._told, len(ids)))
        last = str(self.tokenizer.convert_ids_to_tokens(ids[-1])) if ids else ""
        # in the middle of a character, or of a run of bytes, which is text only if all of it is
        inside = now.endswith("\ufffd") or BYTE.fullmatch(last)
        if ends or (len(now) > len(before) and not inside):
            self._held += now[len(before) :]
            self._start, self._told = self._told, len(ids)
        held, found = self._held, [place for stop in self.stop if (place := self._held.find(stop)) >= 0]
        begun = [n for n in range(1, len(held) + 1) for stop in self.stop if not ends and stop.startswith(held[-n:])]
        n = min(found) if found else len(held) - max(begun, default=0)
        self.reason, self._held = "stop" if found else self.reason, held[n:]
        return held[:n]


class Engine:
    """Writes up to `n_rows` texts at once; another `waiting` wait."""

    def __init__(self, model: Model, n_rows: int, waiting: int) -> None:
        self.model, self.n_rows, self.most, self.stopped = model, n_rows, n_rows + waiting, False
        self.open, self.inbox = set[Text](), queue.SimpleQueue[Any]()
        self.thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self.thread.start()

    def submit(self, texts: Sequence[Text], seconds: float) -> Job:
        """Texts to write, told piece by piece. Raises `Refused` where too many wait."""
        if self.stopped:
            raise STOPPING
        if len(self.open) + len(texts) > self.most:
            raise Refused(429, "too many texts wait; try again later", code="rate_limit_exceeded")
        job = Job(seconds)
        for at, text in enumerate(texts):
            text.job, text.at = job, at
            self.open.add(text)
            self.inbox.put(text)
        return job

    async def call(self, function: Callable[[], Any]) -> Any:
        """What a function of the model returns, called between two tokens."""
        future = Future[Any]()
        self.inbox.put((function, future))
        return await asyncio.wrap_future(future)

    def stop(self) -> None:
        """End all texts where they are."""
        self.stopped = True
        self.inbox.put(None)

    def _work(self) -> None:
        waiting: list[Text] = []
        try:
            with streaming(self.model, self.n_rows) as stream:
                while not self.stopped:
                    idle = not waiting and len(stream.free) == self.n_rows
                    asked = [self.inbox.get()] if idle else []
                    while not self.inbox.empty():
                        asked.append(self.inbox.get())
                    waiting += [text for text in asked if isinstance(text, Text)]
                    for function, future in (call for call in asked if isinstance(call, tuple)):
                        stream.steered.paused = True
                        try:
                            if future.set_running_or_notify_cancel():
                                future.set_result(function())
                        except Exception as error:  # raised where it was asked for
                            future.set_exception(error)
                        stream.steered.paused = False
                    for text in [text for text in waiting if text.over]:
                        waiting.remove(text)
                        self.open.discard(text)
                        text.end(Generated([], 0, True, tokenizer=text.tokenizer))
                    new = [waiting.pop(0) for _ in range(min(len(stream.free), len(waiting)))]
                    if new:
                        stream.enter(new)
                    for text, written in stream.step():
                        self.open.discard(text)
                        text.end(written)
        finally:
            self.stopped = True
            for text in self.open:
                text.job.tell(0, "", "stopped")
