"""What a second process brings, each with one thread: `python -m benchmarks.processes`.

In alternation: one process, two that share the work, and two that each do the whole of it without knowing of each
other. The last says what the machine has to give: if each takes as long as one does alone, sharing could bring 2 ×.
Loading is not timed. Results go to OUT as JSON.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from interp.activations.corpus import Corpus
from interp.activations.store import read_activations
from interp.debate.embedded import find_transcripts
from interp.directions.directions import Directions
from interp.directions.extract import extract_directions
from interp.interventions.settings import SweepSettings
from interp.interventions.sweeps import sweep
from interp.models.model import load_model
from interp.processes import first, gather, sharing
from interp.storage.files import write_json

WORK = ("reading", "extraction", "sweep")
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def work(kind: str, model_name: str, n: int, directions: Path, out: Path) -> float:
    """Seconds that this process's share takes, from when all are ready until all are done."""
    with sharing("sweep"):
        model, debates = load_model(model_name), (find_transcripts("organism") * 10)[:n]
        gather(None)
        started = time.perf_counter()
        if kind == "reading":
            corpus = Corpus.build(debates, model.tokenizer)
            read_activations(model, corpus, out / "activations.safetensors", batch_tokens=2048)
        elif kind == "extraction":
            extract_directions(model, debates, out, layers=range(model.n_layers))
        else:
            found = {"found": Directions.load(directions)}
            settings = SweepSettings(coefficients=(0.1, 0.2), random_controls=8, contexts=("turn",))
            sweep(out / "sweep.jsonl", [model], found, debates, settings)
        gather(None)
        return time.perf_counter() - started


def seconds(n_processes: int, shared: bool, arguments: list[str]) -> float:
    """The longest of these processes."""
    command, env = ["-m", "benchmarks.processes", *arguments], {**os.environ, "OMP_NUM_THREADS": "1"}
    launched = [[sys.executable, *LAUNCH, *command]] if shared else [[sys.executable, *command]] * n_processes
    with tempfile.TemporaryDirectory() as folder:
        running = [
            subprocess.Popen([*each, "--out", f"{folder}/{i}"], stdout=subprocess.PIPE, text=True, env=env)
            for i, each in enumerate(launched)
        ]
        said = [process.communicate()[0].split() for process in running]
    return max(float(each[-1]) for each in said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", choices=WORK)
    parser.add_argument("--work", choices=WORK, nargs="+", default=WORK)
    parser.add_argument("--model", default="organism")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--debates", type=int, help="by default 300 to read, 60 for extraction, 40 for the sweep")
    parser.add_argument("--directions", type=Path, default=Path("unused"))
    parser.add_argument("--out", type=Path, default=Path("processes.json"))
    given = parser.parse_args()
    if given.worker:
        alone = work(given.worker, given.model, given.debates, given.directions, given.out)
        if first():
            print(alone)
        return
    with tempfile.TemporaryDirectory() as folder:
        organism = find_transcripts("organism")
        extract_directions(load_model("organism"), organism[:30], folder, layers=[2], controls=False)
        results: dict[str, Any] = {}
        for kind in given.work:
            n = given.debates or {"reading": 300, "extraction": 60, "sweep": 40}[kind]
            arguments = ["--worker", kind, "--model", given.model, "--debates", str(n)]
            arguments += ["--directions", f"{folder}/directions.safetensors"]
            ways: dict[str, tuple[int, bool]] = {"one": (1, False), "two, sharing": (2, True), "two, apart": (2, False)}
            took: dict[str, list[float]] = {way: [] for way in ways}
            for repeat in range(given.repeats):
                for way, how in ways.items():
                    took[way].append(round(seconds(*how, arguments), 2))
                    print(kind, repeat, way, took[way][-1], flush=True)
            gain = statistics.median(a / b for a, b in zip(took["one"], took["two, sharing"], strict=True))
            most = statistics.median(2 * a / b for a, b in zip(took["one"], took["two, apart"], strict=True))
            results[kind] = {"seconds": took, "gain": round(gain, 3), "gain of two apart": round(most, 3)}
            print(f"{kind}: two processes {gain:.2f} × one; two that share nothing {most:.2f} ×", flush=True)
            write_json(given.out, {"cores": os.cpu_count(), **results})


if __name__ == "__main__":
    main()
