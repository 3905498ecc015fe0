"""A journal keeps whole records, knows what made them, and loses nothing but a torn last line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from interp.errors import UserError
from interp.storage import journal as journals
from interp.storage.files import lock
from interp.storage.journal import Journal, Lines, read_lines

RECORDS = [{"n": 1, "text": "zwei\nthree"}, {"n": 2, "text": "süß “—”"}, {"n": 3, "text": ""}]


def written(path: Path) -> bytes:
    lines = Lines(path)
    for record in RECORDS:
        lines.append(record)
    lines.close()
    return path.read_bytes()


def test_records_come_back_and_more_go_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    whole = written(path)
    again = Lines(path)
    assert again.records == RECORDS
    again.append({"n": 4})
    again.close()
    assert path.read_bytes() == whole + b'{"n": 4}\n'
    assert read_lines(path) == [*RECORDS, {"n": 4}]


def test_a_file_cut_anywhere_loses_only_the_record_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = written(path)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert read_lines(path) == RECORDS[: whole[:length].count(b"\n")]
        lines = Lines(path)
        for record in RECORDS[len(lines.records) :]:
            lines.append(record)
        lines.close()
        assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff", b""])
def test_a_damaged_line_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n' + line + b'\n{"n": 3}\n')
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: damaged"):
        Lines(path)


def test_a_journal_goes_on_only_with_what_it_was_begun_with(tmp_path: Path) -> None:
    path, facts_path = tmp_path / "a.jsonl", tmp_path / "a.json"
    made_by: dict[str, Any] = {"task": {"name": "arithmetic", "high": 99}, "agents": [{"seed": 0}, {"seed": 1}]}
    journal = Journal(path, made_by)
    journal.append({"n": 1})
    facts = json.loads(facts_path.read_text())
    assert facts["made_by"] == made_by
    [versions] = facts["versions"]
    assert versions["interp"]
    for changed, named in (
        ({**made_by, "task": {"name": "arithmetic", "high": 9}}, "high"),
        ({**made_by, "agents": [{"seed": 0}, {"seed": 2}]}, "seed"),
        ({**made_by, "agents": [{"seed": 0}]}, "agents"),
        ({**made_by, "rounds": 3}, "rounds"),
    ):
        with pytest.raises(UserError, match=f"started with another {named}"):
            Journal(path, changed)
    before = path.read_bytes(), facts_path.read_bytes()
    journal.close()
    with path.open("rb") as other:
        assert lock(other.fileno())
        for restart in (False, True):
            with pytest.raises(UserError, match="another run is writing it"):
                Journal(path, made_by, restart=restart)
    assert (path.read_bytes(), facts_path.read_bytes()) == before
    journal = Journal(path, made_by)  # as an interrupted cell of a notebook leaves it
    journal = Journal(path, made_by)
    assert journal.records == [{"n": 1}]
    journal.finish({"total": 1})
    facts_path.write_text(facts_path.read_text().replace(versions["torch"], "0.0.1"))
    again = Journal(path, {**made_by, "agents": tuple(made_by["agents"])})  # as JSON it is the same
    assert again.records == [{"n": 1}]
    again.rewrite([{"n": 2}, {"n": 3}])
    again.append({"n": 4})
    again.finish({"total": 2})
    assert read_lines(path) == [{"n": 2}, {"n": 3}, {"n": 4}]
    facts = json.loads(facts_path.read_text())
    assert facts["total"] == 2
    assert facts["versions"] == [{**versions, "torch": "0.0.1"}, versions]  # both made some of it
    assert Journal(path, {"other": True}, restart=True).records == []


def test_a_start_that_came_to_nothing_stands_in_nobodys_way(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl", {"server": "mistyped"})
    journal.finish({})
    journal = Journal(tmp_path / "a.jsonl", {"server": "right"})
    assert json.loads((tmp_path / "a.json").read_text())["made_by"] == {"server": "right"}
    journal.pending.append({"paid": "for"})
    with pytest.raises(UserError, match=r"started with another server; .*delete \.a\.pending\.jsonl"):
        Journal(tmp_path / "a.jsonl", {"server": "another"})


def test_nothing_that_a_journal_did_not_write_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"mine": true}\n')
    for facts in (None, "[]", "{}"):
        if facts:
            (tmp_path / "a.json").write_text(facts)
        with pytest.raises(UserError, match=r"a\.json does not say how it was made"):
            Journal(path, {})
    assert path.read_text() == '{"mine": true}\n'
    with pytest.raises(UserError, match=r"ends in \.jsonl"):
        Journal(tmp_path / "a.txt", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Journal(tmp_path / "file" / "a.jsonl", {})
    (tmp_path / "b.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        Journal(tmp_path / "b.jsonl", {}, restart=True)


def test_lines_of_two_runs_are_told_apart(tmp_path: Path) -> None:
    rows = range(5)

    def extend(journal: Journal) -> list[dict[str, Any]]:
        def write(some: Sequence[int]) -> list[dict[str, Any]]:
            return [{"row": row, "text": f"text {row}", "scores": {"a": [row]}} for row in some]

        records: list[dict[str, Any]] = []
        journal.extend(records, rows[:3], write, chunk=2, place=lambda row: {"row": row})
        journal.extend(records, rows[3:], write, chunk=2, place=lambda row: {"row": row})
        journal.finish({})
        return records

    path = tmp_path / "a.jsonl"
    whole = extend(Journal(path, {}))
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in range(6):
        path.write_bytes(b"".join(lines[:kept]))
        assert extend(Journal(path, {})) == whole
    for mixed, wrong in (
        ([lines[0], lines[2]], r"line 2: not what this run writes there"),
        ([lines[0], lines[0]], r"line 2: not what"),
        ([*lines[:4], b'{"text": "text 4"}\n'], r"line 5: not what"),
        ([*lines, *lines], r"holds 10 records, but this run writes 5"),
    ):
        path.write_bytes(b"".join(mixed))
        with pytest.raises(UserError, match=wrong):
            extend(Journal(path, {}))
        assert path.read_bytes() == b"".join(mixed)
    assert [p.name for p in tmp_path.glob(".*")] == [".a.pending.jsonl"]
    assert extend(Journal(path, {}, restart=True)) == whole
    assert {p.name for p in tmp_path.iterdir()} == {"a.jsonl", "a.json"}


@pytest.mark.parametrize("at", ["unlink", "write_json"])
def test_a_kill_while_a_journal_is_finished(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "a.jsonl", {})
    journal.append({"n": 1})
    journal.pending.append({"part": 1})

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*{"unlink": (Path, "unlink"), "write_json": (journals, "write_json")}[at], killed)
    with pytest.raises(KeyboardInterrupt):
        journal.finish({"total": 1})
    monkeypatch.undo()
    assert "total" not in json.loads((tmp_path / "a.json").read_text())  # or it would not be finished again
    Journal(tmp_path / "a.jsonl", {}).finish({"total": 1})
    assert {p.name for p in tmp_path.iterdir()} == {"a.jsonl", "a.json"}
