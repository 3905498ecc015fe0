"""Gates and functions of one's own on the command line, in steer and sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_gates import EVIL, probe_at
from test_steered import sharp

from interp.debate.transcript import Transcript, write_transcripts
from interp.directions.directions import Directions
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.interventions.rows import along
from interp.interventions.settings import SweepSettings
from interp.interventions.steer import make_steering
from interp.models.model import load_model
from interp.models.tokens import Encoder
from interp.steering.settings import SteeringSettings
from interp.steering.steering import Steering, add


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """Directions and probes of a model, and a rule."""
    folder = tmp_path_factory.mktemp("files")
    facts = {"provenance": {"model": load_model(str(model_folder)).provenance}, "best_layers": [1]}
    vectors = np.random.default_rng(3).standard_normal((1, 2, 2, 32)).astype(np.float32)
    hook = "blocks.{layer}.hook_resid_post"
    found = Directions(("agent 1", "agent 2"), (1, 2), vectors, np.ones(2, np.float32), hook, facts)
    found.save(folder / "d.safetensors")
    EVIL.save(folder / "probe.safetensors")
    (folder / "rule.py").write_text("def push(x, d, c):\n    return x + c * d.sum(0)\n")
    (folder / "bad.py").write_text("def halve(x, d, c):\n    return x[:, :3]\n")
    return folder


def test_the_command(interp: Any, model_folder: Path, files: Path) -> None:
    common = ("steer", "--model", model_folder, "--directions", files / "d.safetensors", "--max-new-tokens", 6)
    common = (*common, "--coefficients", 30, "--direction-of", 2, "--prompt", "Ask")
    probe = ("--when", files / "probe.safetensors")

    def steered(*arguments: Any) -> tuple[str, Any]:
        code, said, wrong = interp(*common, *arguments, "--out", files / "o.jsonl", "--restart")
        assert code == 0, wrong
        record = json.loads((files / "o.jsonl").read_text())
        [facts] = json.loads((files / "o.json").read_text())["made_by"]["steering"]
        assert " ".join(said.split()).count("agent 2")
        return record["steered"], facts

    plain, facts = steered()
    pushed, by_rule = steered("--operation", f"{files / 'rule.py'}:push")
    assert pushed == plain, "it adds the same"
    assert (by_rule["operation"], by_rule["function"]) == ("custom", "push")
    kept, said = steered("--keep-norm")
    assert said == {**facts, "keep_norm": True}
    unsteered = steered(*probe, "--above", 1)[0]
    assert unsteered not in (plain, kept)
    assert steered(*probe, "--below", 1)[0] == plain
    _, said = steered(*probe, "--above", 0.3, "--when-class", "calm")
    assert said["when"] == EVIL.above(0.3, "calm").facts
    for arguments, expected in (
        (probe, "above None, below None: give --when with --above or --below"),
        ((*probe, "--above", 0.1, "--below", 0.9), "give --when with --above or --below"),
        (("--above", 0.1), "when None, above 0.1"),
        (("--when-class", "evil"), "when None"),
        ((*probe, "--above", 7), "when evil, 7.0: a probe gives a probability"),
        ((*probe, "--above", 0.5, "--when-class", "good"), "class good: unknown; choose one of calm, evil"),
        (("--when", files / "d.safetensors", "--above", 0.5), "not a probe (format"),
        (("--when", files / "none", "--above", 0.5), "no such file"),
        (("--operation", "push"), "operation push: unknown; choose one of add, ablate, clamp"),
        (("--operation", "rule.py:push"), "no file rule.py"),
        (("--operation", f"{files / 'rule.py'}:pull"), "defines no function pull"),
        (("--operation", f"{files / 'bad.py'}:halve"), "halve: returned torch.float32 [1, 3]; return torch.float32"),
    ):
        code, _, wrong = interp(*common, *arguments)
        assert (code, expected in wrong, wrong.count("\n")) == (2, True, 1), wrong


def test_nothing_runs_a_file_that_was_not_loaded(files: Path) -> None:
    """Settings from elsewhere, such as a request, name no code to run."""
    found = Directions.load(files / "d.safetensors")
    with pytest.raises(UserError, match="push: unknown; choose one of add, ablate, clamp"):
        make_steering(found, ["1"], SteeringSettings(operation=f"{files / 'rule.py'}:push"))
    kept = make_steering(found, ["1"], SteeringSettings(keep_norm=True, operation="ablate"), when=EVIL > 0.5)
    assert kept.summary == "ablate agent 1, norm kept when evil at layer 1 > 0.5, layer 1"


def test_sweeps_keep_the_norm(files: Path) -> None:
    found, model = Directions.load(files / "d.safetensors"), sharp()
    settings = SweepSettings(layers=(1,), coefficients=(0.2, 2.0), keep_norm=True)
    for how in along(model, settings, {}, add, [found[1, 1]]):
        assert [change.keep_norm for change in how.steering.changes] == [True]


def test_a_sweep_gated_and_by_a_rule_of_ones_own(
    interp: Any, model_folder: Path, files: Path, debates: list[Transcript]
) -> None:
    """Gated rows of a mixed batch are those written alone; a rule that adds gives what adding gives."""
    write_transcripts(files / "held.jsonl", debates[:2])
    found, model = Directions.load(files / "d.safetensors"), load_model(str(model_folder))
    common = ("sweep", "--model", model_folder, "--directions", files / "d.safetensors", "--layers", "1-2")
    common = (*common, "--transcripts", files / "held.jsonl", "--coefficients=-30,30", "--max-new-tokens", 6)
    common = (*common, "--random-controls", 0, "--batch-size", 5, "--out", files / "s.jsonl")
    probe = ("--when", files / "probe.safetensors", "--above", 0.5)

    def swept(*arguments: Any) -> tuple[list[dict[str, Any]], Any]:
        code, _, wrong = interp(*common, *arguments, "--restart")
        assert code == 0, wrong
        lines = (files / "s.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines], json.loads((files / "s.json").read_text())["made_by"]

    plain, made_by = swept()
    gated, gated_by = swept(*probe)
    assert gated_by == {**made_by, "when": (EVIL > 0.5).facts}
    differ = [a["text"] != b["text"] for a, b in zip(plain, gated, strict=True)]
    assert 0.1 < np.mean(differ) < 0.9, "the gate is open at some tokens"
    asked = [record for record in gated if record["context"] == "question"]
    assert len(asked) == 2 * (1 + 2 * 2 * 2)
    for record in asked:
        assert record.get("when") == ((EVIL > 0.5).facts if record["coefficient"] else None)
        own = (record["direction"], record["layer"])
        steering = add(found[own], record["coefficient"], when=EVIL > 0.5) if record["coefficient"] else Steering()
        prompt = Encoder(model.tokenizer).prompt(Transcript(record["question"], ()).prompt)
        [alone] = generate(model, [prompt], max_new_tokens=6, temperature=0.0, steering=steering)
        assert record["text"] == alone.text
    pushed, by_rule = swept("--operation", f"{files / 'rule.py'}:push")
    assert (by_rule["function"], len(by_rule["function_sha256"])) == ("push", 64)
    assert [record.pop("function", None) for record in pushed] == ["push" if r["coefficient"] else None for r in plain]
    assert pushed == plain, "it adds the same"
    both, _ = swept("--operation", f"{files / 'rule.py'}:push", *probe)
    assert [{**record, "function": None} for record in both] == [{**record, "function": None} for record in gated]
    held = (files / "s.jsonl").read_bytes()
    for arguments, expected in (
        (probe, "s.jsonl: started with another "),
        ((*probe[:3], 0.6, "--operation", f"{files / 'rule.py'}:push"), "s.jsonl: started with another above of when"),
        (("--when", files / "probe.safetensors"), "above None, below None: give --when with --above or --below"),
        (("--operation", "ablate"), "operation ablate: unknown; choose one of add, clamp"),
        (("--operation", "rule.py:push"), "no file rule.py"),
    ):
        code, _, wrong = interp(*common, *arguments)
        assert (code, expected in wrong, wrong.count("\n")) == (2, True, 1), wrong
        assert (files / "s.jsonl").read_bytes() == held
    probe_at(2).save(files / "later.safetensors")
    code, _, wrong = interp(*common[:-1], files / "new.jsonl", "--when", files / "later.safetensors", "--above", 0.5)
    assert (code, "read after layer 1 is changed" in wrong, wrong.count("\n")) == (2, True, 1), wrong
    assert not list(files.glob("*new*"))
