"""Small models and tokenizers of the architectures and kinds that the toolkit meets, built in memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from faulty import Faulty
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from interp import cli
from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript, read_transcripts
from interp.models.model import Model, wrap

# Models this small spend most of their time waiting for a second thread, the more so on busy cores.
# Set for the commands that tests start as well.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

COMMAND = [sys.executable, "-c", "from interp.cli import main; main()"]
KEY = "sk-a-secret-that-nobody-sees"

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "data" / "published_debates.json"

# How Llama 3 and Qwen 2 cut text before merging: punctuation takes the newlines after it along.
_MERGES_NEWLINES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def training_text() -> list[str]:
    return [t.prompt + t.render() for t in read_embedded("scripted")[:40]]


@cache
def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """`bytes` cuts like GPT-2, `merging` like Llama 3 and Qwen 2, `metaspace` like Llama 2."""
    if kind == "metaspace":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        special = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
        texts = [t.replace("\n", " ") for t in training_text()]  # newlines stay bytes, as in Llama 2
    else:
        tokenizer = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(_MERGES_NEWLINES), "isolated")
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "bytes")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_]) if kind == "merging" else bytes_
        tokenizer.decoder = decoders.ByteLevel()
        special, texts = ["<s>", "</s>"], training_text()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=special,
        initial_alphabet=[] if kind == "metaspace" else pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if kind != "bytes":  # Llama's tokenizers open a text with a token of their own
        opening = [("<s>", tokenizer.token_to_id("<s>"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=opening)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def make_hf(architecture: str, vocabulary: int = 1200, n_layers: int = 3, **changes: Any) -> Any:
    """A model with random weights; every call gives the same ones."""
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **changes,
    }
    torch.manual_seed(0)
    if architecture == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**sizes))
    if architecture == "mistral":
        return MistralForCausalLM(MistralConfig(**{"sliding_window": 256, **sizes}))
    return LlamaForCausalLM(LlamaConfig(**sizes))


def make_model(architecture: str = "llama", kind: str = "bytes", **changes: Any) -> Model:
    return wrap(make_hf(architecture, **changes), make_tokenizer(kind), {"name": f"tiny-{architecture}"})


@pytest.fixture(scope="session")
def tiny() -> Model:
    return make_model()


@pytest.fixture(scope="session")
def debates() -> list[Transcript]:
    return read_embedded("scripted")[:12]


@pytest.fixture(scope="session")
def published() -> list[Transcript]:
    if not PUBLISHED.exists():
        pytest.skip("the published debates are not beside this checkout")
    return read_transcripts(PUBLISHED)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    make_hf("llama").save_pretrained(folder)
    make_tokenizer("bytes").save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; skips where either is missing.

    Not for a session: while it is open, nothing else in this process can run an event loop of its own.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield chromium
        chromium.close()


def hear_interrupts() -> None:
    """For commands that are to be interrupted: what a shell starts in the background does not hear Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["interp", *arguments])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def interp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: run([str(a) for a in arguments], monkeypatch, capsys)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Faulty() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
