"""The table of options in CONTRIBUTING.md, and that one meaning has one name, one default and one text."""

from __future__ import annotations

from pathlib import Path

from option_table import DIFFER, rows, written

CONTRIBUTING = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


def test_the_table_is_that_of_the_code() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    assert text == written(text), "run python tests/option_table.py --write"


def test_an_option_says_the_same_in_every_verb() -> None:
    seen: dict[str, int] = {}
    for row in rows():
        if row.option.startswith("-"):
            seen[row.option] = seen.get(row.option, 0) + 1
    assert {option for option, n in seen.items() if n > 1} == set(DIFFER)
    assert all(DIFFER.values())


def test_every_option_has_a_text() -> None:
    assert [row.option for row in rows() if not row.help or not row.help.endswith((".", ")", "…"))] == []
