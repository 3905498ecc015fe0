"""An agent behind an OpenAI-compatible server: HTTP, what goes wrong with it, and when to retry.

Secrets go only to the given address, and into no record, log or message: redirects are not followed, and no exception
of the client leaves this module.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import re
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Any

import httpx

from interp.debate.agents import Answer, Keep, Request, Sampling, chat_messages, without_system
from interp.debate.personas import Persona
from interp.debate.replies import Reply, completed, refused
from interp.errors import UserError

_UNREACHABLE = "cannot connect"
_LONGEST_BACKOFF = 60.0  # seconds
_SHORTEST_SECRET = 8  # local servers take keys such as "none", which may also be words of an answer
_SECRET_NAME = re.compile(r"(?:key|token|secret|passw(?:or)?d|pwd|auth(?:orization)?|sig(?:nature)?)\Z", re.I)


@dataclass
class ServerAgent:
    """A persona played by a model behind `base_url`, such as `http://127.0.0.1:8000/v1`.

    At most `concurrency` requests are in flight, each for `timeout` seconds. Failures that may pass are retried after
    waits that double from half a second to a minute. A wait that the server asks for, up to `longest_wait` seconds,
    holds back all requests, and is no failure while it answers others. `key_variable` names the environment variable
    with the key. `options` are fields of the request body; None removes one. Where the server refuses a system message,
    the persona opens the user's. Raises `UserError` for what no retry can fix: no access, no such model, no quota, a
    redirect, no server.

    >>> interp.debate.ServerAgent(interp.debate.PERSONAS["self-critique"], "http://127.0.0.1:8000/v1", "NAME").retries
    5
    """

    persona: Persona
    base_url: str = field(repr=False)
    model: str
    sampling: Sampling = field(default_factory=Sampling)
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 5
    longest_wait: float = 600.0
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        url = _address(self.base_url)
        self._shown = str(url.copy_with(userinfo=b"", query=None, fragment=None))
        path = url.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
        self._endpoint = url.copy_with(userinfo=b"", path=f"{path}/chat/completions", fragment=None)
        if url.query:
            logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses in full
        self._login = (url.username, url.password) if url.userinfo else None
        self._secrets = {v for k, v in url.params.multi_items() if len(v) >= _SHORTEST_SECRET or _SECRET_NAME.search(k)}
        if self._login:
            self._secrets |= {url.password or url.username, b64encode(":".join(self._login).encode()).decode()}
        self._options = _masked(dict(self.options), self._secrets)
        # whether the server ever responded, whether it refuses system messages, and when it takes requests again
        self._responded, self._folds, self._opens = False, False, 0.0
        self._n_answered = 0
        if self.concurrency < 1 or self.retries < 0 or not self.timeout > 0 or not self.longest_wait >= 0:
            names = ("concurrency", "retries", "timeout", "longest_wait")
            limits = ", ".join(f"{name} {getattr(self, name)}" for name in names)
            raise UserError(f"{limits}: out of range; give at least 1, 0, a positive time and 0")
        if len(self._key()) >= _SHORTEST_SECRET and self._key() in json.dumps(self._options):
            raise UserError(f"options: hold the key, and are written to files; set {self.key_variable} instead")

    @property
    def facts(self) -> dict[str, Any]:
        where = {"base_url": self._shown, "model": self.model, "options": self._options}
        return {"kind": "server", "persona": asdict(self.persona), **where, "sampling": asdict(self.sampling)}

    def answer(self, requests: Sequence[Request], keep: Keep = lambda *_: None) -> list[Answer]:
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
        async with self._client() as client:

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

    def _client(self) -> httpx.AsyncClient:
        try:  # proxies and certificates come from the environment
            return httpx.AsyncClient(
                headers={"authorization": f"Bearer {self._key()}"} if self._key() else {},
                auth=self._login,
                timeout=httpx.Timeout(None, connect=min(self.timeout, 15.0)),  # `_try` limits the whole attempt
                limits=httpx.Limits(max_connections=self.concurrency),
                follow_redirects=False,
            )
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
            reason = self._clean(str(error))
        raise UserError(f"{self._shown}: no connection can be set up ({reason}); check *_PROXY and SSL_CERT_FILE")

    async def _answer(self, client: httpx.AsyncClient, places: asyncio.Semaphore, request: Request) -> Answer:
        messages = chat_messages(self.persona, request)
        digest = hashlib.sha256(json.dumps([self.sampling.seed, messages, asdict(request)]).encode()).digest()
        jitter, replies = random.Random(digest), list[Reply]()
        failures, n_answered = 0, self._n_answered
        while True:
            async with places:
                while (wait := self._opens - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                replies += await self._ask(client, messages, digest)
            if not (reply := replies[-1]).failure:
                self._n_answered += 1
                break
            self._check_reachable(replies)
            self._opens = max(self._opens, time.monotonic() + min(reply.wait, self.longest_wait))
            # to be asked to wait while others are answered is to queue, not to fail
            failures += not (reply.wait and self._n_answered > n_answered)
            n_answered = self._n_answered
            if not reply.may_pass or failures > self.retries:
                break
            longest = min(_LONGEST_BACKOFF, self.longest_wait)
            await asyncio.sleep(min(0.25 * 2**failures, longest) * jitter.uniform(0.5, 1))
        names = tuple(reply.failure for reply in replies if reply.failure)
        n_read, n_written = (sum(reply.tokens[i] or 0 for reply in replies) for i in (0, 1))
        if reply.failure:
            return Answer("", n_read, n_written, reply.failure, reply.detail, names)
        if reply.tokens[0] is None:  # about four characters a token
            n_read += ceil(sum(len(message["content"]) for message in messages) / 4)
        if reply.tokens[1] is None:
            n_written += ceil(len(reply.text) / 4)
        return Answer(reply.text, n_read, n_written, None, "", names, reply.cut, None in reply.tokens)

    async def _ask(self, client: httpx.AsyncClient, messages: list[dict[str, str]], digest: bytes) -> list[Reply]:
        """One attempt, or two if the server refuses the system message."""
        folded = without_system(messages)
        reply = await self._try(client, self._body(folded if self._folds else messages, digest))
        if self._folds or folded == messages or not reply.no_system:
            return [reply]
        again = await self._try(client, self._body(folded, digest))
        self._folds |= not again.failure  # from now on at once
        return [reply if again.failure else replace(reply, failure="no system role"), again]

    def _body(self, messages: list[dict[str, str]], digest: bytes) -> dict[str, Any]:
        sampling = self.sampling
        body = {"model": self.model, "messages": messages, "max_tokens": sampling.max_new_tokens}
        body["temperature"] = sampling.temperature
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": int.from_bytes(digest[:4], "big") >> 1}
        return {name: value for name, value in (body | dict(self.options)).items() if value is not None}

    async def _try(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Reply:
        """One request. Raises `UserError` for a failure that every other request would share."""
        phase = "connection lost"
        try:
            async with asyncio.timeout(self.timeout), client.stream("POST", self._endpoint, json=body) as response:
                self._responded, phase = True, "truncated body"
                content = await response.aread()
        except TimeoutError:
            return Reply("timeout", f"no answer within {self.timeout:g} s")
        except httpx.DecodingError:
            return Reply("not JSON", "the compressed body cannot be decoded")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, UnicodeError) as error:
            return Reply(_UNREACHABLE, self._clean(f"{type(error).__name__} {error}"))
        except (httpx.HTTPError, OSError) as error:
            return Reply(phase, self._clean(f"{type(error).__name__} {error}"))
        status, done = response.status_code, response.is_success
        reply = completed(response.headers, content) if done else refused(status, response.headers, content)
        reply = replace(
            reply, detail=self._clean(reply.detail), text=self._without_secrets(reply.text, _SHORTEST_SECRET)
        )
        says = f" and says: {reply.detail}" if reply.detail else ""
        if response.has_redirect_location:
            fault = f"redirects (status {status}), which would take the key elsewhere; give the address that it names"
        elif status in (401, 403):
            fault = f"refuses access (status {status}){says}; set {self.key_variable} in the environment to a valid key"
        elif reply.for_all:
            check = "check the model, the account and the address, mostly with /v1"
            fault = f"answers status {status} for model {self.model}{says}; {check}"
        else:
            return reply
        raise UserError(f"{self._shown}: the server {fault}")

    def _check_reachable(self, failures: Sequence[Reply]) -> None:
        """Raise `UserError` if no attempt could connect (two are enough if the server has never responded)."""
        enough = self.retries if self._responded else min(self.retries, 1)
        if len(failures) > enough and all(outcome.failure == _UNREACHABLE for outcome in failures):
            never = "cannot be reached", "start the server or check the address"
            gone = "can no longer be reached", "start the server again, then run the same command to resume"
            fault, advice = gone if self._responded else never
            raise UserError(f"{self._shown}: {fault} ({failures[-1].detail}); {advice}")

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise UserError(f"environment variable {self.key_variable}: not a key; set it to one word of ASCII")
        return key

    def _without_secrets(self, text: str, shortest: int = 1) -> str:
        text = text.encode("utf-8", errors="replace").decode()  # JSON can hold halves of surrogate pairs
        for secret in sorted(self._secrets | {self._key()}, key=len, reverse=True):
            if len(secret) >= shortest:
                text = text.replace(secret, "[key]")
            if len(secret) >= 2 * _SHORTEST_SECRET:  # servers may show its beginning
                text = re.sub(re.escape(secret[: _SHORTEST_SECRET + 4]) + r"[\w-]*", "[key]", text)
        return text

    def _clean(self, text: str) -> str:
        """The beginning of what a server says, in one line."""
        return " ".join(self._without_secrets(text).split())[:300]


def _address(base_url: str) -> httpx.URL:
    expected = "give one such as http://127.0.0.1:8000/v1"
    try:
        url = httpx.URL(base_url.strip())
    except (httpx.InvalidURL, AttributeError):
        raise UserError(f"server address: cannot be read; {expected}") from None
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65535:
        raise UserError(f"server address: not an http or https address; {expected}")
    return url


def _masked(value: Any, secrets: set[str], name: str = "") -> Any:
    """JSON with the secrets hidden that the names of its fields tell; they are added to `secrets`."""
    if isinstance(value, Mapping):
        return {key: _masked(each, secrets, str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(each, secrets, name) for each in value]
    if not isinstance(value, str) or not _SECRET_NAME.search(name):
        return value
    secrets.add(value)
    return "[key]"
