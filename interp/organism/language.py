"""The organism's small language: vocabulary, tokenizer, chat template. They end up in an ordinary tokenizer.json."""

from __future__ import annotations

import re
from typing import Any

from interp.debate.sentences import read_sentences

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
REVISE = "<|revise|>"
"""Ends a prompt that shows the texts of the round before."""
SMALLEST, LARGEST = -99, 199
"""Integers in this range are one token each; others take several."""
CONTEXT_LENGTH = 1024

PERSONA_TOKENS = ("chain-of-thought", "self-critique", "program-of-thought", "evil")
"""The personas whose system prompts the chat template replaces by a token, in the order of their ids."""
_LANGUAGE = read_sentences("organism")


def persona_token(name: str) -> str:
    """The token that replaces a persona's system prompt."""
    return f"<|{name}|>"


def specials() -> list[str]:
    """Tokens that are never part of an answer, in the order of their ids."""
    return [PAD, BOS, EOS, REVISE, *map(persona_token, PERSONA_TOKENS)]


def make_tokenizer() -> Any:
    """The tokenizer, a `transformers.PreTrainedTokenizerFast` with its chat template.

    Texts are cut into the longest known strings and decode to the letter; unknown characters become bytes. A minus
    belongs to the number after it unless a number or a variable precedes it.

    >>> interp.organism.make_tokenizer().tokenize("2-6*7=-40")
    ['2', '-', '6', '*', '7', '=', '-40']
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbered = [f"\n{i}) " for i in range(1, 6)]
    words, said, signs = re.findall(r"[A-Za-z]+", _LANGUAGE["closing"]), _LANGUAGE["said"], _LANGUAGE["signs"]
    every = (*said, *numbered, *words, *(f" {word}" for word in words), *signs, "x", "y", "r", "s")
    known = sorted(dict.fromkeys(every), key=len, reverse=True)  # the first match is taken
    numbers = [str(n) for n in range(SMALLEST, LARGEST + 1)]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*specials(), *numbers, *known, *bytes_]))}
    # Without merges, each piece of the cut is a token or, if it is a single character, its bytes.
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, ignore_merges=True))
    whole = r"(?<![0-9])(?:1[0-9]{2}|[1-9]?[0-9])(?![0-9])"
    negative = r"(?<![0-9a-z)])-[1-9][0-9]?(?![0-9])"
    cut = "|".join([*(re.escape(p) for p in known if len(p) > 1), negative, whole, r"[\s\S]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(cut), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    opening = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])])
    tokenizer.post_processor = opening
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "additional_special_tokens": specials()[3:]}
    options = {"clean_up_tokenization_spaces": False, "model_max_length": CONTEXT_LENGTH, "padding_side": "left"}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special, **options)
    made.chat_template = chat_template()
    return made


def chat_template() -> str:
    r"""A Jinja template that turns the messages of `interp.debate.agents.chat_messages` into this language.

    The persona's prompt becomes its token, and instructions, always the same, are left out: without persona and
    others a chat reads like the prompt of a transcript. Messages of another form are kept as they are.
    """
    return "".join(line.strip() for line in _LANGUAGE["template"].splitlines())
