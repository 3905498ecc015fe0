"""Published layouts are read from every format; what is missing says how to get it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from interp.debate.tasks import TASKS, make_task
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.tasks.benchmarks import BBH, BBH_SUBSETS, GSM8K, Math, MMLUPro
from interp.debate.tasks.task import Task
from interp.errors import UserError
from interp.storage import hub as checkpoints

Record = dict[str, Any]


def json_list(path: Path, rows: list[Record]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def jsonl(path: Path, rows: list[Record]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(path: Path, rows: list[Record]) -> Path:
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


WRITERS: dict[str, Callable[[Path, list[Record]], Path]] = {".json": json_list, ".jsonl": jsonl, ".parquet": table}

GRADE_SCHOOL = [
    {"question": f"What is {i} and {i}?", "answer": f"{i}+{i}=<<{i}+{i}={2 * i}>>\n#### {2 * i:,}"}
    for i in range(900, 920)
]
ALGEBRA = [
    {
        "problem": f"Solve {i}x={2 * i} ({kind})",
        "level": f"Level {level}",
        "type": kind,
        "solution": rf"so $x=\boxed{{{i}}}$.",
    }
    for i, (level, kind) in enumerate([(1, "Algebra"), (2, "Algebra"), (3, "Algebra"), (5, "Algebra"), (2, "Geometry")])
]
CHOICE = [
    {
        "question": f"Which is {i}?",
        "options": [f"number {i + j}" for j in range(10)],
        "answer": "C",
        "answer_index": 2,
        "category": "math",
    }
    for i in range(7)
]
HARD = [{"input": f"Fidel tells the truth {i} times. Does he?", "target": "Yes" if i % 2 else "No"} for i in range(9)]


@pytest.mark.parametrize("suffix", WRITERS)
def test_each_benchmark_is_read_from_each_format(suffix: str, tmp_path: Path) -> None:
    write = WRITERS[suffix]
    gsm8k = GSM8K(write(tmp_path / f"a{suffix}", GRADE_SCHOOL)).questions(20, seed=0)
    assert {q.gold_answer for q in gsm8k} == {f"{2 * i:,}" for i in range(900, 920)}
    algebra = Math(write(tmp_path / f"b{suffix}", ALGEBRA)).questions(3, seed=0)
    assert {q.text for q in algebra} == {f"Solve {i}x={2 * i} (Algebra)" for i in range(3)}
    assert {q.gold_answer for q in algebra} == {"0", "1", "2"}
    [choice] = MMLUPro(write(tmp_path / f"c{suffix}", CHOICE[:1])).questions(1, seed=0)
    assert choice.text.splitlines() == [
        "Which is 0?",
        *(f"{label}. number {j}" for j, label in enumerate("ABCDEFGHIJ")),
    ]
    assert choice.gold_answer == "C"
    lies = BBH(write(tmp_path / f"d{suffix}", HARD), subsets=("web_of_lies",)).questions(9, seed=0)
    assert {(q.text, q.gold_answer) for q in lies} == {(row["input"], row["target"]) for row in HARD}


def test_folders_are_read_as_they_are_published(tmp_path: Path) -> None:
    for split, rows in (("train", GRADE_SCHOOL[:4]), ("test", GRADE_SCHOOL[4:])):
        for part in ("main", "socratic"):
            (tmp_path / "gsm8k" / part).mkdir(parents=True, exist_ok=True)
            table(tmp_path / "gsm8k" / part / f"{split}-00000-of-00001.parquet", rows)
        for i, row in enumerate(ALGEBRA):
            for folder in ("algebra", "prealgebra"):
                path = tmp_path / "MATH" / split / folder / f"{i}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({**row, "problem": f"{row['problem']} {split} {folder}"}))
    assert len(GSM8K(tmp_path / "gsm8k").questions(16, seed=0)) == 16
    assert len(GSM8K(tmp_path / "gsm8k", split="train").questions(4, seed=0)) == 4
    with pytest.raises(UserError, match=r"17 questions: gsm8k .* has 16"):
        GSM8K(tmp_path / "gsm8k").questions(17, seed=0)
    assert {q.text[-12:] for q in Math(tmp_path / "MATH").questions(3, seed=0)} == {"test algebra"}
    (tmp_path / "bbh").mkdir()
    for subset in BBH_SUBSETS:
        rows = [{**row, "input": f"{subset}: {row['input']}"} for row in HARD]
        (tmp_path / "bbh" / f"{subset}.json").write_text(json.dumps({"canary": "…", "examples": rows}))
    (tmp_path / "bbh" / "snarks.json").write_text(json.dumps({"examples": HARD}))
    assert len(BBH(tmp_path / "bbh").questions(45, seed=0)) == 45
    lies = TASKS["bbh-web_of_lies"](tmp_path / "bbh")
    assert lies.name == "bbh-web_of_lies"
    assert {q.text.split(":")[0] for q in lies.questions(9, seed=0)} == {"web_of_lies"}


def test_rows_in_several_formats_are_read_once(tmp_path: Path) -> None:
    jsonl(tmp_path / "test.jsonl", GRADE_SCHOOL)
    table(tmp_path / "test.parquet", GRADE_SCHOOL)
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert len(GSM8K(tmp_path)._rows.rows) == 20


def test_the_seed_decides_and_a_longer_list_begins_with_the_shorter(tmp_path: Path) -> None:
    task = GSM8K(jsonl(tmp_path / "test.jsonl", [*GRADE_SCHOOL, *GRADE_SCHOOL]))
    assert task.questions(5, seed=1) == task.questions(20, seed=1)[:5]
    assert task.questions(20, seed=1) != task.questions(20, seed=2)
    assert len({q.text for q in task.questions(20, seed=1)}) == 20
    assert task.questions(0, seed=1) == []


def test_provenance_follows_the_data(tmp_path: Path) -> None:
    first = GSM8K(jsonl(tmp_path / "a.jsonl", GRADE_SCHOOL)).provenance()
    second = GSM8K(jsonl(tmp_path / "b.jsonl", GRADE_SCHOOL[1:])).provenance()
    assert first["task"] == "gsm8k"
    assert first["data"] == str(tmp_path / "a.jsonl")
    assert len(first["sha256"]) == 64
    assert first["sha256"] != second["sha256"]
    json.dumps([task().provenance() for name, task in TASKS.items() if name in ("arithmetic", "evil", "hallucination")])


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkpoints, "hub_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("task", [GSM8K(), Math(), MMLUPro(), BBH()])
@pytest.mark.usefixtures("no_hub")
def test_a_data_set_out_of_reach_says_how_to_get_it(task: Task) -> None:
    with pytest.raises(UserError, match=r"hub cannot be reached.*hf download \S+/\S+ --repo-type dataset") as caught:
        task.questions(1, seed=0)
    assert '{"' in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_hub")
def test_a_hub_id_is_read_from_its_cache_without_a_network(tmp_path: Path) -> None:
    repository = tmp_path / "cache" / "datasets--someone--sums"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    jsonl(repository / "snapshots" / ("0" * 40) / "test.jsonl", GRADE_SCHOOL)
    task = GSM8K("someone/sums")
    assert len(task.questions(20, seed=0)) == 20
    assert task.provenance()["data"] == f"someone/sums@{'0' * 40}"


def test_a_hub_id_that_is_refused_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **arguments: Any) -> str:
        assert arguments["repo_type"] == "dataset"
        assert arguments["revision"] == "v1"
        raise OSError("gated repository\nask for access")

    monkeypatch.setattr(checkpoints, "hub_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(
        UserError, match=r"someone/sums: cannot be downloaded from the hub \(gated repository\); run: hf download"
    ):
        GSM8K("someone/sums@v1").questions(1, seed=0)


def broken(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    bad: list[tuple[Task, str]] = [
        (GSM8K(tmp_path / "nowhere.jsonl"), "no such file or folder, and not a hub id"),
        (
            GSM8K(broken(tmp_path / "a.jsonl", '{"question": 1}\n')),
            r"a.jsonl, line 1: has no answer \(found: question\)",
        ),
        (
            GSM8K(broken(tmp_path / "b.jsonl", '{"question": "", "answer": "#### 1"}\n{')),
            r"b.jsonl, line 2: not valid JSON",
        ),
        (GSM8K(broken(tmp_path / "c.json", "[]")), "the data set has no rows"),
        (GSM8K(broken(tmp_path / "d.json", "[7]")), "d.json, item 1"),
        (GSM8K(broken(tmp_path / "e.csv", "a,b")), "not a .jsonl, .json, .parquet file"),
        (GSM8K(broken(tmp_path / "f.parquet", "PAR")), "f.parquet: not a Parquet file"),
        (GSM8K(jsonl(tmp_path / "g.jsonl", [{"question": "?", "answer": "18"}])), "an answer without ####"),
        (Math(jsonl(tmp_path / "h.jsonl", ALGEBRA[4:])), "no row of type Algebra at Level 1, Level 2, Level 3"),
        (Math(jsonl(tmp_path / "i.jsonl", [{**ALGEBRA[0], "solution": "2"}])), "without a boxed answer"),
        (MMLUPro(jsonl(tmp_path / "j.jsonl", [{**CHOICE[0], "answer": "K"}])), "'K' is none of its options"),
        (BBH(jsonl(tmp_path / "k.jsonl", HARD)), "one file given for 5 subsets"),
    ]
    for task, message in bad:
        with pytest.raises(UserError, match=message):
            task.questions(1, seed=0)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match=r"has no .jsonl, .json, .parquet file"):
        GSM8K(folder).questions(1, seed=0)
    jsonl(folder / "train.jsonl", GRADE_SCHOOL)
    with pytest.raises(UserError, match="has no file of the split 'test'"):
        GSM8K(folder).questions(1, seed=0)
    with pytest.raises(UserError, match="do not say which subset"):
        BBH(jsonl(folder / "k.jsonl", HARD).parent, split="k").questions(1, seed=0)


def first(rows: list[Record], **changed: Any) -> list[Record]:
    """The rows, and the first one again with changes."""
    return [*rows, {**rows[0], **changed}]


LETTERS = "Who is first?\nOptions:\n(A) Ann\n(B) Bo"
CONTRADICTORY: list[tuple[type[Task], list[Record], str]] = [
    (
        GSM8K,
        first(GRADE_SCHOOL, answer="#### 1,801"),
        r"two answers to one question, '1,800' and '1,801' \('What is 900",
    ),
    (GSM8K, first(GRADE_SCHOOL, gold="1801"), "two answers to one question, '1,800' and '1801'"),
    (GSM8K, first(GRADE_SCHOOL[:1], final_answer=7), "two answers to one question"),
    (GSM8K, [{"question": "q", "answer": "#### 3\n#### 4"}], "two answers after ####"),
    (GSM8K, [{"question": "q", "answer": "#### none"}], "'none' is no answer to 'q'"),
    (Math, first(ALGEBRA, solution=r"\boxed{1}"), "two answers to one question, '0' and '1'"),
    (Math, first(ALGEBRA, answer="1"), "two answers to one question, '0' and '1'"),
    (MMLUPro, first(CHOICE, answer="D", answer_index=3), "two answers to one question, 'C' and 'D'"),
    (MMLUPro, first(CHOICE, answer_index=3), "answer_index is another option"),
    (MMLUPro, first(CHOICE, answer_index=10), "answer_index is another option"),
    (MMLUPro, first(CHOICE, answer_index=-8), "answer_index is another option"),
    (MMLUPro, first(CHOICE, gold="D"), "two answers to one question, 'C' and 'D'"),
    (MMLUPro, first(CHOICE, options=["a", "b", "b", "b "]), "the right option stands twice"),
    (MMLUPro, first(CHOICE, options=["a", "b"]), "'C' is none of its options"),
    (BBH, first(HARD, target="Yes"), "two answers to one question, 'No' and 'Yes'"),
    (BBH, first(HARD, target="perhaps"), "two answers to one question, 'No' and 'perhaps'"),
    (BBH, [{"input": "q", "target": "perhaps"}], "'perhaps' is no answer to 'q'"),
    (BBH, [{"input": LETTERS, "target": "(C)"}], r"'\(C\)' is not one of the options of 'Who"),
    (BBH, [{"input": LETTERS.replace("(B)", "(A)"), "target": "(A)"}], "is not one of the options"),
    (BBH, [{"input": "Sound?\nOptions:\n- valid \n- invalid", "target": "Yes"}], "'Yes' is not one of the options"),
]


@pytest.mark.parametrize(("task", "rows", "message"), CONTRADICTORY)
def test_contradictory_data_are_refused(task: Any, rows: list[Record], message: str, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "test.jsonl", rows)
    with pytest.raises(UserError, match=message) as caught:
        (BBH(source, subsets=("web_of_lies",)) if task is BBH else task(source)).questions(1, seed=0)
    assert "\n" not in str(caught.value)


def test_what_is_said_twice_in_other_words_is_no_contradiction(tmp_path: Path) -> None:
    twice = first(GRADE_SCHOOL, answer="#### 1800.00\n#### $1,800", gold=1800, target="1,800")
    assert len(GSM8K(jsonl(tmp_path / "a.jsonl", twice)).questions(20, seed=0)) == 20
    half = first([{**ALGEBRA[0], "solution": r"\boxed{\frac12}"}], solution=r"\boxed{\dfrac{1}{2}}", answer="0.5")
    assert len(Math(jsonl(tmp_path / "b.jsonl", half)).questions(1, seed=0)) == 1
    options = ["a", "b", "c", "N/A", "N/A"]  # as in the first MMLU-Pro
    assert len(MMLUPro(jsonl(tmp_path / "c.jsonl", [{**CHOICE[0], "options": options}])).questions(1, seed=0)) == 1
    sound = [{"input": "Sound?\nOptions:\n- valid \n- invalid", "target": "valid"}, {"input": LETTERS, "target": "(B)"}]
    assert len(BBH(jsonl(tmp_path / "d.jsonl", sound), subsets=("web_of_lies",)).questions(2, seed=0)) == 2


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    source = broken(tmp_path / "a.jsonl", '{"question": "q", "answer": "#### 1", "answer": "#### 2"}')
    with pytest.raises(UserError, match=r"line 1: cannot be read .the key 'answer' stands twice"):
        GSM8K(source).questions(1, seed=0)


def test_a_solution_without_braces_has_its_answer(tmp_path: Path) -> None:
    rows = [{**ALGEBRA[0], "solution": r"Thus $x=\boxed 5$."}]
    [question] = Math(jsonl(tmp_path / "a.jsonl", rows)).questions(1, seed=0)
    assert question.gold_answer == "5"


def test_arithmetic_of_any_size() -> None:
    assert Arithmetic.sized() == Arithmetic()
    long = Arithmetic.sized(digits=4, terms=9)
    assert long.form.count("*") == 4
    assert make_task("arithmetic", digits=1, form="a+b") == Arithmetic(1, 9, "a+b")
    for question in [*long.questions(20, seed=0), *Arithmetic(0, 9, "-a*b*c+d").questions(50, seed=0)]:
        assert str(eval(question.text)) == question.gold_answer
    assert all(1 <= int(d) <= 9 for q in Arithmetic.sized(1, 3).questions(9, 0) for d in q.text if d.isdigit())
    for form in ("", "a+", "a/b", "ab", "a--b", "2*a"):
        with pytest.raises(UserError, match="expected single letters"):
            Arithmetic(form=form).questions(1, seed=0)
    with pytest.raises(UserError, match="at least 1 of each"):
        Arithmetic.sized(terms=0)
    longest = Arithmetic.sized(digits=35, terms=9)
    for question in longest.questions(5, seed=0):
        assert longest.grade(rf"\boxed{{{int(question.gold_answer):,}}}", question.gold_answer)
    with pytest.raises(UserError, match="digits 36: too many; answers are graded up to 35"):
        Arithmetic.sized(digits=36)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_asks_for_a_box_and_has_its_name(name: str) -> None:
    task = TASKS[name]()
    assert task.name == name
    assert r"\boxed{" in task.instruction
