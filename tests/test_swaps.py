"""Swaps: whether they are obeyed, how they are read from files, and what the verb shows of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_interchange import at, drawn

from interp.debate.tasks import make_task
from interp.directions.subspace_files import read_subspaces
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.interventions.swaps import Swap, begins, obeyed, read_swaps
from interp.models.catalog import locate
from interp.models.model import load_model
from interp.statistics import mean_interval


def test_obeyed_is_the_whole_answer_and_nothing_more() -> None:
    """The whole stream of the source at the last token of the last layer: the source's next token follows."""
    model = load_model("organism")
    whole = at(drawn(model.d_model, model.d_model, 1), model.n_layers - 1)
    texts = [f"Problem: {q}\n\n<|Consensus|>\n\\boxed{{" for q in ("1+1*2", "9-3*2", "3+4*5", "7*8+1")]
    own = [model.tokenizer.decode(out.ids) for out in generate(model, texts, max_new_tokens=1)]
    assert len(set(own)) >= 3
    swaps = [Swap(a, b, said) for a in texts for b, said in zip(texts, own, strict=True)]
    assert obeyed(model, swaps, whole).all()
    assert obeyed(model, swaps, whole, batch_size=3).all()
    others = [Swap(s.prompt, s.source, f"{s.expected}0") for s in swaps]
    assert not obeyed(model, [*others, *(Swap(s.prompt, s.source, "-") for s in swaps)], whole).any()
    nothing = obeyed(model, swaps, at(drawn(model.d_model, 1, 1), 0))
    assert [s.expected == own[texts.index(s.prompt)] for s in swaps] == nothing.tolist()
    with pytest.raises(UserError, match="swap 2: expects nothing"):
        obeyed(model, [swaps[0], Swap("a", "b", "")], whole)
    assert obeyed(model, [], whole).shape == (0,)


@pytest.mark.parametrize(
    ("text", "expected", "so"),
    [("12} ", "12", True), ("12", "1", False), ("ab", "a", False), (" a.", "a", True), ("b", "a", False)],
)
def test_an_answer_begins_a_text_as_a_whole_word(text: str, expected: str, so: bool) -> None:
    assert begins(text, expected) is so


def test_the_verb_shows_all_three_answers_and_how_many_swaps_are_obeyed(interp: Any, tmp_path: Path) -> None:
    task, out = make_task("median"), tmp_path / "swapped.jsonl"
    questions = [q.text for q in task.questions(12, 0)]
    pairs = [(a, b) for a in questions for b in questions if task.swapped(a, b, 1) != task.consensus(task.answers(a))][
        :30
    ]
    swaps = [{"prompt": a, "source": b, "expected": str(task.swapped(a, b, 1))} for a, b in pairs]
    (tmp_path / "swaps.jsonl").write_text("".join(json.dumps(swap) + "\n" for swap in swaps))
    asked = ("interchange", "--swaps", tmp_path / "swaps.jsonl", "--max-new-tokens", 2, "--out", out)
    code, said, wrong = interp(*asked)
    assert (code, wrong) == (0, "")
    model = load_model("organism-planted")
    [path] = Path(locate("organism-planted").location).glob("planted.safetensors")
    planted = read_subspaces(path)["agent_1"]
    expected = obeyed(
        model, [Swap(task.opening(a), task.opening(b), str(task.swapped(a, b, 1))) for a, b in pairs], planted
    )
    share = mean_interval(expected)
    assert share.mean > 0.8
    assert f"obeyed: {share} of 30" in said
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["prompt"] for r in records] == [text for pair in pairs for text in pair]
    assert [
        begins(r["steered"], swap["expected"]) for r, swap in zip(records[::2], swaps, strict=True)
    ] == expected.tolist()
    for (question, _), record in zip(pairs, records[::2], strict=True):
        assert record["unsteered"] == generate(model, task.opening(question), max_new_tokens=2).text
    assert all(record["unsteered"] == record["steered"] for record in records[1::2])
    before = out.read_bytes()
    out.write_bytes(before[: len(before) // 2])
    code, again, wrong = interp(*asked)
    assert (code, wrong, again.split("\n")[1:]) == (0, "", said.split("\n")[1:])
    assert out.read_bytes() == before, "it resumes"
    one = interp("interchange", "--prompt", "3,7,2", "--source", "1,1,4", "--agent", 1)[1]
    assert all(answer in one for answer in ("3,7,2", "1,1,4", "10}", "4}")), one


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "1,2,3"}', "line 1: no swap .*source.*; give each record a prompt and a source"),
        ('{"prompt": 1, "source": "4,5,6"}', "line 1: no swap .*prompt"),
        ("[1, 2]", "item 1: no swap"),
        ("{", "line 1"),
    ],
)
def test_a_file_that_holds_no_swaps_is_refused(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "swaps.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=said):
        read_swaps(path)
    path.write_text('{"prompt": "1,2,3", "source": "4,5,6"}\n')
    assert read_swaps(path) == [Swap("1,2,3", "4,5,6", "")]
