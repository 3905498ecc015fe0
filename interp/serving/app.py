"""What is answered to whom: OpenAI's chats and completions, and what the page asks for."""

from __future__ import annotations

import asyncio
import copy
import hmac
import json
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

import numpy as np
from jinja2 import Environment, PackageLoader
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from interp.directions.directions import Directions
from interp.directions.extract import measured
from interp.directions.tokens import project_tokens
from interp.errors import UserError, plain
from interp.interventions.steer import Chat as Messages
from interp.interventions.steer import layers_of, prompt_ids, prompt_of
from interp.models.layers import SITES
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.options import one_of
from interp.probing.probe import Probe, read_scores
from interp.serving.engine import Engine, Job, Refused
from interp.serving.requests import LIMIT, Chat, Completion, Request, named, served_name
from interp.steering.changes import TOKENS
from interp.steering.settings import SteeringSettings
from interp.steering.steering import OPERATIONS, UNITS, add
from interp.storage.files import EXACT, checked

BODY_BYTES, BODY_SECONDS, HEAD_BYTES = 1_000_000, 10.0, 32_768
KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 503: "server_error"}
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TEMPLATES = Environment(loader=PackageLoader("interp.serving", ""), keep_trailing_newline=True)
TEMPLATES.filters |= {"quote": lambda word: shlex.quote(str(word)), "repr": repr}
Kind = TypeVar("Kind")
Files = Mapping[str, tuple[Path, Directions | Probe]]


def refusal(_: Any, error: Exception) -> Response:
    known = error if isinstance(error, Refused) else Refused(400, str(error))
    known = Refused(error.status_code, error.detail) if isinstance(error, HTTPException) else known
    kind = KINDS.get(known.status, "invalid_request_error")
    body = {"message": plain(str(known)), "type": kind, "param": known.param, "code": known.code}
    return JSONResponse({"error": body}, known.status, {"Retry-After": "1"} if known.status in (429, 503) else {})


@dataclass(frozen=True)
class Guard:
    """Lets in only requests to this machine by its own name, from no other site's page, that know the token."""

    app: ASGIApp
    token: str
    hosts: Sequence[str]
    seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self.refused(scope) if scope["type"] == "http" else None
        with suppress(TimeoutError):  # one who reads too slowly is cut off
            async with asyncio.timeout(self.seconds):
                await (refusal(None, error) if error else self.app)(scope, receive, send)

    def refused(self, scope: Scope) -> Refused | None:
        def given(wanted: bytes) -> list[str]:
            return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]

        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES:
            return Refused(431, f"headers: more than {HEAD_BYTES:,} bytes")
        if any(host not in self.hosts for host in given(b"host") or [""]):
            return Refused(403, f"host: not this server; use http://{self.hosts[0]}")
        if not {*given(b"origin")} <= {f"http://{host}" for host in self.hosts}:
            return Refused(403, "origin: another site's page may not use this server")
        if scope["path"] == "/":  # the page holds nothing of the model, and asks for a token that is missing
            return None
        if same(given(b"authorization"), f"Bearer {self.token}"):
            return None
        advice = "give the one that interp serve printed, as the API key or as Authorization: Bearer TOKEN"
        return Refused(401, f"token: missing or wrong; {advice}", code="invalid_api_key")


def same(given: Sequence[str], wanted: str) -> bool:
    """Whether the one value given is the one wanted, in a time that says nothing about it."""
    return len(given) == 1 and hmac.compare_digest(given[0].encode(), wanted.encode())


@dataclass(frozen=True)
class Colours:
    """A text whose tokens are to be coloured, and what it was written after."""

    __pydantic_config__ = EXACT
    text: str
    prompt: str = ""
    messages: list[Any] | None = None
    directions: str = ""


def towards(probe: Probe) -> Directions:
    """A probe as directions, whose random scale is measured as that of other tools' vectors."""
    labels, vectors = zip(*((one.label, one.vector) for one in probe.shown), strict=True)
    unknown = np.array([np.nan], np.float32)
    return Directions(labels, (probe.layer,), np.stack(vectors)[None, :, None], unknown, SITES["resid_post"], {})


class Told(StreamingResponse):
    """What is told of a job, which ends when whoever asked goes away."""

    job: Job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.job.cancelled = True


class Service:
    """One model and named directions behind the routes: `n_rows` texts at once, others `waiting`, none for longer than
    some `seconds`."""

    def __init__(self, model: Model, loaded: Files, n_rows: int = 32, seconds: float = 300, waiting: int = 64) -> None:
        self.model, self.n_rows, self.seconds, self.began = model, n_rows, seconds, int(time.time())
        self.paths = {name: str(path) for name, (path, _) in loaded.items()}
        self.probes = {name: given for name, (_, given) in loaded.items() if isinstance(given, Probe)}
        given = {name: towards(held) if isinstance(held, Probe) else held for name, (_, held) in loaded.items()}
        self.shown = {name: measured(held, model) for name, held in given.items()}
        for held in self.shown.values():  # raises `UserError` for what does not fit the model
            with add([held[held.labels[0], layer] for layer in held.layers]).on(model):
                pass
        self.loaded = {name: held for name, held in self.shown.items() if name not in self.probes}
        self.measured = {name for name, held in self.loaded.items() if held is not given[name]}
        self.engine = Engine(model, n_rows, waiting)
        # prompts are encoded beside the engine's thread, by a tokenizer of their own: they are not safe to share
        self.encoding, self.tokenizer = ThreadPoolExecutor(1), copy.deepcopy(model.tokenizer)
        self.encoder = replace(model, tokenizer=self.tokenizer)

    def app(self, token: str, hosts: Sequence[str]) -> ASGIApp:
        """What uvicorn serves at these hosts (`127.0.0.1:8000`) to those who know the token."""
        gets: dict[str, Any] = {"/": partial(self.page, token=token), "/v1/models": self.models, "/api/info": self.info}
        gets["/v1/models/{name:path}"] = self.models
        posts: dict[str, Callable[..., Any]] = {
            "/v1/chat/completions": partial(self.write, kind=Chat),
            "/v1/completions": partial(self.write, kind=Completion),
            "/api/sweep": partial(self.write, kind=Chat | Completion),
            "/api/tokens": self.tokens,
            "/api/command": self.command,
        }
        routes = [Route(path, get) for path, get in gets.items()]
        routes += [Route(path, post, methods=["POST"]) for path, post in posts.items()]
        answers: dict[Any, Any] = dict.fromkeys((Refused, UserError, HTTPException), refusal)
        answers[ClientDisconnect] = lambda *_: Response("")
        app = Starlette(routes=routes, exception_handlers=answers)
        return Guard(app, token, hosts, self.seconds + 2 * BODY_SECONDS)

    async def page(self, request: Asked, token: str) -> Response:
        nonce, here = secrets.token_urlsafe(16), Path(__file__).parent
        text = (here / "page.html").read_text("utf-8").replace("__NONCE__", nonce)
        for mark, file in (("/*PAGE_CSS*/", "../reports/page.css"), ("/*PAGE_JS*/", "page.js")):
            text = text.replace(mark, (here / file).read_text("utf-8"))
        knows = same(parse_qs(str(request.url.query)).get("token", []), token)
        return Response(text, 200 if knows else 401, {"Content-Security-Policy": POLICY.format(nonce)}, "text/html")

    async def read(self, request: Asked, kind: type[Kind]) -> Kind:
        """The body of a request; raises `Refused` where it is too large, too slow or something else."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > BODY_BYTES:
                        raise Refused(413, f"body: more than {BODY_BYTES:,} bytes")
            return checked(kind, bytes(body))
        except TimeoutError:
            raise Refused(408, f"body: not here after {BODY_SECONDS:g} seconds") from None
        except ValueError as error:
            raise Refused(400, str(error), str(error).partition(":")[0].split(".")[-1][:80]) from None

    async def encoded(self, function: Callable[..., Kind], *given: Any) -> Kind:
        return await asyncio.get_running_loop().run_in_executor(self.encoding, function, *given)

    async def write(self, http: Asked, kind: Any) -> Response:
        """As OpenAI's completions; those of several coefficients are choices."""
        asked: Request = await self.read(http, kind)
        rows = await self.encoded(asked.texts, self.encoder, self.loaded, self.probes, self.n_rows)
        job, n, chat = self.engine.submit(rows, self.seconds), len(rows), isinstance(asked, Chat)
        kind = "chat.completion" if chat else "text_completion"
        head = {"id": f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}", "object": kind}
        head |= {"created": int(time.time()), "model": asked.model or served_name(self.model)}
        n_read = sum(len(ids) for ids in {tuple(row.prompt) for row in rows})
        texts, n_tokens, reasons = [""] * n, [0] * n, list[str | None]([None] * n)

        def choice(at: int, said: str, reason: str | None, where: str) -> dict[str, Any]:
            written = {where: {"role": "assistant", "content": said}} if chat else {"text": said}
            return {"index": at, **written, "logprobs": None, "finish_reason": reason}

        def whole(choices: list[dict[str, Any]]) -> dict[str, Any]:
            n_new = sum(n_tokens)
            usage = {"prompt_tokens": n_read, "completion_tokens": n_new, "total_tokens": n_read + n_new}
            return {**head, "choices": choices, "usage": usage}

        async def told() -> AsyncIterator[str]:
            counts = bool((asked.stream_options or {}).get("include_usage"))
            if asked.stream and chat:
                head["object"] = f"{kind}.chunk"
            try:
                async for at, text, reason, length in job.pieces(n):
                    texts[at], reasons[at], n_tokens[at] = texts[at] + text, reason, length
                    if asked.stream:
                        event = {**head, "choices": [choice(at, text, reason, "delta")]}
                        yield f"data: {json.dumps(event | ({'usage': None} if counts else {}))}\n\n"
                if asked.stream:
                    yield (f"data: {json.dumps(whole([]))}\n\n" if counts else "") + "data: [DONE]\n\n"
                else:
                    yield json.dumps(whole([choice(at, texts[at], reasons[at], "message") for at in range(n)]))
            except Refused as error:
                body = bytes(refusal(None, error).body).decode()
                yield f"data: {body}\n\ndata: [DONE]\n\n" if asked.stream else body

        reply = Told(told(), media_type="text/event-stream" if asked.stream else "application/json")
        reply.job = job
        return reply

    async def tokens(self, request: Asked) -> Response:
        asked = await self.read(request, Colours)
        name = asked.directions or next(iter(self.shown), "")
        one_of("directions", name, self.shown)
        found, probe = self.shown[name], self.probes.get(name)

        def encode() -> tuple[list[int], int]:
            own, chat, given = Encoder(self.tokenizer), asked.messages, asked.prompt
            prompt = prompt_ids(self.tokenizer, prompt_of(chat, "messages"), "chat") if chat else own.prompt(given)
            after = bool(chat or given)
            text = own.continuation(asked.text) if after else own.prompt(asked.text)
            return (prompt + text, len(prompt)) if after else (text, 0)

        ids, n_prompt = await self.encoded(encode)
        [read] = await self.engine.call(lambda: project_tokens(self.model, [ids], found))
        if n_prompt < len(ids):  # a model's first token is far longer than what it writes
            read = replace(read, random=read.random[n_prompt:])
        said = {"n_prompt": n_prompt, "lengths": [x if x > 0 else 1.0 for x in found.residual_norm.tolist()]}
        if probe is not None:  # of two classes the second's
            scores = await self.engine.call(partial(read_scores, self.model, probe, ids))
            said["scores"] = scores.reshape(len(ids), -1)[:, -len(found.labels) :].T.astype(float).round(4).tolist()
        return JSONResponse(read.record() | said)

    async def command(self, request: Asked) -> Response:
        """The command line, and the Python, that write what a request asks for."""
        asked: Any = await self.read(request, Chat | Completion)  # type: ignore[arg-type]
        await self.encoded(asked.texts, self.encoder, self.loaded, self.probes, self.n_rows)
        text = prompt_of(asked.messages, "messages") if isinstance(asked, Chat) else asked.prompt
        each = asked.along(self.model, self.loaded)
        if asked.stop or not isinstance(text, str | Messages) or any(len(one.coefficients) > 1 for one in each):
            raise Refused(400, "command: give one text or chat, one coefficient to a steering, and no stop")
        held = {key: getattr(self, key) for key in ("model", "loaded", "measured", "paths")}
        said = {**held, "each": each, "layers_of": layers_of, "asked": asked, "sampling": asked.sampling}
        said |= {"text": getattr(text, "messages", text)}
        made = TEMPLATES.get_template("commands.jinja").render(said, form="chat" if isinstance(asked, Chat) else "text")
        return JSONResponse(dict(zip(("command", "python"), made.split("\n=====\n"), strict=True)))

    async def models(self, request: Asked) -> Response:
        base, first = served_name(self.model), next(iter(self.loaded.values()), None)
        names = [base, *(f"{base}+{label.replace(' ', '-')}@0.2" for label in (first.labels if first else ()))]
        if name := request.path_params.get("name"):
            named(name, base, self.loaded)
            names = [name]
        cards = [{"id": name, "object": "model", "created": self.began, "owned_by": "interp"} for name in names]
        return JSONResponse(cards[0] if name else {"object": "list", "data": cards})

    async def info(self, request: Asked) -> Response:
        model, usual = self.model, SteeringSettings()
        files = {
            name: {**{key: getattr(found, key) for key in ("labels", "layers", "hook_point")}, "name": name}
            | {"best_layers": layers_of(found, usual)}
            for name, found in self.shown.items()
        }
        probes = [files.pop(name) | {"classes": probe.classes} for name, probe in self.probes.items()]
        said = {key: getattr(model, key) for key in ("source", "n_layers", "context_length", "notes")}
        said |= {"model": served_name(model), "chat": bool(model.tokenizer.chat_template)}
        said |= {"directions": [*files.values()], "probes": probes}
        said |= {"operations": [*OPERATIONS], "units": [*UNITS], "tokens": [*TOKENS]}
        defaults = {key: getattr(usual, key) for key in ("operation", "units", "tokens")}
        defaults |= {"coefficient": usual.coefficients[0], "temperature": 0.0, "top_p": 1.0, "max_tokens": 128}
        limits = {"max_tokens": LIMIT, "texts": self.n_rows, "body_bytes": BODY_BYTES, "seconds": self.seconds}
        return JSONResponse(said | {"defaults": defaults, "limits": limits})
