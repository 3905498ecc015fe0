"""Every number in README, docs and notebooks comes from the results that ship, or says why it does not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import documents
import pytest
import typer
from documents import DOCUMENTS, PASSAGE, by_hand, constants, exceptions, names, outdated, stale, texts, unlooked

from interp.cli.app import app

each = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)


@each
def test_passages_of_results_are_what_the_shipped_results_say(path: Path) -> None:
    old = [name for text in texts(path) for name in outdated(text)]
    assert not old, "run: python tests/documents.py --write"


@each
def test_no_number_is_typed_by_hand(path: Path) -> None:
    assert [found for text in texts(path) for found in by_hand(text, exceptions(path))] == []


@each
def test_every_exception_stands_in_its_document(path: Path) -> None:
    assert stale(path) == []


@each
def test_every_command_parses(path: Path) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", "\n".join(texts(path)), flags=re.DOTALL | re.MULTILINE)
    lines = (
        "".join(block for language, block in blocks if language in ("", "sh", "bash")).replace("\\\n", " ").splitlines()
    )
    for line in (each for each in lines if each.startswith("interp ") and "…" not in each):
        verb, *given = shlex.split(line, comments=True)[1:]
        typer.main.get_command(app).commands[verb].make_context(verb, given)  # type: ignore[attr-defined]


def test_every_template_is_one_passage_and_keeps_no_value_of_its_own() -> None:
    used = [found[2] for path in DOCUMENTS for text in texts(path) for found in PASSAGE.finditer(text)]
    assert sorted(used) == list(names())
    assert {name: lines for name in names() if (lines := constants(name))} == {}


PASSED = "<!-- tests/passages/accuracy.md -->\n{}<!-- end -->\n"


def test_another_number_in_a_passage_is_seen() -> None:
    stands = documents.rendered("accuracy")
    assert outdated(PASSED.format(stands)) == []
    for digit in re.finditer(r"\d", stands):
        other = str((int(digit[0]) + 1) % 10)
        assert outdated(PASSED.format(stands[: digit.start()] + other + stands[digit.end() :])) == ["accuracy"]


@pytest.mark.parametrize(
    ("text", "hand"),
    [
        ("Accuracy rises to 0.93.", ["0.93"]),
        ("It falls by −4 %, or 1,200 of 3 tokens.", ["4", "1,200", "3"]),
        ("The list `[0.81, 1.0]` is printed, `--layers 2` is not, nor [a link](docs/2.md).", ["0.81", "1.0"]),
        ("`AUC 0.93` is no command, `interp probe truth --seed 1` and `seed-1.json` are.", ["0.93"]),
        ("```\ninterp steer --layers 2 \\\n    --coefficients 3\naccuracy 0.5\n```\n", ["0.5"]),
        ("```python\nx = 0.5\n```\nand 7", ["7"]),
        ("| organism | 53.7 |", ["53.7"]),
        ("SmolLM2-135M in bf16, 4-bit, agent 1, layers 1 and 2, a 95 % interval, two of five", []),
    ],
)
def test_numbers_typed_by_hand_are_seen(text: str, hand: list[str]) -> None:
    found = by_hand(text, [])
    assert len(found) == len(hand)
    assert all(number in around for number, around in zip(hand, found, strict=True))
    assert by_hand(text, hand) == []


def test_in_a_passage_words_count_and_what_is_looked_up_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = "\x02shown in 3 of 9\x03"
    monkeypatch.setattr(documents, "marked", lambda name: f"It is {looked_up} cases, 4 or five times.\n")
    text = PASSED.format("")
    assert len(by_hand(text, [])) == 2
    assert by_hand(text, ["4 or five times"]) == []
    assert "9" not in unlooked(text)


def test_a_value_of_its_own_in_a_template_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "typed.md").write_text(
        '{{ "0.93" }}\n{{ 0.5 | number }}\n{% set x = 0.9 %}\n{{ method("sft").runs }}\n'
    )
    monkeypatch.setattr(documents, "PASSAGES", tmp_path)
    assert constants("typed") == [1, 2, 3]


def test_a_claim_that_no_longer_holds_ends_the_rendering() -> None:
    with pytest.raises(AssertionError, match="no longer true"):
        documents.template("{% do holds(method('imad').accuracy.mean < 0) %}").render()


def test_the_debates_of_scripts_come_out_as_docs_say(interp: Any, tmp_path: Path) -> None:
    guide = next(path for path in DOCUMENTS if path.stem == "debates").read_text("utf-8")
    [block] = re.findall(r"```\n\$ (interp evaluate --model scripted .*?)\n```", guide, re.DOTALL)
    command, *printed = block.splitlines()
    code, out, _ = interp(*command.split()[1:-1], str(tmp_path))
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert all(line.split() in rows for line in printed if "arithmetic" in line)
