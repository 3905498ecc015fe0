"""An agent behind an OpenAI-compatible server: HTTP, what goes wrong with it, and when to retry.

The key comes from the environment and goes only into the header of requests to the given address: redirects are not
followed, and no exception of the HTTP client leaves this module.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from interp.debate.agents import Answer, Keep, Request, Sampling, chat_messages, ignore
from interp.debate.personas import Persona
from interp.errors import UserError

# names of failures; a status other than success is named "status 429"
TIMEOUT = "timeout"
UNREACHABLE = "cannot connect"
LOST = "connection lost"
TRUNCATED = "truncated body"
NOT_JSON = "not JSON"
NO_CHOICES = "no choices"
EMPTY = "empty answer"

_TRY_AGAIN = {408, 429, 500, 502, 503, 504}
_FIRST_WAIT = 0.5
_LONGEST_CONNECT = 15.0
_SHORTEST_SECRET = 8  # local servers take keys such as "none", which may also be words of an answer
_CHARACTERS_PER_TOKEN = 4


@dataclass
class ServerAgent:
    """A persona played by a model behind `base_url`, such as `http://127.0.0.1:8000/v1`.

    At most `concurrency` requests are in flight, each for at most `timeout` seconds. Failures that may pass (time-out,
    connection, status 408, 429, 500, 502, 503 or 504, an empty or broken answer) are retried up to `retries` times,
    after waits that double from half a second with a seeded jitter, up to `longest_wait` seconds; `Retry-After` holds
    back all requests. `key_variable` names the environment variable with the key. `options` are further fields of the
    request body; None removes a field. Tokens are the server's counts, or else estimated from the length of the texts.

    Raises `UserError` for an invalid address and for options that hold the key; and when answering for what no retry
    can fix: status 401, 403 or 404, a redirect, or a server that cannot be reached.

    >>> interp.debate.ServerAgent(interp.debate.PERSONAS["self-critique"], "http://127.0.0.1:8000/v1", "NAME").retries
    5
    """

    persona: Persona
    base_url: str
    model: str
    sampling: Sampling = field(default_factory=Sampling)
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 5
    longest_wait: float = 60.0
    options: Mapping[str, Any] = field(default_factory=dict)
    _responded: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self._endpoint = _endpoint(self.base_url)
        if self.concurrency < 1 or self.retries < 0 or not self.timeout > 0 or not self.longest_wait >= 0:
            raise UserError(
                f"concurrency {self.concurrency}, retries {self.retries}, timeout {self.timeout}, longest wait "
                f"{self.longest_wait}: out of range; give at least 1, 0, a positive time and 0"
            )
        if len(self._key()) >= _SHORTEST_SECRET and self._key() in json.dumps(dict(self.options)):
            raise UserError(f"options: hold the key, and are written to files; set {self.key_variable} instead")

    @property
    def facts(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("base_url", "model", "options")}
        return {"kind": "server", "persona": asdict(self.persona), **kept, "sampling": asdict(self.sampling)}

    def answer(self, requests: Sequence[Request], keep: Keep = ignore) -> list[Answer]:
        answering = self._answer_all(requests, keep)
        try:
            asyncio.get_running_loop()
            in_loop = True  # a notebook runs one in this thread
        except RuntimeError:
            in_loop = False
        if not in_loop:
            return asyncio.run(answering)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, answering).result()

    async def _answer_all(self, requests: Sequence[Request], keep: Keep) -> list[Answer]:
        async with httpx.AsyncClient(
            headers={"authorization": f"Bearer {self._key()}"} if self._key() else {},
            timeout=httpx.Timeout(None, connect=min(self.timeout, _LONGEST_CONNECT)),  # `_try` limits the whole attempt
            limits=httpx.Limits(max_connections=self.concurrency),
            follow_redirects=False,
        ) as client:
            batch = _Batch(client, asyncio.Semaphore(self.concurrency))

            async def kept(index: int, request: Request) -> Answer:
                answer = await self._answer(batch, request)
                keep(index, answer)
                return answer

            tasks = [asyncio.create_task(kept(i, request)) for i, request in enumerate(requests)]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, batch: _Batch, request: Request) -> Answer:
        messages = chat_messages(self.persona, request)
        digest = hashlib.sha256(json.dumps([self.sampling.seed, messages, asdict(request)]).encode()).digest()
        body = self._body(messages, int.from_bytes(digest[:4], "big") >> 1)
        jitter = random.Random(digest)
        failures: list[_Outcome] = []
        n_read = n_written = 0
        for attempt in range(self.retries + 1):
            async with batch.places:
                await batch.until_open()
                outcome = await self._try(batch.client, body)
            n_read += outcome.n_read or 0
            n_written += outcome.n_written or 0
            if not outcome.failure:
                break
            failures.append(outcome)
            self._check_reachable(failures)
            batch.opens = max(batch.opens, time.monotonic() + min(outcome.retry_after, self.longest_wait))
            if not outcome.may_pass or attempt == self.retries:
                break
            await asyncio.sleep(min(_FIRST_WAIT * 2**attempt, self.longest_wait) * jitter.uniform(0.5, 1))
        names = tuple(failure.failure for failure in failures)
        if outcome.failure:
            return Answer("", n_read, n_written, outcome.failure, outcome.detail, names)
        if outcome.n_read is None:
            n_read += -(-sum(len(message["content"]) for message in messages) // _CHARACTERS_PER_TOKEN)
        if outcome.n_written is None:
            n_written += -(-len(outcome.text) // _CHARACTERS_PER_TOKEN)
        estimated = None in (outcome.n_read, outcome.n_written)
        return Answer(outcome.text, n_read, n_written, None, "", names, outcome.cut, estimated)

    async def _try(self, client: httpx.AsyncClient, body: dict[str, Any]) -> _Outcome:
        """One attempt. Raises `UserError` for a failure that every other request would share."""
        phase = LOST
        try:
            async with asyncio.timeout(self.timeout), client.stream("POST", self._endpoint, json=body) as response:
                self._responded = True
                phase = TRUNCATED
                content = await response.aread()
        except TimeoutError:
            return _Outcome(failure=TIMEOUT, detail=f"no answer within {self.timeout:g} s")
        except httpx.DecodingError:
            return _Outcome(failure=NOT_JSON, detail="the compressed body cannot be decoded")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Outcome(failure=UNREACHABLE, detail=type(error).__name__)
        except (httpx.HTTPError, OSError) as error:
            return _Outcome(failure=phase, detail=type(error).__name__)
        if response.is_success:
            outcome = _read(content)
            secret = len(self._key()) >= _SHORTEST_SECRET
            return replace(outcome, text=self._without_key(outcome.text)) if secret else outcome
        status, name = response.status_code, f"status {response.status_code}"
        detail = " ".join(self._without_key(content.decode("utf-8", errors="replace")).split())[:300]
        if response.has_redirect_location:
            raise UserError(
                f"{self.base_url}: the server redirects ({name}), which is not followed, so that the key goes nowhere "
                "else; give the address that it redirects to"
            )
        if status in (401, 403):
            raise UserError(
                f"{self.base_url}: the server refuses access ({name}); set the environment variable "
                f"{self.key_variable} to a valid key"
            )
        if status == 404:
            says = f" and says: {detail}" if detail else ""
            raise UserError(
                f"{self.base_url}: the server answers {name} for model {self.model}{says}; check the address "
                "(it mostly ends with /v1) and the model's name"
            )
        retry_after = _retry_after(response.headers.get("retry-after"))
        return _Outcome("", name, detail, status in _TRY_AGAIN, retry_after)

    def _check_reachable(self, failures: Sequence[_Outcome]) -> None:
        """Raise `UserError` if no attempt could connect (two are enough if the server has never responded)."""
        if any(outcome.failure != UNREACHABLE for outcome in failures):
            return
        detail = failures[-1].detail
        if not self._responded and len(failures) > 1:
            raise UserError(f"{self.base_url}: cannot be reached ({detail}); start the server or check the address")
        if len(failures) > self.retries:
            raise UserError(
                f"{self.base_url}: can no longer be reached ({detail}); start the server again, then run the same "
                "command to resume"
            )

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise UserError(f"environment variable {self.key_variable}: not a key; set it to one word of ASCII")
        return key

    def _without_key(self, text: str) -> str:
        return text.replace(self._key(), "[key]") if self._key() else text

    def _body(self, messages: list[dict[str, str]], seed: int) -> dict[str, Any]:
        sampling = self.sampling
        body: dict[str, Any] = {"model": self.model, "messages": messages, "max_tokens": sampling.max_new_tokens}
        body["temperature"] = sampling.temperature
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": seed}
        return {name: value for name, value in (body | dict(self.options)).items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one attempt: a text, or the name of a failure."""

    text: str = ""
    failure: str = ""
    detail: str = ""
    may_pass: bool = True
    retry_after: float = 0.0
    n_read: int | None = None
    n_written: int | None = None
    cut: bool = False


@dataclass
class _Batch:
    """What the requests of one batch share: connections, places in flight, and the time at which the line opens."""

    client: httpx.AsyncClient
    places: asyncio.Semaphore
    opens: float = 0.0

    async def until_open(self) -> None:
        while (wait := self.opens - time.monotonic()) > 0:
            await asyncio.sleep(wait)


def _endpoint(base_url: str) -> str:
    expected = "give one such as http://127.0.0.1:8000/v1"
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        raise UserError(f"server address {base_url!r}: cannot be read; {expected}") from None
    if url.userinfo or url.query:
        raise UserError(f"server address at {url.host}: holds a password or a query; {expected}, without keys")
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"server address {base_url!r}: not an http or https address; {expected}")
    path = url.path.rstrip("/") or "/v1"
    return str(url.copy_with(path=f"{path}/chat/completions", fragment=None))


def _read(content: bytes) -> _Outcome:
    """What the body of a chat completion says, which may be anything."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return _Outcome(failure=NOT_JSON)
    usage = (_at(body, "usage", name) for name in ("prompt_tokens", "completion_tokens"))
    n_read, n_written = (n if type(n) is int and n >= 0 else None for n in usage)
    message = _at(body, "choices", 0, "message")
    if not isinstance(message, dict):
        return _Outcome(failure=NO_CHOICES, n_read=n_read, n_written=n_written)
    cut = _at(body, "choices", 0, "finish_reason") == "length"
    text = message.get("content")
    if not isinstance(text, str) or not text.strip():
        detail = "the token limit was reached before any text" if cut else ""  # a retry would reach it again
        return _Outcome("", EMPTY, detail, not cut, n_read=n_read, n_written=n_written)
    whole = text.encode("utf-8", errors="replace").decode()  # JSON can hold halves of surrogate pairs
    return _Outcome(whole, n_read=n_read, n_written=n_written, cut=cut)


def _at(value: Any, *path: str | int) -> Any:
    """What parsed JSON holds at a path; None if there is nothing."""
    for key in path:
        try:
            value = value[key]
        except (TypeError, KeyError, IndexError):
            return None
    return value


def _retry_after(value: str | None) -> float:
    """Seconds that a `Retry-After` header asks for, given in seconds or as a date; 0 for anything else."""
    try:
        if value is not None and value.strip().isdecimal():
            return float(value)
        return max(0.0, parsedate_to_datetime(value or "").timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
