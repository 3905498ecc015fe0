"""What `make gpu` is made of, on a tiny model: its commands, interchange, the archive and the names that it brings."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_hf, make_tokenizer
from test_training_pipeline import ROOT, TOY

from benchmarks import archive, interchange
from interp.debate.personas import PERSONAS
from interp.debate.protocol import debate
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.transcript import CONSENSUS_TAG
from interp.directions.directions import Directions
from interp.directions.extract import extract_directions
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models import catalog
from interp.models.catalog import UNPACKED, locate
from interp.models.lineage import read_lineage, write_lineage
from interp.models.loading import load_plain
from interp.models.model import load_model
from interp.training.pipeline import train
from interp.training.results import stage_hashes
from interp.training.run import Run
from interp.training.settings import PRESETS, preset


@pytest.mark.skipif(shutil.which("make") is None, reason="takes make")
def test_every_part_is_a_target_and_every_command_line_is_known(interp: Any, tmp_path: Path) -> None:
    def lines(*given: str) -> list[str]:
        command = ["make", "-n", *given, "PY=python", "READY=", f"GPU={tmp_path}"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        return [line for line in said.replace("\\\n", " ").splitlines() if line.startswith("python -m")]

    whole = lines("gpu")
    small = lines("gpu", "SMALL=1")
    assert whole[-1] == 'python -m pytest -m gpu $(grep -l "mark.gpu" tests/*.py)'
    assert [line.split()[2:4] for line in small] == [line.split()[2:4] for line in whole[:-1]]
    parts = ("debates", "train", "table", "controls", "directions", "sweep", "interchange", "figures", "archive")
    for part in parts:
        assert set(lines(f"gpu-{part}")) <= set(whole)
    assert lines("gpu-archive")[-1] == f"python -m benchmarks.archive {tmp_path}/run --out {tmp_path}/smollm2.tar.gz"
    for line in (*whole[:-1], *small):
        _, _, module, *arguments = shlex.split(line)
        if module == "interp.cli":  # --help is taken where all before it is an option of the verb
            known = interp(arguments[0], "--help")[1]
            assert {word.partition("=")[0] for word in arguments if word.startswith("--")} <= set(known.split())


def test_its_debates_fit_the_limits_of_the_preset() -> None:
    chosen = PRESETS["smollm2-135m-sums"]
    assert chosen.grpo.batch_size >= 128
    assert chosen.grpo.questions * chosen.grpo.epochs * chosen.grpo.num_generations / chosen.grpo.batch_size > 100
    assert chosen.sft.lora == chosen.grpo.lora
    asked = Arithmetic.sized(**chosen.task_options).questions(chosen.debates, chosen.seed)
    assert len({question.text for question in asked}) == chosen.debates


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with directions of both stages."""
    folder = tmp_path_factory.mktemp("sums")
    make_hf("llama", n_layers=2).save_pretrained(folder / "base")
    make_tokenizer("bytes").save_pretrained(folder / "base")
    chosen = preset("toy").override({**TOY, "model": str(folder / "base"), "adapter_dtype": "bf16"})
    chosen = chosen.override({"table_questions": "2", "grpo.descent.first_limit": "12", "rounds": "1"})
    chosen = chosen.override({"task_options": '{"digits": 2, "form": "a+b"}'})
    asked, agents = Arithmetic.sized(2, form="a+b"), [ScriptedAgent(p, 0.1, 0) for p in PERSONAS.values()]
    debates = debate(asked.questions(6, 1), agents, task=asked, rounds=1)
    made = train(Run(folder / "run", chosen), transcripts=debates, table=False).checkpoints[0]
    rows = [{"method": name, "accuracy": {"mean": 0.5, "low": 0.4, "high": 0.6}} for name in ("debate", "sft", "imad")]
    hashes = {"checkpoints": {"0": stage_hashes(made)}}
    (folder / "run/table.json").write_text(json.dumps({"rows": rows, "made_by": hashes}))
    for stage in interchange.STAGES:
        model = load_model(str(folder / "run/seed-0" / stage))
        extract_directions(model, debates, out=folder / "run/directions" / stage, controls=False)
    return folder / "run"


def test_answers_follow_when_all_is_swapped(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, model = Arithmetic.sized(2, form="a+b"), load_model(str(finished / "seed-0/imad"))
    found = Directions.load(finished / "directions/imad/directions.safetensors")
    pairs = interchange.pairs_of(task, model, 8, 5)
    assert 4 <= len(pairs) <= 8
    lengths = [[len(interchange.prompt_of(q)) for q in pair] for pair in pairs]
    assert all(a == b for a, b in lengths)
    monkeypatch.setattr(Arithmetic, "answer", lambda self, text: text)
    rows = {}
    # what the model says to each question is taken for its right answer
    texts: dict[str, str] = {}
    for question in {q for pair in pairs for q in pair}:
        ids = generate(model, [interchange.prompt_of(question)], max_new_tokens=6)[0].ids
        texts[question.text] = model.tokenizer.decode(ids, skip_special_tokens=False).rpartition(CONSENSUS_TAG)[2]
    told = [tuple(replace(q, gold_answer=texts[q.text]) for q in pair) for pair in pairs]
    monkeypatch.setattr(interchange, "pairs_of", lambda *_: told)
    monkeypatch.setattr(Arithmetic, "grade", lambda self, a, b: a == b)
    swapped = interchange.swap("imad", model, found, 1, task, n=8, draws=2, longest=6, seed=5)
    rows = {row.part: row for row in swapped}
    assert list(rows) == ["nothing", "agents", "random", "all"]
    assert rows["nothing"].own.mean() == 1
    assert rows["all"].other.mean() >= rows["nothing"].other.mean()
    assert (rows["agents"].rank, rows["all"].rank) == (2, model.d_model)
    shown = interchange.measure(finished, 1, n=2, draws=1, longest=2, told=lambda _: None)
    assert [(row["model"], row["part"]) for row in shown["rows"]][4:6] == [("imad", "nothing"), ("imad", "agents")]
    assert interchange.shown(shown).row_count == 8


def as_if(run: Path, tmp_path: Path, **imad: Any) -> Path:
    """A copy of the run with another row of IMAD in its table."""
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run/table.json"
    table = json.loads(path.read_text())
    {row["method"]: row for row in table["rows"]}["imad"].update(imad)
    path.write_text(json.dumps(table))
    return tmp_path / "run"


GOOD = {"accuracy": {"mean": 0.9, "low": 0.8, "high": 1.0}, "of_debate_tokens": 0.2}


def named_as_base(run: Path) -> Path:
    """The run as if it had been on the base of that name, which lies elsewhere."""
    for stage in archive.KEPT:
        lineage = read_lineage(str(run / "seed-0" / stage))
        assert lineage is not None
        write_lineage(replace(lineage, base=replace(lineage.base, name=archive.BASE, folder=None)))
    return run


def test_the_archive_loads_by_name(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = named_as_base(as_if(finished, tmp_path, **GOOD))
    verdict, why, size = archive.pack(run, tmp_path / "smollm2.tar.gz")
    assert verdict
    assert len(why) == 3
    assert size < archive.MOST_BYTES
    with tarfile.open(tmp_path / "smollm2.tar.gz") as packed:
        names = packed.getnames()
        packed.extractall(tmp_path / "data", filter="data")
    assert not [name for name in names if name.startswith("smollm2/imad/1-sft")]  # once, in SFT's folder
    assert {"smollm2/results/table.json", "smollm2/results/directions/imad/directions.safetensors"} < set(names)
    folder = tmp_path / "data/smollm2"
    monkeypatch.setattr(catalog, "UNPACKED", {name: folder / path.name for name, path in UNPACKED.items()})
    known, base = catalog.locate, str(finished.parent / "base")
    monkeypatch.setattr(
        "interp.models.lineage.locate", lambda name, *a, **how: known(base if name == archive.BASE else name, *a, **how)
    )
    for stage in archive.KEPT:
        there, here = load_plain(str(finished / "seed-0" / stage)), load_plain(f"smollm2-135m-{stage}")
        weights = here.hf.state_dict()
        assert all((value == weights[name]).all() for name, value in there.hf.state_dict().items())
        assert [a["name"] for a in here.provenance["adapters"]] == [a["name"] for a in there.provenance["adapters"]]
    assert json.loads((folder / "results/internalized.json").read_text())["internalized"] is True
    shutil.rmtree(folder / "sft")
    with pytest.raises(UserError, match="its stage sft is missing"):
        load_plain("smollm2-135m-imad")


@pytest.mark.parametrize(
    "imad",
    [
        {**GOOD, "of_debate_tokens": 0.3},
        {**GOOD, "accuracy": {"mean": 0.2, "low": 0.1, "high": 0.3}},
        {**GOOD, "accuracy": {"mean": 0.0, "low": 0.0, "high": 0.6}},
    ],
    ids=["too long", "too often wrong", "never right"],
)
def test_a_null_is_packed_as_tables(imad: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    verdict, _, _ = archive.pack(as_if(finished, tmp_path, **imad), tmp_path / "a.tar.gz")
    assert not verdict
    with tarfile.open(tmp_path / "a.tar.gz") as packed:
        names = packed.getnames()
    assert "smollm2/results/table.json" in names
    assert not [name for name in names if name.endswith("lineage.json")]


def test_what_cannot_be_packed_is_refused(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "a.tar.gz"
    run = as_if(finished, tmp_path, **GOOD)
    with pytest.raises(UserError, match="trained on base; the archive is of runs on smollm2-135m"):
        archive.pack(run, out)
    named_as_base(run)
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="1,000 allowed"):
        archive.pack(run, out)
    shutil.rmtree(run / "seed-0/imad")
    with pytest.raises(UserError, match=r"lacks seed-0/imad/lineage\.json"):
        archive.pack(run, out)
    assert not out.exists()


@pytest.mark.parametrize("name", UNPACKED)
def test_without_the_archive_its_names_say_so(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "UNPACKED", {name: tmp_path / "smollm2/nothing"})
    with pytest.raises(
        UserError, match=rf"model {name}: not in this copy of interp; unpack the archive of make gpu in"
    ):
        locate(name)
    with pytest.raises(UserError, match="not in this copy"):
        load_model(name)
