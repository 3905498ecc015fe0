"""What steering costs: `python -m benchmarks.steering`.

Side by side in one run, in turns, medians of the ratios; every text is written to its full length, so that
all ways write as many tokens. A batch without and with steering; the same prompts one at a time without a
cache, as the paper's implementation does it; a sweep of coefficients over fewer prompts against a batch of
as many different prompts. Greedy texts of all ways of the same steering are compared token by token.
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
from rich.console import Console
from rich.table import Table

from interp.debate.agents import Request, chat_messages
from interp.debate.personas import PERSONAS
from interp.debate.tasks.arithmetic import Arithmetic
from interp.directions.directions import Direction
from interp.generation.sampling import generate
from interp.models.model import Model, load_model
from interp.models.tokens import prompt_tokens
from interp.steering.steering import Steering, add


@contextmanager
def endless(model: Model) -> Iterator[None]:
    """Nothing ends a text but the limit."""
    config, tokenizer = model.hf.generation_config, model.tokenizer
    before = config.eos_token_id, tokenizer.eos_token
    config.eos_token_id, tokenizer.eos_token = None, None
    try:
        yield
    finally:
        config.eos_token_id, tokenizer.eos_token = before


def some_direction(model: Model, layer: int, seed: int = 0) -> Direction:
    """A direction of length 1; which one is of no matter to the time."""
    vector = np.random.default_rng(seed).standard_normal(model.d_model).astype(np.float32)
    return Direction(vector / np.linalg.norm(vector), "any", layer, model.hook_name("resid_post", layer))


def uncached(model: Model, prompts: list[list[int]], steering: Steering, n_tokens: int) -> list[list[int]]:
    """One prompt at a time, everything read anew for each token, by Hugging Face's own `generate`."""
    texts = []
    with steering.on(model), torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt], device=model.device)
            out = model.hf.generate(ids, max_new_tokens=n_tokens, do_sample=False, use_cache=False, pad_token_id=0)
            texts.append(out[0, len(prompt) :].tolist())
    return texts


def measure(model: Model, n_prompts: int, n_tokens: int, n_coefficients: int, n_slow: int, repeats: int) -> Table:
    """Seconds of each way, and ratios of ways in the same repeat."""
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

    def batch(name: str, asked: list[list[int]], with_: Any) -> None:
        out = generate(model, asked, max_new_tokens=n_tokens, batch_size=len(asked), steering=with_)
        texts[name] = [g.ids for g in out]

    def slow() -> None:
        texts["one at a time"] = uncached(model, prompts[:n_slow], steering, n_tokens)

    ways: dict[str, Callable[[], None]] = {
        "unsteered": lambda: batch("unsteered", prompts, None),
        "steered": lambda: batch("steered", prompts, steering),
        "unsteered, rows of the sweep": lambda: batch("rows", many, None),
        "sweep": lambda: batch("sweep", [p for p, _ in swept], [s for _, s in swept]),
        "one at a time": slow,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    batch("warm", prompts[:2], steering)
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    scale = n_prompts / n_slow
    seconds["one at a time"] = [s * scale for s in seconds["one at a time"]]
    same = sum(a == b for a, b in zip(texts["one at a time"], texts["steered"], strict=False))
    alone = [generate(model, [p], max_new_tokens=n_tokens, steering=s)[0].ids for p, s in swept[:: len(few)]]
    same_rows = sum(a == b for a, b in zip(alone, texts["sweep"][:: len(few)], strict=True))
    table = Table(
        title=f"{model.name}, {model.provenance['dtype']} on {model.device}: {n_prompts} prompts of "
        f"{min(map(len, prompts))} to {max(map(len, prompts))} tokens, {n_tokens} new tokens each, {repeats} repeats; "
        f"one at a time measured on {n_slow} prompts and scaled to {n_prompts}; same tokens as one at a time: "
        f"{same} of {n_slow}; rows of the sweep as if alone: {same_rows} of {len(alone)}"
    )
    for heading in ("way", "rows", "seconds (median)", "against", "ratio (median)", "range"):
        table.add_column(heading, justify="left" if heading in ("way", "against") else "right")
    for name, rows, against in (
        ("unsteered", n_prompts, ""),
        ("steered", n_prompts, "unsteered"),
        ("one at a time", n_prompts, "steered"),
        ("unsteered, rows of the sweep", len(swept), ""),
        ("sweep", len(swept), "unsteered, rows of the sweep"),
    ):
        ratios = [a / b for a, b in zip(seconds[name], seconds[against or name], strict=True)]
        shown = (f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}") if against else ("", "")
        table.add_row(name, str(rows), f"{statistics.median(seconds[name]):.2f}", against, *shown)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--coefficients", type=int, default=11)
    parser.add_argument("--slow", type=int, default=4, help="prompts that are also steered one at a time")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    model = load_model(given.model)
    console = Console(soft_wrap=True)
    with endless(model):
        console.print(
            measure(model, given.prompts, given.max_new_tokens, given.coefficients, given.slow, given.repeats)
        )


if __name__ == "__main__":
    main()
