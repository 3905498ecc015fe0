"""Files that users give: what one kind of file reads, every kind reads, and refuses in one line with file and line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interp.debate.tasks.benchmarks import GSM8K
from interp.debate.transcript import Transcript, read_transcripts
from interp.errors import UserError
from interp.evaluation.accuracy import compare
from interp.evaluation.settings import json_object
from interp.interventions.steer import Chat, read_prompts, side_by_side
from interp.models.model import Model
from interp.models.tokens import prompt_tokens
from interp.steering.steering import Steering
from interp.storage.text import read_records, read_text, suffix

ODD = "1+1, \u2028 2\u2029+\u0085 2 \x0b\x0c\x1c é?"  # what str.splitlines would split at
DEBATE = Transcript.build("q", [["It is 3.", "3."]], "All agree.")
USAGE = {"calls": 1, "input_tokens": 1, "output_tokens": 1}


def questions_of_compared(path: Path) -> list[str]:
    made_by = {"method": "vote", "task": {"task": "arithmetic"}}
    facts = path.with_name(path.name.partition(".")[0] + ".json")
    facts.write_text(json.dumps({"made_by": made_by}))
    compared = compare(path, path)
    assert compared.first.questions == 2
    return [record["question"] for _, record in read_records(path)]


# A kind of file: a record about a question, and how the questions of a file are read.
KINDS: dict[str, tuple[Callable[[str], dict[str, Any]], Callable[[Path], list[str]]]] = {
    "transcripts": (
        lambda q: {"question": q, "debate_trace": DEBATE.render()},
        lambda path: [t.question for t in read_transcripts(path)],
    ),
    "questions": (
        lambda q: {"question": q, "answer": "#### 4"},
        lambda path: sorted(q.text for q in GSM8K(path).questions(2, 0))[::-1],
    ),
    "prompts": (lambda q: {"prompt": q}, lambda path: [str(prompt) for prompt in read_prompts(path)]),
    "records": (
        lambda q: {"question": q, "gold_answer": "4", "run": 0, "correct": True, "usage": USAGE, "answer": "4"},
        questions_of_compared,
    ),
}


def lines(records: list[Any], **how: Any) -> str:
    return "".join(json.dumps(record, ensure_ascii=False, **how) + "\n" for record in records)


SPELLINGS: dict[str, Callable[[list[Any]], bytes]] = {
    "lines": lambda records: lines(records).encode(),
    "a mark": lambda records: b"\xef\xbb\xbf" + lines(records).encode(),
    "a mark in each of two files": lambda records: b"".join(b"\xef\xbb\xbf" + lines([r]).encode() for r in records),
    "UTF-16": lambda records: lines(records).encode("utf-16"),
    "UTF-16, big end first": lambda records: ("\ufeff" + lines(records)).encode("utf-16-be"),
    "CRLF": lambda records: lines(records).replace("\n", "\r\n").encode(),
    "CR": lambda records: lines(records).replace("\n", "\r").encode(),
    "blank lines": lambda records: ("\n \n" + lines(records).replace("\n", "\n\n\t\n")).encode(),
    "no end": lambda records: lines(records).rstrip("\n").encode(),
    "a list": lambda records: json.dumps(records).encode(),
    "a list, with a mark and lines": lambda records: b"\xef\xbb\xbf\n" + json.dumps(records, indent=1).encode(),
}
PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": ("", bytes),
    "gzip": (".gz", gzip.compress),
    "bzip2": (".bz2", bz2.compress),
    "xz": (".xz", lzma.compress),
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_reads_every_spelling(tmp_path: Path, kind: str, packed: str) -> None:
    record, read = KINDS[kind]
    for name, spell in SPELLINGS.items():
        path = tmp_path / f"{name}.jsonl{PACKED[packed][0]}"
        path.write_bytes(PACKED[packed][1](spell([record(ODD), record("1+0")])))
        assert (name, read(path)) == (name, [ODD, "1+0"])


@pytest.mark.parametrize("kind", ["transcripts", "questions", "prompts"])
def test_one_record_over_several_lines_is_read(tmp_path: Path, kind: str) -> None:
    record, _ = KINDS[kind]
    (tmp_path / "one.json").write_text(json.dumps(record("1+1"), indent=2))
    if kind == "questions":
        assert [q.text for q in GSM8K(tmp_path / "one.json").questions(1, 0)] == ["1+1"]
    else:
        assert KINDS[kind][1](tmp_path / "one.json") == ["1+1"]


@pytest.mark.parametrize("packed", PACKED)
def test_prompts_in_a_text_file_are_its_lines(tmp_path: Path, packed: str) -> None:
    end, pack = PACKED[packed]
    for text in (f"{ODD}\nb\n", f"\ufeff{ODD}\r\n\r\n  \r\nb", f"{ODD}\rb\r"):
        (tmp_path / f"p.txt{end}").write_bytes(pack(text.encode()))
        assert read_prompts(tmp_path / f"p.txt{end}") == [ODD, "b"]


def test_records_are_known_in_a_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(lines([{"prompt": "a"}, {"question": "b"}]))
    assert read_prompts(tmp_path / "p.txt") == ["a", "b"]
    for text in ('{"name": "x"}\nWhat is this?', '{"name": "x"}', "3\n4", '"quoted"', "[1]", "{two}"):
        (tmp_path / "p.txt").write_text(text)
        assert read_prompts(tmp_path / "p.txt") == text.split("\n")


@pytest.fixture(params=KINDS)
def faulty_kind(request: pytest.FixtureRequest) -> tuple[Callable[[str], dict[str, Any]], Callable[[Path], list[str]]]:
    return KINDS[request.param]


FAULTS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "half a line": (lambda good: good[:-2].encode(), "line 2: not valid JSON"),
    "two on a line": (lambda good: f"{good} {good}".encode(), "line 2: not valid JSON"),
    "Latin-1": (lambda good: good.replace("1+1", "é").encode("latin-1"), "line 2: cannot be read as UTF-8"),
    "NUL": (lambda good: good.replace("1+1", "1\0").encode(), "line 2: cannot be read as UTF-8 text .a NUL"),
    "deep": (lambda good: good.replace('"1+1"', "[" * 100_000).encode(), "line 2: nested too deeply"),
    "huge": (lambda good: good.replace('"1+1"', "9" * 5000).encode(), "line 2: cannot be read .Exceeds"),
    "half of a pair": (lambda good: good.replace("1+1", r"\ud800").encode(), "line 2: half of a surrogate pair"),
    "NaN": (lambda good: good.replace('"1+1"', "NaN").encode(), "line 2: cannot be read .Out of range"),
    "infinity": (lambda good: good.replace('"1+1"', "-1e999").encode(), "line 2: cannot be read .Out of range"),
    "twice": (lambda good: f'{{"a": 1, "a": 2, {good[1:]}'.encode(), "line 2: cannot be read .the key 'a' "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_kind_of_file_names_the_line_of_a_fault(
    tmp_path: Path, faulty_kind: tuple[Callable[[str], dict[str, Any]], Callable[[Path], list[str]]], fault: str
) -> None:
    record, read = faulty_kind
    spoil, said = FAULTS[fault]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(lines([record("1+0")]).encode() + spoil(json.dumps(record("1+1"))) + b"\n")
    with pytest.raises(UserError, match=rf"bad\.jsonl, {said}") as raised:
        read(path)
    assert "\n" not in str(raised.value)


def test_every_kind_of_file_refuses_what_is_no_file(
    tmp_path: Path, faulty_kind: tuple[Callable[[str], dict[str, Any]], Callable[[Path], list[str]]]
) -> None:
    _, read = faulty_kind
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"[" * 9999)[:-9])
    (tmp_path / "torn.jsonl.xz").write_bytes(lzma.compress(bytes(999))[:-9])
    (tmp_path / "wrong.jsonl.gz").write_bytes(b"\x1f\x8bwrong")
    os.symlink("/dev/zero", tmp_path / "device.jsonl")
    started = time.monotonic()
    for path in (*tmp_path.iterdir(), tmp_path / "none.jsonl"):
        with pytest.raises(UserError) as raised:
            read(path)
        assert path.name in str(raised.value)
    assert time.monotonic() - started < 3


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with (tmp_path / "pipe").open("w") as file:
            for part in ("a", "b\n", "c"):
                file.write(part)
                file.flush()
                time.sleep(0.05)

    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)  # so that the writer can open it first
    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.02)
    text: list[str] = []
    reader = threading.Thread(target=lambda: text.append(read_text(tmp_path / "pipe")))
    reader.start()
    thread.join()
    os.close(descriptor)
    reader.join(5)
    assert text == ["ab\nc"]


def test_the_suffix_that_says_what_is_in_a_file() -> None:
    names = ("a.jsonl", "a.b.json.gz", "b.txt.xz", "none", "d.gz")
    assert [suffix(name) for name in names] == [".jsonl", ".json", ".txt", "", ""]


USER = {"role": "user", "content": "What is 2+2?"}
SYSTEM = {"role": "system", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]}
HELLO = [{"role": "user", "content": "Hi", "name": "x"}, {"role": "assistant", "content": "Hello."}]


def test_prompts_of_chat_messages_are_put_as_chat(tmp_path: Path, tiny: Model) -> None:
    records = [
        {"prompt": [USER]},
        {"prompt": [SYSTEM, USER], "answer": "4"},
        {"messages": [*HELLO, USER]},
        [USER],
        {"prompt": [{"role": "developer", "content": "Be brief."}, USER]},
        {"prompt": "", "question": "3+3"},
        "4+4",
    ]
    (tmp_path / "p.jsonl").write_text(lines(records))
    brief = Chat((("system", "Be\nbrief."), ("user", "What is 2+2?")))
    hello = Chat((("user", "Hi"), ("assistant", "Hello."), ("user", "What is 2+2?")))
    developer = Chat((("system", "Be brief."), ("user", "What is 2+2?")))
    found = read_prompts(tmp_path / "p.jsonl")
    assert found == ["What is 2+2?", brief, hello, "What is 2+2?", developer, "3+3", "4+4"]
    (tmp_path / "p.json").write_text(json.dumps(records))
    assert read_prompts(tmp_path / "p.json") == found
    short = [brief, [*HELLO, USER]]
    pairs = side_by_side(tiny, short, Steering(), out=tmp_path / "out.jsonl")
    assert [pair.prompt for pair in pairs] == ["system: Be\nbrief.\n\nuser: What is 2+2?", str(hello)]
    facts = json.loads((tmp_path / "out.json").read_text())["made_by"]["prompts"]
    assert facts == [[list(message) for message in chat.messages] for chat in (brief, hello)]
    assert side_by_side(tiny, [brief, hello], Steering(), out=tmp_path / "out.jsonl") == pairs
    said = [{"role": role, "content": text} for role, text in hello.messages]
    as_text = tiny.tokenizer.decode(prompt_tokens(tiny.tokenizer, said), skip_special_tokens=False)
    alone = side_by_side(tiny, [as_text], Steering(), form="text")
    assert alone[0].unsteered == pairs[1].unsteered
    with pytest.raises(UserError, match="chat messages, not a text for the form problem; give texts, or the form chat"):
        side_by_side(tiny, [brief], Steering(), form="problem")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": 3}, "not a JSON object with a prompt"),
        ({"prompt": {"role": "user"}}, "not a JSON object with a prompt"),
        ({"prompt": []}, "not a JSON object with a prompt"),
        ({"text": "a"}, "not a JSON object with a prompt"),
        ({"prompt": ["a"]}, "not chat messages"),
        ({"prompt": [{"role": "user"}]}, "not chat messages .*content"),
        ({"prompt": [{"role": "tool", "content": "4"}]}, "not chat messages .*role"),
        ({"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "not chat messages"),
        ({"messages": [USER, HELLO[1]]}, "ends with a message by the assistant"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "not a JSON object with a prompt"),
    ],
)
def test_prompts_that_are_none_are_refused(tmp_path: Path, record: Any, said: str) -> None:
    (tmp_path / "p.jsonl").write_text(lines([{"prompt": "a"}, record]))
    with pytest.raises(UserError, match=rf"p\.jsonl, line 2: {said}"):
        read_prompts(tmp_path / "p.jsonl")


@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": NaN}', '{"a": 1', "[" * 9999, r'{"a": "\ud800"}', "9" * 5000])
def test_options_in_json_are_refused_unrepeated(text: str) -> None:
    with pytest.raises(UserError, match=r"^value: not a JSON object") as raised:
        json_object(text)
    assert not text or text not in str(raised.value)
