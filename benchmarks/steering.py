"""What steering costs: `python -m benchmarks.steering`.

Times a batch of prompts without and with steering, the same prompts one at a time without a cache (as in the paper's
implementation), a sweep of coefficients over fewer prompts against an unsteered batch of the same size, and 200 random
directions with three coefficients each against 20, by text. The methods run alternately, and ratios are medians over
repeats. All texts have the full length, so all methods write equally many
tokens. Decoding is greedy, and the title counts how often the same steering gives the same tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from rich.table import Table

from interp.debate.agents import Request, chat_messages
from interp.debate.personas import PERSONAS, Persona
from interp.debate.tasks.arithmetic import Arithmetic
from interp.directions.directions import Direction
from interp.directions.pairs import prompt_contrast
from interp.directions.subspaces import random_directions
from interp.generation.sampling import generate
from interp.models.model import Model, load_model
from interp.models.tokens import prompt_tokens
from interp.reports.terminal import Terminal
from interp.steering.steering import Steering, add


@contextmanager
def endless(model: Model) -> Iterator[None]:
    """Let only the token limit end a text."""
    config, tokenizer = model.hf.generation_config, model.tokenizer
    before = config.eos_token_id, tokenizer.eos_token
    config.eos_token_id, tokenizer.eos_token = None, None
    try:
        yield
    finally:
        config.eos_token_id, tokenizer.eos_token = before


def some_direction(model: Model, layer: int, seed: int = 0) -> Direction:
    """A random direction of length 1; the time does not depend on which."""
    vector = np.random.default_rng(seed).standard_normal(model.d_model).astype(np.float32)
    return Direction(vector / np.linalg.norm(vector), "any", layer, model.hook_name("resid_post", layer))


def uncached(model: Model, prompts: list[list[int]], steering: Steering, n_tokens: int) -> list[list[int]]:
    """Continue one prompt at a time with Hugging Face's `generate`, reading the whole text again for each token."""
    texts = []
    with steering.on(model), torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt], device=model.device)
            out = model.hf.generate(ids, max_new_tokens=n_tokens, do_sample=False, use_cache=False, pad_token_id=0)
            texts.append(out[0, len(prompt) :].tolist())
    return texts


def measure(model: Model, n_prompts: int, n_tokens: int, n_coefficients: int, n_slow: int, repeats: int) -> Table:
    """Seconds of each method, and their ratios within the same repeat."""
    persona = next(iter(PERSONAS.values()))
    questions = Arithmetic().questions(n_prompts, seed=0)
    prompts = [prompt_tokens(model.tokenizer, chat_messages(persona, Request(q.text, 1))) for q in questions]
    direction = some_direction(model, model.n_layers // 2)
    steering = add(direction, 30, units="unit", tokens="writing")
    few = prompts[: max(1, n_prompts // n_coefficients)]
    coefficients = np.linspace(-50, 50, n_coefficients)
    swept = [(prompt, add(direction, float(c), units="unit", tokens="writing")) for c in coefficients for prompt in few]
    many: list[list[int]] = (prompts * n_coefficients)[: len(swept)]
    texts: dict[str, list[list[int]]] = {}

    def batch(name: str, rows: list[list[int]], applied: Any) -> None:
        out = generate(model, rows, max_new_tokens=n_tokens, batch_size=len(rows), steering=applied)
        texts[name] = [g.ids for g in out]

    def slow() -> None:
        texts["one at a time"] = uncached(model, prompts[:n_slow], steering, n_tokens)

    methods: dict[str, Callable[[], None]] = {
        "unsteered": lambda: batch("unsteered", prompts, None),
        "steered": lambda: batch("steered", prompts, steering),
        "unsteered, as many rows as the sweep": lambda: batch("rows", many, None),
        "sweep": lambda: batch("sweep", [p for p, _ in swept], [s for _, s in swept]),
        "one at a time": slow,
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    batch("warm", prompts[:2], steering)
    for _ in range(repeats):
        for name, method in methods.items():
            started = time.perf_counter()
            method()
            seconds[name].append(time.perf_counter() - started)
    scale = n_prompts / n_slow
    seconds["one at a time"] = [s * scale for s in seconds["one at a time"]]
    same = sum(a == b for a, b in zip(texts["one at a time"], texts["steered"], strict=False))
    alone = [generate(model, [p], max_new_tokens=n_tokens, steering=s)[0].ids for p, s in swept[:: len(few)]]
    same_rows = sum(a == b for a, b in zip(alone, texts["sweep"][:: len(few)], strict=True))
    table = Table(
        title=f"{model.name}, {model.provenance['dtype']} on {model.device}: {n_prompts} prompts of "
        f"{min(map(len, prompts))} to {max(map(len, prompts))} tokens, {n_tokens} new tokens each, {repeats} repeats; "
        f"one at a time is measured on {n_slow} prompts and scaled to {n_prompts}; same tokens in a batch as one at a "
        f"time: {same} of {n_slow}; same tokens in the sweep as alone: {same_rows} of {len(alone)}"
    )
    for heading in ("method", "rows", "seconds (median)", "compared with", "ratio (median)", "range"):
        table.add_column(heading, justify="left" if heading in ("method", "compared with") else "right")
    for name, rows, against in (
        ("unsteered", n_prompts, ""),
        ("steered", n_prompts, "unsteered"),
        ("one at a time", n_prompts, "steered"),
        ("unsteered, as many rows as the sweep", len(swept), ""),
        ("sweep", len(swept), "unsteered, as many rows as the sweep"),
    ):
        ratios = [a / b for a, b in zip(seconds[name], seconds[against or name], strict=True)]
        shown = (f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}") if against else ("", "")
        table.add_row(name, str(rows), f"{statistics.median(seconds[name]):.2f}", against, *shown)
    return table


def many_directions(model: Model, n_prompts: int, n_tokens: int, batch_size: int, repeats: int) -> Table:
    """What a text costs with 200 random directions of the activations' covariance, against 20, and without steering."""
    persona = next(iter(PERSONAS.values()))
    questions = Arithmetic().questions(n_prompts, seed=0)
    prompts = [prompt_tokens(model.tokenizer, chat_messages(persona, Request(q.text, 1))) for q in questions]
    benign = Persona("plain", "Answer the question.")
    found = prompt_contrast(model, [q.text for q in questions], persona, benign, layers=[model.n_layers // 2])
    drawn = random_directions(found[persona.name][0], 200)
    seconds: dict[int, list[float]] = {0: [], 20: [], 200: []}
    for _ in range(repeats):
        for n, spent in seconds.items():
            ways = [add(d, c) for d in drawn[:n] for c in (0.1, 0.2, 0.4)] or [Steering()]
            rows = [(prompt, way) for prompt in prompts for way in ways]
            started = time.perf_counter()
            how: dict[str, Any] = {"max_new_tokens": n_tokens, "batch_size": batch_size}
            generate(model, [prompt for prompt, _ in rows], **how, steering=[way for _, way in rows])
            spent.append((time.perf_counter() - started) / len(rows))
    table = Table(title=f"{n_prompts} prompts, 3 coefficients, batches of {batch_size}")
    for heading in ("random directions", "texts", "ms a text (median)", "compared with 20 (median)"):
        table.add_column(heading, justify="right")
    for n, spent in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(spent, seconds[20], strict=True))
        texts = n_prompts * max(1, 3 * n)
        table.add_row(str(n), str(texts), f"{1000 * statistics.median(spent):.2f}", f"{ratio:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--coefficients", type=int, default=11, help="number of coefficients in the sweep")
    parser.add_argument("--slow", type=int, default=4, help="prompts to steer one at a time as well")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    model = load_model(given.model)
    console = Terminal(soft_wrap=True)
    with endless(model):
        console.print(many_directions(model, 4, given.max_new_tokens, 32, given.repeats))
        console.print(
            measure(model, given.prompts, given.max_new_tokens, given.coefficients, given.slow, given.repeats)
        )


if __name__ == "__main__":
    main()
