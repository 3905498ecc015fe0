"""What a GPU does with models of two sizes: `python -m benchmarks.gpu [PART …]`.

Weights are random and made on the card: SmolLM2-135M's shape, and that of Llama-3.1-8B (with `--small`, of a toy, for
a machine without a GPU). Every part prints as it goes, ends by itself, and leaves its numbers in `--out`. Milliseconds
of a token step are the difference of two runs of unlike length; the limit is the weights and the cache, read once at
the bandwidth that a copy reaches here.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from interp.activations.corpus import Corpus
from interp.activations.reading import stream
from interp.debate.embedded import read_embedded
from interp.debate.personas import PERSONAS
from interp.debate.protocol import debate
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks import make_task
from interp.directions.directions import Direction
from interp.generation import sampling
from interp.generation.sampling import generate
from interp.models.loading import load_plain
from interp.models.model import Model, wrap
from interp.reports.terminal import Terminal
from interp.steering.steering import Steering, ablate, add
from interp.storage.files import write_json
from interp.storage.journal import read_lines
from interp.training import packing
from interp.training.dry_run import configuration, plan
from interp.training.grpo import train_grpo
from interp.training.run import Run
from interp.training.settings import Architecture, preset
from interp.training.sft import train_sft

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
SMALL = Architecture(layers=2, width=64, mlp_width=128, heads=4, kv_heads=2, head_width=16, vocabulary=2048, tied=False)


def plain(name: str, small: bool) -> Any:
    """A Llama of a preset's shape with random weights."""
    a = SMALL if small else preset(name).architecture
    assert a is not None
    config = configuration(a, max_position_embeddings=8192)
    with torch.device(DEVICE):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if GPU else torch.float32)


def made(name: str, small: bool) -> Model:
    """The same with hooks and the organism's tokenizer."""
    hf = plain(name, small)
    hf.generation_config.eos_token_id = None  # every row writes to its limit
    tokenizer = load_plain("organism").tokenizer
    tokenizer.eos_token = None
    return wrap(hf, tokenizer, {"name": f"{name}'s shape"})


def now() -> float:
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(what: Callable[[], object], repeats: int = 1) -> float:
    """Median over repeats."""
    taken = []
    for _ in range(repeats):
        began = now()
        what()
        taken.append(now() - began)
    return statistics.median(taken)


def bandwidth() -> float:
    """Bytes per second that a large copy reads and writes."""
    a = torch.empty(2**30 if GPU else 2**25, dtype=torch.uint8, device=DEVICE)
    b = torch.empty_like(a)
    b.copy_(a)
    return 2 * a.numel() / seconds(lambda: b.copy_(a), 5)


def peak() -> float:
    """Operations per second of a large product of matrices."""
    n = 8192 if GPU else 512
    a, b = (torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16 if GPU else torch.float32) for _ in range(2))
    a @ b
    return 2 * n**3 / seconds(lambda: a @ b, 5)


def prompts(model: Model, n: int, length: int = 64) -> list[list[int]]:
    usable = min(model.hf.config.vocab_size, 2000)
    return np.random.default_rng(0).integers(5, usable, (n, length)).tolist()


def direction(model: Model, layer: int | None = None) -> Direction:
    layer = model.n_layers // 2 if layer is None else layer
    vector = np.random.default_rng(layer).standard_normal(model.d_model).astype(np.float32)
    return Direction(vector, "random", layer, model.hook_name("resid_post", layer), 1.0)


def step(model: Model, rows: int, n_new: int, **how: Any) -> dict[str, float]:
    """Milliseconds of a token step once its recordings are made, and the seconds until then."""
    asked, short = prompts(model, rows), max(2, n_new // 4)

    def write(n: int) -> None:
        generate(model, asked, max_new_tokens=n, batch_size=rows, **how)

    first = seconds(lambda: write(n_new))
    write(short)
    each = [(seconds(lambda: write(n_new)) - seconds(lambda: write(short))) / (n_new - short) for _ in range(3)]
    return {"ms": 1e3 * statistics.median(each), "first_call_s": first}


def step_of_transformers(model: Model, rows: int, n_new: int) -> float:
    """The same in transformers' own `generate`, greedy."""
    ids = torch.tensor(prompts(model, rows), device=DEVICE)

    def write(n: int) -> None:
        with torch.inference_mode(), model.only_hooked(deaf=True):
            model.hf.generate(ids, max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0)

    write(2)
    return 1e3 * (seconds(lambda: write(n_new)) - seconds(lambda: write(2))) / (n_new - 2)


def floor(model: Model, rows: int, length: int, rate: float) -> float:
    """Milliseconds to read the weights of a step and the cache of this length once."""
    config = model.hf.config
    embedding = 0 if config.tie_word_embeddings else model.hf.get_input_embeddings().weight.numel()
    weights = sum(w.numel() for w in model.hf.parameters()) - embedding
    cache = rows * length * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return 1e3 * (weights + cache) * model.hf.dtype.itemsize / rate


def decode_small(facts: dict[str, Any], small: bool) -> dict[str, Any]:
    """SmolLM2-135M's shape: a step of 128 rows, recorded, launched one by one, and in transformers."""
    model, rows, n = made("smollm2-135m", small), 8 if small else 128, 16 if small else 160
    found: dict[str, Any] = {
        "greedy": step(model, rows, n),
        "sampled": step(model, rows, n, temperature=1.0),
        "steered": step(model, rows, n, steering=add(direction(model), 1.0)),
        "one row": step(model, 1, n),
    }
    was, sampling.SEATED = sampling.SEATED, set()
    found["launched"] = step(model, rows, min(n, 24))
    sampling.SEATED = was
    found["transformers"] = {"ms": step_of_transformers(model, rows, min(n, 24))}
    found["transformers ÷ this"] = found["transformers"]["ms"] / found["greedy"]["ms"]
    return found | {"rows": rows, "limit_ms": floor(model, rows, 64 + n // 2, facts["bandwidth"]), "notes": model.notes}


def decode_large(facts: dict[str, Any], small: bool) -> dict[str, Any]:
    """Llama-3.1-8B's shape: steered and unsteered, 1 row and 32, beside the limit."""
    model, n = large(small), 16 if small else 96
    every = add([direction(model, layer) for layer in range(model.n_layers)], 0.1)
    ways = {"unsteered": None, "steered": add(direction(model), 1.0), "ablated": ablate(direction(model)), "all": every}
    found: dict[str, Any] = {}
    for rows in (1, 32):
        limit = floor(model, rows, 64 + n // 2, facts["bandwidth"])
        for name, steering in ways.items():
            one = step(model, rows, n, steering=steering)
            found[f"{name}, {rows}"] = one | {"limit_ms": limit, "÷ limit": one["ms"] / limit}
        found[f"steered ÷ unsteered, {rows}"] = found[f"steered, {rows}"]["ms"] / found[f"unsteered, {rows}"]["ms"]
    if GPU:
        found["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found | {"notes": model.notes}


def sweep(facts: dict[str, Any], small: bool) -> dict[str, Any]:
    """Llama-3.1-8B's shape: 32 coefficients on one prompt beside 32 unsteered rows of it."""
    model, n = large(small), 8 if small else 64
    asked = prompts(model, 1) * 32
    each = [add(direction(model), c) for c in np.linspace(-1, 1, 32)]

    def write(steering: Sequence[Steering] | None) -> None:
        generate(model, asked, max_new_tokens=n, batch_size=32, steering=steering)

    write(each)
    mixed = seconds(lambda: write(each), 3)
    write(None)
    unsteered = seconds(lambda: write(None), 3)
    return {"sweep_s": mixed, "one_batch_s": unsteered, "sweep ÷ batch": mixed / unsteered}


def extraction(facts: dict[str, Any], small: bool) -> dict[str, Any]:
    """Llama-3.1-8B's shape: every layer at every turn of debates, beside the bare forward of the same batches."""
    model = large(small)
    corpus = Corpus.build(read_embedded("scripted")[: 8 if small else 64], model.tokenizer)
    n_tokens = sum(map(len, corpus.ids))
    found: dict[str, Any] = {"tokens": n_tokens}

    def read(batch_tokens: int) -> None:
        for _ in stream(model, corpus, batch_tokens=batch_tokens):
            pass

    def bare(batch_tokens: int) -> None:
        left = sorted(corpus.ids, key=len, reverse=True)
        with torch.inference_mode(), model.only_hooked(deaf=True):
            while left:
                batch, left = left[: (k := max(1, batch_tokens // len(left[0])))], left[k:]
                width = len(batch[0])
                ids = torch.tensor([[*t, *[0] * (width - len(t))] for t in batch], device=DEVICE)
                mask = torch.tensor([[1] * len(t) + [0] * (width - len(t)) for t in batch], device=DEVICE)
                model.hf.base_model(input_ids=ids, attention_mask=mask, use_cache=False)

    weights = sum(w.numel() for name, w in model.hf.named_parameters() if "embed" not in name and "head" not in name)
    for batch_tokens in (2048, 8192, 32768):
        read(batch_tokens)
        taken, unread = seconds(partial(read, batch_tokens)), seconds(partial(bare, batch_tokens))
        found[str(batch_tokens)] = {
            "tokens_per_s": n_tokens / taken,
            "share of the bare forward's": unread / taken,
            "share of peak": 2 * weights * n_tokens / taken / facts["peak"],
        }
    return found


def learning(facts: dict[str, Any], small: bool) -> dict[str, Any]:
    """Llama-3.1-8B's shape: sampling 64 completions of 256 tokens, and learning from them through rank-32 adapters."""
    from peft import LoraConfig, get_peft_model

    model, rows, n = large(small), 8 if small else 64, 16 if small else 256
    asked = prompts(model, rows)
    generate(model, asked, max_new_tokens=n, batch_size=rows, temperature=1.0)
    sampled = seconds(lambda: generate(model, asked, max_new_tokens=n, batch_size=rows, temperature=1.0))
    planned = plan(preset("llama-3.1-8b"))
    LARGE.clear()
    del model
    gc.collect()
    lora = LoraConfig(r=32, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"])
    adapted = get_peft_model(plain("llama-3.1-8b", small), lora)
    adapted.gradient_checkpointing_enable()
    adapted.enable_input_require_grads()
    ids = torch.randint(5, 2000, (4, 64 + n), device=DEVICE)

    def learn() -> None:
        for _ in range(rows // 4):
            adapted(input_ids=ids, labels=ids, use_cache=False).loss.backward()

    if GPU:
        torch.cuda.reset_peak_memory_stats()
    found = {"sampling_s": sampled, "learning_s": seconds(learn)}
    if GPU:
        found["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found | {"foretold_gib": planned.memory[1].total / 2**30, "completions": rows, "tokens": n}


def sums(folder: str, small: bool, **changes: str) -> Run:
    """A run of `make gpu`'s preset from SmolLM2-135M's shape, with the organism's tokenizer."""
    base = Path(folder) / "base"
    plain("smollm2-135m", small).save_pretrained(base)
    load_plain("organism").tokenizer.save_pretrained(base)
    return Run(Path(folder) / "run", preset("smollm2-135m-sums").override({"model": str(base), **changes}))


def sft(facts: dict[str, Any], small: bool) -> dict[str, Any]:
    """SmolLM2-135M's shape: SFT's steps on debates about sums, layers recorded and launched."""
    found, weights = dict[str, Any](), sum(w.numel() for w in plain("smollm2-135m", small).parameters())
    how = {"sft.batch_size": "8", "sft.device_batch_size": "8"} if small else {"sft.device_batch_size": "0"}
    for name in ("recorded", "launched"):
        with TemporaryDirectory() as folder, ExitStack() as stack:
            if name == "launched":
                stack.enter_context(patch.object(packing, "recorded", lambda *_: nullcontext()))
            run = sums(folder, small, **how, **{"sft.epochs": "1" if small else "3"})
            task = make_task(run.preset.task, **run.preset.task_options)
            agents = [ScriptedAgent(persona, 0.12, 0) for persona in PERSONAS.values()]
            train_sft(run, list(debate(task.questions(24 if small else 640, 1), agents, task=task, rounds=1)))
            rows = [row for row in read_lines(run.metrics) if "tokens_per_second" in row]
        rate = statistics.median(row["tokens_per_second"] for row in rows)
        read = statistics.median(b["num_tokens"] - a["num_tokens"] for a, b in pairwise(rows))
        # of a LoRA's step: forward, and gradients of activations
        found[name] = {"tokens_per_s": rate, "tokens": read, "share of peak": 4 * weights * rate / facts["peak"]}
    return found


def stage_2(facts: dict[str, Any], small: bool) -> dict[str, Any]:
    """SmolLM2-135M's shape: GRPO's steps of 128 completions that are all as long as the limit of 480 tokens."""
    longest = 32 if small else 480
    limits = {"grpo.descent.first_limit": str(longest), "grpo.descent.last_limit": str(longest), "grpo.warmup": "0"}
    batches = {"grpo.batch_size": "16", "grpo.device_batch_size": "16"} if small else {"grpo.device_batch_size": "0"}
    with TemporaryDirectory() as folder:
        run = sums(folder, small, **limits, **batches, **{"grpo.questions": "10" if small else "80"})
        task, base = make_task(run.preset.task, **run.preset.task_options), run.preset.model
        train_grpo(run, base, task.questions(run.preset.grpo.questions, 1), task, judge=lambda _, text: len(text) % 2)
        rows = [row for row in read_lines(run.metrics) if "loss" in row][1:]  # the first makes the recordings
    names = [name for name in rows[0] if "seconds" in name or name in ("step_time", "length")]
    return {name: statistics.median(row[name] for row in rows) for name in names} | {"steps": len(rows)}


LARGE: dict[bool, Model] = {}


def large(small: bool) -> Model:
    if small not in LARGE:
        began = now()
        LARGE[small] = made("llama-3.1-8b", small)
        print(f"made {LARGE[small].name} in {now() - began:.1f} s", flush=True)
    return LARGE[small]


PARTS = {f.__name__: f for f in (decode_small, sft, stage_2, decode_large, sweep, extraction, learning)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--small", action="store_true", help="a toy's shape")
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks/gpu.json"))
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    card = torch.cuda.get_device_name() if GPU else platform.processor() or "CPU"
    facts: dict[str, Any] = {"device": card, "torch": torch.__version__, "bandwidth": bandwidth(), "peak": peak()}
    console = Terminal(soft_wrap=True)
    console.print(f"{card}: a copy moves {facts['bandwidth'] / 1e12:.2f} TB/s, {facts['peak'] / 1e12:.0f} TFLOP/s")
    for name in given.parts or PARTS:
        began = now()
        facts[name] = PARTS[name](facts, given.small)
        facts[name]["seconds"] = now() - began
        write_json(given.out, facts, indent=2)
        for what, value in facts[name].items():
            shown = {k: round(v, 3) for k, v in value.items()} if isinstance(value, dict) else value
            console.print(f"{name}: {what}: {shown if not isinstance(shown, float) else round(shown, 3)}")


if __name__ == "__main__":
    main()
