"""`interp serve` under load: `python -m benchmarks.serving [--requests 10000] [--out serving.json]`.

Starts the command on the organism with directions that are extracted on the spot, in a process of its own, and tells:

- its memory after 200 and after 1,000 steered requests;
- whether 32 clients at once, each with a steering of its own, get the texts that they get alone;
- in how many seconds what is too large, too slow or cancelled ends, and a row is free again;
- what it answers to random requests: any JSON, broken JSON, wrong methods, paths, headers, hosts, origins and tokens.

The exit status is 1 where a text differs or a request got a status of 500 or none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx
from rich.table import Table

from interp.debate.embedded import find_transcripts
from interp.debate.tasks.arithmetic import Arithmetic
from interp.directions.directions import Directions
from interp.directions.extract import extract_directions
from interp.generation.sampling import generate
from interp.interventions.steer import make_steering, prompt_ids
from interp.models.model import Model, load_model
from interp.reports.terminal import Terminal
from interp.steering.settings import SteeringSettings
from interp.storage.files import write_json

CLIENTS, ROWS = 32, 32


class Address(NamedTuple):
    """Of a running server."""

    port: int
    token: str
    process: int

    def client(self) -> httpx.AsyncClient:
        headers, limits = {"Authorization": f"Bearer {self.token}"}, httpx.Limits(max_connections=CLIENTS)
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=120, limits=limits)

    @property
    def megabytes(self) -> float:
        """What the process has in memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process}/status").read_text())
        return int(found[1]) / 1024 if found else float("nan")


@contextmanager
def serving(directions: Path) -> Iterator[Address]:
    command = [sys.executable, "-m", "interp.cli", "serve", "--model", "organism", "--directions", str(directions)]
    how: Any = {"stdout": subprocess.PIPE, "text": True, "env": {**os.environ, "PYTHONUNBUFFERED": "1"}}
    with subprocess.Popen([*command, "--port", "0", "--batch-size", str(ROWS)], **how) as process:
        try:
            page = next(filter(None, (re.search(r":(\d+)/\?token=(\S+)", line) for line in process.stdout or ())))
            yield Address(int(page[1]), page[2], process.pid)
        finally:
            process.send_signal(signal.SIGINT)


async def at_once(n: int, clients: int, one: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """What n requests give, so many at a time."""
    numbers, given = iter(range(n)), dict[int, Any]()

    async def client() -> None:
        for k in numbers:
            given[k] = await one(k)

    await asyncio.gather(*(client() for _ in range(clients)))
    return [given[k] for k in range(n)]


def asked(k: int, found: Directions) -> dict[str, Any]:
    """A steered request, another for each k."""
    rng = random.Random(k)
    steering = {"direction_of": rng.choice(found.labels), "coefficient": rng.uniform(-1, 1)}
    steering |= {"layers": [rng.choice(found.layers)], "keep_norm": rng.random() < 0.3}
    steering |= {"tokens": rng.choice(["generated", "prompt", "everywhere", "last", "after-first"])}
    steering |= {"operation": rng.choice(["add", "add", "add", "clamp", "ablate"])}
    prompt = f"Problem: {Arithmetic(1, 9, 'a+b*c').questions(1, k)[0].text}\n"
    how = {"max_tokens": rng.randint(4, 64), "temperature": k % 2 * rng.uniform(0.3, 1.2), "seed": k}
    return {"prompt": prompt, "steering": steering, **how, "top_p": rng.choice([1.0, 0.9])}


def alone(model: Model, found: Directions, body: dict[str, Any]) -> str:
    """The text of a request, written by itself in this process."""
    own = dict(body["steering"])
    of, amount, layers = own.pop("direction_of"), own.pop("coefficient"), tuple(own.pop("layers"))
    settings = SteeringSettings(layers=layers, coefficients=(amount,), **own)
    how = {"max_new_tokens": body["max_tokens"], "temperature": body["temperature"], "top_p": body["top_p"]}
    steering, ids = make_steering(found, [of], settings, model), prompt_ids(model.tokenizer, body["prompt"], "text")
    return generate(model, [ids], steering=steering, seeds=[body["seed"]], **how)[0].text


async def memory(server: Address, found: Directions) -> dict[str, float]:
    """MB after so many steered requests."""
    after = {}
    async with server.client() as http:

        async def one(k: int) -> None:
            (await http.post("/v1/completions", json=asked(k, found))).raise_for_status()
            if k + 1 in (1, 200, 400, 600, 800, 1000):
                after[f"{k + 1} requests"] = server.megabytes

        begun = time.monotonic()
        await at_once(1000, 8, one)
        return {**after, "seconds": time.monotonic() - begun}


async def together(server: Address, found: Directions, model: Model, rounds: int = 8) -> dict[str, Any]:
    """How many texts of clients at once are those that are written alone."""
    n = CLIENTS * rounds
    async with server.client() as http:

        async def one(k: int) -> str:
            reply = await http.post("/v1/completions", json=asked(5000 + k, found))
            return str(reply.json()["choices"][0]["text"])

        texts = await at_once(n, CLIENTS, one)
    each = [alone(model, found, asked(5000 + k, found)) for k in range(n)]
    same = sum(a == b for a, b in zip(texts, each, strict=True))
    pairs = enumerate(zip(texts, each, strict=True))
    differ = [{**asked(5000 + k, found), "together": a, "alone": b} for k, (a, b) in pairs if a != b]
    return {"clients": CLIENTS, "texts": n, "equal": same, "different texts": len(set(each)), "unequal": differ}


async def said(server: Address, sent: bytes) -> tuple[int | None, float]:
    """The status that is answered to these bytes, None for a closed connection, and the seconds until then."""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(sent)
        first = await asyncio.wait_for(reader.readline(), 60)
    except ConnectionError:
        first = b""
    finally:
        writer.close()
    return (int(first.split()[1]) if first.startswith(b"HTTP/1.1 ") else None), time.monotonic() - begun


async def bounds(server: Address) -> dict[str, Any]:
    """What becomes of requests that are too large, too slow or cancelled."""
    known = f"Host: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\n"
    post = f"POST /v1/completions HTTP/1.1\r\n{known}"
    large = {
        "body of 2 MB": f"{post}Content-Length: 2000000\r\n\r\n{'a' * 2_000_000}",
        "headers of 200 KB": f"GET /api/info HTTP/1.1\r\n{known}X-Long: {'a' * 200_000}\r\n\r\n",
        "400 headers of 100 bytes": f"GET /api/info HTTP/1.1\r\n{known}" + f"X-More: {'a' * 92}\r\n" * 400 + "\r\n",
        "head that does not end": f"GET / HTTP/1.1\r\n{known}",
        "nothing sent": "",
        "body that does not end": f'{post}Content-Length: 100\r\n\r\n{{"prompt"',
    }
    answers = await asyncio.gather(*(said(server, sent.encode()) for sent in large.values()))
    made: dict[str, Any] = dict(zip(large, answers, strict=True))
    for cancels in (True, False):
        waits = [await freed(server, cancels) for _ in range(5)]
        what = f"row after {ROWS} texts {'were cancelled' if cancels else 'that go on'}, seconds"
        made[what] = {"median": median(waits), "most": max(waits)}
    return made


async def freed(server: Address, cancels: bool) -> float:
    """Seconds until a text that waits for a row is written, from when whoever has all of them goes away, or goes on."""
    many = {"prompt": "Problem: 3+4*2\n\n", "max_tokens": 200, "temperature": 0, "n": ROWS, "seed": 1, "stream": True}
    async with server.client() as http, server.client() as other:
        written = set[int]()
        async with http.stream("POST", "/v1/completions", json=many) as reply:
            lines = (json.loads(line[6:]) async for line in reply.aiter_lines() if line.startswith("data: {"))
            async for event in lines:
                [choice] = event["choices"]
                written.add(choice["index"])
                assert choice["finish_reason"] is None, "a text ended before all rows were taken"
                if len(written) == ROWS:
                    break
            short = other.post("/v1/completions", json={"prompt": "Problem: ", "max_tokens": 1})
            waiting = asyncio.create_task(short)
            await asyncio.sleep(0.02)  # it has arrived
            assert not waiting.done(), "a row was free"
            begun = time.monotonic()
            if not cancels:
                await waiting
        (await waiting).raise_for_status()
        return time.monotonic() - begun


async def fuzz(server: Address, n: int, clients: int = 12) -> dict[str, Any]:
    """How often each status was answered to n random requests."""
    statuses, kinds, wrong = Counter[str](), Counter[str](), list[str]()
    async with server.client() as http:

        async def one(k: int) -> None:
            rng = random.Random(k)
            method, path, body, headers = odd(rng, server)
            kinds["JSON" if headers is None else "bytes"] += 1
            if headers is not None:
                status, _ = await said(server, head(method, path, headers, body) + body)
                told = str(status or "closed")
            else:
                try:
                    told = str((await http.request(method, path, content=body)).status_code)
                except httpx.TransportError as error:
                    told = type(error).__name__
                    wrong.append(f"request {k}: {told}")
            statuses[told] += 1
            if told in ("500", "502", "504"):
                wrong.append(f"request {k}: {told}: {method} {path} {body[:300]!r}")

        begun = time.monotonic()
        await at_once(n, clients, one)
        seconds = time.monotonic() - begun
        alive = (await http.get("/api/info")).status_code
    return {"requests": n, **kinds, "statuses": dict(sorted(statuses.items())), "wrong": wrong[:20]} | {
        "seconds": seconds,
        "answers afterwards": alive == 200,
        "MB": server.megabytes,
    }


def head(method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + f"\r\nContent-Length: {len(body)}\r\n\r\n").encode("utf-8", "surrogatepass")


def odd(rng: random.Random, server: Address) -> tuple[str, str, bytes, list[tuple[str, str]] | None]:
    """A request by a client that speaks HTTP (no headers), or as bytes."""
    path, body = fuzzed(rng)
    if rng.random() < 0.7:
        return "POST", path, body, None
    host, token = f"127.0.0.1:{server.port}", server.token
    right = {"Host": host, "Authorization": f"Bearer {token}"}
    method, kind = "POST", rng.randrange(7)
    if kind == 0:
        method = rng.choice(
            ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "CONNECT", "X" * 30, "", "po st"]
        )
    elif kind == 1:
        paths = ["/", "/..", "//", "/v1", "/v1/models", "/v1/models/organism", "/v1/models/x%2Fy@1", "/v1/models/%00"]
        paths += ["/api", "/%ff", "/?token=", f"/?token={token}&token=x", "*", "é", "/" + "a" * 9000, "http://evil/"]
        method, path = rng.choice(["GET", "POST"]), rng.choice([*paths, "/v1/models/+@:+", "/api/info?x=%00"])
    elif kind == 2:
        right["Host"] = rng.choice(["", "evil", "localhost", f"localhost:{server.port}", "127.0.0.1", f"{host}:1", "é"])
    elif kind == 3:
        right["Origin"] = rng.choice(
            ["null", "http://evil", f"http://{host}", f"https://{host}", "", "💥", f"http://{host}/"]
        )
    elif kind == 4:
        known = (f"Basic {token}", f"Bearer {token}x", f"bearer {token}", token)
        given = ["", "Bearer", "Bearer é", "Bearer \x00", *known]
        right["Authorization"] = rng.choice(given)
    elif kind == 5:
        names = ["X", "Content-Type", "Transfer-Encoding", "Expect", "Connection", "Content-Encoding", "Upgrade", "a b"]
        values = ["", "x", "chunked", "gzip", "100-continue", "close", "websocket", "é", "\x00", "a" * 40_000, "-1"]
        right[rng.choice([*names, "", "Content-Length", "Cookie", "Host "])] = rng.choice([*values, "1e9"])
    else:
        body = bytes(rng.randrange(256) for _ in range(rng.randrange(400)))
    return method, path, body, list(right.items())


def junk(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON."""
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.choice([0, -1, 1, 2**31, 2**63, -(2**64), 10**30, 1e308, -0.0, 1e-300, rng.random()])
    if kind < 4:
        return rng.choice(
            [
                "",
                "a",
                "agent 1",
                "random",
                "\u0000",
                "\ud800",
                "\u202e",
                "💥" * 9,
                "</s>",
                "tiny+",
                "organism+agent-9",
                "x" * 500,
            ]
        )
    if kind < 7:
        return [junk(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice([*NAMES, "", "x"]): junk(rng, depth + 1) for _ in range(rng.randrange(4))}


NAMES = (
    *("model", "prompt", "messages", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream", "steering"),
    *("stream_options", "coefficients", "logprobs", "direction_of", "layers", "operation", "coefficient", "units"),
    *(
        "when",
        "when_class",
        "above",
        "below",
        "mood",
        "tokens",
        "turns_of",
        "like",
        "directions",
        "text",
        "role",
        "content",
        "include_usage",
        "coefficients",
        "type",
    ),
)


def fuzzed(rng: random.Random) -> tuple[str, bytes]:
    """A path and a body: right ones, with something in them that may not be, or anything at all."""
    steering: Any = {"direction_of": f"agent {rng.randint(1, 2)}", "coefficient": rng.uniform(-2, 2)}
    good: list[tuple[str, Any]] = [
        ("/v1/completions", {"prompt": "Problem: ", "steering": steering}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "2+2?"}], "steering": steering}),
        ("/api/sweep", {"prompt": "a", "steering": steering, "coefficients": [-0.5, 0.5]}),
        ("/api/command", {"prompt": "a", "steering": steering, "n": 2}),
        ("/api/tokens", {"text": "2+2", "prompt": "Problem: "}),
    ]
    path, body = rng.choice(good)
    body |= {} if path == "/api/tokens" else {"max_tokens": rng.randrange(1, 4), "stream": rng.random() < 0.3}
    if rng.random() < 0.9:
        place = rng.choice([body, *(value for value in body.values() if isinstance(value, dict))])
        place[rng.choice([*place, *NAMES])] = junk(rng)
    if rng.random() < 0.1:
        body = junk(rng)
    sent = json.dumps(body).encode()
    if rng.random() < 0.15:
        at = rng.randrange(len(sent) + 1)
        sent = sent[:at] + rng.choice([b"", b"\xff", b"NaN", b"[" * 5000, b'"', sent]) + sent[at + rng.randrange(3) :]
    return path, sent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="random requests")
    parser.add_argument("--out", type=Path, help="JSON file of what was found")
    given, console = parser.parse_args(), Terminal()
    model, found = load_model("organism"), dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        debates = find_transcripts("organism")[-30:]
        directions = extract_directions(model, debates, Path(folder), controls=False).directions
        with serving(Path(folder) / "directions.safetensors") as server:
            found["memory, MB"] = asyncio.run(memory(server, directions))
            found["at once"] = asyncio.run(together(server, directions, model))
            found["bounds"] = asyncio.run(bounds(server))
            found["random requests"] = asyncio.run(fuzz(server, given.requests))
    table = Table("what", "", "found", title="interp serve --model organism")
    for what, its in found.items():
        for name, value in its.items():
            table.add_row(what, name, f"{value:.1f}" if isinstance(value, float) else json.dumps(value, default=str))
    console.print(table)
    if given.out:
        write_json(given.out, found)
    told, fuzzing = found["at once"], found["random requests"]
    return int(told["equal"] < told["texts"] or bool(fuzzing["wrong"]) or not fuzzing["answers afterwards"])


if __name__ == "__main__":
    sys.exit(main())
