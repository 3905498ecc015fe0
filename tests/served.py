"""A server with a small model for tests, and requests that nobody should make."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from conftest import make_hf, make_tokenizer

from interp.directions.directions import Directions
from interp.generation.sampling import generate
from interp.models.model import Model, wrap
from interp.probing.probe import Probe
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


def probe(model: Model) -> Probe:
    """Of the layer between those of the directions."""
    weights = np.random.default_rng(1).standard_normal((1, model.d_model)).astype(np.float32)
    return Probe(weights, np.zeros(1, np.float32), weights, ("calm", "cross"), 1, HOOK.format(layer=1), 3.0)


@contextmanager
def running(model: Model, files: Files, **how: Any) -> Iterator[Server]:
    """A server in a thread of its own, whose engine's thread owns the model."""
    with listen(0) as listening:
        server = Server(model, files, listening, **how)
        thread = threading.Thread(target=server.until_stopped)
        thread.start()
        try:
            yield server
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
            assert not server.service.engine.thread.is_alive()


@contextmanager
def serving_of(folder: Path, files: Files | None = None, **how: Any) -> Iterator[Server]:
    """A server of `sharp` with its `directions`, or with these."""
    model, path = sharp(), folder / "found.safetensors"
    found, mood = directions(model), probe(model)
    found.save(path)
    mood.save(folder / "mood.safetensors")
    files = files or {"found": (path, found), "mood": (folder / "mood.safetensors", mood)}
    with running(model, files, **how) as server:
        yield server


def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_of(tmp_path_factory.mktemp("served"), n_rows=8) as server:
        yield server


def openai_client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=server.token, base_url=f"http://{server.host}/v1", max_retries=0) as client:
        yield client


def http_client(server: Server) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.token}"}
    with httpx.Client(base_url=f"http://{server.host}", headers=headers, timeout=30) as http:
        yield http


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
