"""The first hour of somebody new, step by step and timed: `python -m benchmarks.first_hour`.

Each step is one command or at most five lines of Python, run as it stands in a new program, so its time has the start
of Python and the loading of the model in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from rich.table import Table

from interp.reports.terminal import Terminal
from interp.storage.files import write_json

TEXTS: dict[str, tuple[list[tuple[str, str]], str, int, float]] = {
    "organism": (
        [(f"{a}+{b}={a + b}", f"{a}+{b}={a + b + 3}") for a in range(2, 8) for b in range(2, 6)],
        "Problem: 3+4*5+2-1*6\n\n",
        2,
        0.8,
    ),
    "smollm2-135m": (
        [
            (f"{who} said that the {what} was {good}.", f"{who} said that the {what} was {bad}.")
            for who in ("My sister", "Our teacher", "Everyone", "The old man")
            for what, good, bad in (
                ("dinner", "delicious", "disgusting"),
                ("film", "wonderful", "boring"),
                ("journey", "a joy", "a nightmare"),
                ("weather", "lovely", "miserable"),
            )
        ],
        "The hotel was",
        15,
        0.4,
    ),
}
"""Pairs of somebody's own, a prompt to steer, a layer and a coefficient, for each model."""

PAIRS = """\
import interp, json
model, pairs = interp.load_model({model!r}), [json.loads(line) for line in open("pairs.jsonl")]
found = interp.fit(model, [p["positive"] for p in pairs], [p["negative"] for p in pairs], "own", label="mine")
print(found)
print(interp.generate(model, {prompt!r}, max_new_tokens=24, steering=interp.add(found["mine", {layer}], {by})).text)
"""
THEIRS = """\
import interp
model, theirs = interp.load_model({model!r}), interp.Directions.load({file!r})
print(theirs)
steering = interp.add(theirs["evil", {layer}], 2 * theirs["evil", {layer}].norm, units="unit")
print(interp.generate(model, {prompt!r}, max_new_tokens=24, steering=steering).text)
"""
TOKENS = "interp tokens --model {model} --directions own/directions.safetensors --text {prompt!r} --out tokens.html"
REPORT = "interp fit --model {model} --pairs pairs.jsonl --label mine --out fitted"
SERVE = "interp serve --model {model} --directions own/directions.safetensors --port 0"
CURL = """\
curl -s {url}/v1/completions -H "Authorization: Bearer $INTERP_SERVE_TOKEN" -H "Content-Type: application/json" \
-d '{{"model": "{model}+mine@{by}:{layer}", "prompt": {quoted}, "max_tokens": 24, "temperature": 0}}'"""
CLIENT = """\
import openai, os
client = openai.OpenAI(base_url="{url}/v1", api_key=os.environ["INTERP_SERVE_TOKEN"])
steering = {{"directions": "own", "direction_of": "mine", "layers": [{layer}], "coefficient": {by}}}
asked = {{"model": {model!r}, "prompt": {prompt!r}, "max_tokens": 24, "temperature": 0}}
print(client.completions.create(**asked, extra_body={{"steering": steering}}).choices[0].text)
"""


def prepare(model: str, folder: Path) -> None:
    """Somebody's pairs, and vectors as repeng and persona-vectors write them: of the model's width, random."""
    import torch

    from interp.models.model import load_model

    pairs = TEXTS[model][0]
    lines = (json.dumps(dict(zip(("positive", "negative"), pair, strict=True))) for pair in pairs)
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    cfg = load_model(model).bridge.cfg
    rows = np.random.default_rng(0).standard_normal((cfg.n_layers + 1, cfg.d_model)).astype(np.float32)
    torch.save(torch.from_numpy(rows), folder / "evil_response_avg_diff.pt")
    as_repeng(folder / "evil.gguf", {layer: rows[layer + 1] for layer in range(1, cfg.n_layers)})


def as_repeng(path: Path, vectors: Mapping[int, np.ndarray], architecture: str = "controlvector") -> Path:
    """Write a control vector as repeng does."""
    writer = GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(vectors))
    for layer, vector in vectors.items():
        writer.add_tensor(f"direction.{layer}", vector)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def steps(model: str, url: str = "") -> Iterator[tuple[str, str]]:
    """Each step's name, and what is typed; with the address of a server, the steps that ask it."""
    _, prompt, layer, by = TEXTS[model]
    known = {"model": model, "prompt": prompt, "layer": layer, "by": by, "url": url, "quoted": json.dumps(prompt)}
    if url:
        yield "ask the server: curl", CURL.format(**known)
        yield "ask the server: openai client", CLIENT.format(**known)
        return
    yield "own pairs → evidence → steering", PAIRS.format(**known)
    yield "a repeng GGUF → steering", THEIRS.format(**known, file="evil.gguf")
    yield "a persona-vectors .pt → steering", THEIRS.format(**known, file="evil_response_avg_diff.pt")
    yield "tokens in colour", TOKENS.format(**known | {"prompt": prompt.strip()})
    yield "a page with a slider", REPORT.format(**known)


def run(typed: str, folder: Path, **environment: str) -> tuple[str, float]:
    """What a step prints, and its seconds; fails as the step fails."""
    start = time.perf_counter()
    command = [sys.executable, "-c", typed] if typed.startswith("import ") else ["sh", "-c", typed]
    done = subprocess.run(command, cwd=folder, env=_environment(**environment), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{typed}\n{done.stdout}{done.stderr}")
    return done.stdout, time.perf_counter() - start


def _environment(**more: str) -> dict[str, str]:
    here = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PYTHONPATH": here, "PATH": path, **more}


@contextmanager
def served(model: str, folder: Path, token: str) -> Iterator[tuple[str, float]]:
    """A server on the first step's directions: its address, and the seconds until it answers."""
    start, environment = time.perf_counter(), _environment(INTERP_SERVE_TOKEN=token)
    typed = ["sh", "-c", f"exec {SERVE.format(model=model)}"]
    process = subprocess.Popen(typed, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        page = next(line for line in process.stdout if line.startswith("page: "))
        yield page.removeprefix("page: ").partition("/?")[0], time.perf_counter() - start
    finally:
        process.terminate()
        process.wait(20)


def first_hour(model: str, folder: Path) -> Iterator[tuple[str, str, str, float]]:
    """Every step in turn: its name, what is typed, what is printed, and its seconds."""
    prepare(model, folder)
    for name, typed in steps(model):
        yield name, typed, *run(typed, folder)
    with served(model, folder, token="first-hour") as (url, seconds):
        yield "a steered server", SERVE.format(model=model), url, seconds
        for name, typed in steps(model, url):
            yield name, typed, *run(typed, folder, INTERP_SERVE_TOKEN="first-hour")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=list(TEXTS), nargs="+", default=list(TEXTS))
    parser.add_argument("--out", type=Path, default=Path("first_hour.json"))
    given = parser.parse_args()
    results: dict[str, Any] = {}
    for model in given.model:
        table = Table("step", "lines", "seconds", title=f"The first hour, on {model}")
        with tempfile.TemporaryDirectory() as folder:
            for name, typed, _, seconds in first_hour(model, Path(folder)):
                table.add_row(name, str(len(typed.splitlines())), f"{seconds:.1f}")
                results.setdefault(model, {})[name] = {"typed": typed, "seconds": round(seconds, 2)}
        Terminal().print(table)
    write_json(given.out, results)


if __name__ == "__main__":
    main()
