from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from interp.errors import UserError
from interp.models.model import Model
from interp.probing.fitting import ProbeExamples
from interp.probing.probe import Probe, read_scores, watch


def examples(n_classes: int) -> ProbeExamples:
    labels = np.random.default_rng(0).integers(0, n_classes, 90)
    return ProbeExamples(labels, np.arange(90), tuple("abc"[:n_classes]))


def fitted(width: int = 32, n_classes: int = 3, layer: int = 1) -> tuple[Probe, np.ndarray, ProbeExamples]:
    rng = np.random.default_rng(1)
    made = examples(n_classes)
    values = rng.standard_normal((90, width)) + 5 * rng.standard_normal((n_classes, width))[made.labels] + 2
    return Probe.fit(values, made, layer=layer), values, made


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_probe_scores_as_it_was_fitted_and_survives_saving(tmp_path: Path, n_classes: int) -> None:
    probe, values, made = fitted(n_classes=n_classes)
    score = probe.score(values)
    assert score.sum(axis=1) == pytest.approx(np.ones(90))
    assert (score.argmax(axis=1) == made.labels).all()
    probe.save(tmp_path / "agent.safetensors")
    again = Probe.load(tmp_path / "agent.safetensors")
    assert (again.score(values) == score).all()
    assert again.classes == made.classes
    facts = json.loads((tmp_path / "agent.json").read_text())
    assert facts["facts"]["examples"] == 90
    assert set(facts["cosines"]) == set(made.classes)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_both_directions_point_at_their_class(n_classes: int) -> None:
    probe, values, made = fitted(n_classes=n_classes)
    for index, label in enumerate(made.classes):
        inside, outside = values[made.labels == index], values[made.labels != index]
        mean = inside.mean(axis=0) - np.mean(
            [values[made.labels == k].mean(axis=0) for k in set(made.labels) - {index}], 0
        )
        assert np.allclose(probe.direction(label).vector, mean, atol=1e-4)
        for kind in ("mass-mean", "logistic"):
            vector = probe.direction(label, kind).vector
            assert (inside @ vector).mean() > (outside @ vector).mean()
    assert all(0 < cosine <= 1 for cosine in probe.cosines.values())
    with pytest.raises(UserError, match="class nobody: unknown; choose one of"):
        probe.direction("nobody")


def test_numbers() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((90, 5))
    truth = 3 * values[:, 2] + 7
    probe = Probe.fit(values, ProbeExamples(truth, np.arange(90)), layer=0)
    assert probe.classes == ()
    assert np.corrcoef(probe.score(values), truth)[0, 1] > 0.99
    assert probe.direction().vector[2] == pytest.approx(1 / 3, abs=0.01)  # so far it moves when the number rises by one


def test_watching_a_text_being_written_gives_the_scores_of_the_whole_text(tiny: Model) -> None:
    probe, _, _ = fitted(tiny.d_model)
    prompt = tiny.tokenizer("What is 12*7?")["input_ids"]
    written, scores = watch(tiny, probe, prompt, max_new_tokens=8)
    whole = read_scores(tiny, probe, [*prompt, *written.ids])
    n = min(len(scores), len(whole))
    assert n >= len(prompt) + written.n_tokens - 1
    assert scores[:n] == pytest.approx(whole[:n], abs=1e-5)
    assert np.ptp(scores) > 0.01


def test_another_models_probe_and_other_files_are_refused(tiny: Model, tmp_path: Path) -> None:
    for probe in (fitted(width=8)[0], fitted(tiny.d_model, layer=7)[0]):
        with pytest.raises(UserError, match="fitted on this model"):
            read_scores(tiny, probe, [1, 2])
    (tmp_path / "no.safetensors").write_text("nothing")
    with pytest.raises(UserError, match="not a probe"):
        Probe.load(tmp_path / "no.safetensors")
    with pytest.raises(UserError, match="no such file"):
        Probe.load(tmp_path / "absent.safetensors")
