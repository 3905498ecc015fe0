"""Small inputs that once failed, each a script of its own that says OK or FAULT."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CASES = sorted((Path(__file__).resolve().parents[2] / "shared" / "cases").glob("*/repro.py"))
RENAMED = (
    ("interp.side_by_side", "interp.interventions.steer"),
    ("interp.debate.local", "interp.models.tokens"),
    ("interp.corpus", "interp.activations"),
    ('at=__import__("interp.steering", fromlist=["everywhere"]).everywhere', 'units="raw", tokens="everywhere"'),
    ('"--agent"', '"--direction-of"'),
    ('"--coefficient"', '"--coefficients"'),
    ('"--layer"', '"--layers"'),
)
"""Names that changed since the scripts were written."""


@pytest.mark.skipif(not CASES, reason="the cases are not here")
@pytest.mark.parametrize("case", CASES, ids=[case.parent.name for case in CASES])
def test_every_case_says_ok(case: Path, tmp_path: Path) -> None:
    script = case.read_text()
    for old, new in RENAMED:
        script = script.replace(old, new)
    (tmp_path / "repro.py").write_text(script)
    done = subprocess.run([sys.executable, tmp_path / "repro.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
