"""A server that does everything wrong, for real, on loopback: the run finishes and every failure has a name."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from email.utils import formatdate
from typing import Any

import pytest
from conftest import KEY
from faulty import FAULTS, TOO_SLOW, Behaviour, Faulty, Handler, completion, hangs_up, right, says, slow

from interp.debate.agents import Answer, Request, Sampling, Usage
from interp.debate.personas import Persona
from interp.debate.protocol import debates
from interp.debate.server import ServerAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.errors import UserError

PERSONA = Persona("plain", "Be brief.")


def agent(server: Faulty, **changes: Any) -> ServerAgent:
    options = {"timeout": 20.0, "longest_wait": 0.05, "concurrency": 64, **changes}
    return ServerAgent(PERSONA, server.url, "some-model", **options)


def ask(asked: ServerAgent, *questions: str) -> list[Answer]:
    return asked.answer([Request(question, 1) for question in questions])


def test_a_plain_exchange(faulty: Faulty) -> None:
    [answer] = ask(agent(faulty, sampling=Sampling(77, 0.5, 0.8, 3)), "1+2")
    assert answer == Answer(r"It is \boxed{3}.", 11, 4)
    [(_, path, headers, body)] = faulty.seen["Problem: 1+2"]
    assert path == "/v1/chat/completions"
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == f"Bearer {KEY}"
    seed = body.pop("seed")
    assert 0 <= seed < 2**31
    assert body.pop("messages")[0] == {"role": "system", "content": "Be brief."}
    assert body == {"model": "some-model", "max_tokens": 77, "temperature": 0.5, "top_p": 0.8}
    assert agent(faulty).answer([]) == []


def test_the_body_is_the_users_to_change_and_greedy_sends_no_seed(faulty: Faulty) -> None:
    options = {"max_tokens": None, "max_completion_tokens": 9}
    ask(agent(faulty, sampling=Sampling(77, 0), options=options), "1+2")
    body = faulty.seen["Problem: 1+2"][0][3]
    assert set(body) == {"model", "messages", "temperature", "max_completion_tokens"}


def test_seeds_depend_on_the_request_alone(faulty: Faulty) -> None:
    requests = [Request("1+2", 1), Request("1+2", 2), Request("2+2", 1)]
    for asked in (requests, requests[::-1]):
        agent(faulty).answer(asked)
    seeds = sorted(body["seed"] for seen in faulty.seen.values() for _, _, _, body in seen)
    assert seeds[::2] == seeds[1::2]
    assert len(set(seeds)) == 3


@pytest.mark.parametrize(("faults", "timeout"), [(FAULTS, 20.0), (TOO_SLOW, 0.5)])
def test_every_fault_is_named_and_made_good(
    faulty: Faulty, faults: dict[str, tuple[Behaviour, str]], timeout: float
) -> None:
    faulty.scripts = {name: [fault, right] for name, (fault, _) in faults.items()}
    answers = dict(zip(faults, ask(agent(faulty, timeout=timeout), *faults), strict=True))
    assert {name: answer.failures for name, answer in answers.items()} == {n: (k,) for n, (_, k) in faults.items()}
    assert all(answer.text == r"It is \boxed{3}." and answer.error is None for answer in answers.values())
    assert faulty.n_seen == dict.fromkeys(faults, 2)
    for name, answer in answers.items():  # a failed attempt that the server counted has cost its tokens
        counted = 2 if name in ("empty", "blank", "null", "parts") else 1
        assert (name, answer.input_tokens, answer.output_tokens) == (name, 11 * counted, 4 * counted)


@pytest.mark.parametrize(("faults", "timeout"), [(FAULTS, 20.0), (TOO_SLOW, 0.5)])
def test_nothing_is_asked_beyond_the_limit(
    faulty: Faulty, faults: dict[str, tuple[Behaviour, str]], timeout: float
) -> None:
    faulty.scripts = {name: [fault] for name, (fault, _) in faults.items()}
    answers = ask(agent(faulty, timeout=timeout, retries=2), *faults)
    for (name, (_, kind)), answer in zip(faults.items(), answers, strict=True):
        assert (name, answer.text, answer.error, answer.failures) == (name, "", kind, (kind,) * 3)
    assert faulty.n_seen == dict.fromkeys(faults, 3)
    usage = Usage.of(answers)
    assert sum(usage.failures.values()) == 3 * len(faults)
    assert sum(usage.unanswered.values()) == usage.calls == len(faults)


def test_without_retries_everything_is_asked_once(faulty: Faulty) -> None:
    faulty.default = [says(b"", 503)]
    assert ask(agent(faulty, retries=0), "down")[0].failures == ("status 503",)
    assert faulty.n_seen == {"down": 1}


def test_one_request_may_meet_everything(faulty: Faulty) -> None:
    faults = TOO_SLOW | FAULTS
    faulty.scripts["all"] = [fault for fault, _ in faults.values()] + [right]
    [answer] = ask(agent(faulty, timeout=1.0, retries=len(faults)), "all")
    assert answer.failures == tuple(kind for _, kind in faults.values())
    assert answer.text == r"It is \boxed{3}."
    assert faulty.n_seen == {"all": len(faults) + 1}


@pytest.mark.parametrize("status", [400, 405, 413, 422])
def test_what_no_retry_mends_is_asked_once(faulty: Faulty, status: int) -> None:
    faulty.scripts["1+2"] = [says(f"too long, {KEY}".encode(), status)]
    wrong, fine = ask(agent(faulty), "1+2", "2+2")
    assert wrong == Answer("", 0, 0, f"status {status}", "too long, [key]", (f"status {status}",))
    assert fine.error is None
    assert faulty.n_seen == {"1+2": 1, "2+2": 1}


def test_an_answer_cut_before_any_text_is_not_asked_again(faulty: Faulty) -> None:
    choice = {"message": {"content": "", "reasoning_content": "Hm."}, "finish_reason": "length"}
    usage = {"prompt_tokens": 11, "completion_tokens": 512}
    faulty.default = [says(json.dumps({"choices": [choice], "usage": usage}).encode())]
    [answer] = ask(agent(faulty), "1+2")
    assert (answer.error, answer.input_tokens, answer.output_tokens) == ("empty answer", 11, 512)
    assert faulty.n_seen == {"1+2": 1}


def test_an_answer_cut_in_the_middle_says_so(faulty: Faulty) -> None:
    choice = {"message": {"content": "It is"}, "finish_reason": "length"}
    faulty.default = [says(json.dumps({"choices": [choice]}).encode())]
    [answer] = ask(agent(faulty), "1+2")
    assert answer.cut
    assert answer.estimated


@pytest.mark.parametrize(
    "usage", [None, 7, {}, {"prompt_tokens": "11"}, {"prompt_tokens": -1}, {"prompt_tokens": True}]
)
def test_tokens_that_the_server_does_not_count_are_estimated(faulty: Faulty, usage: Any) -> None:
    faulty.default = [says(completion("x" * 41, usage=usage))]
    [answer] = ask(agent(faulty), "1+2")
    assert answer.estimated
    assert answer.output_tokens == 11
    assert 10 < answer.input_tokens < 40


def test_text_can_always_be_written(faulty: Faulty) -> None:
    faulty.default = [says(completion("").replace(b'""', rb'"a \ud800 b"'))]
    [answer] = ask(agent(faulty), "1+2")
    assert answer.text == "a ? b"


@pytest.mark.parametrize("wish", ["1", "date"])
def test_retry_after_holds_all_requests_back(faulty: Faulty, wish: str) -> None:
    def busy(handler: Handler) -> None:
        handler.send(429, b"", retry_after=formatdate(time.time() + 2, usegmt=True) if wish == "date" else wish)

    faulty.scripts["1+2"] = [busy, right]
    first, *_ = ask(agent(faulty, longest_wait=20.0, concurrency=1), "1+2", "2+2", "3+3")
    assert first.failures == ("status 429",)
    times = sorted(seen[0] for all_seen in faulty.seen.values() for seen in all_seen)
    assert times[1] - times[0] >= 0.99
    assert len(times) == 4


def test_waits_double_vary_and_repeat_with_the_seed(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep, waits = asyncio.sleep, []

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    def waited(seed: int) -> list[float]:
        waits.clear()
        ask(agent(faulty, longest_wait=3.0, retries=6, sampling=Sampling(seed=seed)), "1+2")
        return list(waits)

    faulty.default = [says(b"", 503)]
    monkeypatch.setattr("asyncio.sleep", noted)
    first = waited(0)
    assert waited(0) == first != waited(1)
    assert [0.5 <= wait / full <= 1 for wait, full in zip(first, (0.5, 1, 2, 3, 3, 3), strict=True)] == [True] * 6
    assert len({wait / full for wait, full in zip(first, (0.5, 1, 2, 3, 3, 3), strict=True)}) == 6


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_in_flight_than_allowed(faulty: Faulty, concurrency: int) -> None:
    faulty.default = [slow(0.03)]
    faulty.scripts = {f"{i}+1": [says(b"", 503), slow(0.03)] for i in range(4)}
    answers = ask(agent(faulty, concurrency=concurrency), *(f"{i}+1" for i in range(12)))
    assert all(answer.error is None for answer in answers)
    assert faulty.most_in_flight == concurrency


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_run_and_is_not_told(faulty: Faulty, status: int) -> None:
    faulty.default = [says(f"wrong key {KEY}".encode(), status)]
    with pytest.raises(UserError, match=f"status {status}.*OPENAI_API_KEY") as raised:
        ask(agent(faulty, concurrency=2), *(f"{i}+1" for i in range(50)))
    assert "\n" not in str(raised.value)
    assert sum(faulty.n_seen.values()) <= 4


def test_an_address_or_model_that_is_not_there_ends_the_run(faulty: Faulty) -> None:
    faulty.default = [says(f"no model named some-model, {KEY}".encode(), 404)]
    with pytest.raises(UserError, match=r"status 404 for model some-model and says: no model .*\[key\]"):
        ask(agent(faulty), "1+2")


def test_redirects_are_not_followed(faulty: Faulty) -> None:
    with Faulty() as other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        for status in (301, 302, 307, 308):
            faulty.default = [says(b"", status, location=f"{other.url}/chat/completions")]
            with pytest.raises(UserError, match=f"status {status}"):
                ask(agent(faulty), "1+2")
        other.shutdown()
        thread.join()
        assert other.n_seen == {}


def test_a_server_that_goes_away_ends_the_run_and_what_it_answered_is_kept() -> None:
    kept: dict[int, str] = {}
    with Faulty() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        asked = agent(server, retries=2, concurrency=1)
        asked.answer([Request("1+2", 1)], lambda index, answer: kept.update({index: answer.text}))
        server.shutdown()
        thread.join()
    with pytest.raises(UserError, match=r"can no longer be reached .* start the server again, then run the same"):
        ask(asked, "2+2")
    assert kept == {0: r"It is \boxed{3}."}


def test_a_server_that_is_not_there_ends_the_run_at_once(faulty: Faulty) -> None:
    with Faulty() as gone:
        address = gone.url
    started = time.monotonic()
    with pytest.raises(UserError, match="cannot be reached"):
        ask(ServerAgent(PERSONA, address, "m"), *"123456789")
    assert time.monotonic() - started < 5
    with pytest.raises(UserError, match="cannot be reached"):
        ask(ServerAgent(PERSONA, "http://no-such-host.invalid/v1", "m", longest_wait=0.05), "1+2")


def test_a_server_that_starts_by_hanging_up_is_there(faulty: Faulty) -> None:
    faulty.default = [hangs_up, hangs_up, hangs_up, right]
    [answer] = ask(agent(faulty), "1+2")
    assert answer.failures == ("connection lost",) * 3
    assert answer.error is None


def test_a_server_that_hangs_up_later_fails_that_request_only(faulty: Faulty) -> None:
    asked = agent(faulty, retries=1)
    assert ask(asked, "1+2")[0].error is None
    faulty.default = [hangs_up]
    assert ask(asked, "2+2")[0].error == "connection lost"


@pytest.mark.parametrize("address", ["", "localhost:8000", "ftp://me:pw@x/v1", "http://", "http://me:pw@x\n/v1", 3])
def test_addresses_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(UserError, match="server address") as raised:
        ServerAgent(PERSONA, address, "m")
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize("change", [{"concurrency": 0}, {"retries": -1}, {"timeout": 0.0}, {"longest_wait": -1.0}])
def test_impossible_limits_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="give at least"):
        ServerAgent(PERSONA, "http://x/v1", "m", **change)


def test_the_key_goes_nowhere_else(
    faulty: Faulty, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    echo = f"You sent {KEY}"
    faulty.scripts = {
        "text": [says(completion(echo))],
        "400": [says(echo.encode(), 400)],
        "503": [says(echo.encode(), 503)],
        "page": [says(echo.encode())],
        "far": [says(b" " * 290 + echo.encode(), 400)],
    }
    with caplog.at_level(logging.DEBUG):
        asked = agent(faulty, retries=1)
        answers = ask(asked, *faulty.scripts)
        for status in (401, 404, 307):
            faulty.default = [says(echo.encode(), status, location="http://elsewhere.invalid/")]
            with pytest.raises(UserError) as raised:
                ask(asked, "1+2")
            assert KEY not in str(raised.value)
            assert raised.value.__context__ is None
    assert answers[0].text == "You sent [key]"
    assert all(
        "Bearer" in seen[0][2].get("authorization", seen[0][2].get("Authorization")) for seen in faulty.seen.values()
    )
    out, err = capfd.readouterr()
    everything = [repr(asked), json.dumps(asked.facts), repr(answers), caplog.text, out, err]
    assert not any(KEY in shown or KEY[:20] in shown for shown in everything)


@pytest.mark.parametrize("key", ["two\nlines-of-secret", "schlüssel-geheim", "a secret key"])
def test_a_key_that_is_none_is_not_told_either(faulty: Faulty, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UserError, match="MY_KEY: not a key") as raised:
        ask(agent(faulty, key_variable="MY_KEY"), "1+2")
    assert key not in str(raised.value)
    assert faulty.n_seen == {}


def test_without_a_key_none_is_sent(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    ask(agent(faulty), "1+2")
    assert "authorization" not in {name.lower() for name in faulty.seen["Problem: 1+2"][0][2]}


def test_a_debate_goes_through_a_faulty_server(faulty: Faulty) -> None:
    task = Arithmetic()
    questions = task.questions(6, seed=0)
    faulty.default = [says(b"", 503), right]
    faulty.scripts[questions[2].text] = [says(b"", 503)]
    asked = [agent(faulty, retries=1), agent(faulty, retries=1, sampling=Sampling(seed=1))]
    finished = list(debates(questions, asked, task=task, rounds=2))
    assert [d.transcript.extra for d in finished[:3]] == [
        {},
        {},
        {"undecided": True, "turns_failed": {"status 503": 4}},
    ]
    assert finished[0].usage == Usage(2, 22, 8, {"status 503": 1})
    assert finished[2].usage == Usage(4, 0, 0, {"status 503": 8}, {"status 503": 4})


def test_answers_come_inside_a_running_loop_too(faulty: Faulty) -> None:
    async def notebook() -> list[Answer]:
        return ask(agent(faulty), "1+2")

    assert asyncio.run(notebook())[0].error is None
