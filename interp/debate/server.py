"""An agent behind an OpenAI-compatible server: HTTP, what goes wrong with it, and when to retry.

The key goes only to the given address: redirects are not followed, and no exception of the client leaves this module.
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
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Any

import httpx

from interp.debate.agents import Answer, Keep, Request, Sampling, chat_messages, ignore
from interp.debate.personas import Persona
from interp.errors import UserError

_UNREACHABLE = "cannot connect"
_TRY_AGAIN = {408, 429, 500, 502, 503, 504}
_SHORTEST_SECRET = 8  # local servers take keys such as "none", which may also be words of an answer


@dataclass
class ServerAgent:
    """A persona played by a model behind `base_url`, such as `http://127.0.0.1:8000/v1`.

    At most `concurrency` requests are in flight, each for `timeout` seconds. Failures that may pass are retried after
    waits that double from half a second to `longest_wait`; `Retry-After` holds back all requests. `key_variable` names
    the environment variable with the key. `options` are fields of the request body; None removes one. Raises
    `UserError` for what no retry can fix: status 401, 403 or 404, a redirect, no server.

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

    def __post_init__(self) -> None:
        self._endpoint = _endpoint(self.base_url)
        self._responded, self._opens = False, 0.0  # whether the server ever did, and when it takes requests again
        if self.concurrency < 1 or self.retries < 0 or not self.timeout > 0 or not self.longest_wait >= 0:
            names = ("concurrency", "retries", "timeout", "longest_wait")
            limits = ", ".join(f"{name} {getattr(self, name)}" for name in names)
            raise UserError(f"{limits}: out of range; give at least 1, 0, a positive time and 0")
        if len(self._key()) >= _SHORTEST_SECRET and self._key() in json.dumps(dict(self.options)):
            raise UserError(f"options: hold the key, and are written to files; set {self.key_variable} instead")

    @property
    def facts(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("base_url", "model", "options")}
        return {"kind": "server", "persona": asdict(self.persona), **kept, "sampling": asdict(self.sampling)}

    def answer(self, requests: Sequence[Request], keep: Keep = ignore) -> list[Answer]:
        answering = self._answer_all(requests, keep)
        loop = None
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()  # a notebook runs one in this thread
        if loop is None:
            return asyncio.run(answering)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, answering).result()

    async def _answer_all(self, requests: Sequence[Request], keep: Keep) -> list[Answer]:
        places = asyncio.Semaphore(self.concurrency)
        async with httpx.AsyncClient(
            headers={"authorization": f"Bearer {self._key()}"} if self._key() else {},
            timeout=httpx.Timeout(None, connect=min(self.timeout, 15.0)),  # `_try` limits the whole attempt
            limits=httpx.Limits(max_connections=self.concurrency),
            follow_redirects=False,
        ) as client:

            async def kept(index: int, request: Request) -> Answer:
                answer = await self._answer(client, places, request)
                keep(index, answer)
                return answer

            tasks = [asyncio.create_task(kept(i, request)) for i, request in enumerate(requests)]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, client: httpx.AsyncClient, places: asyncio.Semaphore, request: Request) -> Answer:
        messages, sampling = chat_messages(self.persona, request), self.sampling
        digest = hashlib.sha256(json.dumps([sampling.seed, messages, asdict(request)]).encode()).digest()
        body: dict[str, Any] = {"model": self.model, "messages": messages, "max_tokens": sampling.max_new_tokens}
        body["temperature"] = sampling.temperature
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": int.from_bytes(digest[:4], "big") >> 1}
        body = {name: value for name, value in (body | dict(self.options)).items() if value is not None}
        jitter = random.Random(digest)
        outcomes: list[_Outcome] = []
        for attempt in range(self.retries + 1):
            async with places:
                while (wait := self._opens - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                outcomes.append(outcome := await self._try(client, body))
            if outcome.failure:
                self._check_reachable(outcomes)
                self._opens = max(self._opens, time.monotonic() + min(outcome.retry_after, self.longest_wait))
            if not outcome.failure or not outcome.may_pass or attempt == self.retries:
                break
            await asyncio.sleep(min(0.5 * 2**attempt, self.longest_wait) * jitter.uniform(0.5, 1))
        names = tuple(outcome.failure for outcome in outcomes if outcome.failure)
        n_read, n_written = (sum(outcome.tokens[i] or 0 for outcome in outcomes) for i in (0, 1))
        if outcome.failure:
            return Answer("", n_read, n_written, outcome.failure, outcome.detail, names)
        if outcome.tokens[0] is None:  # about four characters a token
            n_read += ceil(sum(len(message["content"]) for message in messages) / 4)
        if outcome.tokens[1] is None:
            n_written += ceil(len(outcome.text) / 4)
        return Answer(outcome.text, n_read, n_written, None, "", names, outcome.cut, None in outcome.tokens)

    async def _try(self, client: httpx.AsyncClient, body: dict[str, Any]) -> _Outcome:
        """One attempt. Raises `UserError` for a failure that every other request would share."""
        phase = "connection lost"
        try:
            async with asyncio.timeout(self.timeout), client.stream("POST", self._endpoint, json=body) as response:
                self._responded, phase = True, "truncated body"
                content = await response.aread()
        except TimeoutError:
            return _Outcome("timeout", f"no answer within {self.timeout:g} s")
        except httpx.DecodingError:
            return _Outcome("not JSON", "the compressed body cannot be decoded")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Outcome(_UNREACHABLE, type(error).__name__)
        except (httpx.HTTPError, OSError) as error:
            return _Outcome(phase, type(error).__name__)
        if response.is_success:
            outcome = _read(content)
            secret = len(self._key()) >= _SHORTEST_SECRET
            return replace(outcome, text=self._without_key(outcome.text)) if secret else outcome
        status, name = response.status_code, f"status {response.status_code}"
        detail = " ".join(self._without_key(content.decode("utf-8", errors="replace")).split())[:300]
        if response.has_redirect_location:
            fault = f"redirects ({name}), which would take the key elsewhere; give the address that it redirects to"
        elif status in (401, 403):
            fault = f"refuses access ({name}); set the environment variable {self.key_variable} to a valid key"
        elif status == 404:
            says = f" and says: {detail}" if detail else ""
            fault = f"answers {name} for model {self.model}{says}; check the model and the address, mostly with /v1"
        else:
            retry_after = _retry_after(response.headers.get("retry-after"))
            return _Outcome(name, detail, may_pass=status in _TRY_AGAIN, retry_after=retry_after)
        raise UserError(f"{self.base_url}: the server {fault}")

    def _check_reachable(self, failures: Sequence[_Outcome]) -> None:
        """Raise `UserError` if no attempt could connect (two are enough if the server has never responded)."""
        enough = self.retries if self._responded else min(self.retries, 1)
        if len(failures) > enough and all(outcome.failure == _UNREACHABLE for outcome in failures):
            never = "cannot be reached", "start the server or check the address"
            gone = "can no longer be reached", "start the server again, then run the same command to resume"
            fault, advice = gone if self._responded else never
            raise UserError(f"{self.base_url}: {fault} ({failures[-1].detail}); {advice}")

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise UserError(f"environment variable {self.key_variable}: not a key; set it to one word of ASCII")
        return key

    def _without_key(self, text: str) -> str:
        return text.replace(self._key(), "[key]") if self._key() else text


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one attempt: the name of a failure, or a text."""

    failure: str = ""
    detail: str = ""
    text: str = ""
    may_pass: bool = True
    retry_after: float = 0.0
    tokens: tuple[int | None, int | None] = (None, None)
    cut: bool = False


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
    return str(url.copy_with(path=f"{url.path.rstrip('/') or '/v1'}/chat/completions", fragment=None))


def _read(content: bytes) -> _Outcome:
    """What the body of a chat completion says, which may be anything."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return _Outcome("not JSON")
    counts = (_at(body, "usage", name) for name in ("prompt_tokens", "completion_tokens"))
    n_read, n_written = (n if type(n) is int and n >= 0 else None for n in counts)
    tokens = n_read, n_written
    if not isinstance(_at(body, "choices", 0, "message"), dict):
        return _Outcome("no choices", tokens=tokens)
    cut, text = _at(body, "choices", 0, "finish_reason") == "length", _at(body, "choices", 0, "message", "content")
    if not isinstance(text, str) or not text.strip():
        detail = "the token limit was reached before any text" if cut else ""  # a retry would reach it again
        return _Outcome("empty answer", detail, may_pass=not cut, tokens=tokens)
    whole = text.encode("utf-8", errors="replace").decode()  # JSON can hold halves of surrogate pairs
    return _Outcome(text=whole, tokens=tokens, cut=cut)


def _at(value: Any, *path: str | int) -> Any:
    """What parsed JSON holds at a path; None if there is nothing."""
    try:
        for key in path:
            value = value[key]
        return value
    except (TypeError, KeyError, IndexError):
        return None


def _retry_after(value: str | None) -> float:
    """Seconds that a `Retry-After` header asks for, given in seconds or as a date; 0 for anything else."""
    try:
        if value is not None and value.strip().isdecimal():
            return float(value)
        return max(0.0, parsedate_to_datetime(value or "").timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
