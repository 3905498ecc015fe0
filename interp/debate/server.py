"""An agent behind an OpenAI-compatible server.

Knows HTTP, what goes wrong with it, and when to try again; knows nothing about debates. The key comes
from the environment, goes into the header of requests to the given address alone, and appears nowhere
else: redirects are not followed, and no exception of the HTTP client leaves this module.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from interp.debate.agents import Answer, Keep, Request, Sampling, chat_messages, ignore
from interp.debate.personas import Persona
from interp.errors import UserError

TIMEOUT = "timeout"
UNREACHABLE = "cannot connect"
LOST = "connection lost"
TRUNCATED = "truncated body"
NOT_JSON = "not JSON"
NO_CHOICES = "no choices"
EMPTY = "empty answer"
# A status that is no answer is named by its number: "status 429".

_TRY_AGAIN = {408, 429, 500, 502, 503, 504}
_BEYOND_THIS_REQUEST = {401, 403, 404}
_FIRST_WAIT = 0.5
_LONGEST_CONNECT = 15.0
_SHORTEST_SECRET = 8  # local servers take keys such as "none", which are no secret but may be words of an answer
_CHARACTERS_PER_TOKEN = 4


@dataclass
class ServerAgent:
    """A persona played by a model behind `base_url`, such as `http://127.0.0.1:8000/v1`.

    At most `concurrency` requests are in flight, each for at most `timeout` seconds. One that fails
    in a way that may pass (a time-out, a failed connection, status 408, 429, 500, 502, 503 or 504, a
    body that is cut short or makes no sense, an empty answer) is tried again up to `retries` times,
    after waits that double from half a second and vary by a seeded amount; a `Retry-After` makes all
    requests wait that long. No wait is longer than `longest_wait` seconds. Other failures are final.

    `key_variable` names the environment variable with the key; where it is not set, none is sent.
    `options` are further fields of the request body, such as `{"reasoning_effort": "low"}`, and None
    takes a field out. Tokens are the server's counts; where it gives none they are estimated from the
    length of the texts, and those of failed attempts stay unknown.

    Raises `UserError` for an address that is none and for options that hold the key; and when answering for
    what no retry mends: status 401, 403 or 404, a redirect, or a server to which no attempt for a request
    could connect (two in a row where it has never responded).
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
                f"concurrency {self.concurrency}, retries {self.retries}, time-out {self.timeout} and longest wait "
                f"{self.longest_wait} given: give at least 1, 0, a positive time and 0"
            )
        if len(self._key()) >= _SHORTEST_SECRET and self._key() in json.dumps(dict(self.options)):
            raise UserError(
                f"the options hold the key, and options are kept in files; it is sent from {self.key_variable}"
            )

    @property
    def facts(self) -> dict[str, Any]:
        kept = ("base_url", "model", "options")
        sampling, persona = asdict(self.sampling), asdict(self.persona)
        return {"kind": "server", "persona": persona, **{k: getattr(self, k) for k in kept}, "sampling": sampling}

    def answer(self, requests: Sequence[Request], keep: Keep = ignore) -> list[Answer]:
        return _run(self._answer_all(requests, keep))

    async def _answer_all(self, requests: Sequence[Request], keep: Keep) -> list[Answer]:
        async with httpx.AsyncClient(
            headers=self._headers(),
            # Each attempt has a time-out of its own, over all of it.
            timeout=httpx.Timeout(None, connect=min(self.timeout, _LONGEST_CONNECT)),
            limits=httpx.Limits(max_connections=self.concurrency),
            follow_redirects=False,
        ) as client:
            line = _Line(client, asyncio.Semaphore(self.concurrency))

            async def kept(index: int, request: Request) -> Answer:
                answer = await self._answer(line, request)
                keep(index, answer)
                return answer

            tasks = [asyncio.create_task(kept(i, request)) for i, request in enumerate(requests)]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, line: _Line, request: Request) -> Answer:
        messages = chat_messages(self.persona, request)
        digest = hashlib.sha256(json.dumps([self.sampling.seed, messages, asdict(request)]).encode()).digest()
        body = self._body(messages, int.from_bytes(digest[:4], "big") >> 1)
        jitter = random.Random(digest)
        shown = sum(len(message["content"]) for message in messages)
        failures: list[_Failure] = []
        n_read = n_written = 0
        for attempt in range(self.retries + 1):
            async with line.places:
                await line.until_open()
                outcome = await self._try(line, body)
            n_read += outcome.input_tokens or 0
            n_written += outcome.output_tokens or 0
            if isinstance(outcome, _Reply):
                estimated = outcome.input_tokens is None or outcome.output_tokens is None
                if outcome.input_tokens is None:
                    n_read += -(-shown // _CHARACTERS_PER_TOKEN)
                if outcome.output_tokens is None:
                    n_written += -(-len(outcome.text) // _CHARACTERS_PER_TOKEN)
                names = tuple(failure.name for failure in failures)
                return Answer(outcome.text, n_read, n_written, None, "", names, outcome.cut, estimated)
            failures.append(outcome)
            self._check_server(failures)
            line.close_for(min(outcome.retry_after, self.longest_wait))
            if not outcome.may_pass or attempt == self.retries:
                break
            await asyncio.sleep(min(_FIRST_WAIT * 2**attempt, self.longest_wait) * jitter.uniform(0.5, 1))
        names = tuple(failure.name for failure in failures)
        return Answer("", n_read, n_written, names[-1], failures[-1].detail, names)

    async def _try(self, line: _Line, body: dict[str, Any]) -> _Reply | _Failure:
        """One attempt: a reply, or what went wrong."""
        phase = LOST
        try:
            async with asyncio.timeout(self.timeout), line.client.stream("POST", self._endpoint, json=body) as response:
                self._responded = True
                phase = TRUNCATED
                content = await response.aread()
        except TimeoutError:
            return _Failure(TIMEOUT, f"no answer within {self.timeout:g} s")
        except httpx.DecodingError:
            return _Failure(NOT_JSON, "the body is compressed in a way that cannot be undone")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Failure(UNREACHABLE, type(error).__name__)
        except (httpx.HTTPError, OSError) as error:
            return _Failure(phase, type(error).__name__)
        if response.is_success:
            reply = _read(content)
            if isinstance(reply, _Reply) and len(self._key()) >= _SHORTEST_SECRET:
                return replace(reply, text=self._without_key(reply.text))
            return reply
        name = f"status {response.status_code}"
        if response.has_redirect_location:
            return _Failure(name, "a redirect", may_pass=False, hopeless=True)
        hopeless = response.status_code in _BEYOND_THIS_REQUEST
        detail = " ".join(self._without_key(content.decode("utf-8", errors="replace")).split())[:300]
        may_pass = response.status_code in _TRY_AGAIN
        return _Failure(name, detail, may_pass, hopeless, _retry_after(response.headers.get("retry-after")))

    def _check_server(self, failures: Sequence[_Failure]) -> None:
        """End the run where the latest failure is one that no other request would be spared."""
        last = failures[-1]
        if last.name in ("status 401", "status 403"):
            raise UserError(
                f"{self.base_url}: the server refuses access ({last.name}); set the environment variable "
                f"{self.key_variable} to a key that is good for it"
            )
        if last.name == "status 404":
            said = f" and says: {last.detail}" if last.detail else ""
            raise UserError(
                f"{self.base_url}: the server answers {last.name} for model {self.model}{said}; check the address "
                "(it mostly ends with /v1) and the model's name"
            )
        if last.hopeless:
            raise UserError(
                f"{self.base_url}: the server redirects ({last.name}), which is not followed, so that the key goes "
                "nowhere else; give the address that it redirects to"
            )
        if any(f.name != UNREACHABLE for f in failures):
            return
        if not self._responded and len(failures) > 1:
            raise UserError(
                f"{self.base_url}: cannot be reached ({last.detail}); start the server or check the address"
            )
        if len(failures) > self.retries:
            raise UserError(
                f"{self.base_url}: can no longer be reached ({last.detail}); start the server again, then run the same"
            )

    def _headers(self) -> dict[str, str]:
        key = self._key()
        return {"authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise UserError(f"the environment variable {self.key_variable} holds no key: set it to one line of ASCII")
        return key

    def _without_key(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "[key]") if key else text

    def _body(self, messages: list[dict[str, str]], seed: int) -> dict[str, Any]:
        sampling = self.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
        }
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": seed}
        return {name: value for name, value in (body | dict(self.options)).items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Reply:
    text: str
    input_tokens: int | None
    output_tokens: int | None
    cut: bool


@dataclass(frozen=True, slots=True)
class _Failure:
    name: str
    detail: str = ""
    may_pass: bool = True
    hopeless: bool = False
    retry_after: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Line:
    """What the requests of one batch share: connections, places in flight, and the server's wishes."""

    def __init__(self, client: httpx.AsyncClient, places: asyncio.Semaphore) -> None:
        self.client = client
        self.places = places
        self._opens = 0.0

    def close_for(self, seconds: float) -> None:
        self._opens = max(self._opens, time.monotonic() + seconds)

    async def until_open(self) -> None:
        while (wait := self._opens - time.monotonic()) > 0:
            await asyncio.sleep(wait)


def _run(answering: Coroutine[Any, Any, list[Answer]]) -> list[Answer]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        taken = False
    else:
        taken = True  # a notebook runs a loop of its own in this thread
    if not taken:
        return asyncio.run(answering)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, answering).result()


def _endpoint(base_url: str) -> str:
    wanted = "give one such as http://127.0.0.1:8000/v1"
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        raise UserError(f"server address {base_url!r}: cannot be read; {wanted}") from None
    if url.userinfo or url.query:
        raise UserError(f"server address at {url.host}: holds a password or a query; {wanted} and keep keys out of it")
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"server address {base_url!r}: is no http or https address; {wanted}")
    path = url.path.rstrip("/") or "/v1"
    return str(url.copy_with(path=f"{path}/chat/completions", fragment=None))


def _read(content: bytes) -> _Reply | _Failure:
    """What the body of a chat completion says; nothing in it is taken for granted."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return _Failure(NOT_JSON)
    usage = body.get("usage") if isinstance(body, dict) else None
    n_read, n_written = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    choice = _first(body.get("choices")) if isinstance(body, dict) else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return _Failure(NO_CHOICES, input_tokens=n_read, output_tokens=n_written)
    cut = choice.get("finish_reason") == "length"
    text = message.get("content")
    if not isinstance(text, str) or not text.strip():
        detail = "the limit on tokens was reached before any text" if cut else ""
        # Asked again with the same limit it would think as long again.
        return _Failure(EMPTY, detail, may_pass=not cut, input_tokens=n_read, output_tokens=n_written)
    whole = text.encode("utf-8", errors="replace").decode()  # JSON can hold halves of surrogate pairs
    return _Reply(whole, n_read, n_written, cut)


def _first(items: Any) -> Any:
    return items[0] if isinstance(items, list) and items else None


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else None


def _retry_after(value: str | None) -> float:
    """Seconds that a `Retry-After` header asks for, in seconds or as a date; 0 where it says neither."""
    if value is None:
        return 0.0
    try:
        if value.strip().isdecimal():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
