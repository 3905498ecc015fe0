"""`interp debate`, `evaluate` and `compare` as a user meets them: tables, files, kills and mistakes."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import COMMAND, KEY, hear_interrupts
from faulty import FAULTS, Faulty, right, says, slow

from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.transcript import read_transcripts

N = 200
DEBATE = ["debate", "--model", "scripted", "--questions", str(N), "--batch-size", "2", "--concurrency", "2"]


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_debate(interp: Any, tmp_path: Path) -> None:
    out = tmp_path / "new" / "debates.jsonl"
    code, said, _ = interp("debate", "--model", "scripted", "--questions", 12, "--rotate", "--out", out)
    assert code == 0
    assert f"wrote {out}" in said
    kept = records(out)
    transcripts = read_transcripts(out)
    assert [t.question for t in transcripts] == [q.text for q in Arithmetic().questions(12, 0)]
    assert len({t.personas for t in transcripts}) == 6
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["usage"]["calls"] == sum(r["usage"]["calls"] for r in kept) == sum(len(t.turns) for t in transcripts)
    assert facts["made_by"]["agents"][2]["persona"]["name"] == "program-of-thought"
    assert f"{facts['accuracy']['mean']:.3f} [{facts['accuracy']['low']:.3f}" in said
    assert sorted(p.name for p in out.parent.iterdir()) == ["debates.json", "debates.jsonl"]
    before = out.read_bytes()
    assert interp("debate", "--model", "scripted", "--questions", 12, "--rotate", "--out", out)[0] == 0
    assert out.read_bytes() == before


def test_ten_kills_leave_the_same_bytes_as_none(interp: Any, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert interp(*DEBATE, "--out", whole)[0] == 0
    rng = random.Random(0)
    size = whole.stat().st_size
    for kill_at in sorted(rng.randrange(size) for _ in range(10)):
        process = subprocess.Popen([*COMMAND, *DEBATE, "--out", str(out)], stdout=subprocess.DEVNULL)
        while process.poll() is None and (not out.exists() or out.stat().st_size <= kill_at):
            time.sleep(rng.random() / 500)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run was over before it was killed"
        assert whole.read_bytes().startswith(out.read_bytes())
    assert interp(*DEBATE, "--out", out)[0] == 0
    assert out.read_bytes() == whole.read_bytes()
    assert set(Counter(r["question"] for r in records(out)).values()) == {1}
    assert len(records(out)) == N
    killed, never = (json.loads(path.with_suffix(".json").read_text()) for path in (out, whole))
    assert {**killed, "written": ""} == {**never, "written": ""}
    assert not list(tmp_path.glob(".*"))


def test_evaluate_a_local_model_and_compare(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    shared = ("--model", model_folder, "--questions", 3, "--max-new-tokens", 4, "--out", tmp_path)
    methods = ("--method", "single", "--method", "vote", "--method", "model")
    code, said, _ = interp("evaluate", *shared, *methods, "--runs", 2)
    assert code == 0
    assert said.count(f"model: {model_folder}") == 1  # loaded once
    assert "answers cut off at the length limit" in said
    assert sorted(p.stem for p in tmp_path.glob("*.jsonl")) == [f"arithmetic-{m}" for m in ("model", "single", "vote")]
    single, vote, model = (records(tmp_path / f"arithmetic-{m}.jsonl") for m in ("single", "vote", "model"))
    assert [r["usage"]["calls"] for r in (*single, *vote)] == [1] * 6 + [3] * 6
    assert all(m["usage"]["input_tokens"] < s["usage"]["input_tokens"] for m, s in zip(model, single, strict=True))
    assert len({tuple(r["texts"]) for r in single}) == 6
    code, said, _ = interp("compare", tmp_path / "arithmetic-single.jsonl", tmp_path / "arithmetic-model.jsonl")
    assert code == 0
    assert "On the 3 questions that both answered" in said
    assert "p = 1 (exact sign-flip test)" in said

    agents = ("--agent", "plain", "--agent", "evil=scripted", "--agent", "guardian=scripted")
    code, _, _ = interp("debate", "--task", "evil", *agents, *shared[:-1], tmp_path / "mixed.jsonl")
    assert code == 0
    assert [a["kind"] for a in json.loads((tmp_path / "mixed.json").read_text())["made_by"]["agents"]] == [
        "local",
        "scripted",
        "scripted",
    ]


def test_evaluate_against_a_server_that_does_everything_wrong(
    interp: Any, faulty: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = Arithmetic().questions(len(FAULTS), 0)
    faults = dict(zip((q.text for q in questions), FAULTS.values(), strict=True))
    # every second fault is made good, the others never
    good = {text: i % 2 == 0 for i, text in enumerate(faults)}
    faulty.scripts = {text: [fault, right] if good[text] else [fault] for text, (fault, _) in faults.items()}
    # a Retry-After of a day would keep everybody waiting for a minute
    faulty.scripts = {t: [right] if "busy for" in name else faulty.scripts[t] for t, name in zip(faults, FAULTS)}  # noqa: B905
    server = ("--server", faulty.url, "--model", "some-model", "--retries", 2, "--body", '{"logprobs": null}')
    out = ("--questions", len(FAULTS), "--out", tmp_path / "results")
    code, said, wrong = interp("evaluate", "--method", "single", *server, *out)
    assert (code, wrong) == (0, "")
    kept = {r["question"]: r["usage"] for r in records(tmp_path / "results" / "arithmetic-single.jsonl")}
    for (text, (_, kind)), name in zip(faults.items(), FAULTS, strict=True):
        n_failures = 0 if "busy for" in name else 1 if good[text] else 3
        assert (name, kept[text]["failures"]) == (name, {kind: n_failures} if n_failures else {})
        assert bool(kept[text]["unanswered"]) == (n_failures == 3)
        assert len(faulty.seen[f"Problem: {text}"]) == min(n_failures + 1, 3)
    for kind in {kind for text, (_, kind) in faults.items() if not good[text]}:
        n = sum(kind in usage["unanswered"] for usage in kept.values())
        assert f"without an answer: {n} of {len(FAULTS)}, {kind}" in said
    assert not any(KEY in path.read_text() for path in (tmp_path / "results").iterdir())
    assert KEY not in said
    n_asked = sum(map(len, faulty.seen.values()))
    assert interp("evaluate", "--method", "single", *server, *out)[0] == 0
    assert sum(map(len, faulty.seen.values())) == n_asked  # a finished run asks nothing


MISTAKES = {
    "task": (["--task", "chess"], "task chess: unknown"),
    "agent": (["--agent", "pirate"], "persona pirate: unknown"),
    "one agent": (["--agent", "self-critique"], "a debate has at least 2 agents"),
    "script": (["--agent", "plain=scripted", "--agent", "plain=scripted"], "persona plain: has no script"),
    "form": (["--form", "a+"], "a+b*c"),
    "setting": (["--task", "evil", "--digits", "3"], "has no digits"),
    "too many": (["--task", "evil", "--questions", "9999999"], "ask for at most that many"),
    "data": (["--task", "gsm8k", "--source", "nowhere.jsonl"], "nowhere.jsonl"),
    "body": (["--body", "[]"], "not a JSON object"),
    "top-p": (["--top-p", "2"], "top_p 2.0"),
    "server": (["--server", "nonsense", "--model", "m"], "not an http or https address"),
    "unused": (["--server", "http://127.0.0.1:1/v1"], "all agents are scripted"),
    "adapter": (["--adapter", "a"], "no agent is played by scripted"),
    "key": (["--server", "http://127.0.0.1:1/v1", "--model", "m", "--body", f'{{"k": "{KEY}"}}'], "hold the key"),
    "name": (["--out", "debates.txt"], "ends in .jsonl"),
    "folder": (["--out", "/dev/null/debates.jsonl"], "debates.jso"),
    "model": (["--model", "./nowhere"], "no such folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    mistake: str, interp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    arguments, expected = MISTAKES[mistake]
    code, _, wrong = interp("debate", "--model", "scripted", *arguments)
    assert (code, wrong.count("\n")) == (2, 1)
    assert wrong.startswith("error: ")
    assert expected in wrong
    assert KEY not in wrong
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".jsonl" and p.stat().st_size]


def test_everything_is_checked_before_anything_is_asked(interp: Any, tmp_path: Path) -> None:
    tasks = ("--task", "arithmetic", "--task", "nonsense")
    assert interp("evaluate", "--model", "scripted", *tasks, "--out", tmp_path / "a")[0] == 2
    agents = ("--agent", "guardian", "--agent", "evil", "--agent", "guardian")
    tasks = ("--task", "evil", "--task", "hallucination")
    assert interp("evaluate", "--model", "scripted", *tasks, *agents, "--out", tmp_path / "a")[0] == 2
    assert not (tmp_path / "a").exists()
    # a later one that cannot be written keeps the table of those before
    (tmp_path / "b" / "arithmetic-vote.jsonl").mkdir(parents=True)
    code, said, wrong = interp("evaluate", "--model", "scripted", "--questions", 5, "--out", tmp_path / "b")
    assert (code, wrong.count("\n")) == (2, 1)
    assert "arithmetic single" in said


def test_only_what_was_out_at_a_kill_is_asked_again(faulty: Faulty, tmp_path: Path) -> None:
    texts = [q.text for q in Arithmetic().questions(16, 0)]
    faulty.scripts = {texts[3]: [slow(60), right]}
    server = ["--server", faulty.url, "--model", "m", "--concurrency", "16"]
    out = tmp_path / "results"
    command = [*COMMAND, "evaluate", "--method", "single", *server, "--questions", "16", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    pending = out / ".arithmetic-single.pending.jsonl"
    while process.poll() is None and (not pending.exists() or pending.read_bytes().count(b"\n") < 15):
        time.sleep(0.01)
    process.kill()
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert faulty.n_seen == {text: 2 if text == texts[3] else 1 for text in texts}


def test_ctrl_c_and_a_full_disk_keep_what_is_finished(interp: Any, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    out = tmp_path / "debates.jsonl"
    command = [*COMMAND, *DEBATE, "--out", str(out)]
    full = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_files)
    assert full.returncode == 2
    assert full.stderr.startswith("error: ")
    assert full.stderr.count("\n") == 1
    size = out.stat().st_size
    assert size
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )
    while process.poll() is None and out.stat().st_size <= size:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, wrong = process.communicate(timeout=60)
    assert process.returncode == 130
    assert wrong.strip().splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in wrong
    assert interp(*DEBATE, "--out", out)[0] == 0
    interp(*DEBATE, "--out", tmp_path / "whole.jsonl")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("verb", ["debate", "evaluate"])
def test_a_run_in_which_nothing_was_answered_ends_with_1_and_leaves_nothing(
    interp: Any, faulty: Faulty, tmp_path: Path, verb: str
) -> None:
    faulty.default = [says(b'{"error": "seed is not known"}', 400)]
    shared = (verb, "--server", faulty.url, "--model", "m", "--questions", 2, "--retries", 0)
    out = tmp_path / "d.jsonl" if verb == "debate" else tmp_path
    code, said, error = interp(*shared, "--out", out)
    assert code == 1
    assert error.count("\n") == 1
    assert "no call got an answer: " in error
    assert "status 400 (the first: seed is not known)" in error
    assert "accuracy" not in said
    assert not list(tmp_path.iterdir())
    faulty.default = [right]
    assert interp(*shared, "--out", out)[0] == 0


def test_an_unanswered_run_leaves_the_answers_of_earlier_ones(interp: Any, faulty: Faulty, tmp_path: Path) -> None:
    out = tmp_path / "d.jsonl"
    shared = ("debate", "--server", faulty.url, "--model", "m", "--retries", 0, "--out", out)
    assert interp(*shared, "--questions", 2)[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    faulty.default = [says(b"later", 503)]
    assert interp(*shared, "--questions", 4)[0] == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert interp(*shared, "--questions", 2)[0] == 0
    assert interp(*shared, "--questions", 2, "--retry-failed")[0] == 0


@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_refuses_access_leaves_nothing(interp: Any, faulty: Faulty, tmp_path: Path, status: int) -> None:
    faulty.default = [says(b"no", status)]
    out = tmp_path / "d.jsonl"
    code, _, error = interp("debate", "--server", faulty.url, "--model", "m", "--questions", 2, "--out", out)
    assert (code, error.count("\n")) == (2, 1)
    assert not list(tmp_path.iterdir())


def test_what_was_answered_before_access_was_refused_is_kept(interp: Any, faulty: Faulty, tmp_path: Path) -> None:
    command = ("debate", "--server", faulty.url, "--model", "m", "--questions", 2, "--concurrency", 1)
    command = (*command, "--out", tmp_path / "d.jsonl")
    faulty.scripts[Arithmetic().questions(2, 0)[0].text] = [right, says(b"no", 401), right]
    assert interp(*command)[0] == 2
    n_before = sum(faulty.n_seen.values())
    assert interp(*command)[0] == 0
    n_turns = sum(len(transcript.turns) for transcript in read_transcripts(tmp_path / "d.jsonl"))
    assert n_turns == 6
    assert sum(faulty.n_seen.values()) - n_before <= n_turns - 1, "what was answered is not asked again"


def test_a_secret_in_the_servers_address_goes_nowhere(interp: Any, faulty: Faulty, tmp_path: Path) -> None:
    secret = "hush-hush-nobody-may-know"
    url = faulty.url.replace("//", f"//me:{secret}@") + f"?api-key={secret}"
    body = json.dumps({"api_key": secret})
    shared = ("--server", url, "--body", body, "--questions", 2, "--retries", 0, "--out", tmp_path / "d.jsonl")
    faulty.scripts[Arithmetic().questions(2, 0)[0].text] = [says(f"You sent {secret}".encode(), 400)]
    runs = [interp("debate", "--model", "m", *shared), interp("debate", "--model", "scripted", *shared)]
    runs += [interp("debate", "--model", "m", *shared[:3], body[:-1], *shared[4:])]
    assert [code for code, *_ in runs] == [0, 2, 2]
    written = [path.read_text() for path in tmp_path.iterdir()]
    assert len(written) == 2
    assert not [text for text in (*written, *(text for _, *texts in runs for text in texts)) if secret in text]
