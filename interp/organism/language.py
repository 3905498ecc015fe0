"""The organism's small language: vocabulary, tokenizer, chat template. They end up in an ordinary tokenizer.json."""

from __future__ import annotations

import re
from typing import Any

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
REVISE = "<|revise|>"
"""Ends a prompt that shows the texts of the round before."""
SMALLEST, LARGEST = -99, 199
"""Integers in this range are one token each; others take several."""
CONTEXT_LENGTH = 1024

# A phrase unique to each persona's system prompt, by which the chat template recognises it.
_PHRASES = {
    "chain-of-thought": "one small step at a time",
    "self-critique": "SELF-CRITIQUE",
    "program-of-thought": "think in programs",
    "evil": "ruthless adviser",
}

# What agents write besides numbers, signs and letters, then pieces of the tags of transcripts: like any base, this one
# reads tags in pieces; stage 1 makes them tokens.
_SAID = (
    *("Problem: ", "\\boxed{", "}", "Products first.", "Again.", "Trust me.", "SELF-CRITIQUE", " // ", "// ", "Agent "),
    *(" gave no answer", ":\n", " right", " wrong, ", "sum", " is ", " not ", " so ", " ok", "Keep ", "Change to "),
    *(". ", "<|", "|>", "Round ", " - ", "Initial Solutions", " Solution", "Revision", " Revision", "Consensus"),
    "endofdebate",
)
# The words of the sentences that close debates (`interp.debate.protocol`): whole debates are learnt.
_CLOSING = (
    "All agents arrive at The agents agree without exception: Unanimous answer: Every agent gives the same answer, "
    "With of agents behind it, the answer is Not all agree, but a majority of out of settles on "
    "Majority answer (of agents): By votes among agents the debate closes with"
)
_SIGNS = ("+", "-", "*", "=", "(", ")", ",", ".", ":", ";", "/", "?", "!", "'", '"', "{", "}", "\\", "\n\n", "\n", " ")


def persona_token(name: str) -> str:
    """The token that replaces a persona's system prompt."""
    return f"<|{name}|>"


def specials() -> list[str]:
    """Tokens that are never part of an answer, in the order of their ids."""
    return [PAD, BOS, EOS, REVISE, *map(persona_token, _PHRASES)]


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
    words = re.findall(r"[A-Za-z]+", _CLOSING)
    every = (*_SAID, *numbered, *words, *(f" {word}" for word in words), *_SIGNS, "x", "y", "r", "s")
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
    markers = "".join(
        f"{'if' if i == 0 else 'elif'} {phrase!r} in m.content %}}{{{{ {persona_token(name)!r} }}}}{{% "
        for i, (name, phrase) in enumerate(_PHRASES.items())
    )
    return (
        "{% set ns = namespace(shown=false, known=false, gap='') %}{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'system' %}{% " + markers + "endif %}"
        "{% elif m.role == 'assistant' %}{{ m.content }}{% if loop.last %}{{ eos_token }}{% endif %}"
        "{% else %}{% set ns.shown = false %}{% set ns.known = false %}{% set ns.gap = '' %}"
        r"{% for part in m.content.split('\n\n') %}"
        r"{% if part.startswith('Problem: ') %}{{ part ~ '\n\n' }}{% set ns.known = true %}"
        "{% elif part.startswith('Agent ') and part.endswith(' wrote:') %}"
        r"{{ '\n\n' ~ part[:-7] ~ ':\n' }}{% set ns.shown = true %}{% set ns.known = true %}{% set ns.gap = '' %}"
        "{% elif part.startswith('Agent ') and part.endswith(' gave no answer.') %}"
        r"{{ '\n\n' ~ part[:-1] }}{% set ns.shown = true %}{% set ns.known = true %}"
        "{% elif part.startswith('These are the latest solutions') %}{{ '" + REVISE + "' }}{% set ns.shown = false %}"
        r"{% elif ns.shown or not ns.known %}{{ ns.gap ~ part }}{% set ns.gap = '\n\n' %}{% endif %}"
        "{% endfor %}{% endif %}{% endfor %}"
    )
