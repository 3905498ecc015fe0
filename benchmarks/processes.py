"""What a second process brings, each with one thread: `python -m benchmarks.processes`.

In alternation: one process, two that share the work, and two that each do the whole of it without knowing of each
other. The last says what the machine has to give: if each takes as long as one does alone, sharing could bring 2 ×.
Where other programs take the cores, processor time says more: that of one process over that of the busier of two is
what sharing would bring on two free cores. Loading is not timed. Results go to OUT as JSON.
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


def work(kind: str, model_name: str, n: int, directions: Path, out: Path) -> tuple[float, float]:
    """Seconds from when all are ready until all are done, and processor seconds of the busiest."""
    with sharing("sweep"):
        model, debates = load_model(model_name), (find_transcripts("organism") * 10)[:n]
        gather(None)
        started, used = time.perf_counter(), time.process_time()
        if kind == "reading":
            corpus = Corpus.build(debates, model.tokenizer)
            read_activations(model, corpus, out / "activations.safetensors", batch_tokens=2048)
        elif kind == "extraction":
            extract_directions(model, debates, out, layers=range(model.n_layers))
        else:
            found = {"found": Directions.load(directions)}
            settings = SweepSettings(layers=(2,), coefficients=(0.1, 0.2), random_controls=8, contexts=("turn",))
            sweep(out / "sweep.jsonl", [model], found, debates, settings)
        used = max(gather(time.process_time() - used))
        return time.perf_counter() - started, used


def seconds(n_processes: int, shared: bool, arguments: list[str]) -> tuple[float, float]:
    """What `work` gives, of the longest of these processes."""
    command, env = ["-m", "benchmarks.processes", *arguments], {**os.environ, "OMP_NUM_THREADS": "1"}
    launched = [[sys.executable, *LAUNCH, *command]] if shared else [[sys.executable, *command]] * n_processes
    with tempfile.TemporaryDirectory() as folder:
        running = [
            subprocess.Popen([*each, "--out", f"{folder}/{i}"], stdout=subprocess.PIPE, text=True, env=env)
            for i, each in enumerate(launched)
        ]
        said = [process.communicate()[0].split() for process in running]
    return max((float(each[-2]), float(each[-1])) for each in said)


def gain(took: dict[str, list[tuple[float, float]]], way: str, of: int) -> float:
    """How much longer one process takes, in seconds (0) or processor seconds (1): the median."""
    return round(statistics.median(a[of] / b[of] for a, b in zip(took["one"], took[way], strict=True)), 3)


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
            print(*alone)
        return
    with tempfile.TemporaryDirectory() as folder:
        organism = find_transcripts("organism")
        extract_directions(load_model(given.model), organism[-30:], folder, layers=[2], controls=False)
        results: dict[str, Any] = {}
        for kind in given.work:
            n = given.debates or {"reading": 300, "extraction": 60, "sweep": 40}[kind]
            arguments = ["--worker", kind, "--model", given.model, "--debates", str(n)]
            arguments += ["--directions", f"{folder}/directions.safetensors"]
            ways: dict[str, tuple[int, bool]] = {"one": (1, False), "two, sharing": (2, True), "two, apart": (2, False)}
            took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for repeat in range(given.repeats):
                for way, how in ways.items():
                    took[way].append(seconds(*how, arguments))
                    print(kind, repeat, way, took[way][-1], flush=True)
            gains = {"gain": gain(took, "two, sharing", 0), "gain of two apart": 2 * gain(took, "two, apart", 0)}
            gains["gain in processor time"] = gain(took, "two, sharing", 1)
            results[kind] = {**gains, "seconds, processor seconds": took}
            print(kind, gains, flush=True)
            write_json(given.out, {"cores": os.cpu_count(), **results})


if __name__ == "__main__":
    main()
