"""Files of every kind, right and wrong ones, for wrong uses of commands."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from conftest import make_hf, make_tokenizer
from safetensors.numpy import save_file

from interp.debate.embedded import read_embedded
from interp.debate.transcript import write_transcripts


def lay_out(folder: Path) -> None:
    """Files of every kind, right and wrong ones; the commands' own are made by the commands."""
    hf, tokenizer = make_hf("llama"), make_tokenizer("bytes")
    for name in ("model", "other-model"):
        hf.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        hf.model.embed_tokens.weight.data.mul_(1.5)
    debates = read_embedded("scripted")
    write_transcripts(folder / "debates.jsonl", debates[:12])
    write_transcripts(folder / "held.jsonl", debates[100:103])
    shutil.copy(folder / "held.jsonl", folder / "copy.json")
    (folder / "held.txt").write_text("not a debate")
    (folder / "prompts.txt").write_text("1+1\n2+2\n")
    pairs = [json.dumps({"positive": f"{n} it is", "negative": f"not {n}"}) for n in range(4)]
    (folder / "pairs.jsonl").write_text("\n".join(pairs))
    (folder / "pair.jsonl").write_text(pairs[0])
    (folder / "half.csv").write_text('positive,negative\na,"b')
    for suffix in ("csv", "parquet"):
        (folder / f"binary.{suffix}").write_bytes(bytes(range(256)))
    (folder / "empty.jsonl").touch()
    (folder / "binary.jsonl").write_bytes(bytes(range(256)) * 8)
    lines = (folder / "debates.jsonl").read_text().splitlines()
    (folder / "half.jsonl").write_text(lines[0] + "\n" + lines[1][: len(lines[1]) // 2])
    (folder / "numbers.json").write_text("[1, 2]")
    (folder / "object.json").write_text('{"question": "1+1"}')
    (folder / "deep.json").write_text("[" * 50_000)
    (folder / "null.jsonl").write_text("null\n")
    (folder / "huge.json").write_text('[{"question": 1e999, "debate_trace": ' + "9" * 5000 + "}]")
    (folder / "turnless.jsonl").write_text(json.dumps({"question": "1+1", "debate_trace": "<|Consensus|>: 2"}) + "\n")
    (folder / "latin.jsonl").write_bytes('{"question": "h\xf6he"}\n'.encode("latin-1"))
    (folder / "surrogate.jsonl").write_text('{"question": "\\ud800", "debate_trace": "x"}\n')
    one = {**debates[0].record(), "question": 7}
    (folder / "wrong-type.jsonl").write_text(json.dumps(one) + "\n")
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").write_text("mine")
    _wrong_models(folder)
    _wrong_directions(folder)
    (folder / "link.jsonl").symlink_to("held.jsonl")
    (folder / "nowhere.jsonl").symlink_to("missing/there.jsonl")
    (folder / "loop").symlink_to("loop")
    (folder / "link").symlink_to("model")
    os.link(folder / "held.jsonl", folder / "hard.jsonl")
    (folder / "read-only").mkdir(mode=0o555)
    _foreign(folder)


def _wrong_models(folder: Path) -> None:
    for name, spoil in {
        "no-config": lambda path: (path / "config.json").unlink(),
        "no-weights": lambda path: (path / "model.safetensors").unlink(),
        "no-tokenizer": lambda path: [each.unlink() for each in path.glob("tok*")],
        "half-weights": lambda path: os.truncate(path / "model.safetensors", 5000),
        "text-config": lambda path: (path / "config.json").write_text("not JSON"),
        "list-config": lambda path: (path / "config.json").write_text("[]"),
        "odd-config": lambda path: (path / "config.json").write_text('{"model_type": "nothing-known"}'),
        "typeless-config": lambda path: (path / "config.json").write_text("{}"),
    }.items():
        shutil.copytree(folder / "model", folder / name)
        spoil(folder / name)
    (folder / "binary.gguf").write_bytes(bytes(range(256)))
    (folder / "empty.gguf").touch()
    torch.save({1: torch.ones(64)}, folder / "vectors.pt")
    pickled = shutil.copytree(folder / "model", folder / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    adapter = folder / "half-adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    shutil.copytree(folder / "model", folder / "bad-lineage")
    (folder / "bad-lineage" / "lineage.json").write_text('{"base": 3}')


def _wrong_directions(folder: Path) -> None:
    save_file({"vectors": np.zeros((1, 3, 2, 4), np.float32)}, folder / "headless.safetensors")
    save_file({}, folder / "none.safetensors", metadata={"interp": "[" * 9})
    save_file({}, folder / "hollow.safetensors", metadata={"interp": '{"format": "interp.directions/1"}'})
    (folder / "binary.safetensors").write_bytes(b"\xff" * 64)
    (folder / "empty.safetensors").touch()


def _foreign(folder: Path) -> None:
    """Folders in which others' files have the names that a command writes."""
    for name in (
        *("directions.safetensors", "directions.json", "report.html", "activations.safetensors"),
        *("preset.json", "table.json", "transcripts.jsonl", "direct.jsonl", "seed-0/notes", "base/notes"),
        *("arithmetic-single.json", "arithmetic-single.jsonl", "truth.json", "truth/notes", "truth-activations/notes"),
        *("figures.html", "ablations.png", "token_cost.html", "sft/notes", "results/table.json", "ablations.json"),
    ):
        path = folder / "foreign" / name.split("/")[0].replace(".", "-") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"mine": "and dear"}\n')
