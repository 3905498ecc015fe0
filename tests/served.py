"""A server with a small model for tests, and requests that nobody should make."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import make_hf, make_tokenizer

from interp.directions.directions import Directions
from interp.generation.sampling import generate
from interp.models.model import Model, wrap
from interp.serving.app import Files
from interp.serving.server import Server, listen
from interp.steering.steering import Steering

LABELS = ("agent 1", "agent 2")
HOOK = "blocks.{layer}.hook_resid_post"


def directions(model: Model) -> Directions:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1, 2, 2, model.d_model)).astype(np.float32)
    spread = rng.standard_normal((2, 3, model.d_model)).astype(np.float16)
    norms = np.array([2.0, 4.0], np.float32)
    return Directions(LABELS, (0, 2), vectors, norms, HOOK, {"best_layers": [2, 0]}, spread=spread)


@contextmanager
def serving_of(folder: Path, files: Files | None = None, **how: Any) -> Iterator[Server]:
    """A server of `sharp` with its `directions`, or with these."""
    model, path = sharp(), folder / "found.safetensors"
    found = directions(model)
    found.save(path)
    with listen(0) as listening:
        server = Server(model, files or {"found": (path, found)}, listening, **how)
        thread = threading.Thread(target=server.until_stopped)
        thread.start()
        try:
            yield server
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
            assert not server.service.engine.thread.is_alive()


def sharp() -> Model:
    """Random weights that are as sure of their words as trained ones; every call makes the same."""
    hf = make_hf("llama", vocabulary=900, max_position_embeddings=600)
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return wrap(hf, make_tokenizer("bytes"), {"name": "tiny", "adapters": []})


def idle(server: Server, within: float = 5.0) -> bool:
    """Whether nothing is being written any more, soon."""
    ends = time.monotonic() + within
    while server.service.engine.open and time.monotonic() < ends:
        time.sleep(0.01)
    return not server.service.engine.open


def alone(model: Model, prompt: str | list[int], steering: Steering | None = None, **how: Any) -> str:
    how = {"max_new_tokens": 16, "temperature": 0.0, "seeds": [0], **how}
    return generate(model, [prompt], steering=steering or Steering(), **how)[0].text


def junk(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON."""
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.choice([0, -1, 1, 2**31, 2**63, -(2**64), 10**30, 1e308, -0.0, 1e-300, rng.random()])
    if kind < 4:
        return rng.choice(
            ["", "a", "agent 1", "random", "\u0000", "\ud800", "\u202e", "💥" * 9, "</s>", "tiny+", "x" * 500]
        )
    if kind < 7:
        return [junk(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice([*NAMES, "", "x"]): junk(rng, depth + 1) for _ in range(rng.randrange(4))}


NAMES = (
    *("model", "prompt", "messages", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream", "steering"),
    *("stream_options", "coefficients", "logprobs", "direction_of", "layers", "operation", "coefficient", "units"),
    *("tokens", "turns_of", "like", "directions", "text", "role", "content", "include_usage", "coefficients", "type"),
)


def fuzzed(rng: random.Random) -> tuple[str, bytes]:
    """A path and a body: right ones, with something in them that may not be, or anything at all."""
    steering: Any = {"direction_of": rng.choice(LABELS), "coefficient": rng.uniform(-2, 2)}
    good: list[tuple[str, Any]] = [
        ("/v1/completions", {"prompt": "Problem: ", "steering": steering}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "2+2?"}], "steering": steering}),
        ("/api/sweep", {"prompt": "a", "steering": steering, "coefficients": [-0.5, 0.5]}),
        ("/api/command", {"prompt": "a", "steering": steering, "n": 2}),
        ("/api/tokens", {"text": "2+2", "prompt": "Problem: "}),
    ]
    path, body = rng.choice(good)
    body |= {} if path == "/api/tokens" else {"max_tokens": rng.randrange(1, 4), "stream": rng.random() < 0.3}
    if rng.random() < 0.9:
        place = rng.choice([body, *(value for value in body.values() if isinstance(value, dict))])
        place[rng.choice([*place, *NAMES])] = junk(rng)
    if rng.random() < 0.1:
        body = junk(rng)
    sent = json.dumps(body).encode()
    if rng.random() < 0.15:
        at = rng.randrange(len(sent) + 1)
        sent = sent[:at] + rng.choice([b"", b"\xff", b"NaN", b"[" * 5000, b'"', sent]) + sent[at + rng.randrange(3) :]
    return path, sent
