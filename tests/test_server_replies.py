"""Servers that misbehave, one a row: what each says, and what is made of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from dataclasses import dataclass
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import KEY
from faulty import Behaviour, Faulty, Handler, completion, hangs_up, right, says, truncated

from interp.debate.agents import Request
from interp.debate.personas import Persona
from interp.debate.replies import _seconds, completed, refused
from interp.debate.server import ServerAgent
from interp.errors import UserError

RIGHT = r"It is \boxed{3}."
PERSONA = Persona("plain", "Be brief.")


def message(content: Any = None, ended: str = "stop", **more: Any) -> Behaviour:
    choice = {"message": {"role": "assistant", "content": content, **more}, "finish_reason": ended}
    usage = {"prompt_tokens": 11, "completion_tokens": 4}
    return says(json.dumps({"choices": [choice], "usage": usage}).encode())


def error(status: int, said: str, code: Any = None, **headers: str) -> Behaviour:
    return says(json.dumps({"error": {"message": said, "code": code}}).encode(), status, **headers)


def knows_no_system(said: str, status: int) -> Behaviour:
    def behave(handler: Handler) -> None:
        (error(status, said) if handler.body["messages"][0]["role"] == "system" else right)(handler)

    return behave


@dataclass(frozen=True)
class Row:
    """What a server says, request by request (the last for ever), and what is wanted."""

    replies: tuple[Behaviour, ...]
    text: str = RIGHT
    error: str | None = None
    detail: str = ""
    """In the answer's detail."""
    requests: int = 1
    waits: float | None = None
    """Seconds before the second request, at least; None for the usual half."""


TEXT, THOUGHT = {"type": "text", "text": RIGHT}, {"type": "thinking", "thinking": [{"type": "text", "text": "1+2"}]}
LATER = [
    ("seconds", {"retry_after": "7"}, "slow down", 7),
    ("parts of a second", {"retry_after": "1.5"}, "slow down", 1.5),
    ("milliseconds", {"retry_after_ms": "2500", "retry_after": "3"}, "slow down", 2.5),
    ("words", {}, "Rate limit reached for some-model. Please try again in 1.25s. Visit …", 1.25),
    ("words, minutes", {}, "Please try again in 1m30.5s.", 90.5),
    ("words, in full", {}, "Too many requests, retry after 20 seconds.", 20),
    ("limits", {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "6m0s"}, "slow down", 360),
    (
        "one limit of two",
        {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "12s"}
        | {"x_ratelimit_remaining_tokens": "900", "x_ratelimit_reset_tokens": "45s"},
        "slow down",
        12,
    ),
    ("longer than half a minute", {"retry_after": "300"}, "slow down", 300),
]
ROWS = {
    **{f"status {n}": Row((says(b"", n), right), requests=2) for n in (408, 409, 425, 429, *range(500, 512))},
    **{f"status {n}": Row((says(b"<p>", n), right), requests=2) for n in (520, 521, 522, 523, 524, 525, 529, 530, 598)},
    **{f"later, in {name}": Row((error(429, said, **h), right), requests=2, waits=s) for name, h, said, s in LATER},
    "later, says 503": Row((error(503, "loading", retry_after="9"), right), requests=2, waits=9),
    "a field of Google's": Row(
        (says(b'{"error": {"message": "busy", "details": [{"retryDelay": "34s"}]}}', 429), right), requests=2, waits=34
    ),
    "a field in seconds": Row((says(b'{"detail": "busy", "retry_after": 2.5}', 429), right), requests=2, waits=2.5),
    "no system role": Row((knows_no_system("System role not supported", 400),), requests=2),
    "no system role, by llama.cpp": Row((knows_no_system("Jinja: System role not supported", 500),), requests=2),
    "no system role, by Gemma's host": Row((knows_no_system("Developer instruction is not enabled", 400),), requests=2),
    "no system role, by its rule": Row(
        (knows_no_system("Conversation roles must alternate user/assistant/user/assistant/...", 400),), requests=2
    ),
    "no system role, by name": Row(
        (knows_no_system("'messages[0].role' does not support 'system' with this model.", 400),), requests=2
    ),
    "no system role, by validation": Row((knows_no_system("unsupported role: `system`", 422),), requests=2),
    "system named, but not the cause": Row(
        (error(400, "System prompt and question are too long"),), "", "status 400", "are too long", requests=2
    ),
    "parts": Row((message([THOUGHT, TEXT]),)),
    "parts, cut up": Row((message([{"type": "text", "text": RIGHT[:5]}, {"type": "text", "text": RIGHT[5:]}]),)),
    "parts of thought": Row((message([THOUGHT]),), "", "only reasoning", "1+2"),
    "parts of refusal": Row((message([{"type": "refusal", "refusal": "I won't."}]),), "", "refusal", "I won't."),
    "refusal": Row((message(refusal="I will not do sums."),), "", "refusal", "I will not do sums."),
    "reasoning": Row((message(reasoning_content="so 3"),), "", "only reasoning", "so 3"),
    "reasoning, by another name": Row((message("", reasoning="so 3"),), "", "only reasoning", "so 3"),
    "reasoning, cut": Row((message("", "length", reasoning="so"),), "", "empty answer", "the token limit was reached"),
    "tool call": Row((message(tool_calls=[{"function": {"name": "python"}}]),), "", "tool call", '"python"'),
    "old tool call": Row((message(function_call={"name": "python"}),), "", "tool call", '"python"'),
    "filtered": Row((message("", "content_filter"),), "", "content filter", "content_filter"),
    "filtered before": Row(
        (error(400, "The prompt triggers a policy", "content_filter"),), "", "content filter", "triggers a policy"
    ),
    "error in a success": Row((says(b'{"error": {"message": "overloaded"}}'), right), requests=2),
    "error in a success that says when": Row((error(200, "try again in 3s", 429), right), requests=2, waits=3),
    "error in a success, for good": Row((error(200, "too long", 400),), "", "no choices", "too long"),
    "error in a choice": Row(
        (says(b'{"choices": [{"error": {"code": 400, "message": "no seed"}}]}'),), "", "no choices", "no seed"
    ),
    "page": Row((says(b"<html><title>Sign in</title></html>"),), "", "not JSON", "Sign in", requests=3),
    "stream": Row((says(b'data: {"choices": []}\n\ndata: [DONE]\n'),), "", "not JSON", "a stream of events"),
    "string": Row((says(b'"no"'),), "", "no choices", '"no"', requests=3),
    "choices null": Row((says(b'{"choices": null, "object": "x"}'),), "", "no choices", '"object": "x"', requests=3),
    "choices empty": Row((says(b'{"choices": []}'),), "", "no choices", '"choices": []', requests=3),
    "old completion": Row((says(b'{"choices": [{"text": "3"}]}'),), "", "no choices", '"text": "3"', requests=3),
    "halves of pairs": Row((says(b'{"error": "\\ud800 oh"}', 400),), "", "status 400", "? oh"),
    "huge number": Row((says(b'{"choices": ' + b"9" * 9999 + b"}"), right), requests=2),
    "not a number": Row((says(b'{"choices": NaN}'), right), requests=2),
    "validation": Row((says(b'{"detail": [{"msg": "Field required"}]}', 422),), "", "status 422", "Field required"),
    "mark before": Row((says(b"\xef\xbb\xbf" + completion(RIGHT)),)),
    "packed": Row((says(gzip.compress(completion(RIGHT)), content_encoding="gzip"),)),
    "truncated": Row((truncated, right), requests=2),
    "hangs up": Row((hangs_up, right), requests=2),
}


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the client stands still but for its waits, which are noted and take no time."""
    waits, sleep = list[float](), asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("asyncio.sleep", noted)
    monkeypatch.setattr("interp.debate.server.time", SimpleNamespace(monotonic=lambda: sum(waits)))
    return waits


@pytest.mark.parametrize("name", ROWS)
def test_a_server_that_misbehaves(name: str, faulty: Faulty, waited: list[float]) -> None:
    row, faulty.default = ROWS[name], [*ROWS[name].replies]
    [answer] = ServerAgent(PERSONA, faulty.url, "some-model", retries=2).answer([Request("1+2", 1)])
    assert (answer.text, answer.error) == ("" if row.error else row.text, row.error)
    assert row.detail in answer.detail
    assert bool(answer.detail) == (row.error is not None)
    assert faulty.n_seen == {"1+2": row.requests}
    if row.waits is not None:
        assert row.waits <= sum(waited) <= row.waits + 0.5


def test_waits_until_a_date() -> None:
    for date in (formatdate(time.time() + 60, usegmt=True), time.time() + 60, int(1000 * (time.time() + 60))):
        assert 58 <= refused(429, {"retry-after": str(date)}, b"").wait <= 60
    assert 58 <= _seconds(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))) <= 60
    for nothing in ("", "soon", "nan", "-3", "Mon, 99", "1970-01-01T00:00:00Z", "9" * 400):
        assert not 0 < refused(429, {"retry-after": nothing}, b"try again later, id 12345678").wait < float("inf")


def test_a_server_that_takes_few_at_a_time_answers_all_in_the_end(faulty: Faulty) -> None:
    served: list[float] = []

    def few(handler: Handler) -> None:
        now = time.monotonic()
        with faulty.lock:
            fits = len([at for at in served if at > now - 0.1]) < 2
            served.extend([now] * fits)
        (right if fits else error(429, "slow down", retry_after_ms="100"))(handler)

    faulty.default = [few]
    agent = ServerAgent(PERSONA, faulty.url, "m", retries=2, longest_wait=0.1, concurrency=20)
    answers = agent.answer([Request(f"{i}+1", 1) for i in range(20)])
    assert {answer.error for answer in answers} == {None}
    assert max(len(answer.failures) for answer in answers) > 2


def test_the_longest_wait_is_kept_to(faulty: Faulty, waited: list[float]) -> None:
    faulty.default = [error(429, "come back tomorrow", retry_after="86400"), right]
    [answer] = ServerAgent(PERSONA, faulty.url, "m", longest_wait=30).answer([Request("1+2", 1)])
    assert answer.error is None
    assert 30 <= sum(waited) <= 31


def test_hostile_texts_are_read_in_linear_time() -> None:
    started = time.monotonic()
    for text in (
        "<" * 100_000,
        "retry 1" * 20_000,
        "1a" * 50_000,
        "model " * 20_000,
        "role " * 20_000,
        "system" * 20_000,
    ):
        refused(400, {"retry-after": text}, text.encode())
        completed({}, text.encode())
    assert time.monotonic() - started < 3


def test_the_system_message_is_folded_at_once_when_it_was_refused_before(faulty: Faulty) -> None:
    faulty.default = [knows_no_system("System role not supported", 400)]
    agent = ServerAgent(PERSONA, faulty.url, "m", retries=0)
    [first] = agent.answer([Request("1+2", 1)])
    second, third = agent.answer([Request("2+2", 1), Request("3+3", 1, 2, "It is 6.", ((2, "7"),))])
    assert (first.failures, second.failures, third.failures) == (("no system role",), (), ())
    assert faulty.n_seen == {"1+2": 2, "2+2": 1, "3+3": 1}
    [(*_, body)] = faulty.seen["Problem: 3+3"]
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"].startswith("Be brief.\n\nProblem: 3+3\n\n")


FINAL = {
    "no quota": error(429, "You exceeded your current quota", "insufficient_quota"),
    "no money": error(402, "Insufficient Balance"),
    "no credit": error(400, "Your credit balance is too low"),
    "no such model": error(400, "Model some-model does not exist", "model_not_found"),
    "no such key": error(400, "API key not valid. Please pass a valid API key."),
    "proxy": error(407, "who are you"),
}


@pytest.mark.parametrize("name", FINAL)
def test_what_all_requests_would_share_ends_the_run_in_the_servers_words(name: str, faulty: Faulty) -> None:
    faulty.default = [FINAL[name]]
    with pytest.raises(UserError, match=r"answers status \d+ for model some-model and says: \w") as raised:
        ServerAgent(PERSONA, faulty.url, "some-model", concurrency=2).answer([Request(f"{i}+1", 1) for i in range(50)])
    assert "\n" not in str(raised.value)
    assert sum(faulty.n_seen.values()) <= 4


SECRET = "hush-hush-nobody-may-know"


@pytest.mark.parametrize("place", ["password", "user", "query", "body", "key", "beginning of the key"])
def test_secrets_go_into_no_record_log_or_error(
    place: str,
    faulty: Faulty,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    shown = SECRET
    address, options = faulty.url, dict[str, Any]()
    match place:
        case "password":
            address = address.replace("//", f"//me:{SECRET}@")
        case "user":
            address = address.replace("//", f"//{SECRET}@")
        case "query":
            address += f"/?api-version=2024-02-01&api-key={SECRET}"
        case "body":
            options = {"extra": {"accessToken": SECRET}, "seed": 3}
        case _:
            monkeypatch.setenv("OPENAI_API_KEY", SECRET)
            shown = SECRET[:15] if place.startswith("beginning") else SECRET
    faulty.scripts = {
        "text": [says(completion(f"You sent {shown}."))],
        "400": [error(400, f"no {shown}!")],
        "503": [says(f"<p>{shown}</p>".encode(), 503)],
        "refusal": [message(refusal=f"not for {shown}")],
        "far": [says(b" x" * 140 + shown.encode(), 400)],
    }
    said = []
    with caplog.at_level("DEBUG"):
        agent = ServerAgent(PERSONA, address, "m", retries=0, options=options)
        answers = agent.answer([Request(name, 1) for name in faulty.scripts])
        for status in (401, 404, 307):
            faulty.default = [says(shown.encode(), status, location="http://elsewhere.invalid/")]
            with pytest.raises(UserError) as raised:
                agent.answer([Request("1+2", 1)])
            said.append(str(raised.value))
    said += [repr(agent), json.dumps(agent.facts), repr(answers), caplog.text, *capfd.readouterr()]
    assert not [text for text in said if shown[:15] in text]
    assert answers[0].text in ("You sent [key].", f"You sent {shown}.".replace(shown, "[key]"))
    assert answers[1].detail == "no [key]!"
    _, path, headers, body = faulty.seen["Problem: text"][0]
    sent = json.dumps([path, {k: v for k, v in headers.items() if k.lower() == "authorization"}, body])
    assert SECRET in sent or "Basic " in sent


@pytest.mark.parametrize("tail", ["", "/", "/v1/", "/v1/chat/completions", "/v1?api-version=2", "?api-version=2"])
def test_addresses_may_end_in_several_ways(faulty: Faulty, tail: str) -> None:
    agent = ServerAgent(PERSONA, f" {faulty.url.removesuffix('/v1')}{tail} ", "m")
    assert agent.answer([Request("1+2", 1)])[0].error is None
    query = "?api-version=2" if "?" in tail else ""
    assert faulty.seen["Problem: 1+2"][0][1] == f"/v1/chat/completions{query}"


def test_proxies_of_the_environment(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("HTTP_PROXY", faulty.url.removesuffix("/v1"))
    agent = ServerAgent(PERSONA, "http://far.invalid/v1", "m")
    assert agent.answer([Request("1+2", 1)])[0].error is None
    assert faulty.seen["Problem: 1+2"][0][1] == "http://far.invalid/v1/chat/completions"
    for wrong in ("ftp://x:1", "http://x:port"):
        monkeypatch.setenv("HTTP_PROXY", wrong)
        with pytest.raises(UserError, match=r"no connection can be set up .*PROXY"):
            agent.answer([Request("1+2", 1)])


@pytest.mark.parametrize("host", ["[::1]:1", f"{'a' * 70}.com", "no-such-host.invalid"])
def test_hosts_that_are_not_there(host: str) -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        ServerAgent(PERSONA, f"http://me:{KEY}@{host}/v1", "m", retries=0).answer([Request("1+2", 1)])
