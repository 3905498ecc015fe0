"""What a new user does first, as it would be typed: each step short, and right in what it gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.first_hour import TEXTS, first_hour
from interp.directions.directions import Directions
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models.catalog import locate
from interp.models.model import load_model
from interp.steering.steering import add


def sliders(request: pytest.FixtureRequest, address: str) -> int | None:
    """How many a page has in a browser; None without one."""
    try:
        page = request.getfixturevalue("browser").new_page()
    except pytest.skip.Exception:
        return None
    page.goto(address)
    page.wait_for_load_state()
    n = int(page.locator("input[type=range]").count())
    page.close()
    return n


@pytest.mark.parametrize("name", TEXTS)
def test_each_step_takes_five_lines_and_steers(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    try:
        locate(name)
    except UserError as error:
        pytest.skip(f"the model cannot be had here: {error}")
    done = {}
    for step, typed, said, seconds in first_hour(name, tmp_path):
        assert len(typed.splitlines()) <= (5 if typed.startswith("import ") else 1), step
        print(f"{name}: {step}: {seconds:.1f} s")
        done[step] = typed, said
        if step == "a steered server":
            assert sliders(request, f"{said}/?token=first-hour") != 0
    for page in ("tokens.html", "fitted/report.html"):
        assert sliders(request, (tmp_path / page).as_uri()) != 0, page
    model, (_, prompt, layer, by) = load_model(name), TEXTS[name]

    def written(direction: object, coefficient: float, units: str) -> str:
        steering = add(direction, coefficient, units=units)  # type: ignore[arg-type]
        return generate(model, prompt, max_new_tokens=24, steering=steering).text

    plain = generate(model, prompt, max_new_tokens=24).text
    found = Directions.load(tmp_path / "own" / "directions.safetensors")
    mine = written(found["mine", layer], by, "residual")
    assert mine != plain
    assert "separation (layer" in done["own pairs → evidence → steering"][1]
    assert done["own pairs → evidence → steering"][1].endswith(f"{mine}\n")
    files = {"a repeng GGUF → steering": "evil.gguf", "a persona-vectors .pt → steering": "evil_response_avg_diff.pt"}
    for step, file in files.items():
        theirs, said = Directions.load(tmp_path / file)["evil", layer], done[step][1]
        assert "taken for" in said
        assert said.endswith(written(theirs, 2 * theirs.norm, "unit") + "\n")
    assert json.loads(done["ask the server: curl"][1])["choices"][0]["text"] == mine
    assert done["ask the server: openai client"][1] == f"{mine}\n"
