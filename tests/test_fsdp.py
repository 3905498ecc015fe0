"""Sharded training (FSDP 2) in two processes on the CPU: killed, resumed, both stages, stage 1 as in one process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch
from conftest import make_hf, make_tokenizer
from safetensors.torch import load_file
from test_training_pipeline import ROOT, TOY, command, environment

from interp.debate.embedded import read_embedded
from interp.debate.transcript import write_transcripts
from interp.models.lineage import read_lineage
from interp.models.model import load_model
from interp.training.pipeline import train
from interp.training.run import Run
from interp.training.settings import preset

# Accelerate takes its FSDP configuration up on several GPUs only; torch shards on a CPU as well.
SCRIPT = """
import accelerate.state as state

begin = state.PartialState.__init__

def on_cards(self, *args, **how):
    begin(self, *args, **how)
    if self.distributed_type is state.DistributedType.MULTI_CPU:
        self.distributed_type = state.DistributedType.MULTI_GPU

state.PartialState.__init__ = on_cards
from interp.cli import main
main()
print("trained with", state.AcceleratorState().distributed_type)
"""


def test_fsdp_trains_what_one_process_trains(tmp_path: Path) -> None:
    base, debates = tmp_path / "base", read_embedded("scripted")[:4]
    make_hf("llama", n_layers=1).save_pretrained(base)
    make_tokenizer("bytes").save_pretrained(base)
    write_transcripts(tmp_path / "debates.jsonl", debates)
    settings = TOY | {"model": str(base), "sft.lora": "null", "grpo.generation": "trl"}
    (tmp_path / "script.py").write_text(SCRIPT)
    out, launch = tmp_path / "two", ["-m", "accelerate.commands.launch", "--config_file", "configs/fsdp.yaml"]
    asked = command(settings, out, tmp_path / "debates.jsonl")[2:]
    run = [sys.executable, *launch, "--mixed_precision", "no", str(tmp_path / "script.py"), *asked, "--no-table"]
    process = subprocess.Popen(run, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kept = out / "seed-0" / ".sft.resume"
    while process.poll() is None and not list(kept.glob("checkpoint-*/trainer_state.json")):
        time.sleep(0.01)
    for each in (*psutil.Process(process.pid).children(recursive=True), process):
        each.kill()
    process.wait()
    assert not (out / "seed-0" / "sft").exists()
    done = subprocess.run(run, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "trained with DistributedType.FSDP" in done.stdout
    lineage = read_lineage(str(out / "seed-0" / "imad"))
    assert lineage is not None
    assert [stage.facts["processes"] for stage in lineage.stages] == [2, 2]
    load_model(str(out / "seed-0" / "imad"))
    train(Run(tmp_path / "one", preset("toy").override(settings)), transcripts=debates, table=False)
    for name in ("sft/1-sft/model", "debategpt/1-debategpt/model"):  # stage 2 samples other texts in other processes
        found, expected = (load_file(tmp_path / n / "seed-0" / f"{name}.safetensors") for n in ("two", "one"))
        assert found.keys() == expected.keys()
        for weight, value in expected.items():
            torch.testing.assert_close(found[weight].float(), value.float(), rtol=1e-4, atol=1e-6, msg=weight)
