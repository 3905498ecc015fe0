"""What a server refuses, bounds and frees, and whom it lets in."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from conftest import COMMAND
from served import directions, http_client, idle, openai_client, probe, served, serving_of, sharp

from benchmarks.serving import fuzzed
from interp.directions.directions import Directions
from interp.errors import UserError
from interp.models.model import Model
from interp.serving import app as serving
from interp.serving.engine import Job, Refused
from interp.serving.requests import named
from interp.serving.server import Server, listen

model = pytest.fixture(sharp, scope="module")  # another than the server's, which belongs to the engine's thread
found = pytest.fixture(directions, scope="module")
server = pytest.fixture(served, scope="module")
client = pytest.fixture(openai_client)
http = pytest.fixture(http_client)


GATE: dict[str, Any] = {"when": "mood", "above": 0.5}
WRONG: dict[str, tuple[str, Any, int]] = {
    "another model": ("completions", {"model": "gpt-9", "prompt": "a"}, 404),
    "another label": ("completions", {"model": "tiny+agent-7@0.2", "prompt": "a"}, 404),
    "a coefficient in words": ("completions", {"model": "tiny+agent-1@much", "prompt": "a"}, 404),
    "a layer that is not there": ("completions", {"prompt": "a", "steering": {"layers": [9]}}, 400),
    "directions that are not there": ("completions", {"prompt": "a", "steering": {"directions": "/etc/passwd"}}, 400),
    "a probe that is not there": ("completions", {"prompt": "a", "steering": {"when": "anger", "above": 0.5}}, 400),
    "a probe as directions": ("completions", {"prompt": "a", "steering": {"directions": "mood"}}, 400),
    "a gate without a limit": ("completions", {"prompt": "a", "steering": {"when": "mood"}}, 400),
    "a gate with both limits": ("completions", {"prompt": "a", "steering": GATE | {"below": 0.9}}, 400),
    "a limit without a gate": ("completions", {"prompt": "a", "steering": {"above": 0.5}}, 400),
    "a limit that is no probability": ("completions", {"prompt": "a", "steering": GATE | {"above": 1.5}}, 400),
    "a class that the probe has not": ("completions", {"prompt": "a", "steering": GATE | {"when_class": "sad"}}, 400),
    "a gate of a later layer": ("completions", {"prompt": "a", "steering": GATE | {"layers": [0]}}, 400),
    "an operation from a file": ("completions", {"prompt": "a", "steering": {"operation": "evil.py:function"}}, 400),
    "an unknown name": ("completions", {"prompt": "a", "steering": {"coeficient": 1}}, 400),
    "logprobs": ("completions", {"prompt": "a", "logprobs": 3}, 400),
    "chat logprobs": ("chat/completions", {"messages": [{"role": "user", "content": "a"}], "logprobs": True}, 400),
    "no prompt": ("completions", {}, 400),
    "an empty prompt": ("completions", {"prompt": ""}, 400),
    "no messages": ("chat/completions", {"messages": []}, 400),
    "the assistant last": ("chat/completions", {"messages": [{"role": "assistant", "content": "a"}]}, 400),
    "a long prompt": ("completions", {"prompt": "Problem: 2+2 " * 400}, 400),
    "too many texts": ("completions", {"prompt": "a", "n": 9}, 400),
    "too long a text": ("completions", {"prompt": "a", "max_tokens": 10**6}, 400),
    "a cold temperature": ("completions", {"prompt": "a", "temperature": -1}, 400),
    "a seed too large": ("completions", {"prompt": "a", "seed": 2**63}, 400),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_request_is_told_what_is_wrong_as_openai_does(wrong: str, http: httpx.Client) -> None:
    path, body, status = WRONG[wrong]
    reply = http.post(f"/v1/{path}", json=body)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert "\n" not in error["message"]


def test_the_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="not served"):
        client.completions.create(model="other", prompt="a")
    with pytest.raises(openai.BadRequestError, match="tokens") as refused:
        client.completions.create(model="tiny", prompt="Problem: 2+2 " * 400)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError, match="token"):
        client.with_options(api_key="wrong").models.list()


def test_only_this_machine_s_own_pages_and_those_who_know_the_token_are_let_in(
    server: Server, http: httpx.Client
) -> None:
    assert server.listening.getsockname()[0] == "127.0.0.1"
    port = server.host.partition(":")[2]
    for path in ("/v1/models", "/api/info", "/v1/completions", "/nothing", "/docs"):
        assert httpx.get(f"http://{server.host}{path}").status_code == 401
        assert httpx.get(f"http://{server.host}{path}?token={server.token}").status_code == 401
    for given in ("Bearer wrong", server.token, f"bearer {server.token}", "Bearer é"):
        assert http.get("/api/info", headers={b"Authorization": given.encode("latin-1")}).status_code == 401
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"127.0.0.1.evil.example:{port}",
        "",
    ):
        assert http.get("/api/info", headers={"Host": host}).status_code == 403
    for origin in ("http://evil.example", "null", f"https://{server.host}", f"http://evil.example:{port}", ""):
        assert http.get("/api/info", headers={"Origin": origin}).status_code == 403
    assert http.get("/api/info", headers={"Origin": f"http://{server.host}"}).status_code == 200
    assert http.get("/api/info", headers={"Host": f"localhost:{port}"}).status_code == 200
    assert http.options("/api/info", headers={"Origin": f"http://{server.host}"}).status_code == 405
    assert not [name for name in http.get("/api/info").headers if name.startswith("access-control")]


def test_the_page_runs_its_own_script_only_and_does_not_hold_the_token(server: Server, http: httpx.Client) -> None:
    page = httpx.get(f"http://{server.host}/?token={server.token}")
    policy = page.headers["content-security-policy"]
    assert page.status_code == 200
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert f'nonce="{nonce}"' in page.text
    assert nonce not in httpx.get(f"http://{server.host}/?token={server.token}").text
    assert server.token not in page.text
    assert "__NONCE__" not in page.text
    assert "/*PAGE_" not in page.text
    for given in ("", "?token=", "?token=wrong", f"?token={server.token}&token={server.token}"):
        assert httpx.get(f"http://{server.host}/{given}").status_code == 401
    for reply in (page, http.get("/api/info")):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "server" not in reply.headers


def raw(server: Server, body: str, length: int) -> socket.socket:
    """A connection on which a request was begun."""
    connection = socket.create_connection(("127.0.0.1", int(server.host.partition(":")[2])), timeout=10)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: Bearer {server.token}\r\n"
    connection.sendall(f"{head}Content-Length: {length}\r\n\r\n{body}".encode())
    return connection


def test_large_and_slow_requests_are_cut_off(
    server: Server, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http.post("/v1/completions", content=b'{"prompt": "' + b"a" * serving.BODY_BYTES + b'"}').status_code == 413
    endless = (b"a" * 65536 for _ in range(1000))
    assert http.post("/v1/completions", content=endless).status_code == 413
    with socket.create_connection(("127.0.0.1", int(server.host.partition(":")[2])), timeout=10) as endless_head:
        endless_head.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        with pytest.raises(ConnectionError):
            endless_head.sendall(b"a" * 20_000_000)
    for headers in ({"X-Long": "a" * 200_000}, {f"X-{k}": "a" * 100 for k in range(400)}):
        with suppress(httpx.TransportError):  # closed before it was sent
            assert http.get("/api/info", headers=headers).status_code == 431
    with socket.create_connection(("127.0.0.1", int(server.host.partition(":")[2])), timeout=10) as long_line:
        long_line.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 33_000)
        assert long_line.recv(100).startswith(b"HTTP/1.1 431 ")
    assert http.get("/api/info", headers={"X-Long": "a" * 20_000}).status_code == 200
    monkeypatch.setattr("interp.serving.server.HEAD_SECONDS", 0.2)
    where = ("127.0.0.1", int(server.host.partition(":")[2]))
    for begun in (b"", b"GET / HTTP/1.1\r\n"):
        with socket.create_connection(where, timeout=10) as slow:
            slow.sendall(begun)
            while slow.recv(65536):
                pass  # and is closed
    monkeypatch.setattr(serving, "BODY_SECONDS", 0.2)
    with raw(server, '{"prompt"', 100) as slow:
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    with raw(server, '{"prompt"', 100):
        pass  # and goes away
    assert http.get("/api/info").status_code == 200


def test_who_goes_away_frees_its_row_whether_it_streams_or_not(server: Server, http: httpx.Client) -> None:
    for streams in (True, False):
        body = json.dumps({"prompt": "Problem: ", "max_tokens": 500, "n": 8, "temperature": 0, "stream": streams})
        with raw(server, body, len(body)):
            while not server.service.engine.open:
                time.sleep(0.005)
            time.sleep(0.05)
        begun = time.monotonic()
        assert idle(server)
        assert time.monotonic() - begun < 1
    assert http.get("/api/info").status_code == 200


def test_texts_that_are_too_many_or_too_slow_are_refused_or_cut(tmp_path: Path) -> None:
    with serving_of(tmp_path, n_rows=2, seconds=0.5, waiting=2) as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        with httpx.Client(base_url=f"http://{server.host}", headers=headers, timeout=30) as http:
            body = {"prompt": "a", "max_tokens": 590, "temperature": 0}
            with ThreadPoolExecutor(12) as pool:
                replies = list(pool.map(lambda _: http.post("/v1/completions", json=body), range(12)))
            refused = [reply for reply in replies if reply.status_code == 429]
            assert len(refused) >= 6
            assert {reply.headers["retry-after"] for reply in refused} == {"1"}
            assert {reply.json()["error"]["type"] for reply in refused} == {"rate_limit_error"}
            kept = [reply.json()["choices"][0] for reply in replies if reply.status_code == 200]
            assert len(kept) + len(refused) == 12
            assert {choice["finish_reason"] for choice in kept} <= {"timeout", "length"}
            assert idle(server)


def test_a_server_that_stops_ends_its_texts_and_says_so(tmp_path: Path) -> None:
    with serving_of(tmp_path, n_rows=2) as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        body = {"prompt": "a", "max_tokens": 590, "temperature": 0, "stream": True}
        with httpx.stream("POST", f"http://{server.host}/v1/completions", json=body, headers=headers) as reply:
            lines = reply.iter_lines()
            assert next(lines).startswith("data: ")
            server.handle_exit(signal.SIGINT, None)
            rest = "\n".join(lines)
        assert "the server is stopping" in rest
        assert rest.rstrip().endswith("data: [DONE]")


def test_any_json_gets_an_answer_and_never_a_fault(
    server: Server, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interp.serving.requests.USUAL", 4)
    rng, statuses = random.Random(0), dict[int, int]()
    for k in range(300):
        path, body = fuzzed(rng)
        reply = http.post(path, content=body)
        assert reply.status_code in (200, 400, 404), f"request {k}: {path} {body[:300]!r}: {reply.text[:300]}"
        if reply.status_code != 200:
            assert reply.json()["error"]["message"]
        statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
    assert statuses[200] > 25
    assert statuses[400] > 100
    assert idle(server)


@pytest.mark.parametrize(
    ("name", "layers", "coefficients"),
    [
        ("m+agent-1", [()], [0.2]),
        ("m+agent-1@-.5:2+found/agent-2@2", [(2,), ()], [-0.5, 2.0]),
        ("m", [], []),
        ("", [], []),
    ],
)
def test_steerings_in_a_model_s_name(name: str, layers: Any, coefficients: Any, found: Directions) -> None:
    made = named(name, "m", {"found": found})
    assert [one.layers for one in made] == layers
    assert [one.settings().coefficients[0] for one in made] == coefficients


@pytest.mark.parametrize(
    "name", ["mm", "m+", "m+agent-1@", "m+agent-1:x", "m+other/agent-1", "n+agent-1", "m+agent-1@1e3"]
)
def test_names_that_are_no_steering_are_not_found(name: str, found: Directions) -> None:
    with pytest.raises(Refused, match=r"^model .*: (no steering|not served)"):
        named(name, "m", {"found": found})


def test_a_port_that_is_taken_and_another_host_are_refused_in_a_line(interp: Callable[..., Any]) -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: .* in use; give another --port"):
            listen(port)
        code, _, wrong = interp("serve", "--model", "organism", "--port", port)
        assert (code, wrong.count("\n")) == (2, 1)
    for host in ("0.0.0.0", "::", "192.168.0.1"):
        code, _, wrong = interp("serve", "--model", "organism", "--host", host)
        assert (code, wrong.count("\n")) == (2, 1)
        assert "--host" in wrong


def test_the_command_serves_until_it_is_interrupted_and_keeps_its_token_to_itself(
    model_folder: Path, model: Model, tmp_path: Path
) -> None:
    token = "a-token-of-ones-own"
    probe(model).save(tmp_path / "mood.safetensors")
    given = ["--directions", str(tmp_path / "mood.safetensors")]
    command = [*COMMAND, "serve", "--model", str(model_folder), "--port", "0", *given]
    environment = os.environ | {"INTERP_SERVE_TOKEN": token, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        page = lines[1].removeprefix("page: ").strip()
        assert page.endswith(f"/?token={token}"), lines
        address = page.partition("/?")[0]
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}) as http:
            info = http.get("/api/info").json()
            assert (info["directions"], [each["name"] for each in info["probes"]]) == ([], ["mood"])
            with http.stream("POST", "/v1/completions", json={"prompt": "a", "n": 32, "stream": True}) as reply:
                next(reply.iter_lines())  # and goes away
        assert httpx.get(page).status_code == 200
        process.send_signal(signal.SIGINT)
        out, wrong = process.communicate(timeout=20)
    assert (process.returncode, out.strip(), wrong.strip()) == (0, "stopped", "")


def test_a_probe_of_another_width_is_refused_in_a_line(
    model: Model, model_folder: Path, interp: Callable[..., Any], tmp_path: Path
) -> None:
    wide = np.ones((1, 2 * model.d_model), np.float32)
    replace(probe(model), weights=wide, mass_mean=wide).save(tmp_path / "wide.safetensors")
    code, _, wrong = interp(
        "serve", "--model", model_folder, "--port", 0, "--directions", tmp_path / "wide.safetensors"
    )
    assert (code, wrong.count("\n")) == (2, 1), wrong
    assert "width" in wrong


def test_a_job_of_a_loop_that_has_ended_is_told_nothing() -> None:
    async def made() -> Job:
        return Job(1.0)

    job = asyncio.run(made())
    job.tell(0, "a")
    assert job.queue.empty()
